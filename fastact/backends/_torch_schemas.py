"""The schemas of operators of `torch.library`, from the signatures of functions."""

from __future__ import annotations

from typing import Any

from fastact.catalogue.definition import REQUIRED
from fastact.functions.options import ROW_AXIS, Argument

#: The type of the axes of rows.
AXES = "int[1]?"
_TYPES = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "int | None": "int?",
    "float | None": "float?",
    ROW_AXIS.annotation: AXES,
}


def schema_type(argument: Argument, is_array: bool) -> str:
    """Return the type of an argument in a schema."""
    annotation = argument.annotation
    if annotation in _TYPES:
        return _TYPES[annotation]
    if annotation.startswith("Literal"):
        return "str?" if annotation.endswith("None") else "str"
    if annotation == "ArrayLike" and not (is_array or argument.is_differentiable):
        return "float"
    return "Tensor" if argument.default is REQUIRED else "Tensor?"


def declared(name: str, kind: str, default: Any) -> str:
    """Return an argument as a schema declares it."""
    if default is REQUIRED:
        return f"{kind} {name}"
    if kind == "Tensor?":
        return f"{kind} {name}=None"
    value = f'"{default}"' if isinstance(default, str) else default
    return f"{kind} {name}={value}"
