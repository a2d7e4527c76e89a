"""Docstrings of functions and methods, generated from definitions and operations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from fastact.catalogue import catalogue
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions.operation import Operation
from fastact.functions.options import Argument

_WIDTH = 88


def document(definition: Definition) -> str:
    """Return the docstring of a function."""
    sections = [definition.summary]
    if definition.parameters:
        entries = (
            f"{name} : float or array_like{'' if default is REQUIRED else f', default {default}'}\n"
            + textwrap.indent(definition.parameters_are.get(name, ""), "    ")
            for name, default in definition.parameters.items()
        )
        sections.append(_section("Parameters", map(str.rstrip, entries)))
    sections.append(_section("Notes", [notes(definition)]))
    if definition.reference:
        sections.append(_section("References", textwrap.wrap(definition.reference, _WIDTH)))
    return "\n\n".join(sections) + "\n"


def document_method(definition: Definition, operation: Operation) -> str:
    """Return the docstring of the method that runs an operation."""
    sections = [f"Compute {operation.summary}."]
    arguments = (*operation.arrays, *operation.options)
    sections.append(_section("Parameters", map(_argument, arguments)))
    results = (
        "\n".join([f"{name} : ndarray or scalar", *_wrapped(text)])
        for name, text in operation.returns.items()
    )
    sections.append(_section("Returns", results))
    if operation.raises:
        errors = ("\n".join([name, *_wrapped(text)]) for name, text in operation.raises.items())
        sections.append(_section("Raises", errors))
    return "\n\n".join(sections) + "\n"


def _section(heading: str, lines: Iterable[str]) -> str:
    return "\n".join([heading, "-" * len(heading), *lines])


def _argument(argument: Argument) -> str:
    return "\n".join([f"{argument.name} : {argument.kind}", *_wrapped(argument.text)])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def notes(definition: Definition) -> str:
    """Return the notes on a function: those of its definition, or what is known of it."""
    if definition.notes:
        return definition.notes
    equations = {"f(x)": definition.formula, "f'(x)": definition.derivative}
    lines = [f".. math:: {left} = {right}\n" for left, right in equations.items() if right]
    return "\n".join([*lines, *textwrap.wrap(" ".join(_said(definition)), _WIDTH)])


def _said(definition: Definition) -> Iterator[str]:
    """Yield sentences on limits, kinks, conventions and errors."""
    yield "NaN gives NaN."
    if definition.limits:
        yield "The limits at minus and plus infinity are {} and {}.".format(*definition.limits)
    for at, chosen in definition.kinks.items():
        yield f"The derivative at {at} is {chosen}."
    for library, other in definition.choices.get("convention", {}).items():
        yield f"With convention={library!r}: {difference(definition, other)}."
    for name, domain in definition.domains.items():
        yield f"{name} must be {domain.text}."
    if definition.errors:
        yield (
            "Errors in float32: at most {} units in the last place for the value, {} for the "
            "derivative.".format(*definition.errors)
        )
    if definition.roots:
        roots = ", ".join(map(str, definition.roots))
        yield f"Within 0.4 of its zeros ({roots}), the derivative's error is at most 2**-23."
    yield "Results are bitwise identical for any layout and number of threads."


def difference(definition: Definition, other: Definition) -> str:
    """Describe how another definition of the same activation differs.

    Examples
    --------
    >>> from fastact.catalogue.rectified import leaky_relu
    >>> difference(leaky_relu, leaky_relu.choices["convention"]["tensorflow"])
    'negative_slope=0.2'
    """
    if other.name in catalogue():
        return other.name
    parameters = [
        parameter(name, default)
        for name, default in other.parameters.items()
        if (name, default) not in definition.parameters.items()
    ]
    kinks = [
        f"derivative {derivative} at {at}"
        for at, derivative in other.kinks.items()
        if (at, derivative) not in definition.kinks.items()
    ]
    return ", ".join(parameters + kinks)


def parameter(name: str, value: Any) -> str:
    """Return ``name=value`` with at most 5 digits, or just the name of a required parameter."""
    if value is REQUIRED:
        return name
    return f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}"
