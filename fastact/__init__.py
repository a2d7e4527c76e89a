"""fastact: neural-network activation functions on NumPy arrays, value and gradient in one pass.

    >>> import numpy as np
    >>> import fastact as fa
    >>> fa.relu(np.array([-1.0, 2.0]))
    array([0., 2.])

Every activation is an object: call it for the value; its methods give the derivative and the gradients,
and ``.ufuncs`` the NumPy ufuncs behind them. ``fa.names()`` lists them all. The examples in their docstrings
assume these two imports.
"""

from __future__ import annotations

from functools import cache as _cache  # there is a submodule of that name
from importlib import import_module
from typing import Any

from fastact.system import hooks as _hooks
from fastact.system.first_use import first_use as _first_use

__version__ = "0.1.0"

# Everything is imported when something is first asked for: Numba imports this file in every process that
# compiles anything. Type checkers read the stub, `__init__.pyi`, instead.
_MODULES = {
    "activation": "custom",
    "check_derivative": "custom",
    "elementwise": "custom.elementwise",
    "get": "functions.registry",
    "get_chunk_size": "runtime.threads",
    "get_num_threads": "runtime.threads",
    "get_parallel_threshold": "runtime.threads",
    "get_streaming_threshold": "runtime.threads",
    "info": "runtime.settings",
    "names": "functions.registry",
    "output_cache_info": "runtime.output_pool",
    "plot": "show.plotting",
    "set_chunk_size": "runtime.threads",
    "set_num_threads": "runtime.threads",
    "set_output_cache": "runtime.output_pool",
    "set_parallel_threshold": "runtime.threads",
    "set_streaming_threshold": "runtime.threads",
}
__all__ = list(_MODULES)


def _later(module: str, name: str) -> Any:
    """Return a function of a module that is imported when it is first called."""

    @_first_use()
    def call(*args: Any, **options: Any) -> Any:
        return getattr(import_module(f"fastact.{module}"), name)(*args, **options)

    return call


_hooks.plot = _later("show.plotting", "plot")
_hooks.lookup = _later("functions.registry", "get")
_hooks.exchange = _later("backends.array_api", "exchange")
_hooks.numba_type = _later("numba_support.callables", "type_of")


@_first_use()
def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(import_module(f"fastact.{_MODULES[name]}"), name)
    elif name == "math":
        value = import_module("fastact.math")
    elif name in _submodules():  # `from fastact import name` asks here first, and then loads it
        raise AttributeError(f"module 'fastact' has not loaded its submodule {name!r}")
    elif name in _functions():
        value = import_module("fastact.functions.registry").get(name)
    else:
        raise AttributeError(f"module 'fastact' has no attribute {name!r}")
    # What is returned is from now on an ordinary attribute: this function is not asked again.
    return globals().setdefault(name, value)


@_cache
def _submodules() -> set[str]:
    return {found.name for found in import_module("pkgutil").iter_modules(__path__)}


def _functions() -> set[str]:
    """Return the names and aliases of all functions."""
    registry = import_module("fastact.functions.registry")
    return {*registry.names(), *registry.aliases()}


@_first_use()
def __dir__() -> list[str]:
    return sorted({*__all__, "math", "ufuncs", "__version__", "__doc__", "__all__", *_functions()})
