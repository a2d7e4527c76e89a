"""Make plain Python functions callable from kernels, together with the plain functions that they call.

Definitions and vector maths are written without Numba; they become Numba overloads when a kernel refers to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

from numba import njit, types
from numba.core.dispatcher import Dispatcher
from numba.extending import overload, typeof_impl

from fastact import simd
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import JIT_OPTIONS
from fastact.simd.references import used_by

_compilable: set[Any] = set()
# What every elementary function is made of.
_ELEMENTARY = (simd.polynomial, simd.scale)


class Internal:
    """A function for kernels; it may call plain functions. Numba compiles it only where its callers are users' functions.

    Parameters
    ----------
    function : callable
        The Python function.
    is_outlined : bool, default False
        Whether it is called, not inlined. It then has no result.
    """

    def __init__(self, function: Callable[..., Any], is_outlined: bool = False) -> None:
        self.py_func = function
        self.is_outlined = is_outlined

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """The function for Numba."""
        for used in used_by(self.py_func):
            if isinstance(used, FunctionType):
                make_compilable(used)
        return njit(**(JIT_OPTIONS | {"forceinline": not self.is_outlined}))(self.py_func)


@typeof_impl.register(Internal)
def _(value: Internal, context: Any) -> types.Dispatcher:
    return types.Dispatcher(value.dispatcher)


def internal(function: Callable[..., Any]) -> Any:
    """Return a function for inlining into kernels; it may call plain functions."""
    return function if isinstance(function, Internal | Dispatcher) else Internal(function)


def is_compilable(function: Any) -> bool:
    """Return whether `make_compilable` has registered a function."""
    return function in _compilable


def make_compilable(function: Callable[..., Any]) -> None:
    """Register a plain Python function, and those that it calls, as Numba overloads."""
    if function.__module__ == simd.__name__ or function in _compilable:
        return
    _compilable.add(function)
    rule = simd.DERIVATIVE_RULES.get(function)

    @overload(function, jit_options=JIT_OPTIONS, strict=False)
    def choose(*args: Any, **kwargs: Any) -> Any:
        return rule if rule and any(isinstance(kind, Dual) for kind in args) else function

    for caller in (function, rule) if rule else (function,):
        for used in used_by(caller):
            if isinstance(used, FunctionType):
                make_compilable(used)


def is_memory_bound(function: Any) -> bool:
    """Whether a kernel of fastact's own evaluates no elementary function: it has few instructions, and waits for memory."""
    function = getattr(function, "py_func", function)
    if not str(function.__module__).startswith("fastact."):
        return False
    kinds = FunctionType | Internal | Dispatcher
    used = [each for each in used_by(function) if isinstance(each, kinds)]
    own = [each for each in used if each.__module__ != simd.__name__]
    return not any(each in _ELEMENTARY for each in used) and all(map(is_memory_bound, own))
