"""``fastact doctor``: what it says on machines that lack something, and that it works where little else does."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_process import finish, run_python, start_python
from typer.testing import CliRunner

from fastact.bench import checkup
from fastact.bench.checkup import CHECKS, Check, Finding, Remark, State, installation, results
from fastact.bench.checkup import machine as on_machine
from fastact.bench.checkup.remarks import good
from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.workloads import Workload
from fastact.cli import app
from fastact.system import machine, target
from fastact.system.target import Target, host

STRANGER = 12_345  # a user that nobody is
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
needs_two_cpus = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two CPUs",
)

RUN = """
from fastact.cli import app
app({arguments})
"""
HIDE = """
import importlib.metadata as metadata, sys
hidden = {hidden}
def without(original):
    def find(name):
        if name in hidden:
            raise metadata.PackageNotFoundError(name)
        return original(name)
    return find
metadata.files, metadata.version = without(metadata.files), without(metadata.version)
"""


def doctor(*arguments: str, prelude: str = "", **environment: str) -> Any:
    """Run ``fastact doctor`` in a process of its own, in a pipe."""
    script = prelude + RUN.format(arguments=["doctor", *arguments])
    done = run_python(script, **{"COLUMNS": "1000", **environment})
    assert "Traceback" not in done.stderr, done.stderr
    return done


def diagnosed(*arguments: str, code: int = 0, prelude: str = "", **environment: str) -> Any:
    """Return the remarks by the title of their check, from ``--json``."""
    done = doctor("--quick", "--json", *arguments, prelude=prelude, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return {each["title"]: each["remarks"] for each in json.loads(done.stdout)["checks"]}


def only(remarks: list[dict[str, str]], state: State) -> dict[str, str]:
    """Return the one remark of a state, which comes with advice."""
    (found,) = [each for each in remarks if each["state"] == str(state)]
    assert found["advice"]
    return found


def different(work: Workload, operation: str) -> Any:
    """Return a call whose second result is off."""
    y, dx = IMPLEMENTATIONS["numpy"].make(work, operation)()
    return lambda: (y, dx + 0.1)


def of(check: Any) -> list[Remark]:
    """Return what a check remarks in this process."""
    return list(check(lambda text: None))


def test_facts_of_the_machine() -> None:
    """What it says of this machine is what others say of it."""
    result = CliRunner().invoke(app, ["doctor", "--quick"], env={"COLUMNS": "1000"})
    assert result.exit_code in (0, 1), result.output
    for check in CHECKS:
        assert (f"\n{check.title}: " in f"\n{result.stdout}") == (not check.is_slow)
    for said in (
        f"{platform.python_implementation()} {platform.python_version()} on ",
        f"numpy {np.__version__}",
        f"the machine has {os.cpu_count()} CPUs",
        "parallel_threshold: 98,304 elements",
    ):
        assert said in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[-1].endswith("could be better.")


def test_json_has_what_the_text_has(tmp_path: Path) -> None:
    environment = {"FASTACT_CACHE": str(tmp_path / "cache"), "FASTACT_NUM_THREADS": "1"}
    found = diagnosed(**environment)
    text = doctor("--quick", **environment).stdout
    assert [*found] == [check.title for check in CHECKS if not check.is_slow]
    for title in ("versions", "processor", "cores", "kernel cache"):
        for remark in found[title]:
            assert remark["found"] in text
    assert "tune" in only(found["settings"], State.BETTER)["advice"]


@needs_two_cpus
def test_without_tbb() -> None:
    """OpenMP takes its place, and unless threads are fastact's own the advice is to install it; that is no reason to fail."""
    found = diagnosed(prelude=HIDE.format(hidden=["tbb"]))
    assert "tbb missing" in found["versions"][1]["found"]
    if platform.machine() in ("x86_64", "AMD64"):
        (remark,) = found["threading layer"]
        assert "OpenMP instead of TBB: the package tbb is not installed" in remark["found"]
        assert sys.platform == "linux" or "pip install" in remark["advice"]


@needs_two_cpus
def test_layer_chosen_by_the_environment() -> None:
    found = diagnosed(NUMBA_THREADING_LAYER="omp")
    assert "NUMBA_THREADING_LAYER is omp" in found["threading layer"][0]["found"]


@needs_two_cpus
def test_no_threading_layer() -> None:
    blocked = (
        "\nfor layer in 'tbb', 'omp':\n    sys.modules[f'numba.np.ufunc.{layer}pool'] = None\n"
    )
    found = diagnosed(prelude=HIDE.format(hidden=["tbb"]) + blocked, code=1)
    assert "calls stay on one thread" in only(found["threading layer"], State.WRONG)["found"]


@needs_two_cpus
def test_one_core() -> None:
    """Nothing is wrong then, and no thread is started."""
    pin = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    found = diagnosed(prelude=pin)
    remark = only(found["cores"], State.BETTER)
    assert "nothing runs in parallel" in remark["found"]
    assert "affinity mask" in remark["found"]
    assert "taskset" in remark["advice"]
    assert found["threading layer"][0]["found"] == "none: calls stay on one thread"


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (3.0, 3), (math.inf, 8)])
def test_quota_of_a_container(quota: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "cpus_by_affinity", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    remarks = of(on_machine.cores)
    assert (f"the container {quota:g} of them at a time" in remarks[0].found) == (quota < 8)
    advice = [each.advice for each in remarks if each.state is State.BETTER]
    assert ["docker run --cpus" in each for each in advice] == [True] * (threads == 1)


@pytest.mark.parametrize(("left", "state"), [(2.0**20, State.BETTER), (math.inf, State.GOOD)])
def test_memory_that_is_left(left: float, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: left)
    said = of(on_machine.memory)[0]
    assert said.state is state
    assert said.found.startswith("1 MiB may be" if state is State.BETTER else "any amount may be")


@pytest.mark.parametrize("chosen", ["never", "madvise"])
def test_huge_pages(chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = "always madvise never".replace(chosen, f"[{chosen}]")
    (tmp_path / "enabled").write_text(f"{choices}\n")
    monkeypatch.setattr(on_machine, "_HUGE_PAGES", tmp_path / "enabled")
    is_advised = any("madvise" in each.advice for each in of(on_machine.memory))
    assert is_advised == (chosen == "never")


@pytest.mark.parametrize(("load", "state"), [(50.0, State.BETTER), (0.0, State.GOOD)])
def test_busy_machine(load: float, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)
    (remark,) = of(on_machine.load)
    assert remark.state is state
    assert f"the load is {load:.1f} on " in remark.found


def test_tuned_machine(tmp_path: Path) -> None:
    """What was measured here needs no advice."""
    tune = "from fastact.runtime import tuned\ntuned.write({'chunk_size': 4096})\n"
    found = diagnosed(prelude=tune, FASTACT_CACHE=str(tmp_path), FASTACT_NUM_THREADS="1")
    assert {each["state"] for each in found["settings"]} == {str(State.GOOD)}
    (said,) = [each["found"] for each in found["settings"] if "chunk_size" in each["found"]]
    assert said.startswith("chunk_size: 4,096 elements (tuned: ")


def test_open_cache(tmp_path: Path) -> None:
    """A folder that everybody can write to is not trusted."""
    tmp_path.chmod(0o777)
    found = diagnosed(FASTACT_CACHE=str(tmp_path), FASTACT_NUM_THREADS="1", code=1)
    remark = only(found["kernel cache"], State.WRONG)
    assert f"{tmp_path} can be written to by others (its mode is 777)" in remark["found"]


@as_root
def test_cache_of_another_user(tmp_path: Path) -> None:
    os.chown(tmp_path, STRANGER, STRANGER)
    found = diagnosed(FASTACT_CACHE=str(tmp_path), FASTACT_NUM_THREADS="1", code=1)
    said = only(found["kernel cache"], State.WRONG)["found"]
    assert f"belongs to the user {STRANGER}" in said


def test_impossible_cache() -> None:
    found = diagnosed(FASTACT_CACHE="/dev/null/cache", FASTACT_NUM_THREADS="1", code=1)
    assert "cannot be written to" in only(found["kernel cache"], State.WRONG)["found"]


def test_cache_turned_off() -> None:
    """Whoever turns it off wants it so: that is not wrong."""
    found = diagnosed(FASTACT_CACHE="0", FASTACT_NUM_THREADS="1")
    assert "FASTACT_CACHE is 0" in only(found["kernel cache"], State.BETTER)["found"]


def test_leftovers_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / f"{'0' * 16}-{'1' * 64}").write_bytes(b"code of an earlier version")
    found = diagnosed(FASTACT_CACHE=str(tmp_path), FASTACT_NUM_THREADS="1")
    remark = only(found["kernel cache"], State.BETTER)
    assert remark["found"].startswith("1 kernel (26 bytes) of other versions")
    assert "fastact cache clear --others" in remark["advice"]


@pytest.mark.skipif(host().vector_bytes < 32, reason="the processor has no wider vectors")
def test_narrower_vectors() -> None:
    found = diagnosed(NUMBA_CPU_NAME="x86-64-v2", FASTACT_NUM_THREADS="1")
    remark = only(found["processor"], State.BETTER)
    assert (
        f"vectors of 128 bits, though the processor has {8 * host().vector_bytes}"
        in remark["found"]
    )
    assert "unset NUMBA_CPU_NAME" in remark["advice"]


@pytest.mark.skipif(not host().is_x86, reason="other processors have it")
def test_no_fused_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine may hide what its host has."""
    old = Target("x86-64-v2", "")
    monkeypatch.setattr(target, "TARGET", old)
    monkeypatch.setattr(target, "host", lambda: old)
    (remark,) = (each for each in of(on_machine.processor) if each.state != State.GOOD)
    assert "fused multiply-add" in remark.found
    assert "virtual machine" in remark.advice


def test_misspelt_variable() -> None:
    found = diagnosed(FASTACT_THREADS="2", FASTACT_NUM_THREADS="1")
    said = [each["found"] for each in found["settings"] if each["state"] == str(State.BETTER)]
    assert any(each.startswith("FASTACT_THREADS is set") for each in said)


def test_wrong_variable() -> None:
    """Where nothing of fastact can be imported, it says why, and what it still finds out."""
    done = doctor("--quick", FASTACT_NUM_THREADS="many")
    assert done.returncode == 1
    assert "FASTACT_NUM_THREADS must be an integer from 1 on; got 'many'" in done.stdout
    assert f"numpy {np.__version__}" in done.stdout


def test_without_the_packages_of_other_commands() -> None:
    """It needs typer, and nothing of the extras besides."""
    packages = ["rich", "plotext", "pylatexenc", "mpmath", "matplotlib", "packaging", "scipy"]
    block = "".join(f"\nsys.modules[{name!r}] = None" for name in packages)
    found = diagnosed(prelude=HIDE.format(hidden=packages) + block, FASTACT_NUM_THREADS="1")
    remark = only(found["versions"], State.BETTER)
    assert "rich" in remark["found"]
    assert "fastact[cli]" in remark["advice"]


def test_releases_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"numba": "0.1", "numpy": ""}
    original = installation._version
    monkeypatch.setattr(installation, "_version", lambda name: numbers.get(name, original(name)))
    wrong = [each for each in of(installation.versions) if each.state is State.WRONG]
    names = {each.found.partition(">=")[0] for each in wrong}
    assert names == {"fastact needs numpy", "fastact needs numba"}


def test_a_check_that_fails_is_a_finding() -> None:
    """The others go on, and the same error is told once."""

    def fails(tell: Any) -> Iterator[Remark]:
        yield good("so far")
        raise ImportError("no LLVM")

    def works(tell: Any) -> Iterator[Remark]:
        yield good("fine")

    checks = [Check("first", fails), Check("second", fails), Check("third", works)]
    first, second, third = checkup.examine(checks, lambda text: None)
    assert first.remarks[0].found == "so far"
    assert "ImportError: no LLVM" in first.remarks[1].found
    assert second.remarks[1].found == "the same error"
    assert (first.state, third) == (State.WRONG, Finding("third", (good("fine"),)))


@pytest.mark.parametrize("names", [["relu", "swiglu"], pytest.param(None, marks=pytest.mark.long)])
def test_self_test(names: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of this installation pass; what differs does not."""
    if names:
        monkeypatch.setattr(results, "_representatives", lambda: names)
    count = 2 * len(results._representatives())
    (remark,) = of(results.self_test)
    assert remark.state is State.GOOD
    assert remark.found.startswith(f"{count} of {count} comparisons agree")
    planted = replace(IMPLEMENTATIONS["fastact"], make=different)
    monkeypatch.setitem(IMPLEMENTATIONS, "fastact", planted)
    monkeypatch.setattr(results, "_representatives", lambda: ["relu"])
    *wrong, summary = of(results.self_test)
    assert [each.state for each in wrong] == [State.WRONG] * 2
    assert "relu in float32: the derivative is off by" in wrong[0].found
    assert summary.found.startswith("0 of 2")


def test_every_family_stands_in_the_self_test() -> None:
    import fastact as fa

    families = {fa.get(name)._definition.family for name in results._representatives()}
    assert families == {fa.get(name)._definition.family for name in fa.names()} - {"dropout"}


def test_streaming_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bandwidth, and the part of it that relu reaches."""
    monkeypatch.setattr(results, "_ELEMENTS", 2**16)
    memory, share = of(results.streaming)
    assert re.fullmatch(r"memory: [\d.e+]+ GB/s \(.+\)", memory.found)
    assert re.match(r"relu, .* reaches \d+ % of that", share.found)


def test_narrow_terminal() -> None:
    """No line is wider, unless it is one word, such as a path."""
    done = doctor("--quick", COLUMNS="40", FASTACT_NUM_THREADS="1")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) > 30
    for line in lines:
        assert len(line) <= 40 or " " not in line.strip().removeprefix("-> "), line


def test_ascii_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "Zwischenspeicher für Rechenkerne"
    done = doctor(
        "--quick", PYTHONIOENCODING="ascii", FASTACT_CACHE=str(folder), FASTACT_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    assert "Zwischenspeicher fur Rechenkerne, trusted" in done.stdout


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_colors_of_a_terminal(environment: dict[str, str]) -> None:
    """Colours unless they are unwanted; no line of progress stays."""
    script = RUN.format(arguments=["doctor", "--quick"])
    done = run_python(
        f"import pty, sys; pty.spawn([sys.executable, '-c', {script!r}])",
        TERM="xterm",
        FASTACT_NUM_THREADS="1",
        **environment,
    )
    codes = set(re.findall(r"\x1b\[[0-9;]*[a-zA-Z]", done.stdout))
    assert "\x1b[K" in codes
    assert ("\x1b[32m" in codes) == (not environment)
    assert codes <= {"\x1b[K"} or not environment


def test_interrupt() -> None:
    """Ctrl-C ends it at once, without a traceback."""
    slow = """
        import time
        from fastact.bench import checkup
        from fastact.bench.checkup.remarks import good
        def wait(tell):
            yield good("begun")
            print("waiting", flush=True)
            time.sleep(100)
        checkup.CHECKS = [checkup.Check("slow", wait)]
        from fastact.cli import app
        app(["doctor"])
    """
    with start_python(slow) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_closed_pipe() -> None:
    """``fastact doctor | head -1`` complains of nothing."""
    script = RUN.format(arguments=["doctor", "--quick"])
    command = f"{shlex.join([sys.executable, '-c', script])} | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=os.environ | {"FASTACT_NUM_THREADS": "1"},
        check=True,
    )
    assert done.stdout.startswith("versions: ")
    assert done.stderr == ""
