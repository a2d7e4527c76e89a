"""Numba's entry point, called before the first compilation in every process that has fastact installed.

It imports next to nothing. Numba reads the type of an object from its attribute ``_numba_type_``, which activations
compute on demand; ufuncs and plain functions cannot have such an attribute, so their types are looked up here.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from fastact.system.first_use import first_use


def init() -> None:
    """Let compiled code call the functions of `fastact.math`."""
    from numba.extending import typeof_impl

    typeof_impl.register(np.ufunc)(_type_of_ufunc)
    typeof_impl.register(FunctionType)(_type_of_function)


def _type_of_ufunc(ufunc: np.ufunc, context: Any) -> Any:
    function = getattr(ufunc, "fastact_function", None)
    if function is None:
        return None
    with first_use():
        from fastact.numba_support.callables import type_of_function

        return type_of_function(function)


def _type_of_function(function: FunctionType, context: Any) -> Any:
    if (function.__module__, function.__name__) != ("fastact.math", "where"):
        from numba.extending import typeof_impl

        return typeof_impl.dispatch(object)(function, context)
    with first_use():
        from fastact.numba_support.callables import type_of_where

        return type_of_where()
