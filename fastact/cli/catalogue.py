"""``fastact list`` and ``fastact show``."""

from typing import Annotated, Any, Literal

import typer

from fastact.cli._base import fail, require_extra


def list_functions(
    library: Annotated[
        Literal["pytorch", "jax", "keras", "onnx", "thinc", "chainer", "tensorflow"] | None,
        typer.Option(help="Only functions that this library has, with its names."),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Only functions with a continuous derivative.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Print only the names, one on each line.")
    ] = False,
) -> None:
    """List the activations, the functions of rows and the layers."""
    import fastact
    from fastact.catalogue.definition import LAYERS

    chosen = [
        each
        for each in map(fastact.get, fastact.names("activation", "row"))
        if (library is None or library in each._definition.elsewhere)
        and not (smooth and each.kinks)
    ]
    is_filtered = smooth or library is not None  # by facts that layers do not have
    layers = [] if is_filtered else [fastact.get(name) for name in fastact.names(*LAYERS)]
    if names:
        typer.echo("\n".join(each.name for each in (*chosen, *layers)))
        return
    with require_extra("cli"):
        from rich.console import Console

        from fastact.show.terminal import layer_table, table

        console = Console(highlight=False)
        console.print(table(chosen, library))
        if layers:
            console.print("", layer_table(layers), sep="\n")


def show(
    name: Annotated[str, typer.Argument(help="The name or alias of an activation, or a layer.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a parameter; may be repeated.", metavar="PARAMETER=VALUE"),
    ] = None,
    convention: Annotated[
        str | None, typer.Option(help="The library whose choices to follow.", metavar="LIBRARY")
    ] = None,
) -> None:
    """Describe an activation, with a plot, or a layer."""
    import fastact

    try:
        parameters = dict(map(_parse_setting, settings or []))
        if convention is not None:
            parameters["convention"] = convention
        found = fastact.get(name, **parameters)
    except (TypeError, ValueError) as error:
        fail(error)
    with require_extra("cli"):
        from rich.console import Console

        from fastact.show.terminal import layer_sheet, sheet

        console = Console(highlight=False)
        width = min(console.width, 80)
        has_formulas = found.kind in ("activation", "row")
        console.print(sheet(found, width) if has_formulas else layer_sheet(found))


def _parse_setting(setting: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``, the value as a float if possible."""
    name, equals, value = setting.partition("=")
    if not equals:
        raise ValueError(f"--set takes PARAMETER=VALUE, got {setting!r}")
    try:
        return name, float(value)
    except ValueError:
        return name, value
