"""The output of ``fastact list`` and ``fastact show``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fastact.functions import Function
from fastact.functions.documentation import equations, notes, parameter
from fastact.show.facts import arguments, facts, signatures
from fastact.show.formulas import unicode_equation
from fastact.show.terminal_plot import plot_one

# All functions -------------------------------------------------------------------------------


def rows(functions: Iterable[Function], library: str | None = None) -> Iterator[tuple[Text, ...]]:
    """Yield the name of each function, perhaps that in a library, and what it is."""
    for each in functions:
        said = _in_brief(each)
        aliases = [] if library else [alias for alias in each.aliases if alias not in said]
        yield (
            Text(each.name, "bold"),
            *([Text(each._definition.elsewhere[library])] if library else []),
            Text(said).append(f"; also {', '.join(aliases)}" if aliases else "", "dim"),
        )


def _in_brief(function: Function) -> str:
    """Return what a function is: its first sentence up to the colon, unless that only repeats the name."""
    sentence = _paragraphs(function._definition.summary)[0].rstrip(".")
    title = sentence.partition(":")[0]
    repeated = re.sub(r"\W", "", title).lower() == function.name.replace("_", "")
    return sentence if repeated else title


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a description, each on one line; the first is one sentence."""
    return [" ".join(each.split()) for each in text.replace("`", "").split("\n\n") if each]


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
        return Text.from_ansi(plot_one(activation, width))
    except TypeError as error:
        return Text(f"No plot. {error}", "dim")
