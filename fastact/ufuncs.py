"""Every ufunc by its name: the module where pickle finds them.

Parameters are inputs, without defaults; the methods of `fastact.gelu` and its kin call these, and document them.

Examples
--------
>>> from fastact import ufuncs
>>> ufuncs.elu_derivative is fa.elu.ufuncs["derivative"]
True
>>> ufuncs.elu([-1.0, 0.0, 1.0], 0.5)
array([-0.31606028,  0.        ,  1.        ])
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastact.functions.registry import functions


@cache
def _places() -> dict[str, tuple[Any, str]]:
    """Return the function and the operation behind each name."""
    return {
        each.ufunc_name(operation): (each, operation)
        for each in functions()
        for operation in each.ufuncs
    }


def __dir__() -> list[str]:
    return list(_places())


def __getattr__(name: str) -> Any:
    if name not in _places():
        raise AttributeError(f"module 'fastact.ufuncs' has no attribute {name!r}")
    function, operation = _places()[name]
    return function.ufuncs[operation]
