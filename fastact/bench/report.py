"""The comparison: who is measured on what, and tables of the results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fastact as fa
from fastact.bench.contenders import IMPLEMENTATIONS, Case
from fastact.bench.limit import limit
from fastact.bench.peers import Call
from fastact.bench.timing import WARM_UP, Contender, Times, measure_in_turn

if TYPE_CHECKING:
    from rich.table import Table

_LIMIT = "limit"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes
    ----------
    activations, operations, implementations : sequence of str
        Names, fastact among the implementations.
    elements : sequence of int
        Lengths of the input.
    dtype : str
        The type of all arrays.
    given_outputs : bool
        Whether fastact and NumPy write to arrays that exist already; else every call returns new ones.
    samples : int
        How many samples are taken of each.
    warm_up : float
        How many seconds each runs before each sample.
    """

    activations: Sequence[str]
    elements: Sequence[int]
    operations: Sequence[str]
    implementations: Sequence[str]
    dtype: str = "float32"
    given_outputs: bool = False
    samples: int = 11
    warm_up: float = WARM_UP

    def __len__(self) -> int:
        return len(self.activations) * len(self.elements) * len(self.operations)


@dataclasses.dataclass(frozen=True)
class Result:
    """How long one operation of one activation takes at one size.

    Attributes
    ----------
    activation, operation : str
        Their names.
    elements : int
        The length of the input.
    times : dict of str to Times
        One entry for each implementation that has the activation.
    limit : float
        The seconds that moving the same bytes takes.
    """

    activation: str
    operation: str
    elements: int
    times: dict[str, Times]
    limit: float

    def ratio(self, implementation: str) -> float:
        """Return how many times faster fastact is."""
        return self.times[implementation].median / self.times["fastact"].median

    @property
    def share(self) -> float:
        """The share of the streaming limit that fastact reaches."""
        return self.limit / self.times["fastact"].median

    @property
    def fastest_peer(self) -> str | None:
        """The fastest of the others, or None where there is none."""
        others = [name for name in self.times if name != "fastact"]
        return min(others, key=lambda name: self.times[name].median, default=None)


def measure(settings: Settings) -> Iterator[Result]:
    """Measure all activations at all sizes, everybody in turn."""
    for implementation in settings.implementations:
        IMPLEMENTATIONS[implementation].set_threads(fa.get_num_threads())
    for elements in settings.elements:
        for operation in settings.operations:
            for name in settings.activations:
                yield _measure_one(settings, name, operation, elements)


def _measure_one(settings: Settings, name: str, operation: str, elements: int) -> Result:
    case = Case(name, elements, settings.dtype)
    copy, share = limit(case, operation)
    contenders = {}
    for implementation in settings.implementations:
        try:
            if not does_the_same(name, operation, implementation):
                continue
            call = case.call(implementation, operation, settings.given_outputs)
        except NotImplementedError:
            continue
        contenders[implementation] = Contender(call)
    return Result(name, operation, elements, *time_beside(contenders, copy, share, settings))


def time_beside(
    contenders: Mapping[str, Contender], copy: Call, share: float, settings: Settings
) -> tuple[dict[str, Times], float]:
    """Return the times of all contenders, and of a loop that moves a share of their bytes, divided by it."""
    copy()
    times = measure_in_turn(
        {_LIMIT: Contender(copy), **contenders}, settings.samples, settings.warm_up
    )
    return times, times.pop(_LIMIT).median / share


def does_the_same(name: str, operation: str, implementation: str) -> bool:
    """Whether an implementation computes what fastact computes, by its defaults and to a few digits.

    Raises
    ------
    NotImplementedError
        If it lacks the activation.
    """
    case = Case(name, 1000)
    return agree(*(case.call(who, operation)() for who in ("fastact", implementation)))


def agree(our_results: Any, their_results: Any) -> bool:
    """Whether results are the same to a few digits; theirs may be more."""
    ours, theirs = _as_tuple(our_results), _as_tuple(their_results)
    return len(ours) <= len(theirs) and all(
        np.allclose(
            np.ravel(our), np.ravel(their), rtol=1e-2, atol=1e-2 * _scale(our), equal_nan=True
        )
        for our, their in zip(ours, theirs, strict=False)
    )


def _scale(array: Any) -> float:
    """Return the largest magnitude, or 1 if that is less."""
    return min(1.0, float(np.max(np.abs(array), initial=0)))


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)


def rows(
    results: Sequence[Result], implementations: Sequence[str], with_spread: bool
) -> list[list[str]]:
    """Return a table as text: a row of titles, and a row for each result."""
    others = [
        each
        for each in implementations
        if each != "fastact" and any(each in result.times for result in results)
    ]
    found = [["activation", "fastact", "limit", *(IMPLEMENTATIONS[o].title for o in others)]]
    for result in results:
        own = result.times["fastact"]
        row = [result.activation, str(own) if with_spread else own.short, f"{result.share:.0%}"]
        row += [f"{result.ratio(o):.1f}" if o in result.times else "" for o in others]
        found.append(row)
    return found


def heading(operation: str, elements: int, settings: Settings) -> str:
    """Say what a table shows."""
    where = "given" if settings.given_outputs else "new"
    what = {"forward": "Value", "backward": "Gradient", "forward_backward": "Value and gradient"}
    return (
        f"{what[operation]}, {elements:,} elements, {settings.dtype}, {where} outputs: median time of a "
        "call, the share of the streaming limit, and how many times longer the others take"
    )


def summary(results: Sequence[Result]) -> str:
    """Say in a sentence how fastact stands against the fastest peer of each cell."""
    cells = [
        (result.ratio(peer), peer, result) for result in results if (peer := result.fastest_peer)
    ]
    if not cells:
        return "There is nobody to compare with."
    mean = math.exp(sum(math.log(ratio) for ratio, _, _ in cells) / len(cells))
    ratio, peer, worst = min(cells, key=lambda cell: cell[0])
    slower = sum(ratio < 1 for ratio, _, _ in cells)
    return (
        f"The fastest other takes {mean:.2f} times as long (geometric mean over {len(cells)} cells); at worst "
        f"{ratio:.2f} times ({IMPLEMENTATIONS[peer].title}, {worst.activation}, {worst.operation}, "
        f"{worst.elements:,} elements). It is faster than fastact in {slower} cells."
    )


def tables(
    results: Sequence[Result], settings: Settings, with_spread: bool = False
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the heading and the rows of each table: one for each operation and size."""
    for operation in settings.operations:
        for elements in settings.elements:
            some = [r for r in results if (r.operation, r.elements) == (operation, elements)]
            yield (
                heading(operation, elements, settings),
                rows(some, settings.implementations, with_spread),
            )


def rich_table(cells: list[list[str]]) -> Table:
    """Return a table for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
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


_PAGE = """# Benchmarks

What `fastact bench` measures, and what it measured.
{picture}
All contenders get the same arrays (normal deviates times 4) and take turns in one run. Each runs for {warm_up:.0f} ms before
each of its {samples} samples, and a sample lasts 5 ms or one call. Times are medians ± half the interquartile range;
the other columns say how many times longer the others take. fastact's call is
`fa.<name>.forward_backward(x, dy)` and the like, with default settings. PyTorch is eager mode with its automatic
differentiation; "kernels" are PyTorch's own forward and backward kernels, called without it; JAX is one jitted
function. Who computes something else by default is left out. New outputs cost the others fresh pages of the
system where their allocator gives large blocks back, which depends on what the process has done before.

The streaming limit is a loop of fastact's own engine that loads and stores as many bytes as the operation,
on as many threads and past the caches where that is faster, and computes nothing.

{where}

{summary}

"""


def markdown_page(
    results: Sequence[Result], settings: Settings, where: str, picture: str | None = None
) -> str:
    """Return the whole page for the documentation, with a picture of this path in it."""
    parts = [
        markdown_table(title, cells) for title, cells in tables(results, settings, with_spread=True)
    ]
    shown = "Each time as a multiple of the time that moving the same bytes takes"
    head = _PAGE.format(
        picture=f"\n![{shown}]({picture})\n" if picture else "",
        warm_up=settings.warm_up * 1000,
        samples=settings.samples,
        where=where,
        summary=summary(results),
    )
    return head + "\n".join(parts)


def as_json(
    results: Sequence[Result], settings: Settings, where: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything for a file; times are in seconds."""
    return {
        "machine": dict(where),
        "settings": dataclasses.asdict(settings),
        "results": [dataclasses.asdict(result) for result in results],
    }
