"""Calls in staged code: of Python functions, operations on vectors, intrinsics and numbers' functions."""

from __future__ import annotations

from types import FunctionType
from typing import Any, Protocol

from llvmlite import ir
from numba.core import types

from fastact import simd
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import OPERATIONS, OVERLOADS
from fastact.simd.staged import scalars
from fastact.simd.staged.values import (
    CONTEXT,
    UnsupportedError,
    converted,
    is_known,
    kind_of,
    lowered,
    raised,
)

# Python's functions that are called where all arguments are known.
_PURE: tuple[Any, ...] = (abs, bool, float, int, len, max, min, range, tuple)


class Code(Protocol):
    """A function of the machine in the making."""

    builder: ir.IRBuilder

    def inline(self, function: FunctionType, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """Evaluate a call of a Python function."""

    def outline(self, function: FunctionType, arguments: tuple[Any, ...]) -> None:
        """Call a Python function that becomes a function of the machine."""


def call(code: Code, function: Any, arguments: tuple[Any, ...], keywords: Any = None) -> Any:
    """Call a function with values; return its result."""
    is_outlined = getattr(function, "is_outlined", False)
    function = getattr(function, "py_func", function)
    if is_outlined:
        return code.outline(function, arguments)
    if keywords and not isinstance(function, FunctionType):
        raise UnsupportedError(f"{function} with keywords")
    is_special, result = special(code, function, arguments)
    if is_special:
        return result
    if isinstance(function, FunctionType):
        rule = simd.DERIVATIVE_RULES.get(function)
        if rule and any(isinstance(kind_of(each), Dual) for each in arguments):
            function = rule
        return code.inline(function, arguments, keywords or {})
    if hasattr(function, "_defn"):
        return _intrinsic(code, function, arguments)
    if isinstance(function, type) and hasattr(function, "_fields"):  # a named tuple
        return function(*arguments)
    if function in _PURE and all(map(is_known, arguments)):
        return function(*arguments)
    if function is len:
        return len(arguments[0])
    if function in scalars.FUNCTIONS:
        return scalars.FUNCTIONS[function](code.builder, *arguments)
    raise UnsupportedError(f"a call of {function}")


def special(code: Code, function: Any, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Call an operation on vectors if it is one of these arguments: return whether it is, and the result."""
    if function not in OPERATIONS and function not in OVERLOADS:
        return False, None
    kinds = tuple(map(kind_of, arguments))
    for typed, emit in OPERATIONS.get(function, ()):
        signature = typed(kinds)
        if signature:
            return True, _emitted(code, emit, signature, arguments, kinds)
    for choose, prefers_literals in OVERLOADS.get(function, ()):
        chosen = choose(*(map(_literal, arguments, kinds) if prefers_literals else kinds))
        if chosen is not None:
            return True, code.inline(chosen, arguments, {})
    return False, None


def _literal(value: Any, kind: types.Type) -> types.Type:
    return types.literal(value) if isinstance(value, int) else kind


def _intrinsic(code: Code, function: Any, arguments: tuple[Any, ...]) -> Any:
    kinds = tuple(map(kind_of, arguments))
    found = function._defn(None, *kinds)
    if not found or found[0] is None:
        raise UnsupportedError(f"{function} of {kinds}")
    signature, emit = found
    return _emitted(code, emit, signature, arguments, kinds)


def _emitted(code: Code, emit: Any, signature: Any, arguments: Any, kinds: Any) -> Any:
    values = []
    for argument, kind, wanted in zip(arguments, kinds, signature.args, strict=True):
        converts = isinstance(wanted, types.Number | types.Boolean) and kind != wanted
        values.append(
            converted(code.builder, argument, wanted)
            if converts
            else lowered(code.builder, argument)
        )
    result = emit(CONTEXT, code.builder, signature, values)
    return raised(code.builder, signature.return_type, result)


def binary(code: Code, function: Any, x: Any, y: Any) -> Any:
    """Apply an operator to two values."""
    if isinstance(x, tuple) and isinstance(y, tuple):
        return function(tuple(x), tuple(y))
    if is_known(x) and is_known(y):
        return function(x, y)
    is_special, result = special(code, function, (x, y))
    return result if is_special else scalars.binary(code.builder, function, x, y)


def unary(code: Code, function: Any, x: Any) -> Any:
    """Apply an operator to a value."""
    if is_known(x):
        return function(x)
    is_special, result = special(code, function, (x,))
    return result if is_special else scalars.unary(code.builder, function, x)
