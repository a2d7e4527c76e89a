"""The comparison of activations: measurements, and tables of the results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastact.bench.competition import Competition, LeftOut
from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.timing import WARM_UP, Times
from fastact.bench.workloads import Cell

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and how.

    Attributes
    ----------
    activations, operations, implementations : sequence of str
        Names; fastact is one of the implementations.
    elements : sequence of int
        Lengths of the input.
    dtype : str
        The type of all arrays.
    given_outputs : bool
        Whether fastact and NumPy write to existing arrays; otherwise every call returns new ones.
    samples : int
        Samples for each call.
    warm_up : float
        Seconds for which each call runs before each sample.
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
    """The times of one operation of one activation at one size.

    Attributes
    ----------
    activation, operation : str
        Their names.
    elements : int
        The length of the input.
    times : dict of str to Times
        By implementation.
    limit : float
        The seconds that it takes to move the same bytes.
    limit_by : str
        The loop that moves them.
    left_out : dict of str to LeftOut
        Why other implementations have no times.
    """

    activation: str
    operation: str
    elements: int
    times: dict[str, Times]
    limit: float
    limit_by: str = ""
    left_out: dict[str, LeftOut] = dataclasses.field(default_factory=dict)

    def ratio(self, implementation: str) -> float:
        """Return how many times as long an implementation takes as fastact."""
        return self.times[implementation].median / self.times["fastact"].median

    @property
    def fraction_of_limit(self) -> float:
        """The fraction of the streaming limit that fastact reaches."""
        return self.limit / self.times["fastact"].median

    @property
    def fastest_peer(self) -> str | None:
        """The fastest other implementation, or None if there is nothing to compare."""
        if "fastact" not in self.times:
            return None
        others = [name for name in self.times if name != "fastact"]
        return min(others, key=lambda name: self.times[name].median, default=None)

    @property
    def is_slower(self) -> bool:
        """Whether another implementation is faster."""
        return self.fastest_peer is not None and self.ratio(self.fastest_peer) < 1


def measure(settings: Settings) -> Generator[Result]:
    """Measure all activations at all sizes."""
    with competition_of(settings) as competition:
        for elements in settings.elements:
            for operation in settings.operations:
                for name in settings.activations:
                    cell = Cell(
                        name, operation, (elements,), settings.dtype, settings.given_outputs
                    )
                    yield result_of(competition, cell, name)


def competition_of(settings: Settings) -> Competition:
    """Return the competition that settings ask for."""
    return Competition(settings.implementations, settings.samples, settings.warm_up)


def result_of(competition: Competition, cell: Cell, title: str) -> Result:
    """Measure a cell, under a name for the tables."""
    measured = competition.measure(cell)
    return Result(title, cell.operation, math.prod(cell.shape), **vars(measured))


def rows(
    results: Sequence[Result], implementations: Sequence[str], with_spread: bool
) -> list[list[str]]:
    """Return the cells of a table: a row of headings, and a row for each result with a time of fastact."""
    shown = [result for result in results if "fastact" in result.times]
    others = [
        each
        for each in implementations
        if each != "fastact" and any(each in result.times for result in shown)
    ]
    cells = [["function", "fastact", "limit", *map(title_of, others)]]
    for result in shown:
        own = result.times["fastact"]
        row = [
            f"{result.activation} *" if result.is_slower else result.activation,
            str(own) if with_spread else own.short,
            f"{result.fraction_of_limit:.0%}" if math.isfinite(result.limit) else "",
        ]
        row += [_in_cell(result.ratio(each)) if each in result.times else "" for each in others]
        cells.append(row)
    return cells


def _in_cell(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}*"


def name_of(implementation: str) -> str:
    """Return what an implementation is called where there is room."""
    found = IMPLEMENTATIONS[implementation]
    return found.name or found.title


def title_of(implementation: str) -> str:
    """Return the title of an implementation, or of the streaming limit, which may fail as well."""
    found = IMPLEMENTATIONS.get(implementation)
    return found.title if found else "The streaming limit"


#: The columns of all tables.
COLUMNS = (
    "median time of a call, its fraction of the streaming limit, and the times of the others as "
    "multiples of fastact's, marked * where they are faster"
)
#: The operations in words.
WORDS = {"forward": "Value", "backward": "Gradient", "forward_backward": "Value and gradient"}
#: A larger fraction of the streaming limit is no longer what the samples scatter.
_ABOVE = 1.1
#: So many of the cells where another implementation is faster are listed.
_LISTED = 10


def heading(operation: str, elements: int, settings: Settings) -> str:
    """Return the title of a table."""
    return f"{WORDS[operation]}, {elements:,} elements, {_kind(settings)}: {COLUMNS}"


def _kind(settings: Settings) -> str:
    return f"{settings.dtype}, {'given' if settings.given_outputs else 'new'} outputs"


def summary(results: Sequence[Result]) -> str:
    """Summarize how fastact compares with the fastest other implementation of each result."""
    found = sorted(
        ((result.ratio(peer), peer, result) for result in results if (peer := result.fastest_peer)),
        key=lambda each: each[0],
    )
    if not found:
        return "There is no other implementation to compare with."
    slower = [each for each in found if each[0] < 1]
    operations = dict.fromkeys(result.operation for result in results)
    means = [
        f"{geometric_mean(some):.2f} for the {WORDS[operation].lower()}"
        for operation in operations
        if (some := [ratio for ratio, _, result in found if result.operation == operation])
    ]
    detail = f": {', '.join(means)}" if len(means) > 1 else ""
    said = (
        f"The fastest other implementation takes {geometric_mean([ratio for ratio, *_ in found]):.2f} times as long as fastact "
        f"(geometric mean of {len(found)} results{detail}), at worst {_of(*found[0])}. "
        f"It is faster than fastact in {len(slower)} of them"
    )
    if len(slower) < 2:
        return f"{said}."
    least = f"; the {_LISTED} largest gaps" if len(slower) > _LISTED else ""
    return "\n".join([f"{said}{least}:", "", *(f"- {_of(*each)}" for each in slower[:_LISTED])])


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _of(ratio: float, peer: str, result: Result) -> str:
    return (
        f"{ratio:.2f} times ({title_of(peer)}, {result.activation}, {result.operation}, "
        f"{result.elements:,} elements)"
    )


def notes(results: Sequence[Result]) -> list[str]:
    """Say which loops the streaming limit is, and who was left out, in a line each."""
    return [*_notes_of_limit(results), *_notes_of_left_out(results)]


def _notes_of_limit(results: Sequence[Result]) -> Iterator[str]:
    sizes: dict[str, list[int]] = {}
    for result in sorted(results, key=lambda each: each.elements):
        if result.limit_by:
            sizes.setdefault(result.limit_by, []).append(result.elements)
    measured = [result for result in results if "fastact" in result.times]
    above = sum(result.fraction_of_limit > _ABOVE for result in measured)
    if above:
        yield (
            f"More than {_ABOVE:.0%} of the streaming limit, in {above} of {len(measured)} results, is an error of the "
            "limit: the loop that moves the bytes was slowed down by what else ran on this machine."
        )
    for loop, ascending in sizes.items():
        span = " to ".join(f"{each:,}" for each in dict.fromkeys((ascending[0], ascending[-1])))
        yield f"Streaming limit at {span} elements: {loop}."


def _notes_of_left_out(results: Sequence[Result]) -> Iterator[str]:
    names = dict.fromkeys(name for result in results for name in result.left_out)
    calls = len({(result.activation, result.operation) for result in results})
    for name in names:
        some = [(result.left_out[name], result) for result in results if name in result.left_out]
        lacking = {(r.activation, r.operation) for why, r in some if why.kind == "lacks"}
        if lacking:
            yield f"{title_of(name)} lacks {len(lacking)} of {calls} functions and gradients."
        if differing := dict.fromkeys(r.activation for why, r in some if why.kind == "differs"):
            yield f"{title_of(name)} computes something else in {', '.join(differing)}."
        if failed := [(why.reason, r) for why, r in some if why.kind == "failed"]:
            reason, first = failed[0]
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            yield (
                f"{title_of(name)} failed: {reason} ({first.activation}, {first.operation}, "
                f"{first.elements:,} elements{more})."
            )


def tables(
    results: Sequence[Result], settings: Settings, with_spread: bool = False
) -> Iterator[tuple[str, int, list[list[str]]]]:
    """Yield the operation, the size and the cells of each table."""
    for operation in settings.operations:
        for elements in settings.elements:
            some = [r for r in results if (r.operation, r.elements) == (operation, elements)]
            yield operation, elements, rows(some, settings.implementations, with_spread)


def rich_table(cells: list[list[str]]) -> Table:
    """Return cells as a table for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(cells[0]):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in cells[1:]:
        table.add_row(*row)
    return table


def columns_that_fit(cells: list[list[str]], width: int | None) -> Iterator[list[list[str]]]:
    """Yield tables of at most this width, each with the first column and some of the others."""
    first, *others = ((max(map(len, column)), column) for column in zip(*cells, strict=True))
    chosen, used = [first[1]], first[0]
    for needed, column in others:
        if width and used + 2 + needed > width and len(chosen) > 1:
            yield list(map(list, zip(*chosen, strict=True)))
            chosen, used = [first[1]], first[0]
        chosen.append(column)
        used += 2 + needed
    yield list(map(list, zip(*chosen, strict=True)))


def markdown_table(title: str, cells: list[list[str]]) -> str:
    """Return cells as a table in Markdown."""
    rule = [":--"] + ["--:"] * (len(cells[0]) - 1)
    lines = [f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]]]
    return "\n".join([f"{title}:", "", *lines, ""])


_PAGE = """# Benchmarks

Method and results of `fastact bench`; [another machine](benchmarks-zen4.md), and [what each function costs on others
still](instructions.md).
{picture}
Each implementation has a process of its own. All get the same arrays (normal deviates times 4) and take turns in
{samples} rounds, so that a slow moment of the machine is one for all; while one is measured, the others and their
threads sleep. Each runs for {warm_up:.0f} ms before each sample; a sample lasts 5 ms or one call. Times are medians ± half the
interquartile range; the other columns give multiples of fastact's time, marked * where another is faster. fastact is
called as `fa.<name>.forward_backward(x, dy)` and the like, with default settings; the gradient alone is computed from the value
where that is enough (`backward_from_output`), as by PyTorch's kernels and Numba's loops. Numba is a plain loop over the elements under
`@njit(parallel=True, fastmath=True)`; PyTorch is eager mode with automatic differentiation; "kernels" are PyTorch's own
forward and backward kernels, called directly; JAX is one jitted function. The results of all are compared on a sample:
implementations that compute something else by default are left out.

The streaming limit loads and stores as many arrays as the operation, and computes nothing: a loop in C, on as many
threads as fastact or on one, with ordinary or non-temporal stores, whichever is fastest; without a C compiler, fastact's
own engine. Its arrays are given, so for new outputs it is further away.

{machine}

{notes}

{summary}

"""


def markdown_page(
    results: Sequence[Result], settings: Settings, machine: str, picture: str | None = None
) -> str:
    """Return the whole page for the documentation, with a link to a picture."""
    caption = "How many times as long as fastact others take, by size"
    parts = [
        _PAGE.format(
            picture=f"\n![{caption}]({picture})\n" if picture else "",
            warm_up=settings.warm_up * 1000,
            samples=settings.samples,
            machine=machine,
            notes=markdown_notes(results),
            summary=summary(results),
        )
    ]
    section = None
    for operation, elements, cells in tables(results, settings, with_spread=True):
        if operation != section:
            section = operation
            parts.append(f"## {WORDS[operation]}\n\n{_kind(settings).capitalize()}: {COLUMNS}.\n\n")
        parts.append(markdown_table(f"{elements:,} elements", cells) + "\n")
    return "".join(parts).rstrip() + "\n"


def markdown_notes(results: Sequence[Result]) -> str:
    """Return the notes as a list."""
    return "\n".join(f"- {note}" for note in notes(results))


def as_json(
    results: Sequence[Result], settings: Settings, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything as JSON; times are in seconds."""
    return {
        "machine": dict(machine),
        "settings": dataclasses.asdict(settings),
        "results": [dataclasses.asdict(result) for result in results],
    }


def from_json(content: Mapping[str, Any]) -> tuple[list[Result], Settings, dict[str, Any]]:
    """Return the results, settings and machine of what `as_json` returned."""
    results = []
    for each in content["results"]:
        times = {name: Times(**found) for name, found in each["times"].items()}
        left_out = {name: LeftOut(**why) for name, why in each["left_out"].items()}
        limit = math.nan if each["limit"] is None else each["limit"]
        results.append(Result(**{**each, "times": times, "left_out": left_out, "limit": limit}))
    return results, Settings(**content["settings"]), content["machine"]


def chosen(results: Sequence[Result], settings: Settings) -> list[Result]:
    """Return the results that settings ask for, and of each the times of their implementations."""
    return [
        dataclasses.replace(
            result,
            times={name: t for name, t in result.times.items() if name in settings.implementations},
            left_out={n: w for n, w in result.left_out.items() if n in settings.implementations},
        )
        for result in results
        if result.activation in settings.activations
        and result.elements in settings.elements
        and result.operation in settings.operations
    ]
