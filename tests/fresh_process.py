"""Fresh interpreters for tests, and what a test's script finds in them: jobs with known results, forks.

A test passes a script to `run_python`; the script imports this module for `check` and `in_fork`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HANGS_AFTER = 300  # seconds: a virtual machine may stand still for a while
SMALL, LARGE = 1_000, 200_000  # below and above the size at which threads start

_CHOSEN_BY_TESTS = ("FASTACT_", "NUMBA_", "OMP_", "PYTHONWARNINGS")
# Kernels are compiled once in a test run, and all of it is for one CPU.
_SHARED = ("FASTACT_CACHE", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")


def run_python(
    script: str, *options: str, path: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter and return what came of it.

    Parameters
    ----------
    script : str
        Python source; common indentation is taken off.
    *options : str
        Command-line options of the interpreter.
    path : Path, optional
        A folder to import from before all others.
    **environment : str
        Environment variables. Of the test run's own, those that change how fastact works are left out.
    """
    with start_python(script, *options, path=path, **environment) as process:
        return finish(process)


def start_python(
    script: str, *options: str, path: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start what `run_python` runs, with pipes to its three streams."""
    tests = Path(__file__).parent
    folders = [path, tests, *filter(Path.is_dir, tests.iterdir()), os.environ.get("PYTHONPATH")]
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(_CHOSEN_BY_TESTS) or k in _SHARED
    }
    kept["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in folders if folder)
    kept["PYTHONDONTWRITEBYTECODE"] = kept["PYTHONFAULTHANDLER"] = "1"
    # What others deprecate is no complaint about us, nor is any fork of a process with threads, of which Python
    # 3.12 and later warn, whoever has started them.
    options = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning", *options)
    with _signals_of_a_terminal():
        return subprocess.Popen(
            [sys.executable, *options, "-c", textwrap.dedent(script)],
            cwd=path,
            env=kept | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@contextlib.contextmanager
def _signals_of_a_terminal() -> Iterator[None]:
    """Let processes that start meanwhile take SIGINT: they inherit that a job in the background ignores it."""
    # A handler is not inherited: the new program has the default.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)


def finish(
    process: subprocess.Popen[str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Send the last input to a process and return what came of it; end it and its forks if it hangs."""
    try:
        output, errors = process.communicate(text, timeout=HANGS_AFTER)
    except subprocess.TimeoutExpired:
        waits = _waits(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGABRT)  # each of them tells where it was
            process.communicate(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        errors += f"\nhung after {HANGS_AFTER} seconds:\n{waits}"
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _waits(group: int) -> str:
    """Return what the kernel says of each thread in a process group: a Python that shuts down says nothing itself."""
    lines = []
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(task.parts[2])) == group:
                facts = [(task / name).read_text().strip() for name in ("stat", "wchan")]
                lines.append(f"{task}: {' | '.join(facts)}")
    return "\n".join(lines)


def assert_clean(result: subprocess.CompletedProcess[str], *, allowed: str = "") -> str:
    """Check that a process ended well and complained of nothing; return what it printed.

    Parameters
    ----------
    result : CompletedProcess
        What `run_python` returned.
    allowed : str, optional
        A line that may stand on its standard error.
    """
    complaints = [line for line in result.stderr.splitlines() if line != allowed]
    report = f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == 0, report
    assert not complaints, report
    return result.stdout


def runner(prelude: str, **environment: str) -> Callable[..., str]:
    """Return a function that runs a script behind a prelude; it must end well, and what it prints is returned.

    The function takes the script, options of the interpreter, a line that is `allowed` on standard error, and further
    environment variables.
    """

    def run(script: str, *options: str, allowed: str = "", **more: str) -> str:
        done = run_python(prelude + textwrap.dedent(script), *options, **environment | more)
        return assert_clean(done, allowed=allowed)

    return run


def in_fork(work: Callable[[], Any]) -> None:
    """Run some work in a forked child, to the regular end of its interpreter; check its exit code."""
    sys.stdout.flush()
    leave = sys.exit if threading.current_thread() is threading.main_thread() else os._exit
    child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit:  # a child of the child's is at its end
            raise
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        leave(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"the child's status is {status}"


def check_all(count: int = SMALL, seed: int = 0) -> None:
    """Check every job's result on arrays of a size."""
    for job in JOBS:
        check(job, count, seed)


def check(job: str, count: int = SMALL, seed: int = 0) -> None:
    """Check one job's results on arrays of a size against NumPy's in float64."""
    compute, reference, dtype = JOBS[job]
    random = np.random.default_rng(seed)
    shape = count // 50, 50
    x, dy = random.uniform(-8, 8, shape).astype(dtype), random.uniform(1, 2, shape).astype(dtype)
    got, want = compute(x, dy), reference(x.astype("f8"), dy.astype("f8"))
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    for one, other in zip(got, want, strict=True):
        assert one.dtype == dtype
        largest = np.max(np.abs(one - other) / (np.abs(other) + 1e-30), initial=0.0)
        assert largest < tolerance, f"{job}, {count} elements: the relative error is {largest}"


def _job(compute: Callable[..., Any], reference: Callable[..., Any], dtype: str) -> Any:
    def run(x: NDArray[Any], dy: NDArray[Any]) -> Any:
        import fastact

        return compute(fastact, x, dy)

    return run, reference, dtype


def _logistic(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x))


def _pairs(x: NDArray[Any]) -> NDArray[Any]:
    return x.reshape(len(x), -1, 2)


# Name: what fastact computes, the same in NumPy, and in which type fastact does it.
JOBS = {
    "sigmoid": _job(lambda fa, x, dy: [fa.sigmoid(x)], lambda x, dy: [_logistic(x)], "float32"),
    "sigmoid64": _job(lambda fa, x, dy: [fa.sigmoid(x)], lambda x, dy: [_logistic(x)], "float64"),
    "tanh": _job(
        lambda fa, x, dy: fa.tanh.forward_backward(x, dy),
        lambda x, dy: [np.tanh(x), dy / np.cosh(x) ** 2],
        "float32",
    ),
    "elu": _job(
        lambda fa, x, dy: [fa.elu.backward(dy, x, alpha=0.5)],
        lambda x, dy: [dy * np.where(x > 0, 1, 0.5 * np.exp(x))],
        "float64",
    ),
    "relu": _job(
        lambda fa, x, dy: fa.relu.value_and_derivative(x),
        lambda x, dy: [np.maximum(x, 0), np.heaviside(x, 0)],
        "float32",
    ),
    "leaky_relu": _job(
        lambda fa, x, dy: [fa.leaky_relu(x, negative_slope=0.25)],
        lambda x, dy: [np.where(x > 0, x, x / 4)],
        "float32",
    ),
    "prelu": _job(
        lambda fa, x, dy: fa.prelu.backward(dy, x, np.linspace(0.125, 1, x.shape[1])),
        lambda x, dy: [
            dy * np.where(x > 0, 1, np.linspace(0.125, 1, x.shape[1])),
            np.sum(dy * np.minimum(x, 0), axis=0),
        ],
        "float64",
    ),
    "maxout": _job(
        lambda fa, x, dy: [fa.maxout(x, 2)], lambda x, dy: [_pairs(x).max(axis=-1)], "float32"
    ),
}
