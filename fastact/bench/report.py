"""The comparison of activations: measurements, and tables of the results."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fastact as fa
from fastact.bench.contenders import IMPLEMENTATIONS, make_call
from fastact.bench.limit import limit
from fastact.bench.timing import WARM_UP, Contender, Times, measure_in_turn
from fastact.bench.workloads import Workload

if TYPE_CHECKING:
    from rich.table import Table

_LIMIT = "limit"


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
        By implementation, for those that have the activation.
    limit : float
        The seconds that it takes to move the same bytes.
    """

    activation: str
    operation: str
    elements: int
    times: dict[str, Times]
    limit: float

    def ratio(self, implementation: str) -> float:
        """Return how many times as long an implementation takes as fastact."""
        return self.times[implementation].median / self.times["fastact"].median

    @property
    def fraction_of_limit(self) -> float:
        """The fraction of the streaming limit that fastact reaches."""
        return self.limit / self.times["fastact"].median

    @property
    def fastest_peer(self) -> str | None:
        """The fastest other implementation, or None."""
        others = [name for name in self.times if name != "fastact"]
        return min(others, key=lambda name: self.times[name].median, default=None)


def measure(settings: Settings) -> Iterator[Result]:
    """Measure all activations at all sizes, the implementations in turn."""
    for elements in settings.elements:
        for operation in settings.operations:
            for name in settings.activations:
                work = Workload.of(name, (elements,), settings.dtype)
                sample = Workload.of(name, (1000,))
                times, limit = measure_workload(work, operation, settings, sample)
                yield Result(name, operation, elements, times, limit)


def measure_workload(
    work: Workload, operation: str, settings: Settings, sample: Workload
) -> tuple[dict[str, Times], float]:
    """Return the times of all implementations that agree on a sample, and the streaming limit."""
    copy, ratio = limit(work, operation)
    copy()
    contenders = {_LIMIT: Contender(copy)}
    for implementation in settings.implementations:
        IMPLEMENTATIONS[implementation].set_threads(fa.get_num_threads())
        with contextlib.suppress(NotImplementedError):
            if agrees(sample, operation, implementation):
                call = make_call(work, implementation, operation, settings.given_outputs)
                contenders[implementation] = Contender(call)
    times = measure_in_turn(contenders, settings.samples, settings.warm_up)
    return times, times.pop(_LIMIT).median / ratio


def agrees(work: Workload, operation: str, implementation: str) -> bool:
    """Whether an implementation with its defaults gives fastact's results to a few digits.

    Raises
    ------
    NotImplementedError
        If it lacks the function.
    """
    ours, theirs = (
        _as_tuple(make_call(work, name, operation)()) for name in ("fastact", implementation)
    )
    # The gradient of a parameter is left out if only they have it.
    return len(ours) <= len(theirs) and all(
        np.allclose(
            np.ravel(our), np.ravel(their), rtol=1e-2, atol=1e-2 * _scale(our), equal_nan=True
        )
        for our, their in zip(ours, theirs, strict=False)
    )


def _scale(array: Any) -> float:
    """Return the largest magnitude, at most 1."""
    return min(1.0, float(np.max(np.abs(array), initial=0)))


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)


def rows(
    results: Sequence[Result], implementations: Sequence[str], with_spread: bool
) -> list[list[str]]:
    """Return the cells of a table: a row of headings, and a row for each result."""
    others = [
        each
        for each in implementations
        if each != "fastact" and any(each in result.times for result in results)
    ]
    cells = [["activation", "fastact", "limit", *(IMPLEMENTATIONS[o].title for o in others)]]
    for result in results:
        own = result.times["fastact"]
        row = [
            result.activation,
            str(own) if with_spread else own.short,
            f"{result.fraction_of_limit:.0%}",
        ]
        row += [f"{result.ratio(o):.1f}" if o in result.times else "" for o in others]
        cells.append(row)
    return cells


#: The columns of all tables.
COLUMNS = (
    "median time of a call, its fraction of the streaming limit, and the times of the others as "
    "multiples of fastact's"
)


def heading(operation: str, elements: int, settings: Settings) -> str:
    """Return the title of a table."""
    outputs = "given" if settings.given_outputs else "new"
    what = {"forward": "Value", "backward": "Gradient", "forward_backward": "Value and gradient"}
    return (
        f"{what[operation]}, {elements:,} elements, {settings.dtype}, {outputs} outputs: {COLUMNS}"
    )


def summary(results: Sequence[Result]) -> str:
    """Summarize how fastact compares with the fastest other implementation of each result."""
    found = [
        (result.ratio(peer), peer, result) for result in results if (peer := result.fastest_peer)
    ]
    if not found:
        return "There is no other implementation to compare with."
    mean = math.exp(sum(math.log(ratio) for ratio, _, _ in found) / len(found))
    ratio, peer, worst = min(found, key=lambda each: each[0])
    slower = sum(ratio < 1 for ratio, _, _ in found)
    return (
        f"The fastest other implementation takes {mean:.2f} times as long as fastact (geometric mean of {len(found)} "
        f"results), at worst {ratio:.2f} times ({IMPLEMENTATIONS[peer].title}, {worst.activation}, "
        f"{worst.operation}, {worst.elements:,} elements). It is faster than fastact in {slower} of them."
    )


def tables(
    results: Sequence[Result], settings: Settings, with_spread: bool = False
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the title and the cells of each table: one for each operation and size."""
    for operation in settings.operations:
        for elements in settings.elements:
            some = [r for r in results if (r.operation, r.elements) == (operation, elements)]
            yield (
                heading(operation, elements, settings),
                rows(some, settings.implementations, with_spread),
            )


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


def markdown_table(title: str, cells: list[list[str]]) -> str:
    """Return cells as a table in Markdown."""
    rule = [":--"] + ["--:"] * (len(cells[0]) - 1)
    lines = [f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]]]
    return "\n".join([f"{title}:", "", *lines, ""])


_PAGE = """# Benchmarks

Method and results of `fastact bench`.
{picture}
All implementations get the same arrays (normal deviates times 4) and take turns in one run. Each runs for
{warm_up:.0f} ms before each of its {samples} samples; a sample lasts 5 ms or one call. Times are medians ± half the
interquartile range; the other columns give multiples of fastact's time. fastact is called as
`fa.<name>.forward_backward(x, dy)` and the like, with default settings. PyTorch is eager mode with automatic
differentiation; "kernels" are PyTorch's own forward and backward kernels, called directly; JAX is one jitted function.
Implementations that compute something else by default are left out. For new outputs, the other libraries need fresh
pages from the system if their allocator returns large blocks, which depends on the history of the process.

The streaming limit is a loop of fastact's own engine that loads and stores as many bytes as the operation, on as many
threads, with non-temporal stores where they are faster, and computes nothing.

{machine}

{summary}

"""


def markdown_page(
    results: Sequence[Result], settings: Settings, machine: str, picture: str | None = None
) -> str:
    """Return the whole page for the documentation, with a link to a picture."""
    parts = [
        markdown_table(title, cells) for title, cells in tables(results, settings, with_spread=True)
    ]
    caption = "Each time as a multiple of the time it takes to move the same bytes"
    head = _PAGE.format(
        picture=f"\n![{caption}]({picture})\n" if picture else "",
        warm_up=settings.warm_up * 1000,
        samples=settings.samples,
        machine=machine,
        summary=summary(results),
    )
    return head + "\n".join(parts)


def as_json(
    results: Sequence[Result], settings: Settings, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything as JSON; times are in seconds."""
    return {
        "machine": dict(machine),
        "settings": dataclasses.asdict(settings),
        "results": [dataclasses.asdict(result) for result in results],
    }
