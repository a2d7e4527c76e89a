"""The competition: contenders in processes of their own, which are measured in turn."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.bench import limit
from fastact.bench.contenders import IMPLEMENTATIONS, Implementation, warm_call
from fastact.bench.limit import Moved
from fastact.bench.timing import Stopwatch, Times, wait_until_idle
from fastact.bench.workers import Worker, WorkerError
from fastact.bench.workloads import Cell

_LIMIT = "limit"


@dataclass(frozen=True)
class LeftOut:
    """Why an implementation was not measured.

    Attributes
    ----------
    kind : str
        That it ``"lacks"`` the function, computes something that ``"differs"``, or ``"failed"``.
    reason : str
        What it says itself.
    """

    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Measurement:
    """What comes of one cell.

    Attributes
    ----------
    times : dict of str to Times
        By implementation.
    left_out : dict of str to LeftOut
        The other implementations.
    limit : float
        The seconds it takes to move the same bytes; not a number if that failed.
    limit_by : str
        The loop that does.
    """

    times: dict[str, Times]
    left_out: dict[str, LeftOut]
    limit: float
    limit_by: str


class _Held:
    """What a worker holds: one call, and its arrays, at a time."""

    _watch: Stopwatch | None = None

    def release(self) -> None:
        """Forget the call and its arrays."""
        self._watch = None
        gc.collect()

    def sample(self, warm_up: float) -> float:
        """Return the seconds of a call; all threads sleep again then."""
        assert self._watch is not None
        seconds = self._watch.sample(warm_up)
        wait_until_idle()
        return seconds


@dataclass
class HeldImplementation(_Held):
    """An implementation."""

    implementation: Implementation
    threads: int

    def results(self, cell: Cell) -> list[NDArray[Any]]:
        """Return the results of a cell."""
        self.implementation.set_threads(self.threads)
        results = self.implementation.make(cell.work, cell.operation)()
        return [np.asarray(each) for each in _as_tuple(results)]

    def set_up(self, cell: Cell) -> str:
        """Make the arrays and the call of a cell, and call it."""
        self.implementation.set_threads(self.threads)
        call = warm_call(self.implementation, cell.work, cell.operation, cell.given_outputs)
        self._watch = Stopwatch(call)
        wait_until_idle()
        return self.implementation.title


@dataclass
class HeldLimit(_Held):
    """The streaming limit."""

    threads: int

    def set_up(self, cell: Cell) -> str:
        """Choose the fastest loop, and say which it is."""
        fa.set_num_threads(self.threads)
        loops = limit.loops()
        calls = dict(loops.calls(Moved.by(cell.work, cell.operation), self.threads))
        watches = {kind: Stopwatch(call) for kind, call in calls.items()}
        seconds = {
            kind: min(watch.sample(0.0) for _ in range(3)) for kind, watch in watches.items()
        }
        fastest = min(seconds, key=lambda kind: seconds[kind])
        self._watch = watches[fastest]
        wait_until_idle()
        return f"{loops.title}, {fastest}".rstrip(", ")


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)


class Competition:
    """Measures cells; a context in which the workers run.

    Parameters
    ----------
    implementations : sequence of str
        Their names; fastact is one of them.
    samples : int
        Samples for each call.
    warm_up : float
        Seconds for which each call runs before each sample.
    """

    def __init__(self, implementations: Sequence[str], samples: int, warm_up: float) -> None:
        self._samples, self._warm_up = samples, warm_up
        threads = fa.get_num_threads()
        self._workers = {_LIMIT: Worker(HeldLimit(threads))}
        for name in implementations:
            self._workers[name] = Worker(HeldImplementation(IMPLEMENTATIONS[name], threads))
        self._expected: dict[Cell, list[NDArray[Any]]] = {}
        self._verdicts: dict[tuple[str, Cell], LeftOut | None] = {}

    def __enter__(self) -> Competition:
        for worker in self._workers.values():  # they import their libraries side by side
            worker.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def measure(self, cell: Cell) -> Measurement:
        """Measure the streaming limit and all implementations that agree with fastact, in turn."""
        left_out = self._left_out(cell.sample)
        if "fastact" in left_out:
            return Measurement({}, left_out, math.nan, "")
        ready = {}
        for name in self._workers:
            if name not in left_out:
                ready[name], error = self._call(name, "set_up", cell)
                if error:
                    left_out[name] = error
                    del ready[name]
        times = self._times(ready, left_out)
        for name in times:
            self._call(name, "release")
        of_limit = times.pop(_LIMIT, None)
        return Measurement(
            times, left_out, of_limit.median if of_limit else math.nan, ready.get(_LIMIT, "")
        )

    def _times(self, names: Iterable[str], left_out: dict[str, LeftOut]) -> dict[str, Times]:
        """Return the times of those that get through all rounds."""
        taken: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(self._samples):
            for name in [*taken]:
                seconds, error = self._call(name, "sample", self._warm_up)
                taken[name].append(seconds)
                if error:
                    left_out[name] = error
                    del taken[name]
        return {name: Times.of(samples) for name, samples in taken.items()}

    def _left_out(self, sample: Cell) -> dict[str, LeftOut]:
        """Return the implementations that do not agree with fastact on a sample; each is asked once."""
        for name in ("fastact", *self._workers):
            if name != _LIMIT and (name, sample) not in self._verdicts:
                self._verdicts[name, sample] = self._verdict(name, sample)
        return {
            name: verdict
            for name in self._workers
            if (verdict := self._verdicts.get((name, sample))) is not None
        }

    def _verdict(self, name: str, sample: Cell) -> LeftOut | None:
        results, error = self._call(name, "results", sample)
        if error:
            return error
        expected = self._expected.setdefault(sample, results)  # fastact is asked first
        return None if agree(expected, results) else LeftOut("differs")

    def _call(self, name: str, method: str, *arguments: Any) -> tuple[Any, LeftOut | None]:
        """Return what a worker returns, or why it is left out."""
        try:
            return self._workers[name].call(method, *arguments), None
        except NotImplementedError as error:
            return None, LeftOut("lacks", str(error))
        except WorkerError as error:
            self._workers[name].close()  # nobody knows what state it is in
            return None, LeftOut("failed", str(error))


def agree(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> bool:
    """Whether results agree to a few digits; gradients of parameters are left out where only they have them."""
    return len(ours) <= len(theirs) and all(
        our.size == their.size
        and np.allclose(
            our.ravel(), their.ravel(), rtol=1e-2, atol=1e-2 * _scale(our), equal_nan=True
        )
        for our, their in zip(ours, theirs, strict=False)
    )


def _scale(array: NDArray[Any]) -> float:
    """Return the largest magnitude, at most 1."""
    return min(1.0, float(np.max(np.abs(array), initial=0)))
