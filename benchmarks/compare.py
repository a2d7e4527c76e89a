"""Compare fastact with plain NumPy, and with PyTorch where it is installed: value and gradient.

This makes the table of the README::

    python -m benchmarks.compare --elements 1000 1000000 20000000

All contenders get the same arrays and take turns within one run. By default each call returns new
arrays, as it does when nobody thinks of it; with ``--given-outputs`` fastact and the baseline write to
arrays that exist already. PyTorch runs its automatic differentiation, with as many threads as fastact.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastact as fa
from benchmarks.contenders import ACTIVATIONS, Case, installed_implementations
from benchmarks.timing import Contender, Times, describe, machine, measure_in_turn

if TYPE_CHECKING:
    from rich.table import Table

TITLES = {"fastact": "fastact", "numpy": "NumPy", "torch": "PyTorch"}


@dataclasses.dataclass(frozen=True)
class Result:
    """How long one activation takes.

    Attributes
    ----------
    activation : str
        Its name.
    elements : int
        The length of the input.
    times : dict of str to Times
        One entry for each implementation that has the activation.
    """

    activation: str
    elements: int
    times: dict[str, Times]

    def ratio(self, implementation: str) -> float:
        """Return how many times faster fastact is."""
        return self.times[implementation].median / self.times["fastact"].median


def measure(options: argparse.Namespace) -> Iterator[Result]:
    """Measure all activations at all sizes."""
    for elements in options.elements:
        for name in options.activation:
            case = Case(name, elements, options.dtype)
            contenders = {}
            for implementation in options.implementations:
                try:
                    call = case.call(implementation, "forward_backward", options.given_outputs)
                except NotImplementedError:
                    continue
                contenders[implementation] = Contender(call)
            yield Result(name, elements, measure_in_turn(contenders, options.samples))


def rows(results: Sequence[Result], implementations: Sequence[str]) -> list[list[str]]:
    """Return a table as text: a row of titles, and a row for each result."""
    others = [each for each in implementations if each != "fastact"]
    titles = ["activation", "fastact"]
    for other in others:
        titles += [TITLES[other], "ratio"]
    found = [titles]
    for result in results:
        row = [result.activation, str(result.times["fastact"])]
        for other in others:
            if other in result.times:
                row += [str(result.times[other]), f"{result.ratio(other):.1f}"]
            else:
                row += ["", ""]
        found.append(row)
    return found


def heading(elements: int, options: argparse.Namespace) -> str:
    """Say what a table shows."""
    where = "given" if options.given_outputs else "new"
    return (
        f"Forward and backward, {elements:,} elements, {options.dtype}, {where} outputs: "
        "median time of a call ± half the interquartile range; ratio to fastact"
    )


def rich_table(cells: list[list[str]]) -> Table:
    """Return a table for the terminal, at most 80 columns wide."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(cells[0]):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in cells[1:]:
        table.add_row(*row)
    return table


def markdown_table(title: str, cells: list[list[str]]) -> str:
    """Return a table for a Markdown file."""
    rule = [":--"] + ["--:"] * (len(cells[0]) - 1)
    lines = [f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]]]
    return "\n".join([f"{title}:", "", *lines, ""])


def as_json(
    results: Sequence[Result], options: argparse.Namespace, where: dict[str, Any]
) -> dict[str, Any]:
    """Return everything for a file; times are in seconds."""
    return {
        "machine": where,
        "operation": "forward_backward",
        "dtype": options.dtype,
        "given_outputs": options.given_outputs,
        "samples": options.samples,
        "results": [dataclasses.asdict(result) for result in results],
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Compare fastact with plain NumPy and PyTorch: value and gradient.",
    )
    parser.add_argument("--elements", type=int, nargs="+", default=[1_000_000], metavar="N")
    parser.add_argument(
        "--activation", nargs="+", default=ACTIVATIONS, choices=ACTIVATIONS, metavar="NAME"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--samples", type=int, default=31, help="how many to take of each")
    parser.add_argument(
        "--given-outputs", action="store_true", help="write to arrays that exist already"
    )
    parser.add_argument(
        "--implementations",
        nargs="+",
        choices=installed_implementations(),
        default=installed_implementations(),
        help="who takes part",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables for a Markdown file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args(arguments)
    if min(options.elements) < 1 or options.samples < 1:
        parser.error("elements and samples must be at least 1")
    options.implementations = ["fastact"] + [
        each for each in dict.fromkeys(options.implementations) if each != "fastact"
    ]
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    from rich.console import Console
    from rich.progress import track

    options = parse(arguments)
    where = machine()
    if "torch" in options.implementations:
        importlib.import_module("torch").set_num_threads(fa.get_num_threads())
    results = list(
        track(
            measure(options),
            description="measuring",
            total=len(options.elements) * len(options.activation),
            console=Console(stderr=True),
            transient=True,
        )
    )
    console = Console()
    for elements in options.elements:
        some = [result for result in results if result.elements == elements]
        title, cells = heading(elements, options), rows(some, options.implementations)
        if options.markdown:
            print(markdown_table(title, cells))
        else:
            console.print(f"{title}.", rich_table(cells), "", sep="\n", highlight=False)
    print(describe(where))
    if options.json:
        options.json.write_text(json.dumps(as_json(results, options, where), indent=2) + "\n")


if __name__ == "__main__":
    main()
