"""Arithmetic on numbers that are not vectors, as Numba compiles it: integers of 64 bits, floats in the wider type."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastact.simd.lowering import call_llvm
from fastact.simd.staged.values import CONTEXT, UnsupportedError, Value, converted, kind_of, lowered

_COMPARISONS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}
_OF_FLOATS = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}
_OF_INTEGERS = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.and_: "and_",
    operator.or_: "or_",
    operator.xor: "xor",
    operator.lshift: "shl",
    operator.rshift: "ashr",
}
_BITWISE = (operator.and_, operator.or_, operator.xor)


def binary(builder: Any, function: Any, x: Any, y: Any) -> Value:
    """Apply an operator to two numbers."""
    kinds = kind_of(x), kind_of(y)
    if not all(isinstance(each, types.Number | types.Boolean) for each in kinds):
        raise UnsupportedError(f"{function.__name__} of {kinds}")
    if kinds == (types.boolean, types.boolean) and function in _BITWISE:
        return Value(
            types.boolean,
            getattr(builder, _OF_INTEGERS[function])(lowered(builder, x), lowered(builder, y)),
        )
    is_float = function is operator.truediv or any(isinstance(each, types.Float) for each in kinds)
    kind = _common_float(kinds) if is_float else types.int64
    a, b = (converted(builder, each, kind) for each in (x, y))
    if function in _COMPARISONS:
        symbol = _COMPARISONS[function]
        if not is_float:
            return Value(types.boolean, builder.icmp_signed(symbol, a, b))
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return Value(types.boolean, compare(symbol, a, b))
    if not is_float and function in (operator.floordiv, operator.mod):
        return Value(kind, _floor_division(builder, a, b)[function is operator.mod])
    instruction = (_OF_FLOATS if is_float else _OF_INTEGERS).get(function)
    if instruction is None:
        raise UnsupportedError(f"{function.__name__} of {kinds}")
    return Value(kind, getattr(builder, instruction)(a, b))


def _common_float(kinds: tuple[types.Type, ...]) -> types.Type:
    return types.float32 if set(kinds) == {types.float32} else types.float64


def _floor_division(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Return quotient and remainder, both 0 where the divisor is."""
    zero, one = ir.Constant(a.type, 0), ir.Constant(a.type, 1)
    is_known = isinstance(b, ir.Constant) and b.constant > 0
    is_zero = ir.Constant(ir.IntType(1), 0) if is_known else builder.icmp_signed("==", b, zero)
    divisor = b if is_known else builder.select(is_zero, one, b)
    quotient, rest = builder.sdiv(a, divisor), builder.srem(a, divisor)
    is_low = builder.and_(
        builder.icmp_signed("!=", rest, zero),
        builder.icmp_signed("<", builder.xor(rest, divisor), zero),
    )
    floor = builder.select(is_low, builder.sub(quotient, one), quotient)
    modulo = builder.select(is_low, builder.add(rest, divisor), rest)
    if is_known:
        return floor, modulo
    return builder.select(is_zero, zero, floor), builder.select(is_zero, zero, modulo)


def unary(builder: Any, function: Any, x: Any) -> Value:
    """Apply an operator to a number."""
    kind, value = kind_of(x), lowered(builder, x)
    if function is operator.not_:
        return Value(types.boolean, builder.not_(truth(builder, x)))
    if function is operator.pos:
        return Value(kind, value)
    if function is operator.neg and isinstance(kind, types.Float):
        return Value(kind, builder.fneg(value))
    if function is operator.neg and isinstance(kind, types.Integer):
        return Value(kind, builder.neg(value))
    if function is operator.invert and isinstance(kind, types.Integer):
        return Value(kind, builder.not_(value))
    raise UnsupportedError(f"{function.__name__} of {kind}")


def truth(builder: Any, x: Any) -> Any:
    """Return the condition that a number is."""
    return CONTEXT.cast(builder, lowered(builder, x), kind_of(x), types.boolean)


def absolute(builder: Any, x: Any) -> Value:
    """Compute the absolute value of a number."""
    kind, value = kind_of(x), lowered(builder, x)
    if isinstance(kind, types.Float):
        return Value(kind, call_llvm(builder, f"llvm.fabs.f{kind.bitwidth}", value.type, [value]))
    if kind == types.boolean:
        raise UnsupportedError("abs of a bool")
    is_negative = builder.icmp_signed("<", value, ir.Constant(value.type, 0))
    return Value(kind, builder.select(is_negative, builder.neg(value), value))


def square_root(builder: Any, x: Any) -> Value:
    """Compute the square root of a number, in float64 unless it is float32."""
    kind = types.float32 if kind_of(x) == types.float32 else types.float64
    value = converted(builder, x, kind)
    return Value(kind, call_llvm(builder, f"llvm.sqrt.f{kind.bitwidth}", value.type, [value]))


def extreme(builder: Any, symbol: str, *values: Any) -> Value:
    """Return the smallest (``<``) or largest (``>``) of several integers."""
    if any(isinstance(kind_of(each), types.Float) for each in values):
        raise UnsupportedError("min or max of floats")
    first, *others = (converted(builder, each, types.int64) for each in values)
    for each in others:
        first = builder.select(builder.icmp_signed(symbol, each, first), each, first)
    return Value(types.int64, first)


def number(kind: types.Type) -> Any:
    """Return the function that converts a number to a type."""
    return lambda builder, x: Value(kind, converted(builder, x, kind))


#: Python's and NumPy's functions of numbers.
FUNCTIONS = {
    abs: absolute,
    math.sqrt: square_root,
    min: lambda builder, *values: extreme(builder, "<", *values),
    max: lambda builder, *values: extreme(builder, ">", *values),
    np.float32: number(types.float32),
    np.float64: number(types.float64),
    float: number(types.float64),
    int: number(types.int64),
    bool: lambda builder, x: Value(types.boolean, truth(builder, x)),
}
