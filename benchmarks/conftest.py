"""The tables that `test_side_by_side` ends with, instead of pytest-benchmark's: those are 230 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastact import baseline
from fastact.bench.report import WORDS, title_of
from fastact.bench.timing import Times


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Write the tables; with ``--benchmark-verbose`` or a comparison, pytest-benchmark's follow."""
    session = getattr(config, "_benchmarksession", None)
    if session is None or session.quiet or not session.benchmarks:
        return
    terminalreporter.section("Side by side")
    for line in lines([each for each in session.benchmarks if each]):
        terminalreporter.write_line(line)
    session.quiet = not (session.verbose or session.compare)


def lines(benchmarks: Sequence[Any]) -> Iterator[str]:
    """Yield the lines of all tables."""
    tables: dict[tuple[str, Any], dict[str, dict[str, float]]] = {}
    for each in benchmarks:
        operation, shape, function, implementation = (
            each.params[key] for key in ("operation", "shape", "function", "implementation")
        )
        times = tables.setdefault((operation, shape), {}).setdefault(function, {})
        times[implementation] = each.stats.median
    for (operation, shape), rows in tables.items():
        yield f"{WORDS[operation]}, {' x '.join(map(str, shape))}, float32"
        yield from table(rows)
        yield ""
    yield "NumPy: median time of a call. Others: how many times as fast it is as NumPy."
    if any(not baseline.is_by_hand(name) for rows in tables.values() for name in rows):
        yield "~ NumPy evaluates the formula as it stands, and not code written to be fast."


def table(rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield the lines of a table from the seconds that implementations take for functions."""
    others = [
        name for name in dict.fromkeys(n for row in rows.values() for n in row) if name != "numpy"
    ]
    yield line("function", map(title_of, ("numpy", *others)))
    for function, times in rows.items():
        numpy = times.get("numpy")
        cells = [Times(numpy, numpy, numpy).short if numpy else ""]
        for name in others:
            seconds = times.get(name)
            if seconds is None:
                cells.append("")
            elif numpy is None:
                cells.append(Times(seconds, seconds, seconds).short)
            else:
                cells.append(f"{numpy / seconds:{'.1f' if numpy > seconds else '.2g'}}x")
        yield line(function if baseline.is_by_hand(function) else f"{function} ~", cells)


def line(name: str, cells: Any) -> str:
    """Return a line: at most 28 + 9 * 8 columns, for all libraries."""
    return (f"{name:28}" + "".join(f" {cell:>7}" for cell in cells)).rstrip()
