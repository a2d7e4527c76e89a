"""What makes times comparable: a stopwatch, memory, threads of BLAS, and a warning on a busy machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeAlias

import numpy as np

import fastact as fa

Clock: TypeAlias = Callable[[], float]

#: A machine is busy if it has so many other processes for each core,
MOST_LOAD = 0.75
#: or they take such a share of our time,
MOST_TAKEN = 0.1
#: or the middle half of the rounds' ratios is as wide as this share of their median.
MOST_SPREAD = 0.2


class Stopwatch:
    """The time spent in its `with` blocks, by some clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.total = self.start = 0.0

    def __enter__(self) -> None:
        self.start = self.clock()

    def __exit__(self, *exception: object) -> None:
        self.total += self.clock() - self.start

    def reset(self) -> float:
        """Return the seconds so far, and start anew."""
        seconds, self.total = self.total, 0.0
        return seconds


def keep_memory() -> None:
    """Let the allocator keep what NumPy's temporaries use, as it does after large arrays.

    In a fresh process, glibc returns a few MB to the system at every step, and getting them again takes NumPy several
    times as long as the computation. A large array that is freed ends this.
    """
    np.empty(30 * 2**20, np.uint8)


@contextmanager
def blas_threads(number: int) -> Iterator[None]:
    """Let BLAS use that many threads."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(number, user_api="blas"):
        yield


def clock_for(threads: int, elements: int) -> Clock:
    """Return the clock to measure with: on one thread its own time, which excludes what other processes take.

    Parameters
    ----------
    threads : int
        Those of BLAS.
    elements : int
        The size of the arrays that fastact is called with.
    """
    is_alone = threads == 1 and elements < fa.get_parallel_threshold()
    return time.thread_time if is_alone else time.perf_counter


def fastest_blas_threads(step: Callable[[], object], rounds: int = 5, steps: int = 3) -> int:
    """Return the number of BLAS threads with which steps are fastest, measured in turn.

    More threads must be faster in every round: on a busy machine, where they wait for each other, some are very slow.
    """
    most: int = fa.get_num_threads()
    choices: list[int] = [2**i for i in range(most.bit_length()) if 2**i < most] + [most]
    if len(choices) == 1:
        return most
    taken: dict[int, list[float]] = {each: [] for each in choices}
    for _ in range(rounds):
        for number in choices:
            with blas_threads(number):
                step()  # threads start
                start = time.perf_counter()
                for _ in range(steps):
                    step()
                taken[number].append(time.perf_counter() - start)
    best = choices[0]
    for number in choices[1:]:
        if max(taken[number]) < median(taken[best]):
            best = number
    return best


@dataclass(frozen=True)
class Noise:
    """Signs that others use the machine.

    Attributes
    ----------
    load : float
        The mean number of processes that wanted to run in the last minute before training.
    taken : float
        The share of the time in which this thread did not run although it wanted to.
    spread : float
        How far the rounds' ratios of two variants disagree: their interquartile range over their median.
    """

    load: float
    taken: float
    spread: float

    @property
    def reasons(self) -> list[str]:
        """What is too large."""
        cores = os.cpu_count() or 1
        found = []
        if self.taken > MOST_TAKEN:
            found.append(f"other processes took {self.taken:.0%} of the time")
        if self.spread > MOST_SPREAD:
            found.append(f"half of the rounds differ by more than {self.spread:.0%}")
        if self.load > MOST_LOAD * cores:
            found.append(f"the load was {self.load:.1f} on {cores} cores before")
        return found

    def __str__(self) -> str:
        return f"This machine is busy, and the times are not reliable: {', '.join(self.reasons)}."


def load() -> float:
    """Return the load average of the last minute, or 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def spread(ratios: Sequence[float]) -> float:
    """Return the interquartile range over the median; 0 for fewer than four numbers."""
    if len(ratios) < 4:
        return 0.0
    lower, middle, upper = quantiles(ratios, n=4)
    return (upper - lower) / middle
