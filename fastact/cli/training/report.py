"""The results in a terminal: a table, and a few lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastact import baseline
from fastact.cli.training.comparison import COMPARED_STEPS, TOLERANCE, Comparison
from fastact.cli.training.net import PARTS

if TYPE_CHECKING:
    from rich.table import Table


def table(result: Comparison) -> Table:
    """Return the times of a step as a table of at most 80 columns."""
    from rich import box
    from rich.table import Table

    runs = result.runs
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    found.add_column("a step, in ms", no_wrap=True)
    for heading in ("NumPy", "fastact", "faster", *list(runs)[2:]):
        found.add_column(heading, justify="right", no_wrap=True)
    for part in PARTS:
        times = [f"{runs[name].part(part) * 1e3:.2f}" for name in ("NumPy", "fastact")]
        found.add_row(part, *times, f"{result.faster(part):.1f} x")
    found.add_section()
    ours, *others = (f"{runs[name].step * 1e3:.2f}" for name in list(runs)[1:])
    numpy = f"{runs['NumPy'].step * 1e3:.2f}"
    found.add_row("whole step", numpy, ours, f"{result.faster():.1f} x", *others, style="bold")
    theirs, ours, *others = (f"{run.accuracy:.1%}" for run in runs.values())
    found.add_row("test accuracy", theirs, ours, "", *others)
    return found


def describe(result: Comparison) -> str:
    """Return what was trained, in one line."""
    s, count = result.settings, len(result.runs["NumPy"].steps)
    layers = "layer" if s.layers == 1 else "layers"
    own = ", without what other processes took" if result.is_own_time else ""
    return (
        f"{count} steps on batches of {s.batch_size} handwritten digits: {s.layers} hidden {layers} of {s.width} units "
        f"with {s.activation}, {s.dtype}. Times are medians{own}."
    )


def as_json(result: Comparison) -> dict[str, Any]:
    """Return everything as plain data; times are in seconds."""
    return {
        **dataclasses.asdict(result),
        "times_as_fast": {"step": result.faster(), **{part: result.faster(part) for part in PARTS}},
        "losses_agree": result.agrees,
    }


def remarks(result: Comparison) -> Iterator[str]:
    """Yield what else there is to say, a line each."""
    settings, tolerance = result.settings, TOLERANCE[result.settings.dtype]
    name = settings.activation
    if result.agrees:
        yield (
            f"The losses of the first {COMPARED_STEPS} steps agree within {result.difference:.0e} of the first one "
            f"(tolerated: {tolerance:.0e})."
        )
    first = result.runs["fastact"].first_step
    yield f"Not counted: the first step with fastact, {first:.1f} s, which compiles its kernels or loads them."
    if not baseline.is_by_hand(name):
        yield f"NumPy evaluates the formula of {name} as it stands; nobody has tuned it by hand."
    elif name in ("gelu", "geglu"):
        yield "NumPy lacks the normal distribution, and takes SciPy's."
    threads = "1 thread" if result.blas_threads == 1 else f"{result.blas_threads} threads"
    yield f"Matrix products run on {threads} in all variants, which was fastest."
    if result.noise.reasons:
        yield str(result.noise)
