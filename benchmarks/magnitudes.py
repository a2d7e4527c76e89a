"""Measure how the time of a call depends on the magnitude of its elements: it should not.

    python -m benchmarks.magnitudes

Arithmetic with subnormal operands or results is slow on some processors, and a branch is slow where elements differ.
For every pointwise function, three functions of rows and all of `fastact.math`, one thread computes 16,384
elements drawn from N(0, s) into given arrays, for each s in turn. The table has the nanoseconds an element for
s = 1, and for other s the ratios to that time; those over the tolerance are marked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastact as fa
from fastact.bench.contenders import OPERATIONS, make_call
from fastact.bench.peers import Call
from fastact.bench.timing import describe, machine
from fastact.bench.workloads import Workload

ELEMENTS = 16_384
#: Rows as long as those of a classifier.
ROW = 1024
ROW_FUNCTIONS = ("softmax", "log_softmax", "softmax_cross_entropy")
SCALES = (1e-20, 4.0, 30.0)
TOLERANCE = 1.3
#: A sample repeats its call for this long.
NANOSECONDS = 300_000


@dataclasses.dataclass(frozen=True)
class Result:
    """The times of one operation of one function: the least of all samples.

    Attributes
    ----------
    function, operation, dtype : str
        What is measured.
    times : dict of float to float
        Nanoseconds an element, by the standard deviation of the elements.
    """

    function: str
    operation: str
    dtype: str
    times: dict[float, float]

    @property
    def ratios(self) -> dict[float, float]:
        """How many times as long as for a standard deviation of 1 the others take."""
        return {scale: time / self.times[1] for scale, time in self.times.items() if scale != 1}


def functions(only: str, dtype: str) -> Iterator[tuple[str, Callable[[float], dict[str, Call]]]]:
    """Yield each function's name, and what makes the calls of its operations for a standard deviation."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(fa.names("activation"), (ELEMENTS,))
    shapes |= dict.fromkeys(ROW_FUNCTIONS, (ELEMENTS // ROW, ROW))
    for name, shape in shapes.items():
        if only in name:
            yield name, partial(_calls_of_function, name, shape, dtype)
    for name in fa.math.__all__:
        if isinstance(getattr(fa.math, name), np.ufunc) and only in f"math.{name}":
            yield f"math.{name}", partial(_calls_of_ufunc, getattr(fa.math, name), dtype)


def _calls_of_function(
    name: str, shape: tuple[int, ...], dtype: str, scale: float
) -> dict[str, Call]:
    work = Workload.of(name, shape, dtype, scale=scale)
    return {each: make_call(work, "fastact", each, given_outputs=True) for each in OPERATIONS}


def _calls_of_ufunc(function: np.ufunc, dtype: str, scale: float) -> dict[str, Call]:
    x = Workload.of("identity", (ELEMENTS,), dtype, scale=scale).x
    return {"forward": partial(function, x, out=np.empty_like(x))}


def measure(only: str, dtype: str, scales: Sequence[float], rounds: int) -> Iterator[Result]:
    """Measure the functions whose name contains a text; the standard deviations take turns."""
    for name, make in functions(only, dtype):
        calls = {scale: make(scale) for scale in (1.0, *scales)}
        for operation in calls[1.0]:
            some = {scale: each[operation] for scale, each in calls.items()}
            yield Result(name, operation, dtype, _least(some, rounds))


def _least(calls: dict[float, Any], rounds: int) -> dict[float, float]:
    """Return the least nanoseconds an element of each call.

    All are made on the arrays of s = 1, since the distances of arrays in memory change times by a fifth.
    """
    call = calls[1.0]
    contents = {scale: list(map(np.copy, some.args)) for scale, some in calls.items()}
    least = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for scale in (*calls, 1.0):  # 1 at the end too: other operations share these arrays
            for target, array in zip(call.args, contents[scale], strict=True):
                if isinstance(target, np.ndarray):
                    target[...] = array
            count = 1 + NANOSECONDS * 3 // _sample(call, 3)
            least[scale] = min(least[scale], _sample(call, count) / count / ELEMENTS)
    return least


def _sample(call: Call, count: int) -> int:
    """Return the nanoseconds of this thread, without those of other processes, for a number of calls."""
    start = time.thread_time_ns()
    for _ in range(count):
        call()
    return max(1, time.thread_time_ns() - start)


def rows(results: Sequence[Result], scales: Sequence[float]) -> list[list[str]]:
    """Return the cells of a table: for each function a row, with all operations beside each other."""
    cells: dict[str, dict[str, Result]] = {}
    for result in results:
        cells.setdefault(result.function, {})[result.operation] = result
    return [
        [name, *(cell for each in OPERATIONS for cell in _cells(found.get(each), scales))]
        for name, found in cells.items()
    ]


def _cells(result: Result | None, scales: Sequence[float]) -> list[str]:
    if result is None:
        return [""] * (1 + len(scales))
    ratios = [
        _in_four(ratio) + ("*" if ratio > TOLERANCE else " ") for ratio in result.ratios.values()
    ]
    return [_in_four(result.times[1]), *ratios]


def _in_four(number: float) -> str:
    """Return a number in four characters."""
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def summary(results: Sequence[Result]) -> str:
    """Say how many ratios are over the tolerance, and which is the largest."""
    ratios = [(ratio, scale, each) for each in results for scale, ratio in each.ratios.items()]
    slow = sum(ratio > TOLERANCE for ratio, _, _ in ratios)
    ratio, scale, worst = max(ratios, key=lambda each: each[0])
    return (
        f"{slow} of {len(ratios)} ratios are over {TOLERANCE} (marked *); the largest is {ratio:.2f} "
        f"({worst.function}, {worst.operation}, {worst.dtype}, s = {scale:g})."
    )


def print_tables(results: Sequence[Result], scales: Sequence[float]) -> None:
    """Print a table for each type, and the summary."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=100, highlight=False)  # also where output is not a terminal
    for dtype in dict.fromkeys(each.dtype for each in results):
        title = f"{dtype}, one thread: ns an element for s = 1, and ratios of other s to it"
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, title=title)
        table.add_column("\nfunction", no_wrap=True)
        for heading in ("value", "grad.", "both "):
            table.add_column(f"{heading}\ns=1", justify="right", no_wrap=True)
            for scale in scales:
                table.add_column(f"\n{scale:g} ", justify="right", no_wrap=True)
        for row in rows([each for each in results if each.dtype == dtype], scales):
            table.add_row(*row)
        console.print(table, "")
    console.print(summary(results), soft_wrap=True)


def as_json(results: Sequence[Result], where: Any) -> dict[str, Any]:
    """Return everything for a file."""
    return {
        "machine": where,
        "results": [dataclasses.asdict(each) | {"ratios": each.ratios} for each in results],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.magnitudes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dtype", action="append", choices=("float32", "float64"))
    parser.add_argument("--only", default="", help="only functions whose name contains this")
    parser.add_argument(
        "--scale", action="append", type=float, help="a standard deviation beside 1; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=15, help="samples of each call")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    scales = options.scale or SCALES
    threads = fa.get_num_threads()
    fa.set_num_threads(1)
    where = machine()
    results = [
        result
        for dtype in options.dtype or ("float32", "float64")
        for result in measure(options.only, dtype, scales, options.rounds)
    ]
    fa.set_num_threads(threads)
    if not results:
        raise SystemExit(f"no function's name contains {options.only!r}")
    print_tables(results, scales)
    print(describe(where))
    if options.json:
        options.json.write_text(json.dumps(as_json(results, where), indent=1) + "\n")


if __name__ == "__main__":
    main()
