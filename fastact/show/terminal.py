"""The output of ``fastact list`` and ``fastact show``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import plotext
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fastact.functions import Function
from fastact.functions.documentation import equations, notes, parameter
from fastact.show.facts import LIBRARIES, arguments, facts, signatures
from fastact.show.formulas import unicode_equation
from fastact.show.plotting import curve

_LETTERS = dict(zip(LIBRARIES, "PJKOTCF", strict=True))


# All activations -------------------------------------------------------------------------------


def table(activations: Iterable[Function], library: str | None = None) -> Table:
    """Return a table of activations, with their names in one library, or all their libraries."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("activation", no_wrap=True)
    table.add_column(f"in {LIBRARIES[library]}" if library else "in", no_wrap=True)
    table.add_column("what it is")
    for each in activations:
        elsewhere = each._definition.elsewhere
        letters = (letter if key in elsewhere else "·" for key, letter in _LETTERS.items())
        details = [*(parameter(*item) for item in each.parameters.items()), _shape(each)]
        table.add_row(
            Text(each.name, "bold").append("".join(f"\n {alias}" for alias in each.aliases), "dim"),
            elsewhere[library] if library else "".join(letters),
            Text(f"{_paragraphs(each._definition.summary)[0]}\n").append("; ".join(details), "dim"),
        )
    if library is None:
        table.caption = ", ".join(f"{letter} {LIBRARIES[key]}" for key, letter in _LETTERS.items())
    return table


def layer_table(layers: Iterable[Function]) -> Table:
    """Return a table of layers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    table.add_column("what it is")
    for each in layers:
        table.add_row(Text(each.name, "bold"), Text(_paragraphs(each._definition.summary)[0]))
    return table


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a description, each on one line; the first is one sentence."""
    return [" ".join(each.split()) for each in text.replace("`", "").split("\n\n") if each]


def _shape(activation: Function) -> str:
    return f"kinks at {', '.join(activation.kinks)}" if activation.kinks else "smooth"


# One activation, or one layer ------------------------------------------------------------------


def sheet(activation: Function, width: int) -> Group:
    """Return the full description of an activation, with a plot of the given width in columns."""
    parts: list[RenderableType] = [
        Text(
            ", ".join([activation.name, *(parameter(*p) for p in activation.parameters.items())]),
            "bold",
        ),
        *(
            Padding(Text(each), (1, 0, 0, 0))
            for each in _paragraphs(activation._definition.summary)
        ),
        *_formulas(activation),
        Padding(_plot_or_why_not(activation, width), (1, 0)),
        _notes(facts(activation._definition)),
    ]
    return Group(*parts)


def layer_sheet(layer: Function) -> Group:
    """Return the full description of a layer."""
    definition, reference = layer._definition, layer.reference
    entries = [*arguments(layer).items(), *([("reference", reference)] if reference else [])]
    paragraphs = [*_paragraphs(definition.summary), *_paragraphs(notes(definition))]
    parts: list[RenderableType] = [
        Text(layer.name, "bold"),
        *(Padding(Text(each), (1, 0, 0, 0)) for each in paragraphs),
        *_formulas(layer),
        Padding(_calls(layer), (1, 0)),
        _notes((name, text.replace("`", "")) for name, text in entries),
    ]
    return Group(*parts)


def _formulas(function: Function) -> Iterator[RenderableType]:
    for each in equations(function._definition).items():
        yield Padding(Text(unicode_equation(*each)), (1, 0, 0, 2))


def _notes(entries: Iterable[tuple[str, str]]) -> Table:
    """Return a table of headings and their texts."""
    notes = Table.grid(padding=(0, 2, 0, 0))
    notes.add_column(style="bold", no_wrap=True)
    notes.add_column()
    for heading, text in entries:
        notes.add_row(Text(heading), Text(text))
    return notes


def _calls(function: Function) -> Text:
    return Text("\n".join(signatures(function)))


def _plot_or_why_not(activation: Function, width: int) -> Text:
    if activation.kind == "row":  # signatures instead
        return _calls(activation)
    try:
        return Text.from_ansi(_plot(activation, width))
    except TypeError as error:
        return Text(f"No plot. {error}", "dim")


def _plot(activation: Function, width: int) -> str:
    """Return a text plot of value and derivative."""
    sampled = curve(activation, np.linspace(-5, 5, 2001))
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, 16)
    figure.ruler("x").ticks([-4, -2, 0, 2, 4])
    value, derivative = sampled.clipped(sampled.value), sampled.clipped(sampled.derivative)
    low, high = float(np.nanmin([value, derivative])), float(np.nanmax([value, derivative]))
    gray = plotext.pixel(foreground="gray")
    figure.draw(figure.segment((-5, 5), (0, 0), marker=plotext.marker("─").fill(gray)))
    figure.draw(figure.segment((0, 0), (low, high), marker=plotext.marker("│").fill(gray)))
    # Different markers: there is no colour in a pipe. A legend would cover the curves.
    figure.title("value ⠒⠒⠒   derivative ···")
    for y, marker in ((derivative, "·"), (value, "braille")):
        valid = ~np.isnan(y)
        figure.draw(figure.signal(sampled.x[valid].tolist(), y[valid].tolist(), marker=marker))
    return str(figure.build()).rstrip("\n")
