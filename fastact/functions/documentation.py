"""Docstrings of functions and methods, generated from definitions and operations."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastact.catalogue import catalogue
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions.operation import Operation
from fastact.functions.options import Argument

_WIDTH = 72  # `help` indents methods by 8 columns
_LITERAL = re.compile(r"``[^`]*``")
_FIXED_SPACE = "\N{NO-BREAK SPACE}"


def document(definition: Definition, forward: Operation) -> str:
    """Return the docstring of a function: that of its call, as NumPy documents a ufunc."""
    formulas = (f".. math:: {left} = {right}" for left, right in equations(definition).items())
    lines = (_filled(each, indent=" " * 4) for each in formulas)
    written = definition.sections
    sections = {
        "Parameters": "\n".join(_arguments((*forward.arrays, *forward.options))),
        "Returns": _returns(forward),
        "Raises": "\n".join(_entry(*each) for each in forward.raises.items()),
        "Notes": "\n\n".join([*lines, _filled(notes(definition))]),
        "References": _filled(definition.reference),
    }
    sections |= {heading: text for heading, text in written.items() if heading not in ("", "Notes")}
    description = definition.summary or f"Compute {forward.summary}."
    return _docstring(_filled("\n\n".join([description, *advice(definition)])), sections)


def advice(definition: Definition) -> Iterator[str]:
    """Yield the sentence that says when to use a function, and when not."""
    if definition.good_for:
        yield f"Good for {definition.good_for}. Not for {definition.not_for}."


def document_method(definition: Definition, operation: Operation, forward: Operation) -> str:
    """Return the docstring of the method that runs an operation."""
    if operation is forward:
        return f"Compute {operation.summary}; the docstring of the function describes the call.\n"
    texts = {each.text for each in forward.options}
    own = (each for each in operation.options if each.text not in texts)
    shared = [each.name for each in operation.options if each.text in texts]
    parameters = [*_arguments((*operation.arrays, *own))]
    if shared:
        parameters.append(_entry("**options", f"As in a call: {', '.join(shared)}."))
    raises = [_entry(", ".join(operation.raises), "As in a call.")]
    if operation.raises != forward.raises:
        raises = [_entry(*each) for each in operation.raises.items()]
    sections = {
        "Parameters": "\n".join(parameters),
        "Returns": _returns(operation),
        "Raises": "\n".join(raises),
        "Examples": _example(definition, operation),
    }
    return _docstring(_filled(f"Compute {operation.summary}."), sections)


def _docstring(description: str, sections: Mapping[str, str]) -> str:
    parts = [f"{name}\n{'-' * len(name)}\n{text}" for name, text in sections.items() if text]
    return "\n\n".join([description, *parts]) + "\n"


def _example(definition: Definition, operation: Operation) -> str:
    """Return the example of an operation, for functions that are found as ``fa.<name>``."""
    name = definition.name
    if catalogue().get(name) is not definition:
        return ""
    if not definition.required_parameters:
        return operation.example.format(f=f"fa.{name}")
    values = ", ".join(f"{key}={value}" for key, value in definition.required_parameters.items())
    return f">>> {name} = fa.{name}.bind({values})\n{operation.example.format(f=name)}"


def _returns(operation: Operation) -> str:
    return "\n".join(
        _entry(f"{name} : {'callable' if name == 'vjp' else 'ndarray or scalar'}", text)
        for name, text in operation.returns.items()
    )


def _arguments(arguments: Iterable[Argument]) -> Iterator[str]:
    """Yield the entries of arguments; those with the same description share one."""
    by_text: dict[str, list[Argument]] = {}
    for each in arguments:
        by_text.setdefault(each.text, []).append(each)
    for text, found in by_text.items():
        kinds = {each.kind for each in found}
        kind = found[0].kind if len(kinds) == 1 else "optional"
        names = ", ".join(each.name for each in found)
        yield _entry(f"{names} : {kind}", f"{text[0].upper()}{text[1:].rstrip('.')}.")


def _entry(heading: str, text: str) -> str:
    return f"{heading}\n{textwrap.indent(_filled(text, _WIDTH - 4), '    ')}"


def _filled(text: str, width: int = _WIDTH, indent: str = "") -> str:
    """Break the lines of paragraphs that are too wide, between words and literals; code stays as it is."""
    parts = text.split("\n\n")
    for k, part in enumerate(parts):
        if not part.startswith(" ") and max(map(len, part.splitlines()), default=0) > width:
            whole = _LITERAL.sub(lambda found: _unbroken(found[0], width), part)
            lines = textwrap.wrap(
                whole,
                width,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            parts[k] = "\n".join(lines).replace(_FIXED_SPACE, " ")
    return "\n\n".join(parts)


def _unbroken(literal: str, width: int) -> str:
    return literal if len(literal) > width else re.sub(r"\s", _FIXED_SPACE, literal)


def equations(definition: Definition) -> dict[str, str]:
    """Return the formulas of a function, in TeX, by their left-hand sides."""
    value = "f(x)" if definition.kind in ("activation", "row") else "y"
    found = {value: definition.formula, "f'(x)": definition.derivative}
    return {left: right for left, right in found.items() if right}


def notes(definition: Definition) -> str:
    """Return the notes on a function: those of its definition, and what its metadata says."""
    said = list(_said(definition))
    if definition.notes:
        return "\n\n".join([definition.notes, *said])
    same = "Results are bitwise identical for any layout and number of threads."
    return " ".join(["NaN gives NaN.", *said, same])


def _said(definition: Definition) -> Iterator[str]:
    """Yield sentences on limits, kinks, conventions and errors."""
    if definition.limits:
        yield "The limits at minus and plus infinity are {} and {}.".format(*definition.limits)
    for at, chosen in definition.kinks.items():
        yield f"The derivative at {at} is {chosen}."
    for library, other in definition.choices.get("convention", {}).items():
        yield f"With convention={library!r}: {difference(definition, other)}."
    for name, domain in definition.domains.items():
        yield f"`{name}` must be {domain.text}."
    if definition.errors:
        text = "Errors in float32: at most {:g} units in the last place for the value, {:g} for the derivative."
        yield text.format(*definition.errors) if any(definition.errors) else "Results are exact."
    if definition.roots:
        roots = ", ".join(map(str, definition.roots))
        yield f"Within 0.4 of its zeros ({roots}), the derivative's error is at most 2**-23."


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
