"""Facts about activations and layers, for the terminal and the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions import Function
from fastact.functions.documentation import difference
from fastact.functions.operation import Operation

#: The display names of libraries, by their key in `Definition.elsewhere`.
LIBRARIES = {
    "pytorch": "PyTorch",
    "jax": "JAX",
    "keras": "Keras",
    "onnx": "ONNX",
    "thinc": "thinc",
    "chainer": "Chainer",
    "tensorflow": "TensorFlow",
}


def facts(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and its text."""
    if definition.good_for:
        yield "good for", definition.good_for
        yield "not for", definition.not_for
    yield from definition.parameters_are.items()
    if definition.learnable:
        yield "learnable", ", ".join(definition.learnable)
    for at, derivative in definition.kinks.items():
        yield f"kink at {at}", f"the derivative is {derivative}"
    if definition.limits:
        low, high = definition.limits
        yield "limits", f"{low} at -inf, {high} at inf".replace("inf", "∞")
    if definition.errors:
        yield (
            "error",
            "at most {} ulp in the value, {} in the derivative (float32)".format(
                *definition.errors
            ),
        )
    if definition.roots:
        roots = ", ".join(f"{root:.4g}" for root in definition.roots)
        yield "roots", f"within 0.4 of {roots}, the derivative's error is at most 2**-23"
    if definition.aliases:
        yield "also called", ", ".join(definition.aliases)
    for library, title in LIBRARIES.items():
        if name := in_library(definition, library):
            yield f"in {title}", name
    for keyword, choices in definition.choices.items():
        if keyword != "convention":
            yield keyword, ", ".join(f"{value}: {found.name}" for value, found in choices.items())
    if definition.reference:
        yield "reference", definition.reference


def in_library(definition: Definition, library: str) -> str:
    """Return a library's name for an activation, and the difference in brackets; may be empty."""
    name = definition.elsewhere.get(library, "")
    other = definition.choices.get("convention", {}).get(library)
    if other is None:
        return name
    return f"{name} ({difference(definition, other)})".lstrip()


def as_json(function: Function) -> dict[str, Any]:
    """Return what there is to know about a function as plain data."""
    definition = function._definition
    return {
        "name": function.name,
        "kind": function.kind,
        "aliases": list(function.aliases),
        "summary": definition.summary,
        "formula": function.formula,
        "derivative_formula": function.derivative_formula,
        "parameters": {
            name: None if value is REQUIRED else value
            for name, value in function.parameters.items()
        },
        "kinks": dict(function.kinks),
        "limits": function.limits,
        "errors_in_ulp": definition.errors,
        "conventions": list(function.conventions),
        "libraries": dict(definition.elsewhere),
        "reference": function.reference,
        "signatures": signatures(function),
    }


# Methods ----------------------------------------------------------------------------------------


def _described(function: Function) -> list[Operation]:
    """Return the operations that a description of a whole-array function tells of."""
    names = ("forward", "backward", "forward_backward")
    return [function.operations[each] for each in names if each in function.operations]


def signatures(function: Function) -> list[str]:
    """Return one line for each method, with its arguments and their defaults."""
    return [f"{function.caller(each.name)}{each.signature}" for each in _described(function)]


def arguments(function: Function) -> dict[str, str]:
    """Return the description of each argument, from the first method that has it."""
    found: dict[str, str] = {}
    for operation in _described(function):
        for each in (*operation.arrays, *operation.options):
            found.setdefault(each.name, f"{each.kind}. {each.text}")
    return found
