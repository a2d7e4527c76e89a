"""Docstrings of functions, written from their definitions."""

from __future__ import annotations

import textwrap
from typing import Any

from fastact.catalogue import catalogue
from fastact.catalogue.definition import REQUIRED, Definition


def document(definition: Definition) -> str:
    """Write an activation's docstring from its definition."""
    sections = [definition.summary]
    if definition.parameters:
        lines = ["Parameters", "----------"]
        for name, default in definition.parameters.items():
            note = "" if default is REQUIRED else f", default {default}"
            lines.append(f"{name} : float or array_like{note}")
            if name in definition.parameters_are:
                lines.append(f"    {definition.parameters_are[name]}")
        sections.append("\n".join(lines))
    sections.append("\n".join(["Notes", "-----", *_notes(definition)]))
    if definition.reference:
        sections.append(
            "\n".join(["References", "----------", *textwrap.wrap(definition.reference, 88)])
        )
    return "\n\n".join(sections) + "\n"


def _notes(definition: Definition) -> list[str]:
    """Return the lines that say how an activation behaves."""
    formulas = [
        f".. math:: {left} = {right}"
        for left, right in (("f(x)", definition.formula), ("f'(x)", definition.derivative))
        if right
    ]
    said = ["NaN gives NaN."]
    if definition.limits:
        said.append("It goes to {} and {} at minus and plus infinity.".format(*definition.limits))
    said += [f"The derivative at {at} is {chosen}." for at, chosen in definition.kinks.items()]
    for library, other in definition.choices.get("convention", {}).items():
        said.append(f"With convention={library!r}: {difference(definition, other)}.")
    if definition.errors:
        said.append(
            "Errors in float32: at most {} units in the last place in the value, {} in the "
            "derivative.".format(*definition.errors)
        )
    if definition.roots:
        roots = ", ".join(map(str, definition.roots))
        said.append(f"Within 0.4 of its roots ({roots}), the derivative's error is at most 2**-23.")
    said.append("The same bits wherever an element stands, whatever the number of threads.")
    return [line for formula in formulas for line in (formula, "")] + textwrap.wrap(
        " ".join(said), 88
    )


def difference(definition: Definition, other: Definition) -> str:
    """Say how another definition of the same activation differs.

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
    """Return ``name=value``, with no more digits than one likes to read; the name if there is none."""
    if value is REQUIRED:
        return name
    return f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}"
