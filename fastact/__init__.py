"""fastact: neural-network activation functions on NumPy arrays, value and gradient in one pass.

    >>> import numpy as np
    >>> import fastact as fa
    >>> fa.relu(np.array([-1.0, 2.0]))
    array([0., 2.])

Every activation is an object: call it for the value; its methods give the derivative and the gradients,
and ``.ufuncs`` the NumPy ufuncs behind them. ``fa.names()`` lists them all.
"""

from __future__ import annotations

from functools import cache as _cache  # there is a submodule of that name
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastact.first_use import first_use as _first_use

if TYPE_CHECKING:
    from fastact.custom import activation, check_derivative
    from fastact.output_cache import output_cache_info, set_output_cache
    from fastact.registry import get, layer_names, names, row_names
    from fastact.threads import (
        get_num_threads,
        get_parallel_threshold,
        set_num_threads,
        set_parallel_threshold,
    )

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

# Everything is imported when something is first asked for: Numba imports this file in every process that
# compiles anything.
_PLACES = {
    "activation": "custom",
    "check_derivative": "custom",
    "get": "registry",
    "get_num_threads": "threads",
    "get_parallel_threshold": "threads",
    "layer_names": "registry",
    "names": "registry",
    "output_cache_info": "output_cache",
    "row_names": "registry",
    "set_num_threads": "threads",
    "set_output_cache": "output_cache",
    "set_parallel_threshold": "threads",
}


@_first_use()
def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(import_module(f"fastact.{_PLACES[name]}"), name)
    elif name == "math":
        value = import_module("fastact.math")
    elif name in _submodules():  # `from fastact import name` asks here first, and then loads it
        raise AttributeError(f"module 'fastact' has not loaded its submodule {name!r}")
    elif name in _functions():
        value = import_module("fastact.registry").get(name)
    else:
        raise AttributeError(f"module 'fastact' has no attribute {name!r}")
    # What is returned is from now on an ordinary attribute: this function is not asked again.
    return globals().setdefault(name, value)


@_cache
def _submodules() -> set[str]:
    return {found.name for found in import_module("pkgutil").iter_modules(__path__)}


def _functions() -> set[str]:
    """Return the names and aliases of all activations, functions of rows and layers."""
    registry = import_module("fastact.registry")
    names = registry.names(), registry.aliases(), registry.row_names(), registry.layer_names()
    return set().union(*names)


@_first_use()
def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "math", *_functions()})
