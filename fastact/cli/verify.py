"""``fastact verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastact.cli import _completion
from fastact.cli._base import check_names, fail, require_extra
from fastact.cli._output import AsJson, Dark, check_file, print_rich, progress, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from fastact.bench.verification import Verdict

_INTERRUPTED = 130
_WRONG = "red"


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Functions; all of them by default.", autocompletion=_completion.functions
        ),
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option("--dtype", help="float32 or float64; may be repeated. Default: both."),
    ] = None,
    points: Annotated[
        int,
        typer.Option(min=2, help="Random numbers for each activation, beside the special ones."),
    ] = 500,
    chart: Annotated[
        Path | None,
        typer.Option(
            help="Instead: compare with NumPy, PyTorch and JAX, and draw a chart to a .png or .svg file.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    dark: Dark = False,
    as_json: AsJson = False,
) -> None:
    """Compare all functions with references, and their errors with those stated.

    Values and derivatives of activations with their formula in 50 digits; values and gradients of other functions with
    NumPy in a wider type. The exit code is 1 if an error is larger than stated.
    """
    import fastact
    from fastact.bench.verification import DTYPES

    check_file("--chart", chart)
    try:
        chosen = [*dict.fromkeys(fastact.get(name).name for name in names or fastact.names())]
        check_names("type", dtypes or (), DTYPES)
    except ValueError as error:
        fail(error)
    with require_extra("cli"):
        import mpmath  # noqa: F401
        import rich  # noqa: F401
    if chart:
        from fastact.bench.accuracy import compared_functions

        _compare(chosen if names else compared_functions(), dtypes, points, chart, as_json, dark)
        return
    verdicts: list[Verdict] = []
    is_interrupted = False
    try:
        _verify(chosen, dtypes or [*DTYPES], points, verdicts)
    except KeyboardInterrupt:
        is_interrupted = True
    (_print_json if as_json else _print)(verdicts)
    if is_interrupted:
        fail("interrupted", _INTERRUPTED)
    raise typer.Exit(int(any(each.is_wrong for each in verdicts)))


def _verify(
    names: list[str],
    dtypes: list[str],
    points: int,
    verdicts: list[Verdict],
) -> None:
    """Append what comes of each function, behind a progress bar."""
    from fastact.bench import verification

    with progress("checking", len(names) * len(dtypes)) as shown:
        for name in names:
            for dtype in dtypes:
                shown.tell(f"checking {name}")
                verdicts.append(verification.verify(name, dtype, points))
                shown.advance()


def _compare(
    names: list[str],
    dtypes: list[str] | None,
    points: int,
    chart: Path,
    as_json: bool,
    dark: bool,
) -> None:
    """Print and draw the largest errors of fastact and of other libraries."""
    import fastact
    from fastact.bench import accuracy
    from fastact.bench.contenders import IMPLEMENTATIONS, installed_implementations

    if dtypes is not None and len(dtypes) > 1:
        fail("--chart is of one --dtype")
    dtype = dtypes[0] if dtypes else "float32"
    if lacking := [name for name in names if fastact.get(name)._definition.exact is None]:
        fail(f"--chart: {lacking[0]} is compared with no formula")
    who = ["fastact", *(each for each in accuracy.PEERS if each in installed_implementations())]
    errors = {}
    with require_extra("plot"):
        import matplotlib  # noqa: F401
    with progress("comparing", len(names)) as shown:
        for name in names:
            shown.tell(f"comparing {name}")
            errors[name] = accuracy.largest_errors(name, who, dtype, points)
            shown.advance()
    if as_json:
        write_json({"dtype": dtype, "errors_in_ulp": errors})
    else:
        rows = [
            [f"{found[each]:.3g}" if each in found else "" for each in who]
            for found in errors.values()
        ]
        heads = [dtype, *(IMPLEMENTATIONS[each].title for each in who)]
        print_rich(
            _plain_table(heads, [[name, *row] for name, row in zip(errors, rows, strict=True)])
        )
    accuracy.draw(errors, dtype, chart, dark=dark)


def _print_json(verdicts: list[Verdict]) -> None:
    results = [
        {
            **asdict(each),
            "errors": [asdict(error) | {"is_exceeded": error.is_exceeded} for error in each.errors],
        }
        for each in verdicts
    ]
    is_wrong = any(each.is_wrong for each in verdicts)
    write_json({"is_wrong": is_wrong, "results": results})


def _print(verdicts: list[Verdict]) -> None:
    """Print the errors as a table for each type, what they were measured against, and which are too large."""
    from rich.text import Text

    for dtype in dict.fromkeys(each.dtype for each in verdicts if each.errors):
        print_rich(_table(dtype, [each for each in verdicts if each.dtype == dtype]), "")
    if any(each.errors for each in verdicts):
        print_rich(
            "Largest error found/allowed, in units in the last place; where the reference is NumPy, in those of the "
            "largest result or gradient."
        )
    for remark, names in _groups(verdicts).items():
        print_rich(f"{remark}: {len(names)} function{'s' * (len(names) != 1)}.")
    for verdict in verdicts:
        for error in verdict.errors:
            if error.is_exceeded:
                where = f" at {error.where}" if error.where else ""
                said = (
                    f"wrong: {verdict.name} in {verdict.dtype}: the {error.what} is off by "
                    f"{error.found:.4g}{where}; {error.bound:g} are allowed."
                )
                print_rich(Text(said, _WRONG))


def _plain_table(heads: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    for head in heads:
        table.add_column(head, justify="left" if head == heads[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _table(dtype: str, verdicts: list[Verdict]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column(dtype, overflow="fold")
    for column in ("value", "derivative"):
        table.add_column(column, justify="right", no_wrap=True)
    for verdict in verdicts:
        cells = [
            Text(f"{each.found:.2f}/{each.bound:g}", _WRONG if each.is_exceeded else "")
            for each in verdict.errors
        ]
        if cells:
            table.add_row(verdict.name, *cells)
    return table


def _groups(verdicts: list[Verdict]) -> dict[str, set[str]]:
    """Return the names of functions by what they were compared with, or why not."""
    found: dict[str, set[str]] = {}
    for each in verdicts:
        remark = (
            f"Compared with {each.reference}" if each.reference else f"Not compared, {each.why_not}"
        )
        found.setdefault(remark, set()).add(each.name)
    return found
