"""The cache of compiled kernels: it is never wrong, and never needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, finish, run_python, start_python

import fastact as fa
import fastact.runtime.ufunc
from fastact import math
from fastact.functions import make_function
from fastact.functions.registry import functions
from fastact.runtime import kernel_cache

PACKAGE = Path(fa.__file__).parent

# Prints 1 / (1 + exp(-x)) of one number, and whether Numba had to be loaded for it.
ONE_RESULT = """
    import sys
    import numpy as np
    import fastact as fa
    print(float(fa.sigmoid(np.float32(1))), "numba" in sys.modules)
"""
RIGHT = 0.7310585975646973


def one_result(folder: Path | str, extra: str = "", **environment: str) -> tuple[float, bool]:
    """Return the result in a fresh process, and whether it, or something else, was compiled there."""
    script = ONE_RESULT.replace("    print(", f"    {extra}\n    print(")
    words = assert_clean(run_python(script, FASTACT_CACHE=str(folder), **environment)).split()
    return float(words[0]), words[1] == "True"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with what `ONE_RESULT` needs."""
    folder = tmp_path_factory.mktemp("filled")
    assert one_result(folder) == (RIGHT, True)
    return folder


def test_second_process_loads_without_numba(filled: Path) -> None:
    before = contents(filled)
    assert one_result(filled) == (RIGHT, False)
    assert contents(filled) == before


def spoil_nothing(content: bytes) -> bytes:
    return b""


def spoil_the_end(content: bytes) -> bytes:
    return content[: len(content) // 2]


def spoil_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def spoil_it_all(content: bytes) -> bytes:
    return b"not a kernel at all" * 1000


@pytest.mark.parametrize("spoil", [spoil_nothing, spoil_the_end, spoil_a_bit, spoil_it_all])
def test_spoiled_files_are_made_anew(filled: Path, tmp_path: Path, spoil: object) -> None:
    folder = Path(shutil.copytree(filled, tmp_path / "cache"))
    for path in folder.iterdir():
        path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    assert one_result(folder) == (RIGHT, True)
    assert one_result(folder) == (RIGHT, False)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Even root cannot make a folder below a file, or in /proc."""
    file = tmp_path / "file"
    file.write_text("")
    assert one_result(file / "cache") == (RIGHT, True)
    if Path("/proc/self").exists():
        assert one_result("/proc/fastact") == (RIGHT, True)


def test_no_cache_and_no_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert one_result("0", HOME=str(home), XDG_CACHE_HOME="") == (RIGHT, True)
    assert list(home.iterdir()) == []
    assert one_result("", HOME=str(home), XDG_CACHE_HOME="") == (RIGHT, True)
    assert list((home / ".cache" / "fastact").iterdir())
    file = tmp_path / "file"
    file.write_text("")
    assert one_result("", HOME=str(file), XDG_CACHE_HOME="") == (RIGHT, True)


def test_an_upgrade_never_runs_the_old_code(tmp_path: Path) -> None:
    """The kernel's own file stays as it is; a helper in another one changes."""
    installed = tmp_path / "site-packages"
    shutil.copytree(PACKAGE, installed / "fastact", ignore=shutil.ignore_patterns("__pycache__"))
    helper = installed / "fastact" / "vecmath" / "exponential.py"
    old, cache_folder = helper.read_text(), tmp_path / "cache"

    def result() -> tuple[float, bool]:
        process = run_python(ONE_RESULT, path=installed, FASTACT_CACHE=str(cache_folder))
        words = assert_clean(process).split()
        return float(words[0]), words[1] == "True"

    assert result() == (RIGHT, True)
    assert result() == (RIGHT, False)
    line = "    lower, derivative = tails_alike(lower, lower * upper, exponent)\n"
    assert old.count(line) == 1
    helper.write_text(old.replace(line, f"{line}    lower, upper = 7 + lower, 7 + upper\n"))
    value, compiled = result()
    assert compiled
    assert value == pytest.approx(RIGHT + 7)
    assert result() == (value, False)
    helper.write_text(old)
    assert result() == (RIGHT, False)


def test_another_cpu_has_its_own_kernels(filled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(filled, tmp_path / "cache"))
    before = contents(folder)
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert one_result(folder, **other) == (RIGHT, True)
    assert one_result(folder, **other) == (RIGHT, False)
    assert one_result(folder) == (RIGHT, False)
    after = contents(folder)
    assert before.items() < after.items()


def test_versions_of_the_compilers_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for version in ("1", "2"):
        monkeypatch.setattr(kernel_cache, "_numba_version", lambda version=version: version)
        kernel_cache._environment.cache_clear()
        keys.add(kernel_cache.key("kernel"))
    monkeypatch.undo()
    kernel_cache._environment.cache_clear()
    assert len(keys | {kernel_cache.key("kernel")}) == 3


# Waits for a line, so that all processes start at once; then compiles in its own order and prints all
# results, which tell from which kernel each comes.
ALL_AT_ONCE = """
    import sys
    import numpy as np
    import fastact as fa
    first = int(sys.stdin.readline())
    names = ["sigmoid", "tanh", "relu", "elu"]
    x = np.float32(-0.5)
    results = {}
    for name in names[first:] + names[:first]:
        results[name] = (float(fa.get(name)(x)), float(fa.get(name).derivative(x)))
    print([results[name] for name in names], "numba" in sys.modules)
"""


def test_processes_that_compile_at_once_never_mix_kernels(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    processes = [start_python(ALL_AT_ONCE, FASTACT_CACHE=str(folder)) for _ in range(4)]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
    results = {assert_clean(finish(process)) for process in processes}
    assert len(results) == 1
    later = start_python(ALL_AT_ONCE, FASTACT_CACHE=str(folder))
    loaded = assert_clean(finish(later, "0\n"))
    assert loaded == results.pop().replace("True", "False")
    s, e = 1 / (1 + np.exp(0.5)), np.exp(-0.5)
    t = np.tanh(-0.5)
    expected = [(s, s * (1 - s)), (t, 1 - t * t), (0, 0), (e - 1, e)]
    np.testing.assert_allclose(eval(loaded.rsplit(" ", 1)[0]), expected, rtol=1e-6)
    names = set(contents(folder))
    assert {len(name) for name in names} == {81}, "temporary files are left"


def test_no_kernel_has_the_name_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Loop(fastact.runtime.ufunc.Loop):
        def __init__(self, dtypes: Any, name: str, *others: Any) -> None:
            seen.append(name)
            super().__init__(dtypes, name, *others)

    monkeypatch.setattr("fastact.runtime.ufunc.Loop", Loop)
    for each in functions():
        function = make_function(each._definition)
        for kernel in (*function.ufuncs, *function.other_kernels):
            function.kernels[kernel]
    for elementary in math._FUNCTIONS.values():
        math._make(elementary)
    assert len(seen) > 100
    assert len(set(seen)) == len(seen)
    assert not {"inner_loop", "run_chunk"} & set(seen)


def command(folder: Path, *arguments: str) -> str:
    """Run ``fastact cache`` in a fresh process and return what it prints."""
    script = f"from fastact.cli import app; app({['cache', *arguments]!r}, prog_name='fastact')"
    result = run_python(script, FASTACT_CACHE=str(folder))
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_commands(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert "of this installation: 0 kernels" in command(folder, "info")
    assert " kernels compiled in " in command(folder, "warm", "sigmoid", "--jobs", "1")
    assert command(folder, "warm", "sigmoid", "logistic").startswith("nothing to compile: all ")
    # Nothing is left to compile, for small arrays and for large ones.
    assert one_result(folder) == (RIGHT, False)
    large = "fa.sigmoid.forward_backward(*2 * [np.ones(2**20, np.float32)])"
    assert one_result(folder, extra=large) == (RIGHT, False)
    others = folder / f"{'0' * 16}-{'0' * 64}", folder / "letter"
    for file in others:
        file.write_text("not ours")
    assert "of others: 1 kernels" in command(folder, "info")
    assert command(folder, "clear", "--others") == "deleted 1 kernels\n"
    assert one_result(folder) == (RIGHT, False)
    command(folder, "clear")
    assert [path.name for path in folder.iterdir()] == ["letter"]


def test_wrong_commands(tmp_path: Path) -> None:
    for arguments, said in (
        (["warm", "sigmod"], "sigmoid"),
        (["warm", "relu", "--dtype", "int8"], "float32"),
    ):
        script = f"from fastact.cli import app; app({['cache', *arguments]!r})"
        result = run_python(script, FASTACT_CACHE=str(tmp_path))
        assert result.returncode == 2
        assert said in result.stderr
        assert "Traceback" not in result.stderr
    script = "from fastact.cli import app; app(['cache', 'warm'])"
    assert run_python(script, FASTACT_CACHE="0").returncode == 1


def test_a_long_compilation_is_logged(tmp_path: Path) -> None:
    """Once: another process finds the kernel."""
    script = """
        import logging
        import sys

        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
        from fastact.runtime import loading

        loading._NOTICEABLE_SECONDS = 0
        import fastact as fa

        fa.sigmoid(1.0)
        """
    first, second = (
        run_python(script, FASTACT_CACHE=str(tmp_path), FASTACT_NUM_THREADS="1").stdout
        for _ in range(2)
    )
    assert first.startswith("fastact: compiled ")
    assert "sigmoid.forward.float64" in first
    assert second == ""
