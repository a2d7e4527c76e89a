"""``fastact list``, ``fastact show`` and ``fastact plot``."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastact.cli import _completion
from fastact.cli._base import check_names, fail, require_extra
from fastact.cli._output import AsJson, check_file, console, listing, print_rich, write_json

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
            help="Activations; several are compared.",
            metavar="NAME...",
            autocompletion=_completion.functions,
        ),
    ],
    settings: Parameters = None,
    convention: Convention = None,
    low: Annotated[float, typer.Option("--from", help="The least x.", metavar="X")] = -5,
    high: Annotated[float, typer.Option("--to", help="The largest x.", metavar="X")] = 5,
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
) -> None:
    """Plot activations and their derivatives.

    In the terminal, or with --output to a file.
    """
    import numpy as np

    check_file("--output", output)
    if not low < high:
        fail("--from must be less than --to")
    found = _chosen(names, settings, convention)
    x = np.linspace(low, high, 2001)
    try:
        if output:
            with require_extra("plot"):
                _draw(found, x, output)
        else:
            with require_extra("cli"):
                _print(found, x)
    except (TypeError, ValueError) as error:
        fail(error)


def _draw(functions: list[Function], x: Any, file: Path) -> None:
    """Draw functions to a file."""
    from matplotlib.figure import Figure

    from fastact.show import plotting

    figure = Figure(figsize=(5 if len(functions) == 1 else 10, 4), layout="constrained")
    if len(functions) == 1:
        plotting.plot(functions[0], x, figure.subplots())
    else:
        plotting.compare(functions, figure, x)
    figure.savefig(file, dpi=150)


def _print(functions: list[Function], x: Any) -> None:
    """Draw functions on the terminal."""
    from rich.text import Text

    from fastact.show.plotting import title
    from fastact.show.terminal_plot import plot_one, plot_several

    width = min(console().width, 80)
    if len(functions) == 1:
        plots = [f"{title(functions[0])}\n{plot_one(functions[0], width, x)}"]
    else:
        plots = [plot_several(functions, width, what, x) for what in ("value", "derivative")]
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


def _parse_setting(setting: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``, the value as a float if possible."""
    name, equals, value = setting.partition("=")
    if not equals:
        raise ValueError(f"--set takes PARAMETER=VALUE, got {setting!r}")
    try:
        return name, float(value)
    except ValueError:
        return name, value
