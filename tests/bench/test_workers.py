"""The processes of the benchmark: whatever happens in one of them, the others go on, and all end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contestants
import numpy as np
import pytest
from fresh_process import assert_clean, finish, run_python, start_python

from fastact.bench import competition, contenders, report, timing, workers
from fastact.bench.competition import Competition, LeftOut
from fastact.bench.workers import Worker, WorkerError
from fastact.bench.workloads import Cell

CELL = Cell("relu", "forward", (10,))


class Held:
    """What a worker holds in these tests."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns there."""
        return function(*arguments)


def fail(error: Exception) -> None:
    raise error


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def blocked_signals() -> set[int]:
    return {*signal.pthread_sigmask(signal.SIG_BLOCK, ())}


@pytest.fixture
def worker() -> Any:
    made = Worker(Held())
    yield made
    made.close()


def is_running(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_process_of_its_own(worker: Worker) -> None:
    process = worker.call("run", os.getpid)
    assert process != os.getpid()
    assert worker.call("run", os.getpid) == process
    np.testing.assert_array_equal(worker.call("run", np.arange, 3), [0, 1, 2])
    worker.close()
    assert not is_running(process)


def test_errors_come_back(worker: Worker) -> None:
    """In one line; the process goes on."""
    process = worker.call("run", os.getpid)
    with pytest.raises(NotImplementedError, match="no relu"):
        worker.call("run", fail, NotImplementedError("no relu"))
    with pytest.raises(WorkerError, match=r"^ValueError: one$"):
        worker.call("run", fail, ValueError("one\ntwo"))
    assert worker.call("run", os.getpid) == process


@pytest.mark.parametrize(
    ("end", "argument", "said"),
    [
        (os._exit, 3, "its process ended with exit code 3"),
        (end_by, signal.SIGKILL, "its process was ended by SIGKILL"),
    ],
)
def test_a_process_that_ends_is_told_and_replaced(
    worker: Worker, end: Callable[[int], None], argument: int, said: str
) -> None:
    before = worker.call("run", os.getpid)
    with pytest.raises(WorkerError, match=said):
        worker.call("run", end, argument)
    assert worker.call("run", os.getpid) != before


def test_a_process_that_hangs(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    process = worker.call("run", os.getpid)
    monkeypatch.setattr(workers, "LONGEST_ANSWER", 0.1)
    with pytest.raises(WorkerError, match=r"no answer after 0.1 s"):
        worker.call("run", time.sleep, 60)
    assert not is_running(process)


def test_workers_leave_interrupts_to_us(worker: Worker) -> None:
    """Here they are as they were."""
    blocked = blocked_signals()
    assert signal.SIGINT in worker.call("run", blocked_signals)
    assert blocked_signals() == blocked


def compete(
    monkeypatch: pytest.MonkeyPatch, *makes: Callable[..., Any], cell: Cell = CELL
) -> competition.Measurement:
    """Measure a cell with fastact and made-up implementations."""
    for make in makes:
        monkeypatch.setitem(contenders.IMPLEMENTATIONS, make.__name__, contestants.fake(make))
    names = ["fastact", *(make.__name__ for make in makes)]
    with Competition(names, samples=2, warm_up=0) as running:
        return running.measure(cell)


def test_whoever_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = compete(
        monkeypatch,
        contestants.raises,
        contestants.lacks,
        contestants.is_missing,
        contestants.is_killed,
        contestants.leaves,
        contestants.dies_later,
        contestants.different,
        contestants.good,
    )
    assert set(measured.times) == {"fastact", "good"}
    assert measured.limit > 0
    assert measured.left_out == {
        "raises": LeftOut("failed", "ValueError: it does not like"),
        "lacks": LeftOut("lacks", "there is no relu"),
        "is_missing": LeftOut("failed", "ModuleNotFoundError: No module named 'no_such_package'"),
        "is_killed": LeftOut("failed", "its process was ended by SIGSEGV"),
        "leaves": LeftOut("failed", "its process ended with exit code 3"),
        "dies_later": LeftOut("failed", "its process ended with exit code 3"),
        "different": LeftOut("differs"),
    }


def test_whoever_does_not_sleep_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads would disturb the others."""
    measured = compete(monkeypatch, contestants.never_sleeps)
    assert set(measured.times) == {"fastact"}
    assert "its threads are still busy" in measured.left_out["never_sleeps"].reason


def test_without_fastact_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that fastact fails in is told, and the run goes on."""
    monkeypatch.setitem(
        contenders.IMPLEMENTATIONS, "fastact", contestants.fake(contestants.is_killed)
    )
    measured = compete(monkeypatch, contestants.good)
    assert not measured.times
    assert measured.left_out["fastact"].kind == "failed"
    result = report.Result("relu", "forward", 10, **vars(measured))
    assert len(report.rows([result], ["fastact", "good"], with_spread=True)) == 1
    assert report.summary([result]) == "There is no other implementation to compare with."


def test_each_cell_is_measured_in_all_processes() -> None:
    """Every function, in all operations; what fails in one cell is measured again in the next."""
    with Competition(["fastact", "numpy"], samples=1, warm_up=0) as running:
        for operation in contenders.OPERATIONS:
            for cell in (Cell("relu", operation, (10,)), Cell("swiglu", operation, (4, 6))):
                measured = running.measure(cell)
                assert set(measured.times) == {"fastact", "numpy"}, (cell, measured.left_out)


def test_waiting_until_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    timing.wait_until_idle()
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "process_time", lambda: float(next(clock)))
    monkeypatch.setattr(timing, "LONGEST_SPIN", 0.05)
    with pytest.raises(RuntimeError, match=r"still busy 0.05 s after a call"):
        timing.wait_until_idle()


def test_notes() -> None:
    """Each implementation that is missing is told in one line for each reason."""
    times = {"fastact": timing.Times(1e-6, 1e-6, 1e-6)}
    failed = LeftOut("failed", "its process was ended by SIGSEGV")
    results = [
        report.Result("relu", "forward", 10, times, 1e-6, "C", {"scipy": LeftOut("lacks")}),
        report.Result("gelu", "forward", 10, times, 1e-6, "C", {"jax": LeftOut("differs")}),
        report.Result("relu", "forward", 20, times, 1e-6, "C", {"torch": failed}),
        report.Result("gelu", "forward", 20, times, 1e-6, "D", {"torch": failed}),
    ]
    assert report.notes(results) == [
        "Streaming limit at 10 to 20 elements: C.",
        "Streaming limit at 20 elements: D.",
        "SciPy lacks 1 of 2 functions and gradients.",
        "JAX computes something else in gelu.",
        "PyTorch failed: its process was ended by SIGSEGV (relu, forward, 20 elements, and 1 more).",
    ]


BENCH = """
    import sys
    sys.argv = ["fastact", "bench", "--activation", "relu", "--elements", "1000", "--samples", "100000"]
    sys.argv += ["--implementation", "numpy"]
    from fastact.cli import app
    app()
"""


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Wait until a process has a worker for the limit and each implementation, and return them."""
    children: list[int] = []
    while len(children) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        children = [
            int(child)
            for child in found
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    return children


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_interrupt_ends_all(seconds: float) -> None:
    """Ctrl-C reaches every process of a terminal: no traceback, and nobody is left."""
    with start_python(BENCH) as process:
        children = workers_of(process)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        done = finish(process)
    assert done.returncode in (1, 130)  # as click's version has it
    assert "Traceback" not in done.stderr
    assert not any(map(is_running, children))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_do_not_survive() -> None:
    """They end by themselves when the main process is killed."""
    with start_python(BENCH) as process:
        children = workers_of(process)
        process.kill()
        finish(process)
    deadline = time.monotonic() + 60
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def test_main_process_computes_nothing() -> None:
    """It neither starts threads nor imports the libraries that compete."""
    code = """
        import sys, threading
        from fastact.bench import report
        if __name__ == "__main__":
            settings = report.Settings(["relu"], [200_000], ["forward"], ["fastact", "numba"], samples=1)
            (result,) = report.measure(settings)
            assert set(result.times) == {"fastact", "numba"}, result
            assert "numba" not in sys.modules
            assert threading.active_count() == 1
    """
    assert_clean(run_python(code))
