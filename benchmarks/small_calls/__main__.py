"""Measure all rows in turn, on one thread, and print the table."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nets.measure import limited_to
from benchmarks.small_calls.rows import Row, all_rows
from fastact.bench.peers import Call
from fastact.bench.timing import describe, machine

#: A sample repeats its call for this long.
NANOSECONDS = 200_000
WARM_CALLS = 10
#: The most that a call may take of the time of ``np.tanh`` on its first array.
CALLS_OF_TANH = 3.0


@dataclass(frozen=True)
class Result:
    """The nanoseconds that calls take: the least of all samples.

    Attributes
    ----------
    row : Row
        What is measured.
    ours, plain, tanh : float
        fastact's call, the fastest of plain NumPy's, and ``np.tanh`` of the same array.
    """

    row: Row
    ours: float
    plain: float
    tanh: float

    @property
    def of_plain(self) -> float:
        """The part of plain NumPy's time that our call takes."""
        return self.ours / self.plain

    @property
    def of_tanh(self) -> float:
        """How many calls of ``np.tanh`` it takes as long as."""
        return self.ours / self.tanh

    @property
    def is_met(self) -> bool:
        """Whether it is within the budget."""
        return self.of_plain <= self.row.budget

    @property
    def is_few(self) -> bool:
        """Whether it takes as long as few calls of ``np.tanh``."""
        return self.of_tanh <= CALLS_OF_TANH

    def cells(self) -> list[str]:
        """Return the row of the table."""
        times = (f"{each / 1e3:.2f}" for each in (self.ours, self.plain, self.tanh))
        of_plain = f"{self.of_plain:.2f}", f"{self.row.budget:.1f}", _mark(self.is_met)
        shape = " x ".join(map(str, self.row.x.shape))
        return [self.row.title, shape, *times, *of_plain, f"{self.of_tanh:.1f}", _mark(self.is_few)]

    def content(self) -> dict[str, Any]:
        """Return the result for a file."""
        return {
            "call": self.row.title,
            "shape": self.row.x.shape,
            "dtype": str(self.row.x.dtype),
            "budget": self.row.budget,
            **{name: getattr(self, name) for name in ("ours", "plain", "tanh", "is_met", "is_few")},
        }


def _mark(is_met: bool) -> str:
    return "yes" if is_met else "NO"


def measure(rows: Sequence[Row], rounds: int) -> Iterator[Result]:
    """Compare the results of each row's calls, and yield the least times of all rounds."""
    for row in rows:
        row.check()
        tanh = partial(np.tanh, row.x)
        calls: tuple[Call, ...] = (row.ours, *row.plain, tanh)
        for call in calls:  # the first calls make plans and replays
            _sample(call, WARM_CALLS)
        counts = [max(1, 3 * NANOSECONDS // max(1, _sample(call, 3))) for call in calls]
        samples = [
            [_sample(call, count) / count for call, count in zip(calls, counts, strict=True)]
            for _ in range(rounds)
        ]
        ours, *plain, of_tanh = map(min, zip(*samples, strict=True))
        yield Result(row, ours, min(plain), of_tanh)


def _sample(call: Call, count: int) -> int:
    """Return the nanoseconds of this thread, without those of other processes, for a number of calls."""
    start = time.thread_time_ns()
    for _ in range(count):
        call()
    return time.thread_time_ns() - start


def print_table(results: Sequence[Result], dtype: str) -> None:
    """Print all results, and how many are within their budgets."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"Small calls in {dtype}, one thread, µs"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), title=title)
    table.add_column("call", no_wrap=True)
    headings = ("shape", "fastact", "NumPy", "np.tanh", "of\nNumPy", "asked", "met")
    for heading in (*headings, "of\nnp.tanh", f"at most\n{CALLS_OF_TANH:.0f}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in results:
        table.add_row(*each.cells())
    console = Console(width=160)  # also where output is not a terminal
    console.print(table)
    met, few = (sum(getattr(each, name) for each in results) for name in ("is_met", "is_few"))
    console.print(
        f"{met} of {len(results)} are within the budget, {few} take at most {CALLS_OF_TANH:.0f} calls of np.tanh."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows that are wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_calls", description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--rounds", type=int, default=50, help="samples of each call")
    parser.add_argument("--only", default="", help="only calls whose title contains this")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    with limited_to(1):
        where = machine()
        rows = [row for row in all_rows(options.dtype) if options.only in row.title]
        if not rows:
            raise SystemExit(f"no call's title contains {options.only!r}")
        results = list(measure(rows, options.rounds))
    print_table(results, options.dtype)
    print(describe(where))
    if options.json:
        content = {"machine": where, "results": [each.content() for each in results]}
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
