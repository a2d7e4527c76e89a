"""Values of staged code: Python objects that are known, and LLVM values with their types.

A tuple, named or not, is a Python tuple of values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import default_manager

from fastact.simd import PerDtype
from fastact.simd.lowering import PerDtypeType, Vector

_NUMBERS = (types.boolean, types.int32, types.int64, types.float32, types.float64)


class UnsupportedError(Exception):
    """Code that only Numba compiles."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A number, vector or pointer that the machine computes."""

    kind: types.Type
    llvm: Any


def mapped(function: Callable[..., Any], first: tuple[Any, ...], *others: tuple[Any, ...]) -> Any:
    """Apply a function to the elements of tuples; the result is of the class of the first."""
    parts = map(function, first, *others)
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def llvm_of(kind: types.Type) -> ir.Type:
    """Return the LLVM type of values."""
    return default_manager[kind].get_value_type()


class Context:
    """The part of Numba's target context that intrinsics use."""

    data_model_manager = default_manager

    def make_tuple(self, builder: Any, kind: Any, values: Any) -> Any:
        """Return an aggregate of values."""
        aggregate = ir.Constant(llvm_of(kind), ir.Undefined)
        for position, each in enumerate(values):
            aggregate = builder.insert_value(aggregate, each, position)
        return aggregate

    def get_dummy_value(self) -> Any:
        """Return a value of a type that has none."""
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    def cast(self, builder: Any, value: Any, kind: types.Type, to: types.Type) -> Any:
        """Convert a number."""
        if kind == to:
            return value
        if to not in _NUMBERS or kind not in _NUMBERS:
            raise UnsupportedError(f"{kind} as {to}")
        target, is_float = llvm_of(to), isinstance(kind, types.Float)
        if isinstance(value, ir.Constant) and to != types.boolean:
            number = value.constant
            return ir.Constant(
                target, int(number) if isinstance(to, types.Integer) else float(number)
            )
        if to == types.boolean:
            zero = ir.Constant(value.type, 0)
            return (
                builder.fcmp_unordered("!=", value, zero)
                if is_float
                else builder.icmp_signed("!=", value, zero)
            )
        if isinstance(to, types.Float):
            if is_float:
                return (builder.fpext if to == types.float64 else builder.fptrunc)(value, target)
            return (builder.uitofp if kind == types.boolean else builder.sitofp)(value, target)
        if is_float:
            return builder.fptosi(value, target)
        if kind == types.boolean:
            return builder.zext(value, target)
        return (builder.sext if to == types.int64 else builder.trunc)(value, target)


CONTEXT = Context()


def is_known(value: Any) -> bool:
    """Return whether nothing of a value is left to the machine."""
    if isinstance(value, Value):
        return False
    return all(map(is_known, value)) if isinstance(value, tuple) else True


def kind_of(value: Any) -> types.Type:
    """Return the Numba type of a value."""
    if isinstance(value, Value):
        return value.kind
    if isinstance(value, tuple):
        return types.BaseTuple.from_types(tuple(map(kind_of, value)))
    for each, kind in (
        (bool | np.bool_, types.boolean),
        (int | np.int64, types.int64),
        (np.float32, types.float32),
        (float, types.float64),
    ):
        if isinstance(value, each):
            return kind
    if isinstance(value, PerDtype):
        return PerDtypeType(value)
    if value is None:
        return types.none
    raise UnsupportedError(f"{value!r} at run time")


def lowered(builder: Any, value: Any) -> Any:
    """Return a value as LLVM's."""
    if isinstance(value, Value):
        return value.llvm
    kind = kind_of(value)
    if isinstance(value, tuple):
        return CONTEXT.make_tuple(builder, kind, [lowered(builder, each) for each in value])
    if kind in _NUMBERS:
        return ir.Constant(llvm_of(kind), value)
    return CONTEXT.get_dummy_value()


def raised(builder: Any, kind: types.Type, llvm: Any) -> Any:
    """Return what an intrinsic returns as a value."""
    if isinstance(kind, types.BaseTuple):
        parts = (builder.extract_value(llvm, k) for k in range(len(kind)))
        return tuple(raised(builder, each, part) for each, part in zip(kind, parts, strict=True))
    return None if kind == types.void else Value(kind, llvm)


def at_run_time(value: Any) -> Any:
    """Return the types of a variable that changes in a loop: a type, or a tuple of them; None if it cannot change."""
    if isinstance(value, tuple):
        kinds = mapped(at_run_time, value)
        return None if None in kinds else kinds
    if isinstance(value, Value | bool | int | float | np.float32):
        return kind_of(value)
    return None


def unified(first: Any, second: Any) -> Any:
    """Return the type of a variable that has one of two types, as `at_run_time` returns them."""
    if first == second:
        return first
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return mapped(unified, first, second)
    if isinstance(first, types.Number | types.Boolean) and isinstance(
        second, types.Number | types.Boolean
    ):
        is_float = isinstance(first, types.Float) or isinstance(second, types.Float)
        return types.float64 if is_float else types.int64
    raise UnsupportedError(f"a variable of the types {first} and {second}")


def converted(builder: Any, value: Any, kind: Any) -> Any:
    """Return the LLVM values of a variable in given types: one, or a tuple of them."""
    if isinstance(kind, tuple):
        return mapped(lambda part, each: converted(builder, part, each), value, kind)
    if isinstance(kind, Vector) and kind_of(value) != kind:
        raise UnsupportedError(f"{kind_of(value)} as {kind}")
    return CONTEXT.cast(builder, lowered(builder, value), kind_of(value), kind)


def is_same(x: Any, y: Any) -> bool:
    """Return whether two values are one."""
    if x is y:
        return True
    if isinstance(x, Value) and isinstance(y, Value):
        return bool(x.kind == y.kind) and x.llvm is y.llvm
    if isinstance(x, tuple) and isinstance(y, tuple):
        return len(x) == len(y) and all(map(is_same, x, y))
    numbers = (bool, int)  # not floats: 0.0 == -0.0
    return isinstance(x, numbers) and type(x) is type(y) and x == y
