"""The tables: in the terminal, and in the documentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from .analysis import Result

_COLUMNS = ("registers", "instructions", "spills", "throughput", "chain")


def print_tables(results: Sequence[Result], before: Sequence[Result]) -> None:
    """Print a table for each processor."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=88, highlight=False)  # also where output is not a terminal
    for processor in _processors(results):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, title=processor, pad_edge=False)
        table.add_column("function", no_wrap=True)
        for name in _headings(before):
            table.add_column(name, justify="right", no_wrap=True)
        for row in _rows(processor, results, before):
            table.add_row(*row)
        console.print(table, "")
    for line in summaries(results, before):
        console.print(line, soft_wrap=True)


def _processors(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(each.processor for each in results))


def _headings(before: Sequence[Result]) -> list[str]:
    return [*_COLUMNS, *(["chain before"] if before else [])]


def _rows(
    processor: str, results: Sequence[Result], before: Sequence[Result]
) -> Iterator[list[str]]:
    """Yield the cells of each function."""
    old = {each.function: each for each in before if each.processor == processor}
    for each in results:
        if each.processor == processor:
            cells = [
                each.function,
                str(each.registers),
                f"{each.instructions:.1f}",
                f"{each.spills:.1f}",
                f"{each.throughput:.2f}",
                f"{each.chain:.2f}",
            ]
            if before:
                was = old.get(each.function)
                cells.append(f"{was.chain:.2f}" if was else "")
            yield cells


def summaries(results: Sequence[Result], before: Sequence[Result]) -> Iterator[str]:
    """Yield a line for each processor: the geometric mean of the cycles' ratios to those before."""
    old = {(each.processor, each.function): each for each in before}
    for processor in _processors(results):
        pairs = [
            (each, was)
            for each in results
            if each.processor == processor
            and not each.function.startswith("math.")
            and (was := old.get((processor, each.function)))
        ]
        if pairs:
            busy, waiting = (
                math.exp(math.fsum(map(math.log, ratios)) / len(pairs))
                for ratios in (
                    [new.throughput / was.throughput for new, was in pairs],
                    [new.chain / was.chain for new, was in pairs],
                )
            )
            yield (
                f"{processor}: {waiting:.2f} times the cycles before ({busy:.2f} times by throughput alone), "
                f"geometric mean of {len(pairs)} activations."
            )


_PAGE = """\
# Instructions

What the inner loop of each function costs on processors that need not be at hand, for float32: value and gradient of an
activation (`forward_backward`), the value of the functions of `fastact.math`. Kernels are compiled for each processor, and
`llvm-mca` analyses the code that runs for a block of contiguous elements with LLVM's model of it. The models are
simplified: that of Sapphire Rapids has one unit for 512-bit products where servers have two, that of Zen 5 is Zen 4's, and
that of the Apple M1 is its forerunner's. All data are taken to be in the first-level cache.

`python -m benchmarks.throughput --docs` writes this page; it needs LLVM's tools (Debian, Ubuntu: `apt install llvm-19`).
"""


def page(results: Sequence[Result], before: Sequence[Result]) -> str:
    """Return the page of the documentation."""
    lines = [_PAGE]
    if before:
        lines += [
            "## Before and after",
            "",
            "An earlier commit's results (`--json` there, `--before` here) beside these.",
            "",
            *(f"- {each}" for each in summaries(results, before)),
            "",
        ]
    lines += [
        "## Cycles an element",
        "",
        "By throughput alone, as if no instruction waited for another, and in brackets as they do.",
        "",
        *_markdown(results, lambda each: f"{each.throughput:.2f} ({each.chain:.2f})"),
        "",
        "## Vector instructions for each register",
        "",
        "In brackets, how many of them read or write the stack.",
        "",
        *_markdown(results, lambda each: f"{each.instructions:.0f} ({each.spills:.0f})"),
    ]
    return "\n".join(lines) + "\n"


def _markdown(results: Sequence[Result], cell: Callable[[Result], str]) -> Iterator[str]:
    """Yield the lines of a table of functions and processors."""
    processors = _processors(results)
    found = {(each.function, each.processor): cell(each) for each in results}
    yield f"| function | {' | '.join(processors)} |"
    yield f"| :-- |{' --: |' * len(processors)}"
    for function in dict.fromkeys(each.function for each in results):
        cells = [found.get((function, each), "") for each in processors]
        yield f"| {function} | {' | '.join(cells)} |"
