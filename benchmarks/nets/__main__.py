"""Train ten small nets in plain NumPy, with fastact and in PyTorch, and compare a step.

    python -m benchmarks.nets

All take turns in one process, on one thread by default, and start from the same parameters. Times
are medians. PyTorch takes part where it is installed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING

from benchmarks.nets import NETS
from benchmarks.nets.measure import (
    MISSING,
    STARTS,
    TOLERANCE,
    Result,
    keep_memory,
    limited_to,
    measure,
)
from fastact.bench.timing import describe, machine

if TYPE_CHECKING:
    from rich.table import Table


TITLES = {"numpy": "NumPy", "fastact": "fastact", "torch": "PyTorch"}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nets", description=__doc__)
    parser.add_argument("--only", default="", help="only nets whose name contains this")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of some 20 ms for each")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of BLAS, fastact, PyTorch")
    parser.add_argument("--parts", action="store_true", help="print the times of all parts")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    return parser.parse_args(arguments)


def short(seconds: float) -> str:
    """Return a time in ms with three digits."""
    return f"{seconds * 1e3:#.3g}".rstrip(".")


def steps_table(results: Sequence[Result]) -> Table:
    """Return a row for each net, and the geometric means."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title="A step of training, and how many times faster fastact is",
        caption="Parts: activations with bias and dropout, normalizations, cells and the loss.",
    )
    table.add_column("net", no_wrap=True)
    table.add_column("type", no_wrap=True)
    for heading in (*(f"{TITLES[name]}\nms" for name in STARTS), "parts,\nin NumPy"):
        table.add_column(heading, justify="right")
    faster = ["faster\nin parts", "in the\nupdate", "in the\nstep"]
    for heading in (*faster, *(["than\nPyTorch"] if "torch" in STARTS else [])):
        table.add_column(heading, justify="right")
    ratios = []
    for each in results:
        row = [each.speedup_of_parts(), each.speedup_of_parts(optimizer=True), each.speedup()]
        row += [each.speedup("torch")] if "torch" in STARTS else []
        ratios.append(row)
        steps = [short(each.steps[name]) for name in STARTS]
        columns = [*steps, f"{each.share:.0%}", *(f"{ratio:.2f}" for ratio in row)]
        table.add_row(each.net, each.dtype, *columns)
    table.add_section()
    means = [f"{geometric_mean(column):.2f}" for column in zip(*ratios, strict=True)]
    table.add_row("geometric mean", *[""] * (2 + len(STARTS)), *means)
    return table


def parts_table(results: Sequence[Result]) -> Table:
    """Return a row for each part of each net."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Parts of a step")
    for heading in ("net", "part", "NumPy, ms", "fastact, ms", "x"):
        table.add_column(heading, no_wrap=True)
    for each in results:
        for part, numpy in each.parts["numpy"].items():
            ours = each.parts["fastact"][part]
            ratio = "NumPy's" if part in MISSING else f"{numpy / ours:.2f}"
            table.add_row(each.net, part, short(numpy), short(ours), ratio)
        table.add_section()
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    from rich.console import Console
    from rich.progress import track

    options = parse(arguments)
    nets = {name: net for name, net in NETS.items() if options.only in name}
    if not nets:
        raise SystemExit(f"no net's name contains {options.only!r}: {', '.join(NETS)}")
    console, rounds = Console(), 3 if options.quick else options.rounds
    keep_memory()
    with limited_to(options.threads):
        where = machine()
        results = [
            measure(name, net, rounds)
            for name, net in track(nets.items(), "training", console=console, transient=True)
        ]
    console.print(steps_table(results))
    if options.parts:
        console.print(parts_table(results))
    for each in results:
        slower = ", ".join(f"{part} {ratio:.2f}" for part, ratio in each.slower_parts().items())
        if slower:
            console.print(f"Slower than NumPy in {each.net!r}: {slower}.", soft_wrap=True)
    if MISSING:
        console.print(f"NumPy's in both: {', '.join(MISSING)}.", soft_wrap=True)
    if not find_spec("threadpoolctl"):
        console.print("BLAS chose the number of its threads: threadpoolctl is not installed.")
    console.print(describe(where), soft_wrap=True)
    if options.json:
        content = {"machine": where, "results": [asdict(each) for each in results]}
        options.json.write_text(json.dumps(content, indent=1))
    different = [each.net for each in results if not each.difference <= TOLERANCE[each.dtype]]
    if different:
        raise SystemExit(f"The results differ in {', '.join(different)}.")


if __name__ == "__main__":
    main()
