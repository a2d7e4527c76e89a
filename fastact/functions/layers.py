"""Layers: what a net has around its activations, each with its gradient in one pass.

A `Layer` in a file of this folder is found; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from fastact import functions
from fastact.functions.layer import Layer
from fastact.system.first_use import first_use

__all__ = ["Layer", "layers"]


@cache
@first_use()
def layers() -> dict[str, Layer]:
    """Return all layers by name."""
    found = {}
    for file in pkgutil.iter_modules(functions.__path__, prefix=f"{functions.__name__}."):
        for value in vars(importlib.import_module(file.name)).values():
            if isinstance(value, Layer):
                found[value.name] = value
    return found
