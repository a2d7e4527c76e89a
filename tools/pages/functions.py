"""The page of each function, and the gallery of all of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import fastact
from fastact.catalogue.definition import KINDS
from fastact.functions import Function
from fastact.functions.documentation import equations, parameter
from fastact.show.curves import has_curve, picture_of, value_range
from fastact.show.facts import LIBRARIES, facts, in_library
from tools.catalogue_pages import escaped

from . import reference, speeds
from .pictures import bound, has_picture

#: The headings of the gallery, by the kind of function.
HEADINGS = {
    "row": "Row functions",
    "packed": "Gated units",
    "cell": "Recurrent cells",
    "dropout": "Dropout",
    "normalization": "Normalizations",
    "loss": "Losses",
}


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    found = {name: "\n".join(function_page(fastact.get(name))) for name in fastact.names()}
    return found | {"index": "\n".join(gallery())}


def groups() -> dict[str, list[Function]]:
    """Return all functions by the headings of the gallery: activations by family, the others by kind."""
    found: dict[str, list[Function]] = {}
    for kind in KINDS:
        for function in map(fastact.get, fastact.names(kind)):
            module = function._definition.function.__module__.rpartition(".")[2]
            found.setdefault(HEADINGS.get(kind, module.capitalize()), []).append(function)
    return found


# The page of a function ------------------------------------------------------------------------


def function_page(function: Function) -> Iterator[str]:
    """Yield the lines of a function's page."""
    definition = function._definition
    yield f"# {function.name}\n"
    yield from rst(definition.summary)
    if has_picture(function):
        yield from picture(function.name, describe(function))
    if formulas := equations(definition):
        yield "## Formula\n"
        yield from (f"```{{math}}\n{left} = {right}\n```\n" for left, right in formulas.items())
    if definition.good_for:
        yield "## When to use it\n"
        yield f"**Good for** {definition.good_for}.\n"
        yield f"**Not for** {definition.not_for}.\n"
    if properties := list(properties_of(function)):
        yield "## Properties\n"
        yield from table(properties)
    if definition.notes:
        yield "## Notes\n"
        yield from rst(definition.notes)
    if text := definition.sections.get("Examples"):
        yield f"## Example\n\n```pycon\n{text}\n```\n"
    yield from speed(function.name)
    if names := list(names_elsewhere(function)):
        yield "## In other libraries\n"
        yield from table(names)
    if function.reference:
        yield f"## Reference\n\n{escaped(function.reference)}\n"
    yield "## Calls\n"
    yield from rst("\n\n".join(reference.calls(function)))


def properties_of(function: Function) -> Iterator[tuple[str, str]]:
    """Yield a function's properties: parameters, limits, kinks, errors and aliases."""
    if function.parameters:
        defaults = (f"`{parameter(*each)}`" for each in function.parameters.items())
        yield "parameters", ", ".join(defaults)
    if has_curve(function) and (found := value_range(bound(function))):
        yield "range", escaped(found)
    for heading, text in facts(function._definition):
        if heading not in ("reference", "good for", "not for") and not heading.startswith("in "):
            yield escaped(heading), escaped(text)


def speed(name: str) -> Iterator[str]:
    """Yield the section on a function's speed, if it has been measured."""
    if found := speeds.measured(name):
        yield "## Speed\n"
        yield (
            "How many times as long as fastact others take: below 1, and in bold, they are faster. "
            "[Benchmarks](../benchmarks.md) has the method.\n"
        )
    for machine, results in found.items():
        yield from picture(
            f"{name}-{machine}", f"The time of others as a multiple of {name}'s", "speed"
        )
        yield f":::{{dropdown}} Times on {speeds.described(machine)}\n"
        yield from speeds.table(results)
        yield ":::\n"


def names_elsewhere(function: Function) -> Iterator[tuple[str, str]]:
    """Yield each library's name of a function, and what differs there."""
    for library, title in LIBRARIES.items():
        if found := in_library(function._definition, library):
            name, _, difference = found.partition(" (")
            yield title, f"`{name}`" + (f" ({escaped(difference)}" if difference else "")


def describe(function: Function) -> str:
    """Return the text that stands for a function's picture."""
    name = function.name
    said = {
        "curve": f"{name} and its derivatives; shaded where it is saturated",
        "jacobian": f"The Jacobian of {name} at a row",
        "plane": f"{name} on the plane of its two inputs",
        "loss": f"{name} of one element or row, and its derivative",
    }
    return said[picture_of(function) or "curve"]


def picture(name: str, text: str, folder: str = "images") -> Iterator[str]:
    """Yield a picture for light pages and one for dark ones."""
    for theme in ("light", "dark"):
        yield f"```{{image}} {folder}/{name}-{theme}.svg\n:alt: {text}\n:class: only-{theme}\n```\n"


def rst(text: str) -> Iterator[str]:
    """Yield reStructuredText, the language of docstrings, for a page in Markdown."""
    yield f"````{{eval-rst}}\n{text}\n````\n"


def table(rows: list[tuple[str, str]]) -> Iterator[str]:
    """Yield a table without headings."""
    yield "```{list-table}\n:class: facts\n"
    yield from (f"* - {left}\n  - {right}" for left, right in rows)
    yield "```\n"


# The gallery -----------------------------------------------------------------------------------


def gallery() -> Iterator[str]:
    """Yield the lines of the overview, with a small picture of each function."""
    yield "# Functions\n"
    yield (
        "Each has a page with its formula, picture, accuracy and speed, when to use it, and how it is called. "
        "[Names in other libraries](../coverage.md) lists what PyTorch, JAX, Keras and others call them.\n"
    )
    for heading, functions in groups().items():
        yield f"## {heading}\n"
        if functions[0].kind == "activation":
            yield about(functions[0]) + "\n"
        yield "::::{grid} 2 3 3 4\n:gutter: 2\n"
        for each in functions:
            yield from card(each)
        yield "::::\n"
    yield "```{toctree}\n:hidden:\n\n../coverage\n```\n"
    for heading, functions in groups().items():
        names = "\n".join(each.name for each in functions)
        yield f"```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{names}\n```\n"


def card(function: Function) -> Iterator[str]:
    """Yield a function's card."""
    title = function._definition.summary.partition("\n\n")[0].replace("\n", " ")
    yield f":::{{grid-item-card}} {function.name}\n:link: {function.name}\n:link-type: doc\n:class-card: function"
    yield ":class-title: function-name\n"
    if has_picture(function):
        yield from picture(function.name, "", "thumbnails")
    else:
        yield escaped((title.partition(":")[0] if len(title) > 90 else title).replace("``", "`"))
    yield ":::\n"


def about(function: Function) -> str:
    """Return what the docstring of its family says, which is a function's module."""
    module = importlib.import_module(function._definition.function.__module__)
    return (inspect.getdoc(module) or "").partition("\n\n")[0]
