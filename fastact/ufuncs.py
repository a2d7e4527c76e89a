"""Every ufunc by its name: the place where pickle finds them again."""

from __future__ import annotations

from typing import Any

from fastact.activations import ufunc_name
from fastact.registry import get, names


def __dir__() -> list[str]:
    return [ufunc_name(name, operation) for name in names() for operation in get(name).ufuncs]


def __getattr__(name: str) -> Any:
    for activation in names():
        if name.startswith(activation):
            for operation in get(activation).ufuncs:
                if name == ufunc_name(activation, operation):
                    return get(activation).ufuncs[operation]
    raise AttributeError(f"module 'fastact.ufuncs' has no attribute {name!r}")
