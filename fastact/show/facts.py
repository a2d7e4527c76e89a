"""Facts about activations and layers, for the terminal and the documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from fastact.catalogue.definition import Definition
from fastact.functions.documentation import difference

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


# Methods, from their signatures and docstrings ---------------------------------------------------


def sections(documented: Any) -> dict[str, str]:
    """Return the sections of a docstring by heading; the text before the first one has ``""``."""
    parts = re.split(r"^(\w.*)\n-+\n", inspect.getdoc(documented) or "", flags=re.MULTILINE)
    headings, texts = ["", *parts[1::2]], parts[::2]
    return {heading: text.strip() for heading, text in zip(headings, texts, strict=True)}


def methods(function: Any) -> dict[str, Any]:
    """Return the public callables of a function by name, such as ``softmax.backward``."""
    name = function.name
    found = {f"{name}.{each}": getattr(function, each, None) for each in _METHODS}
    return {name: function.__call__} | {call: each for call, each in found.items() if each}


_METHODS = ("backward", "forward_backward")


def signatures(function: Any) -> list[str]:
    """Return one line for each method, with its arguments and their defaults."""
    return [f"{call}{_signature(method)}" for call, method in methods(function).items()]


def _signature(method: Any) -> str:
    found = inspect.signature(method)
    bare = [each.replace(annotation=each.empty) for each in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=found.empty))


def arguments(function: Any) -> dict[str, str]:
    """Return the description of each argument, from the first method that has it."""
    found: dict[str, str] = {}
    for method in methods(function).values():
        entries = re.split(r"\n(?=\S)", sections(method).get("Parameters", ""))
        for entry in filter(None, entries):
            heading, _, text = entry.partition("\n")
            names, _, kind = heading.partition(" : ")
            if not {*names.split(", ")} & found.keys():
                found[names] = " ".join(f"{kind}. {text}".split())
    return found
