"""Sweeps around the thresholds: the evidence for their defaults.

    python -m benchmarks.thresholds

At sizes below and above each threshold, calls are measured as they are set, and with what the
threshold switches always off and always on, in turn. A table gives the time per element and each
step upwards of more than 15 %. A step that stands in all columns is one of a cache, not of the
threshold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from fastact.bench import tuning
from fastact.bench.contenders import ACTIVATIONS
from fastact.bench.timing import describe, machine
from fastact.bench.tuning import Case
from fastact.runtime import settings
from fastact.runtime.settings import Setting

#: Upwards, from one size to the next.
MAX_STEP = 1.15
#: From a quarter of the threshold to four times.
FACTORS = tuple(2 ** (k / 4) for k in range(-8, 9))
THRESHOLDS = {
    each.name: each
    for each in (
        settings.PARALLEL_THRESHOLD,
        settings.OUTPUT_CACHE_MIN_BYTES,
        settings.STREAMING_THRESHOLD,
    )
}
_ITEMSIZE = 4


class Row(NamedTuple):
    """The times of one size, in seconds an element.

    Attributes
    ----------
    elements : int
        The size.
    as_set, off, on : float
        With the threshold as it is, and with one that no call reaches or all do.
    """

    elements: int
    as_set: float
    off: float
    on: float


def cases_of(setting: Setting, functions: Sequence[str]) -> Iterator[Case]:
    """Yield the calls that are measured: fresh and given outputs, read or not, after a pause."""
    for name in functions:
        for operation in ("forward", "forward_backward"):
            for is_fresh in (False, True):
                if setting is settings.PARALLEL_THRESHOLD:
                    yield from (
                        Case(name, operation, is_fresh, pause=each) for each in (0.0, tuning.PAUSE)
                    )
                elif is_fresh or setting is not settings.OUTPUT_CACHE_MIN_BYTES:
                    yield from (Case(name, operation, is_fresh, each) for each in (False, True))


def units_of_element(setting: Setting, case: Case) -> int:
    """Return how much an element counts in the unit of a threshold."""
    if setting is settings.PARALLEL_THRESHOLD:
        return 1
    return _ITEMSIZE * (case.arrays if setting is settings.STREAMING_THRESHOLD else 1)


def sweep(setting: Setting, case: Case, factors: Sequence[float], seconds: float) -> Iterator[Row]:
    """Yield the times around a threshold; its value stays what it was."""
    threshold = setting.number
    for factor in factors:
        elements = max(1, round(factor * threshold) // units_of_element(setting, case))
        with tuning.unchanged_settings():
            values = (threshold, sys.maxsize, setting.least)
            times = tuning.times_of(setting, values, case, elements, seconds)
        yield Row(elements, *(each / elements for each in times))


def steps(times: Sequence[float]) -> list[float]:
    """Return how many times as long an element takes as one of the size before; 1 for the first."""
    return [1.0, *(after / before for before, after in pairwise(times))]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.thresholds", description="Sweep around the thresholds."
    )
    parser.add_argument("--threshold", nargs="+", default=[*THRESHOLDS], choices=THRESHOLDS)
    parser.add_argument(
        "--activation",
        nargs="+",
        default=("relu", "sigmoid", "gelu"),
        choices=ACTIVATIONS,
        metavar="NAME",
    )
    parser.add_argument("--factor", type=float, nargs="+", default=FACTORS, metavar="F")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each size of each call")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table for each call and the steps upwards."""
    from rich.console import Console
    from rich.table import Table

    options = parse(arguments)
    console, where, found = Console(highlight=False), machine(), []
    for name in options.threshold:
        setting = THRESHOLDS[name]
        console.print(f"{name}: {setting.value.value:,} {setting.unit} ({setting.value.reason})")
        for case in cases_of(setting, options.activation):
            rows = list(sweep(setting, case, sorted(options.factor), options.seconds))
            rises = steps([row.as_set for row in rows])
            table = Table(title=str(case))
            for column in ("elements", "as set", "off", "on", "step"):
                table.add_column(column, justify="right", no_wrap=True)
            for row, rise in zip(rows, rises, strict=True):
                mark = f"{rise:.2f}" if rise > MAX_STEP else ""
                table.add_row(f"{row.elements:,}", *(f"{t * 1e9:.3f}" for t in row[1:]), mark)
                if mark:
                    found.append(f"{name}, {case}, {row.elements:,} elements: {mark}")
            console.print(table)
    console.print("Nanoseconds an element. Steps upwards of more than 15 %:")
    console.print("\n".join(found) or "none")
    console.print(describe(where))


if __name__ == "__main__":
    main()
