"""What all commands share of their output: consoles, progress and JSON."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastact.cli._errors import complain, fail

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

# Text ------------------------------------------------------------------------------------------

#: Consoles with fewer columns have no room for tables.
NARROW = 60


def console(*, stderr: bool = False) -> Console:
    """Return a console of rich; without escape codes if ``NO_COLOR`` is set, those of bold text included."""
    from rich.console import Console

    colors = None if os.environ.get("NO_COLOR") else "auto"
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        color_system=colors,  # type: ignore[arg-type]
    )


def print_rich(*parts: RenderableType) -> None:
    """Print text and tables on standard output; a table that cannot be wrapped may be wider than the console."""
    from rich.table import Table

    to = console()
    width, limitless = to.width, to.options.update(max_width=10_000)
    for part in parts:
        if isinstance(part, Table) and all(column.no_wrap for column in part.columns):
            to.width = max(width, to.measure(part, options=limitless).maximum)
        with to.capture() as captured:
            to.print(part)
        to.width = width
        print("\n".join(map(str.rstrip, captured.get().splitlines())))


def listing(headings: Sequence[str], rows: Iterable[Sequence[Text]]) -> RenderableType:
    """Return rows as a table; on a narrow console what follows the first column stands below it.

    Parameters
    ----------
    headings : sequence of str
        Those of the columns; none if empty.
    rows : iterable of sequences
        What stands in the columns. Only the last one is wrapped.
    """
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if console().width < NARROW:
        below: list[RenderableType] = [f"{', '.join(headings[:-1])}\n"] if headings else []
        for first, *others in rows:
            below += [first, Padding(Text("; ").join(others), (0, 0, 0, 2))]
        return Group(*below)
    table = Table(
        box=box.SIMPLE_HEAD if headings else None,
        show_header=bool(headings),
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in headings[:-1] or [""]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1] if headings else "")
    for row in rows:
        table.add_row(*row)
    return table


# JSON ------------------------------------------------------------------------------------------

#: The option of a command that only prints.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
#: The option of a command that measures.
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write JSON to a file; - prints it instead.", dir_okay=False),
]

#: The option of a command that draws to a file.
Dark = Annotated[
    bool,
    typer.Option("--dark", help="Draw for a dark page: light text, transparent background."),
]


def check_file(option: str, file: Path | None) -> None:
    """Fail before the work, rather than after it, if a file cannot be written."""
    if file and not is_stdout(file) and not os.access(file.parent, os.W_OK):
        is_there = file.parent.is_dir()
        why = "cannot be written to" if is_there else "does not exist"
        fail(f"{option}: the folder {str(file.parent)!r} {why}")


def is_stdout(file: Path | None) -> bool:
    """Whether a file stands for standard output."""
    return file is not None and str(file) == "-"


def write_json(content: object, file: Path | None = None) -> None:
    """Write something as JSON: to a file, or to standard output.

    Infinities and NaN, which JSON lacks, become null.
    """
    text = json.dumps(_finite(content), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    if file is None or is_stdout(file):
        print(text, end="")
    else:
        file.write_text(text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Progress --------------------------------------------------------------------------------------


class Progress:
    """The steps of something that takes long, on standard error: a bar in a terminal, else a line now and then.

    It is drawn when something changes: a thread that drew it would take a core from who is measured.

    Attributes
    ----------
    total : int or None
        The number of steps, once it is known.
    done : int
        How many have ended.
    """

    #: Where there is no bar: seconds before the first line, and between lines.
    FIRST, NEXT = 2.0, 15.0

    def __init__(self, title: str, total: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.total, self.done, self._title = total, 0, title
        self._due = time.monotonic() + self.FIRST
        to = console(stderr=True)
        has_bar = to.is_terminal and not to.is_dumb_terminal and not os.environ.get("NO_COLOR")
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=to,
            auto_refresh=False,
            transient=True,
            disable=not has_bar,
        )
        self._task = self.bar.add_task(title, total=total)

    def advance(self) -> None:
        """Count a step as done."""
        self.done += 1
        self.tell()

    def tell(self, what: str = "") -> None:
        """Say what is done at the moment."""
        said = what or self._title
        self.bar.update(self._task, completed=self.done, total=self.total, description=said)
        self.bar.refresh()
        if self.bar.disable and time.monotonic() >= self._due:
            self._due = time.monotonic() + self.NEXT
            of = f", {self.done} of {self.total} done" if self.total else ""
            complain(f"{said}{of}")


_shown: list[Progress] = []


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Progress]:
    """Show the steps of something that takes long: call `Progress.advance` after each."""
    shown = Progress(title, total)
    _shown.append(shown)
    try:
        with nullcontext() if shown.bar.disable else shown.bar:
            shown.tell()
            yield shown
    finally:
        _shown.remove(shown)


def tell_compilation(kernel: str | None) -> None:
    """Say that a kernel is compiled now: on the bar, if there is one, else in a line."""
    said = f"compiling {kernel or 'a kernel'}"
    if _shown:
        _shown[-1].tell(said)
    else:
        complain(said)
