"""fastact beside plain NumPy, at any commit: what the suites that asv runs share.

A suite measures all its calls in `setup_cache`, each in turn with the same in NumPy, and its ``track_`` functions only
hand out what was found. So the ratio of both is known, which drifts far less than times do; and asv, which starts a
process for each number, starts cheap ones.

The suites are today's and the fastact is that of the commit, which is asked for what has always been public: the
functions' names and ``forward_backward``. What it lacks is NaN, a gap in the graph.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import pkgutil
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
#: Processes differ by where their memory and code lie: the fastest of several stands for a commit. All noise adds time.
PROCESSES = 3
#: Many and short, so that some are not interrupted.
SAMPLES = 25
SECONDS_PER_SAMPLE = 5e-4
IMPLEMENTATIONS = ("fastact", "numpy")


class Pair(NamedTuple):
    """The seconds that a call takes in both implementations."""

    fastact: float = math.nan
    numpy: float = math.nan

    @property
    def ratio(self) -> float:
        """Fastact's time as a part of NumPy's."""
        return round(self.fastact / self.numpy, 4)


Call = Callable[[], object]
#: Takes a function's name and a shape and returns the call of each implementation.
Calls = Callable[[str, tuple[int, ...]], tuple[Call, Call]]


class Suite:
    """Functions on arrays of some shapes.

    Parameters
    ----------
    functions : sequence of str
        The names of the functions. The page opens with the first four.
    shapes : sequence of str
        Shapes such as ``"32x100"``.
    calls : callable
        Makes the two calls that are compared.
    """

    def __init__(self, functions: Sequence[str], shapes: Sequence[str], calls: Calls) -> None:
        self.functions, self.shapes, self._calls = functions, shapes, calls

    def measure(self) -> dict[tuple[str, str], Pair]:
        """Return what all calls take."""
        return fastest(in_fresh_processes(self._measure_here))

    def _measure_here(self) -> dict[tuple[str, str], Pair]:
        found = {}
        for function in self.functions:
            for shape in self.shapes:
                sizes = tuple(map(int, shape.split("x")))
                with reported(f"{function} {shape}"):
                    found[function, shape] = measure_pair(*self._calls(function, sizes))
        return found

    def benchmarks(self) -> tuple[Callable[..., float], Callable[..., float]]:
        """Return ``track_time`` and ``track_ratio``, which take what `measure` found from asv."""

        def track_time(found: Any, implementation: str, function: str, shape: str) -> float:
            return getattr(found.get((function, shape), Pair()), implementation)

        def track_ratio(found: Any, function: str, shape: str) -> float:
            return found.get((function, shape), Pair()).ratio

        arrays = {"function": self.functions, "shape": self.shapes}
        declare(track_time, "time", "seconds", implementation=IMPLEMENTATIONS, **arrays)
        declare(track_ratio, "ratio to NumPy", "of NumPy's time", **arrays)
        return track_time, track_ratio


def declare(track: Any, title: str, unit: str, **parameters: Sequence[str]) -> None:
    """Tell asv the title, unit and parameters of a benchmark; a stated version keeps results when its code is rewritten."""
    track.pretty_name, track.unit, track.version, track.timeout = title, unit, "1", 600
    track.param_names, track.params = list(parameters), list(map(list, parameters.values()))


def measure_pair(ours: Call, theirs: Call) -> Pair:
    """Measure two calls in turn, so that a slow moment of the machine affects both."""
    calls = ours, theirs
    counts = [_calibrate(call) for call in calls]
    samples = [
        [_sample(call, count) for call, count in zip(calls, counts, strict=True)]
        for _ in range(SAMPLES)
    ]
    return Pair(*map(min, zip(*samples, strict=True)))


def _calibrate(call: Call) -> int:
    """Return how many calls make a sample, after some that compile and warm up."""
    for _ in range(3):
        call()
    once = min(_sample(call, 3) for _ in range(3))
    return max(1, math.ceil(SECONDS_PER_SAMPLE / once))


def _sample(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def fastest(found: Iterable[Mapping[Any, Pair]]) -> dict[Any, Pair]:
    """Return the shortest times that several processes have found under each key."""
    by_key: dict[Any, list[Pair]] = {}
    for each in found:
        for key, pair in each.items():
            by_key.setdefault(key, []).append(pair)
    return {key: Pair(*map(min, zip(*pairs, strict=True))) for key, pairs in by_key.items()}


class reported:
    """Print an error instead of raising it: a commit may lack a function, or fail."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Exception):
            print(f"{self._title}: {traceback.format_exception_only(error)[-1]}", file=sys.stderr)
            return True
        return False


def in_fresh_processes(measure: Callable[[], Any], count: int = PROCESSES) -> list[Any]:
    """Return what a function without arguments returns in each of some processes; one that dies returns nothing.

    They are forked before fastact is imported. The first compiles what the others load.
    """
    context = multiprocessing.get_context("fork")
    found = []
    for _ in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, measure))
        process.start()
        sender.close()
        with reported("a process"):
            found.append(receiver.recv())
        process.join()
    return found


def _send(sender: Any, measure: Callable[[], Any]) -> None:
    _use_own_cache()
    use_todays_baseline()
    with reported("a suite"):
        sender.send(measure())
    sender.close()
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads, or for what an old commit does at exit


def _use_own_cache() -> None:
    """Let asv's processes share the kernels of their commit, and no other's."""
    commit = os.environ.get("ASV_COMMIT")
    if commit is None:
        return
    kernels = Path(sys.prefix, "kernels")
    for other in kernels.glob("*"):
        if other.name != commit:
            shutil.rmtree(other, ignore_errors=True)
    (kernels / commit).mkdir(parents=True, exist_ok=True)
    os.environ["FASTACT_CACHE"] = str(kernels / commit)


def use_todays_baseline() -> None:
    """Let ``fastact.baseline`` be that of this checkout: one yardstick for all commits.

    Its modules need nothing but NumPy, except the package itself, which looks up the catalogue; it is left out.
    """
    if "ASV_COMMIT" not in os.environ:
        return  # it is that of this checkout
    import fastact

    package = ModuleType("fastact.baseline")
    package.__path__ = [str(ROOT / "fastact" / "baseline")]
    sys.modules["fastact.baseline"] = package
    fastact.baseline = package  # type: ignore[attr-defined]


def functions_of(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return ``forward_backward`` of a function in fastact and in the baseline, whichever module of it has it."""
    import fastact
    import fastact.baseline

    for found in pkgutil.iter_modules(fastact.baseline.__path__):
        module = importlib.import_module(f"fastact.baseline.{found.name}")
        if hasattr(theirs := getattr(module, name, None), "forward_backward"):
            return getattr(fastact, name).forward_backward, theirs.forward_backward
    raise NotImplementedError(f"there is no baseline of {name}")


def deviates(shape: tuple[int, ...]) -> Any:
    """Return normal deviates in float32, the same in every run."""
    import numpy as np

    return aligned(np.random.default_rng(20).standard_normal(shape, np.float32))


def aligned(array: Any) -> Any:
    """Return a copy that begins with a cache line, as allocations do by chance."""
    import numpy as np

    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
