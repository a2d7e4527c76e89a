"""Measure the number of elements from which threads pay: the evidence for the default threshold.

    python -m benchmarks.thread_threshold

For a cheap activation and for expensive ones, one thread and all threads take turns at each size,
writing to given arrays. Calls follow each other without a pause, so the threads are awake. The
break-even is the smallest size from which all threads win at every size.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import fastact as fa
from fastact.bench.contenders import ACTIVATIONS, make_call
from fastact.bench.timing import Contender, Times, describe, machine, measure_in_turn
from fastact.bench.workloads import Workload

OPERATIONS = ("forward", "forward_backward")
SIZES = [1_000, 2_000, 4_000, 6_000, 8_000, 10_000, 12_000, 16_000, 24_000, 32_000, 48_000]
SIZES += [64_000, 100_000, 150_000, 200_000, 300_000]


@contextmanager
def parallel_from(elements: int) -> Iterator[None]:
    """Run calls in parallel from this size on; restore all settings at the end."""
    threads, threshold = fa.get_num_threads(), fa.get_parallel_threshold()
    fa.set_parallel_threshold(elements)
    try:
        yield
    finally:
        fa.set_parallel_threshold(threshold)
        fa.set_num_threads(threads)


def measure(name: str, operation: str, elements: int, samples: int) -> tuple[Times, Times]:
    """Return the times of one thread and of all threads."""
    call = make_call(Workload.of(name, (elements,)), "fastact", operation, given_outputs=True)
    threads = fa.get_num_threads()
    with parallel_from(1):
        times = measure_in_turn(
            {
                "one": Contender(call, lambda: fa.set_num_threads(1)),
                "all": Contender(call, lambda: fa.set_num_threads(threads)),
            },
            samples,
        )
    return times["one"], times["all"]


def break_even(sizes: Sequence[int], times: Sequence[tuple[Times, Times]]) -> int | None:
    """Return the smallest size from which all threads win, or None if they lose at the largest."""
    found = None
    for elements, (one, every) in sorted(zip(sizes, times, strict=True), reverse=True):
        if every.median >= one.median:
            break
        found = elements
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.thread_threshold",
        description="Measure the number of elements from which threads pay.",
    )
    parser.add_argument("--elements", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument(
        "--activation",
        nargs="+",
        default=("relu", "sigmoid", "tanh"),
        choices=ACTIVATIONS,
        metavar="NAME",
    )
    parser.add_argument("--samples", type=int, default=31, help="samples of each call")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table for each operation and the break-even sizes."""
    from rich.console import Console
    from rich.table import Table

    options = parse(arguments)
    if fa.get_num_threads() == 1:
        raise SystemExit("fastact may use only one thread: there is nothing to compare")
    console, where, sizes, ends = Console(), machine(), sorted(set(options.elements)), []
    for name in options.activation:
        for operation in OPERATIONS:
            times = [measure(name, operation, elements, options.samples) for elements in sizes]
            table = Table(title=f"{name}, {operation}, float32")
            for column in ("elements", "one thread", "all threads", "one / all"):
                table.add_column(column, justify="right", no_wrap=True)
            for elements, (one, every) in zip(sizes, times, strict=True):
                ratio = f"{one.median / every.median:.2f}"
                table.add_row(f"{elements:,}", str(one), str(every), ratio)
            console.print(table)
            ends.append((name, operation, break_even(sizes, times)))
    console.print("All threads win from:")
    for name, operation, elements in ends:
        console.print(f"  {name}, {operation}: {f'{elements:,}' if elements else 'nowhere'}")
    console.print(f"The threshold is {fa.get_parallel_threshold():,}.")
    print(describe(where))


if __name__ == "__main__":
    main()
