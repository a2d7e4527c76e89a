"""Compiling in several processes: every kernel once, whatever happens to one of them, and none after the end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from fresh_process import finish, start_python

from fastact.bench import warming
from fastact.bench.warming import Result, compile_in_processes


class Compiler:
    """In place of the compiler: writes a file for each kernel, named after it, that says where that was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def compile(self, function: str, kernel: str) -> None:
        """Write the file, or do what the function is called."""
        if function == "bad":
            raise ValueError(f"no such instruction\nin {kernel}")
        if function == "dead":
            os.kill(os.getpid(), signal.SIGKILL)
        if function == "slow":
            time.sleep(60)
        with (self._folder / kernel).open("x") as file:
            file.write(str(os.getpid()))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(warming, "Compiler", lambda: Compiler(tmp_path))
    return tmp_path


def places(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_each_kernel_once(folder: Path) -> None:
    kernels = {f"f{k}": [f"f{k}.{n}" for n in range(1 + k % 4)] for k in range(12)}
    everything = {name for names in kernels.values() for name in names}
    found = list(compile_in_processes(kernels, 3))
    assert sorted(found) == sorted(Result(name, "") for name in everything)
    at = places(folder)
    assert at.keys() == everything
    for names in kernels.values():  # one process each, which is this one for none
        assert len({at[name] for name in names}) == 1
    assert 1 <= len(set(at.values())) <= 3
    assert str(os.getpid()) not in at.values()


def test_errors_do_not_stop_the_others(folder: Path) -> None:
    kernels = {"dead": ["dead.1", "dead.2"], "bad": ["bad.1"], "good": ["good.1"]}
    for jobs in (1, 2):
        found = dict(compile_in_processes(kernels, jobs))
        assert "SIGKILL" in found["dead.1"]
        assert "SIGKILL" in found["dead.2"]
        assert found["bad.1"] == "ValueError: no such instruction"
        assert found["good.1"] == ""
        (folder / "good.1").unlink()


def test_an_end_before_the_end(folder: Path) -> None:
    """What is compiled stays, what is not begun is not, and nobody is waited for."""
    start = time.monotonic()
    results = compile_in_processes(
        {"a": ["first"], "b": ["second"], "slow": ["third"], "c": ["fourth"]}, 1
    )
    assert [next(results).kernel, next(results).kernel] == ["first", "second"]
    results.close()
    assert time.monotonic() - start < 55
    assert places(folder).keys() == {"first", "second"}


def test_nothing_to_compile() -> None:
    assert list(compile_in_processes({}, 4)) == []


def test_an_interrupted_command(tmp_path: Path) -> None:
    """Ctrl-C is no error to be explained; the processes end, and what was compiled is there for the next time."""
    script = """
        from pathlib import Path
        from test_warming import Compiler, warming

        warming.Compiler = lambda: Compiler(Path(FOLDER))
        warming.compile_shared = lambda: None
        names = {"sigmoid": ["one"], "slow": ["two"]}
        warming.missing = lambda *_: warming.Missing(names, 3)
        from fastact.cli import app

        app(["cache", "warm", "--jobs", "2"], prog_name="fastact")
    """.replace("FOLDER", repr(str(tmp_path)))
    process = start_python(script, FASTACT_CACHE=str(tmp_path / "cache"))
    deadline = time.monotonic() + 60
    while not (tmp_path / "one").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = (tmp_path / "one").read_text()
    time.sleep(1)  # until the command has heard of it
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "1 of 2 kernels" in done.stderr
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
