"""Every ufunc by its name: the place where pickle finds them again."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastact.functions.layers import layers
from fastact.functions.registry import activations


@cache
def _places() -> dict[str, tuple[Any, str]]:
    """Return the activation and the operation behind each name."""
    holders: tuple[Any, ...] = (*activations(), *layers().values())
    return {
        each.ufunc_name(operation): (each, operation)
        for each in holders
        for operation in each.ufuncs
    }


def __dir__() -> list[str]:
    return list(_places())


def __getattr__(name: str) -> Any:
    if name not in _places():
        raise AttributeError(f"module 'fastact.ufuncs' has no attribute {name!r}")
    activation, operation = _places()[name]
    return activation.ufuncs[operation]
