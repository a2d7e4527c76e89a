"""``fastact list``, ``fastact show`` and ``fastact plot``."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastact.cli import _completion
from fastact.cli._base import check_names, fail, require_extra
from fastact.cli._output import AsJson, Dark, check_file, console, listing, print_rich, write_json

if TYPE_CHECKING:
    from fastact.functions import Function

Parameters = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set a parameter; may be repeated.", metavar="PARAMETER=VALUE"),
]
Convention = Annotated[
    str | None,
    typer.Option(
        help="The library whose choices to follow.",
        metavar="LIBRARY",
        autocompletion=_completion.conventions,
    ),
]


def list_functions(
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="Only this kind, such as loss; may be repeated.",
            metavar="KIND",
            autocompletion=_completion.kinds,
        ),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            help="Only functions that this library has, such as pytorch, with its names.",
            metavar="LIBRARY",
            autocompletion=_completion.libraries,
        ),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Only activations without kinks, and row functions.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Print only the names, one on each line.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List all functions by kind, in alphabetical order."""
    import fastact
    from fastact.catalogue.definition import KINDS
    from fastact.show.facts import LIBRARIES
    from fastact.show.facts import as_json as record

    try:
        check_names("kind", kinds or (), KINDS)
        check_names("library", [library] if library else (), LIBRARIES)
    except ValueError as error:
        fail(error)
    chosen = [
        each
        for kind in KINDS
        if kind in (kinds or KINDS) and (not smooth or kind in ("activation", "row"))
        for each in map(fastact.get, sorted(fastact.names(kind)))
        if (library is None or library in each._definition.elsewhere)
        and not (smooth and each.kinks)
    ]
    if as_json:
        write_json(list(map(record, chosen)))
    elif not chosen:
        fail("there is no such function", code=1)
    elif names:
        print("".join(f"{each.name}\n" for each in chosen), end="")
    else:
        with require_extra("cli"):
            from fastact.show.terminal import rows

            in_library = [f"in {LIBRARIES[library]}"] if library else []
            for kind, some in groupby(chosen, lambda each: each.kind):
                print_rich(listing([kind, *in_library, "what it is"], rows(some, library)), "")
        if sys.stdout.isatty():
            print("fastact show NAME describes one.")


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a function, here or in a library.",
            metavar="NAME",
            autocompletion=_completion.functions,
        ),
    ],
    settings: Parameters = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """Describe a function: formulas, plot, errors, methods."""
    (found,) = _chosen([name], settings, convention)
    if as_json:
        from fastact.show.facts import as_json as record

        write_json(record(found))
        return
    with require_extra("cli"):
        from fastact.show.terminal import layer_sheet, sheet

        has_formulas = found.kind in ("activation", "row")
        width = min(console().width, 80)
        print_rich(sheet(found, width) if has_formulas else layer_sheet(found))


def plot(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Functions; several are compared.",
            metavar="NAME...",
            autocompletion=_completion.functions,
        ),
    ],
    settings: Parameters = None,
    convention: Convention = None,
    low: Annotated[float, typer.Option("--from", help="The least x.", metavar="X")] = -5,
    high: Annotated[float, typer.Option("--to", help="The largest x.", metavar="X")] = 5,
    row: Annotated[
        str | None,
        typer.Option(help="Where to draw a Jacobian, such as 1,0,-2.", metavar="X,X,..."),
    ] = None,
    derivatives: Annotated[
        int, typer.Option(min=0, max=2, help="How many derivatives to draw.", metavar="N")
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Draw to a file instead, such as a .png, .svg or .pdf.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    dark: Dark = False,
) -> None:
    """Plot activations and their derivatives.

    In the terminal, or with --output to a file: also the Jacobian of a row function, the value of a gated unit, and a loss.
    """
    check_file("--output", output)
    if not low < high:
        fail("--from must be less than --to")
    found = _chosen(names, settings, convention)
    try:
        if output:
            with require_extra("plot"):
                _draw(found, low, high, row, derivatives, output, dark=dark)
        else:
            with require_extra("cli"):
                _print(found, low, high, derivatives)
    except (TypeError, ValueError) as error:
        fail(error)


def _draw(
    functions: list[Function],
    low: float,
    high: float,
    row: str | None,
    derivatives: int,
    file: Path,
    *,
    dark: bool,
) -> None:
    """Draw functions to a file."""
    import numpy as np
    from matplotlib.figure import Figure

    from fastact.show.curves import picture_of
    from fastact.show.plotting import plot
    from fastact.show.theme import save, theme

    pictures = set(map(picture_of, functions))
    panels = 1
    if len(functions) > 1:
        panels = derivatives + 1 if pictures == {"curve"} else len(functions)
    if row is not None and pictures != {"jacobian"}:
        raise ValueError("--row is for row functions, such as softmax")
    x: Any = np.linspace(low, high, 201 if "plane" in pictures else 2001)
    if row is not None:
        x = _parse_row(row)
    elif "jacobian" in pictures or ("loss" in pictures and (low, high) == (-5, 5)):
        x = None  # what suits the function
    with theme(dark=dark):
        figure = Figure(figsize=(5 * panels, 4), layout="constrained")
        axes = figure.subplots(1, panels)
        plot(*functions, x=x, derivatives=derivatives, ax=axes)
        save(figure, file)


def _print(functions: list[Function], low: float, high: float, derivatives: int) -> None:
    """Draw functions on the terminal."""
    import numpy as np
    from rich.text import Text

    from fastact.show.curves import QUANTITIES, has_curve, title
    from fastact.show.terminal_plot import plot_one, plot_several

    for each in functions:
        if not has_curve(each):
            raise TypeError(
                f"{each.name}: a function of several inputs has no curve; --output FILE draws a picture"
            )
    x = np.linspace(low, high, 2001)
    width = min(console().width, 80)
    if len(functions) == 1:
        plots = [f"{title(functions[0])}\n{plot_one(functions[0], width, x, derivatives)}"]
    else:
        shown = QUANTITIES[: derivatives + 1]
        plots = [plot_several(functions, width, what, x) for what in shown]
    print_rich(*map(Text.from_ansi, plots))


def _chosen(names: list[str], settings: list[str] | None, convention: str | None) -> list[Function]:
    """Return functions bound to their parameters, or fail."""
    import fastact

    try:
        parameters = dict(map(_parse_setting, settings or []))
        if convention is not None:
            parameters["convention"] = convention
        return [fastact.get(name, **parameters) for name in names]
    except (TypeError, ValueError) as error:
        fail(error)


def _parse_row(row: str) -> list[float]:
    """Return the numbers of ``1,0,-2``."""
    try:
        return [float(each) for each in row.split(",")]
    except ValueError:
        raise ValueError(f"--row takes numbers such as 1,0,-2, got {row!r}") from None


def _parse_setting(setting: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``, the value as a float if possible."""
    name, equals, value = setting.partition("=")
    if not equals:
        raise ValueError(f"--set takes PARAMETER=VALUE, got {setting!r}")
    try:
        return name, float(value)
    except ValueError:
        return name, value
