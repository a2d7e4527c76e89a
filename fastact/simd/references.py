"""The references of a Python function: names, globals, closures, and attributes of modules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any


def names_in(code: CodeType) -> list[str]:
    """Return the names of the globals and attributes that code refers to, its inner functions included."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return sorted({*code.co_names, *(name for each in inner for name in names_in(each))})


def used_by(function: Callable[..., Any]) -> list[Any]:
    """Return the objects that a function refers to: globals, closures, and attributes of modules."""
    assert isinstance(function, FunctionType)
    names, globals_ = names_in(function.__code__), function.__globals__
    found = [globals_[name] for name in names if name in globals_]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not yet assigned
            found.append(cell.cell_contents)
    for value in found:  # grows by the attributes of modules
        if isinstance(value, ModuleType):
            # Only names that the module lists: asked for any other, it may warn, as numpy.core does.
            attributes = (getattr(value, name) for name in names if name in dir(value))
            found += [each for each in attributes if not _is_in(each, found)]
    return found


def _is_in(value: Any, values: list[Any]) -> bool:
    return any(value is each for each in values)  # `in` would compare arrays
