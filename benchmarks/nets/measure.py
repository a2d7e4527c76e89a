"""Agreement and speed of the same net in NumPy, with fastact and in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

import fastact as fa
from benchmarks.nets.fastact_parts import FastactParts, masks_of_fastact
from benchmarks.nets.net import STATES, Net, Run, TorchRun
from benchmarks.nets.numpy_parts import NumpyParts

AnyRun: TypeAlias = Run | TorchRun

#: Names of parts and the nanoseconds of each call, forward and backward.
Calls: TypeAlias = list[tuple[str, int]]

MAKE_PARTS: dict[str, type[NumpyParts]] = {"numpy": NumpyParts, "fastact": FastactParts}
#: How to start training from the same parameters, with the same data.
STARTS: dict[str, Callable[[Net], AnyRun]] = {
    "numpy": lambda net: Run(net, NumpyParts()),
    "fastact": lambda net: Run(net, FastactParts()),
}
if find_spec("torch"):
    STARTS["torch"] = TorchRun
PARTS = [name for name in vars(NumpyParts) if not name.startswith("_")]
#: Parts that fastact lacks: both nets run NumPy's.
MISSING = [name for name in PARTS if getattr(FastactParts, name) is getattr(NumpyParts, name)]

#: A run starts anew after that many steps, as long ones meet subnormal numbers.
MOST_STEPS = 200
SECONDS_PER_ROUND = 0.02
#: How far losses and parameters may differ after a few steps, relative to the largest.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


def largest_difference(net: Net, implementation: str, steps: int = 5) -> float:
    """Return how far losses and parameters differ from those in NumPy, with the same dropout."""
    reference: AnyRun = Run(net, NumpyParts(masks_of_fastact()))
    run: AnyRun = Run(net, FastactParts())
    if implementation == "torch":
        run = TorchRun(net, masks_of_fastact())
    losses = [(reference.step(), run.step()) for _ in range(steps)]
    pairs = [tuple(map(np.asarray, zip(*losses, strict=True)))]
    pairs += [(each, run.parameters[name]) for name, each in reference.parameters.items()]
    return float(max(np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in pairs))


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Let fastact, BLAS and PyTorch use that many threads."""
    limit: Any = nullcontext()
    if find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_limits

        limit = threadpool_limits(threads)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
    before = fa.get_num_threads()
    fa.set_num_threads(threads)
    try:
        with limit:
            yield
    finally:
        fa.set_num_threads(before)


def keep_memory() -> None:
    """Let the allocator keep what NumPy's temporaries use, as it does after large arrays.

    In a fresh process, glibc returns a few MB to the system at every step, and getting them again
    takes NumPy several times as long as the computation. A large array that is freed ends this.
    """
    np.empty(30 * 2**20, np.uint8)


def stopwatch(parts: NumpyParts) -> tuple[Any, Calls]:
    """Return parts that measure themselves, and the list to which they add each call."""
    calls: Calls = []

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter_ns()
            result = function(*arguments, **options)
            calls.append((name, time.perf_counter_ns() - start))
            if isinstance(result, tuple) and callable(result[1]):
                return result[0], timed(name, result[1])
            return result

        return call

    return SimpleNamespace(**{name: timed(name, getattr(parts, name)) for name in PARTS}), calls


def seconds_by_part(calls: Calls, steps: int) -> dict[str, float]:
    """Return the seconds of a step in each part: of each of its calls, the median of all steps."""
    in_step = calls[: len(calls) // steps]
    nanoseconds = np.array([each for _, each in calls]).reshape(steps, len(in_step))
    seconds: dict[str, float] = dict.fromkeys((name for name, _ in in_step), 0.0)
    for (name, _), median in zip(in_step, np.median(nanoseconds, axis=0), strict=True):
        seconds[name] += float(median) / 1e9
    return seconds


@dataclass(frozen=True)
class Result:
    """The seconds that a step takes: medians.

    Attributes
    ----------
    net, dtype : str
        The net's name and type.
    difference : float
        The largest difference of losses and parameters, relative to the largest.
    steps : dict of str to float
        The whole step, by implementation.
    parts : dict of str to dict of str to float
        For NumPy and fastact, the parts of the step.
    """

    net: str
    dtype: str
    difference: float
    steps: dict[str, float]
    parts: dict[str, dict[str, float]]

    def speedup(self, over: str = "numpy") -> float:
        """Return how many times longer another implementation takes for the step."""
        return self.steps[over] / self.steps["fastact"]

    def seconds_in(self, implementation: str, *, optimizer: bool) -> float:
        """Return the seconds in the optimizer, or in all other parts."""
        parts = self.parts[implementation]
        return sum(seconds for name, seconds in parts.items() if (name in STATES) == optimizer)

    def speedup_of_parts(self, *, optimizer: bool = False) -> float:
        """Return how many times longer NumPy takes for the optimizer, or for all other parts."""
        numpy, ours = (self.seconds_in(each, optimizer=optimizer) for each in ("numpy", "fastact"))
        return numpy / ours

    @property
    def share(self) -> float:
        """The part of NumPy's step that is not products, data and the optimizer."""
        return self.seconds_in("numpy", optimizer=False) / self.steps["numpy"]

    def slower_parts(self) -> dict[str, float]:
        """Return the speed-up of parts in which fastact is slower than NumPy."""
        numpy, ours = self.parts["numpy"], self.parts["fastact"]
        ratios = {name: numpy[name] / ours[name] for name in numpy if name not in MISSING}
        return {name: ratio for name, ratio in ratios.items() if ratio < 1}


def measure(
    name: str, net: Net, rounds: int, implementations: Collection[str] = tuple(STARTS)
) -> Result:
    """Train in all implementations in turn, from the start in every round."""
    others = [each for each in implementations if each != "numpy"]
    difference = max(largest_difference(net, each) for each in others)  # compiles, too
    # On one thread, its own time: it excludes what other processes take.
    clock = time.thread_time_ns if fa.get_num_threads() == 1 else time.perf_counter_ns

    def train(run: AnyRun, steps: int) -> list[float]:
        """Take one more step than is measured: the first of a run allocates."""
        times = [(run.step(), clock())[1] for _ in range(steps + 1)]
        return list(np.diff(times) / 1e9)

    once = min(train(STARTS["numpy"](net), 3))
    steps = max(1, min(MOST_STEPS, round(SECONDS_PER_ROUND / once)))
    taken: dict[str, list[float]] = {each: [] for each in implementations}
    calls: dict[str, Calls] = {each: [] for each in MAKE_PARTS}
    for _ in range(rounds):
        for each in implementations:
            taken[each] += train(STARTS[each](net), steps)
        for each, make in MAKE_PARTS.items():
            timed, calls_of_run = stopwatch(make())
            run = Run(net, timed)
            run.step()
            calls_of_run.clear()
            train(run, steps - 1)
            calls[each] += calls_of_run
    return Result(
        name,
        net.dtype,
        difference,
        {each: float(np.median(seconds)) for each, seconds in taken.items()},
        {each: seconds_by_part(all_, rounds * steps) for each, all_ in calls.items()},
    )
