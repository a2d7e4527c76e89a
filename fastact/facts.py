"""What there is to say of an activation, on the terminal and in the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastact.definition import REQUIRED, Definition
from fastact.definitions import catalogue

#: What the libraries are called, by their key in `Definition.elsewhere`.
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
    """Yield headings and what stands beside them."""
    yield from definition.parameters_are.items()
    if definition.learnable:
        yield "learnable", ", ".join(definition.learnable)
    for at, derivative in definition.kinks.items():
        yield f"kink at {at}", f"the derivative is {derivative}"
    if definition.limits:
        low, high = definition.limits
        yield "limits", f"{low} at -inf, {high} at inf".replace("inf", "∞")
    if definition.errors:
        of_value, of_derivative = definition.errors
        yield (
            "error",
            f"at most {of_value} ulp in the value, {of_derivative} in the derivative (float32)",
        )
    if definition.roots:
        roots = ", ".join(f"{root:.4g}" for root in definition.roots)
        yield "roots", f"within 0.4 of {roots}, the derivative's error is at most 2**-23"
    if definition.aliases:
        yield "also called", ", ".join(definition.aliases)
    for library, full_name in LIBRARIES.items():
        if said := in_library(definition, library):
            yield f"in {full_name}", said
    for keyword, choices in definition.choices.items():
        if keyword != "convention":
            yield keyword, ", ".join(f"{value}: {found.name}" for value, found in choices.items())
    if definition.reference:
        yield "reference", definition.reference


def in_library(definition: Definition, library: str) -> str:
    """Return what a library calls an activation, and what is different there; nothing if it has none."""
    its_name = definition.elsewhere.get(library, "")
    other = definition.choices.get("convention", {}).get(library)
    if other is None:
        return its_name
    return f"{its_name} ({difference(definition, other)})".lstrip()


def difference(definition: Definition, other: Definition) -> str:
    """Say how another definition of the same activation differs.

    Examples
    --------
    >>> from fastact.definitions.rectified import leaky_relu
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
