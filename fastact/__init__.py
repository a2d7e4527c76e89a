"""fastact: neural-network activation functions on NumPy arrays, value and gradient in one pass.

    >>> import numpy as np
    >>> import fastact as fa
    >>> fa.relu(np.array([-1.0, 2.0]))
    array([0., 2.])

Every activation is an object: call it for the value; its methods give the derivative and the gradients,
and ``.ufuncs`` the NumPy ufuncs behind them. ``fa.names()`` lists them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastact.output_cache import output_cache_info, set_output_cache
from fastact.registry import aliases, get, layer_names, names, row_names

# At once, and not when it is first used: it must hear of forks.
from fastact.threads import (
    get_num_threads,
    get_parallel_threshold,
    set_num_threads,
    set_parallel_threshold,
)

if TYPE_CHECKING:
    from fastact.custom import activation, check_derivative

__all__ = [
    "activation",
    "check_derivative",
    "get",
    "get_num_threads",
    "get_parallel_threshold",
    "layer_names",
    "names",
    "output_cache_info",
    "row_names",
    "set_num_threads",
    "set_output_cache",
    "set_parallel_threshold",
]
__version__ = "0.1.0"

# What is imported when it is first used.
_LATER = {"activation": "fastact.custom", "check_derivative": "fastact.custom"}


def __getattr__(name: str) -> Any:
    # What is returned is from now on an ordinary attribute: this function is not asked again.
    if name == "math":
        return globals().setdefault(name, import_module("fastact.math"))
    if name in _LATER:
        return globals().setdefault(name, getattr(import_module(_LATER[name]), name))
    if name in (*names(), *row_names(), *layer_names()) or name in aliases():
        return globals().setdefault(name, get(name))
    raise AttributeError(f"module 'fastact' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "math", *_LATER, *names(), *row_names(), *aliases(), *layer_names()})
