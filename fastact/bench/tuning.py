"""What ``fastact tune`` measures, and how it decides.

Each threshold is measured as a curve: calls of many sizes, with what the threshold switches on and
off, in turn. `best_threshold` then takes the size that loses least over all curves. The curves are
those of calls that depend most on the setting, and of what users do with the results: outputs that
somebody reads afterwards, threads that had a pause.
"""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.bench.timing import SECONDS_PER_SAMPLE, WARM_UP
from fastact.runtime import output_pool, settings, tuned
from fastact.runtime.settings import Setting
from fastact.system.machine import available_memory

#: A value must gain as much over the default, on average where they differ: less is noise.
MIN_GAIN = 1.05
#: Threads go to sleep, and come back, within this time.
PAUSE = 0.002
_PAUSED_CALLS = 5
_FLOAT = np.dtype(np.float32)
_LARGEST = 2**29
_PAGE = 4096

Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A call that is measured at many sizes.

    Attributes
    ----------
    function, operation : str
        Their names.
    is_fresh : bool
        Whether it returns new arrays; otherwise it writes to given ones.
    is_read : bool
        Whether the outputs are read afterwards.
    pause : float
        Seconds of sleep before each call.
    """

    function: str
    operation: str
    is_fresh: bool = False
    is_read: bool = False
    pause: float = 0.0

    def __str__(self) -> str:
        more = (
            (self.is_fresh, "fresh"),
            (self.is_read, "read"),
            (self.pause, "paused"),
        )
        return ", ".join(
            [f"{self.function}.{self.operation}", *(word for holds, word in more if holds)]
        )

    @property
    def arrays(self) -> int:
        """The number of inputs and outputs."""
        return 4 if self.operation == "forward_backward" else 2

    def make(self, elements: int) -> Call:
        """Return the call for arrays of this size."""
        values = np.random.default_rng(20).standard_normal(2**12, np.float32)
        inputs = [np.resize(values, elements) for _ in range(self.arrays // 2)]
        found = fa.get(self.function)
        function: Any = getattr(found, self.operation, found)
        if not self.is_fresh:
            outputs = tuple(_aligned(elements) for _ in inputs)
            options = {"out": outputs if len(outputs) > 1 else outputs[0]}
        else:
            options = {}
        if not self.is_read:
            return lambda: function(*inputs, **options)

        def call() -> None:
            results = function(*inputs, **options)
            for each in results if isinstance(results, tuple) else (results,):
                each.max()

        return call


def _aligned(elements: int) -> NDArray[np.float32]:
    """Return an array that begins with a page, as those of the output pool do."""
    memory = np.ones(elements + _PAGE // _FLOAT.itemsize, np.float32)
    start = -memory.ctypes.data % _PAGE // _FLOAT.itemsize
    return memory[start : start + elements]


class Curve(NamedTuple):
    """Times of one call, by what a threshold compares.

    Attributes
    ----------
    name : str
        What was called.
    sizes : tuple of int
        In the unit of the setting.
    off, on : tuple of float
        Seconds below the threshold and above it.
    """

    name: str
    sizes: tuple[int, ...]
    off: tuple[float, ...]
    on: tuple[float, ...]


class Choice(NamedTuple):
    """A value of a setting.

    Attributes
    ----------
    value : int
        The value.
    gain : float
        How many times as long the calls took with the value before, on average over those that
        differ.
    """

    value: int
    gain: float


def best_threshold(curves: Sequence[Curve], before: int) -> Choice:
    """Return the threshold with the least product of all times.

    A curve that crosses several times, as noise lets it, counts with all its points. The threshold
    before stays if the gain is small, or if none is found within the sizes and it is beyond them.
    """
    points = sorted(
        (size, math.log(on / off))
        for each in curves
        for size, off, on in zip(*each[1:], strict=True)
    )
    sizes = sorted({size for size, _ in points})
    never = max(before, sizes[-1] + 1)

    def cost(threshold: int) -> float:
        return sum(loss for size, loss in points if size >= threshold)

    best = min((*sizes, never), key=cost)
    low, high = sorted((before, best))
    differ = sum(low <= size < high for size, _ in points)
    gain = math.exp((cost(before) - cost(best)) / differ) if differ else 1.0
    return Choice(best, gain) if gain >= MIN_GAIN else Choice(before, 1.0)


def best_value(times: Mapping[int, Sequence[float]], before: int) -> Choice:
    """Return the value with the least product of all times, or the one before if the gain is small."""
    costs = {value: statistics.fmean(map(math.log, each)) for value, each in times.items()}
    best = min(costs, key=costs.__getitem__)
    gain = math.exp(costs[before] - costs[best])
    return Choice(best, gain) if gain >= MIN_GAIN else Choice(before, 1.0)


def geometric(first: int, last: int, count: int) -> list[int]:
    """Return so many sizes in equal ratios."""
    step = (last / first) ** (1 / (count - 1))
    return sorted({round(first * step**k) for k in range(count)})


@dataclass(frozen=True)
class Stage:
    """The measurement of one setting.

    Attributes
    ----------
    setting : Setting
        The setting.
    cases : sequence of Case
        What is called.
    sizes : sequence of int
        In the unit of the setting; of a setting that is no threshold, elements.
    per_element : callable
        Returns how many units one element of a case is.
    values : sequence of int
        The values to compare: of a threshold, one that no call reaches and one that all do.
    share : float
        Its part of the time.
    alone : bool
        Whether each case and size has a process of its own.
    graded : bool
        Whether the threshold also says how much is switched on: then each size is measured as one.
    """

    setting: Setting
    cases: Sequence[Case]
    sizes: Sequence[int]
    per_element: Callable[[Case], int] = lambda case: 1
    values: Sequence[int] = (sys.maxsize, 1)
    share: float = 0.25
    alone: bool = False
    graded: bool = False

    @property
    def is_threshold(self) -> bool:
        """Whether the setting is one."""
        return self.values[0] == sys.maxsize

    def __len__(self) -> int:
        return len(self.cases) * len(self.sizes)

    def measure(self, seconds: float) -> Iterator[tuple[Case, int, list[float]]]:
        """Yield each case, each size, and the times with each value."""
        each = self.share * seconds / len(self)
        measure = _times_of_new_process if self.alone else times_of
        for case, size in itertools.product(self.cases, self.sizes):
            elements = max(1, size // self.per_element(case))
            values = (self.values[0], size) if self.graded else self.values
            yield case, size, measure(self.setting, values, case, elements, each)

    def choose(self, measured: Sequence[tuple[Case, int, list[float]]]) -> Choice:
        """Return the best value of the setting."""
        before = self.setting.number
        if not self.is_threshold:
            times = zip(*(each for _, _, each in measured), strict=True)
            return best_value(dict(zip(self.values, map(list, times), strict=True)), before)
        return best_threshold(curves(measured), before)


def curves(measured: Sequence[tuple[Case, int, list[float]]]) -> list[Curve]:
    """Return the curves of a threshold."""
    found = []
    for case, group in itertools.groupby(measured, key=lambda each: each[0]):
        _, sizes, times = zip(*group, strict=True)
        off, on = zip(*times, strict=True)
        found.append(Curve(str(case), sizes, off, on))
    return found


def times_of(
    setting: Setting, values: Sequence[int], case: Case, elements: int, seconds: float
) -> list[float]:
    """Return the times of a call with several values of a setting, measured in turn for so long."""
    call, pause = case.make(elements), case.pause
    taken: list[list[float]] = [[] for _ in values]
    warm_up = min(WARM_UP, seconds / 8)
    end = time.perf_counter() + seconds
    turns = list(zip(values, taken, strict=True))
    while not taken[0] or time.perf_counter() < end:
        for value, samples in turns:
            change(setting, value)
            samples.append(_sample(call, pause, warm_up))
        turns.reverse()
    # What disturbs threads that are awake only adds to the time; how long they take to wake up varies.
    return [statistics.median(samples) if pause else min(samples) for samples in taken]


def _times_of_new_process(
    setting: Setting, values: Sequence[int], case: Case, elements: int, seconds: float
) -> list[float]:
    """Return what `times_of` does in a process that has never freed any memory.

    Once a large block has been freed, glibc keeps blocks of its size, or returns them with each call,
    depending on what lies around them.
    """
    code = f"""
from fastact.bench.tuning import Case, settings, times_of
setting = next(each for each in settings.TABLE if each.name == {setting.name!r})
print(*times_of(setting, {tuple(values)}, {case!r}, {elements}, {seconds}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    return list(map(float, done.stdout.split()))


def _sample(call: Call, pause: float, warm_up: float) -> float:
    """Return the seconds of a call: the mean without a pause, else the median of a few with one."""
    for _ in range(3):  # the third replays the call
        call()
    if pause:
        times = []
        for _ in range(_PAUSED_CALLS):
            time.sleep(pause)
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return statistics.median(times)
    start = time.perf_counter()
    while time.perf_counter() - start < warm_up:
        call()
    count, start = 0, time.perf_counter()
    while not count or time.perf_counter() - start < min(SECONDS_PER_SAMPLE, warm_up):
        call()
        count += 1
    return (time.perf_counter() - start) / count


def change(setting: Setting, value: int) -> None:
    """Set a setting by its own means."""
    setting.set(value)
    if setting is settings.OUTPUT_CACHE_MIN_BYTES:
        output_pool.follow_min_bytes()


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Restore what is tuned at the end, and where it comes from."""
    before = [(each, each.state) for each in settings.TABLE if each.is_tuned]
    try:
        yield
    finally:
        for each, state in before:
            each.state = state
        output_pool.follow_min_bytes()


def stages() -> list[Stage]:
    """Return what to measure on this machine, in order, for its current settings."""
    relu, sigmoid = Case("relu", "forward_backward"), Case("sigmoid", "forward")
    gelu = Case("gelu", "forward_backward")
    found = []
    if settings.THREADS.number > 1:
        awake = (relu, sigmoid, gelu)
        paused = [Case(each.function, each.operation, pause=PAUSE) for each in awake]
        found += [
            Stage(
                settings.PARALLEL_THRESHOLD,
                (*awake, *paused),
                geometric(4_096, 2**19, 11),
                share=0.35,
                graded=True,  # from the threshold on, threads are as many as get a sixth of it
            ),
            Stage(
                settings.CHUNK_SIZE,
                (relu, sigmoid),
                (2**17, 2**19),
                values=(1_024, 2_048, 4_096, 8_192, 16_384, 32_768),
                share=0.1,
            ),
        ]
    if settings.OUTPUT_CACHE.value.value:
        fresh = [Case(each.function, each.operation, is_fresh=True) for each in (relu, sigmoid)]
        sizes = geometric(2**15, 2**23, 9)
        found.append(
            Stage(
                settings.OUTPUT_CACHE_MIN_BYTES,
                fresh,
                sizes,
                lambda case: _FLOAT.itemsize,
                share=0.2,
                alone=True,
            )
        )
    read = [Case(each.function, each.operation, is_read=True) for each in (relu, sigmoid)]
    found.append(
        Stage(
            settings.STREAMING_THRESHOLD,
            (relu, sigmoid, *read),
            geometric(*_range_of_streaming(), 12),
            lambda case: _FLOAT.itemsize * case.arrays,
            values=(sys.maxsize, 0),
            share=0.35,
        )
    )
    return found


def _range_of_streaming() -> tuple[int, int]:
    """Return the sizes between which stores past the caches begin to pay: around all caches."""
    machine, default = tuned.this_machine(), settings.STREAMING_THRESHOLD.number
    sizes = [each.size for level, each in machine.caches.items() if level > 1]
    least = max(2**19, min([*sizes, default]) // 2)
    most = min(max(4 * default, 64 * least), _LARGEST, int(available_memory() // 8))
    return least, max(most, 4 * least)


@dataclass
class Finding:
    """What was found for one setting.

    Attributes
    ----------
    setting : Setting
        The setting.
    default : int
        Its default.
    choice : Choice
        Its best value.
    measured : list
        Cases, sizes and times.
    """

    setting: Setting
    default: int
    choice: Choice
    measured: list[tuple[Case, int, list[float]]] = field(default_factory=list)


def tune(
    seconds: float, start: Callable[[int], object], advance: Callable[[], object]
) -> list[Finding]:
    """Measure all settings, and leave them as they were.

    Parameters
    ----------
    seconds : float
        How long, about.
    start : callable
        Called with the number of measurements.
    advance : callable
        Called after each.
    """
    found = []
    with unchanged_settings():
        for setting in settings.TABLE:
            if setting.is_tuned:
                setting.take_default()
        output_pool.follow_min_bytes()
        todo = stages()
        start(sum(map(len, todo)))
        for stage in todo:
            default, measured = stage.setting.number, []
            for each in stage.measure(seconds):
                measured.append(each)
                change(stage.setting, default)
                advance()
            finding = Finding(stage.setting, default, stage.choose(measured), measured)
            change(stage.setting, finding.choice.value)
            found.append(finding)
    return found


def as_json(found: Sequence[Finding]) -> dict[str, Any]:
    """Return all measurements as plain data."""
    return {
        each.setting.name: {
            "unit": each.setting.unit,
            "default": each.default,
            "found": each.choice.value,
            "gain": each.choice.gain,
            "times": [
                {"call": str(case), "size": size, "seconds": times}
                for case, size, times in each.measured
            ],
        }
        for each in found
    }
