"""A number type that runs definitions in NumPy and records operations with a subnormal operand or result.

On Intel's processors such an operation takes a microcode assist of some 150 cycles, for the whole register. Measured on
Emerald Rapids, it does not matter whether the result is used; additions with a subnormal operand, comparisons,
conversions to float64, and operations on bits take none, nor do products that underflow to zero from normal operands,
nor fused multiply-adds whose product is tiny where addend and result are normal.
"""

from __future__ import annotations

import builtins
import ctypes
import operator
from collections.abc import Callable
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from fastact import simd
from fastact.simd import PerDtype, formats

_libm = ctypes.CDLL("libm.so.6")
_libm.fma.restype, _libm.fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3
_exact_fma = np.frompyfunc(_libm.fma, 3, 1)
_INTEGER = {np.dtype("f4"): np.dtype("i4"), np.dtype("f8"): np.dtype("i8")}
_FLOAT = {integer: real for real, integer in _INTEGER.items()}


def is_subnormal(values: np.ndarray) -> np.ndarray:
    """Return the mask of subnormal numbers; zero is none."""
    return (values != 0) & (np.abs(values) < np.finfo(values.dtype).tiny)


class Trace:
    """The assists of a computation.

    Attributes
    ----------
    assists : dict of str to ndarray
        By operation and line of source, how many each lane has taken.
    """

    def __init__(self) -> None:
        self.assists: dict[str, np.ndarray] = {}

    def add(self, name: str, lanes: np.ndarray) -> None:
        """Record an operation with the mask of the lanes that take an assist."""
        if lanes.any():
            where = f"{name} at {_line()}"
            self.assists[where] = self.assists.get(where, 0) + lanes.astype(int)

    @property
    def total(self) -> Any:
        """How many assists each lane has taken; 0 if there are none at all."""
        return sum(self.assists.values())


def _line() -> str:
    import sys

    frame: Any = sys._getframe(1)
    while frame.f_code.co_filename == __file__:
        frame = frame.f_back
    file = frame.f_code.co_filename.partition("fastact/")[2]
    return f"{file}:{frame.f_lineno}"


class TracedMask:
    """Truth values, one per lane."""

    def __init__(self, values: np.ndarray, like: Traced) -> None:
        self.values, self.like = values, like

    def __and__(self, other: TracedMask) -> TracedMask:
        return TracedMask(self.values & other.values, self.like)

    def __or__(self, other: TracedMask) -> TracedMask:
        return TracedMask(self.values | other.values, self.like)

    def __xor__(self, other: TracedMask) -> TracedMask:
        return TracedMask(self.values ^ other.values, self.like)

    def __invert__(self) -> TracedMask:
        return TracedMask(~self.values, self.like)

    def __bool__(self) -> bool:
        raise TypeError("a branch on a mask")


class TracedIntegers:
    """Integers of the width of the floats, one per lane."""

    def __init__(self, values: np.ndarray, trace: Trace) -> None:
        self.values, self.trace = values, trace

    def _number(self, other: Any) -> Any:
        if isinstance(other, PerDtype):
            other = getattr(other, _FLOAT[self.values.dtype].name)
        return (
            other.values
            if isinstance(other, TracedIntegers)
            else np.asarray(other, self.values.dtype)
        )

    def _operation(function: Any, is_reflected: bool = False) -> Any:
        def method(self: TracedIntegers, other: Any) -> TracedIntegers:
            pair = self.values, self._number(other)
            return TracedIntegers(function(*(pair[::-1] if is_reflected else pair)), self.trace)

        return method

    __add__, __radd__ = _operation(np.add), _operation(np.add)
    __sub__, __rsub__ = _operation(np.subtract), _operation(np.subtract, True)
    __mul__, __rmul__ = _operation(np.multiply), _operation(np.multiply)
    __truediv__ = _operation(np.floor_divide)
    __and__, __or__, __xor__ = (
        _operation(np.bitwise_and),
        _operation(np.bitwise_or),
        _operation(np.bitwise_xor),
    )
    __lshift__, __rshift__ = _operation(np.left_shift), _operation(np.right_shift)
    del _operation

    def __neg__(self) -> TracedIntegers:
        return TracedIntegers(-self.values, self.trace)


class Traced:
    """Floating-point numbers, one per lane.

    Parameters
    ----------
    values : ndarray of float32 or float64
        The numbers.
    trace : Trace
        Where operations are recorded.
    """

    def __init__(self, values: np.ndarray, trace: Trace) -> None:
        self.values, self.trace = values, trace

    def number(self, other: Any) -> np.ndarray:
        """Return an operand as an array of this type: numbers and `PerDtype` are weak."""
        if isinstance(other, PerDtype):
            other = getattr(other, self.values.dtype.name)
        values = other.values if isinstance(other, Traced) else np.asarray(other, self.values.dtype)
        assert values.dtype == self.values.dtype
        return values

    def _arithmetic(function: Any, takes_assist: Any, is_reflected: bool = False) -> Any:
        def method(self: Traced, other: Any) -> Traced:
            x, y = self.values, self.number(other)
            if is_reflected:
                x, y = y, x
            result = function(x, y)
            self.trace.add(function.__name__, takes_assist(x, y, result))
            return Traced(result, self.trace)

        return method

    def _of_sum(x: Any, y: Any, result: Any) -> Any:
        return is_subnormal(result) & ~is_subnormal(x) & ~is_subnormal(y)

    def _of_product(x: Any, y: Any, result: Any) -> Any:
        return is_subnormal(result) | is_subnormal(x) | is_subnormal(y)

    __add__, __radd__ = _arithmetic(np.add, _of_sum), _arithmetic(np.add, _of_sum)
    __sub__, __rsub__ = (
        _arithmetic(np.subtract, _of_sum),
        _arithmetic(np.subtract, _of_sum, True),
    )
    __mul__, __rmul__ = _arithmetic(np.multiply, _of_product), _arithmetic(np.multiply, _of_product)
    __truediv__ = _arithmetic(np.divide, _of_product)
    __rtruediv__ = _arithmetic(np.divide, _of_product, True)
    del _arithmetic, _of_sum, _of_product

    def _comparison(function: Any) -> Any:
        return lambda self, other: TracedMask(function(self.values, self.number(other)), self)

    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = map(
        _comparison,
        (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
    )
    __hash__ = None  # type: ignore[assignment]
    del _comparison

    def __pow__(self, exponent: int) -> Traced:
        result = self
        for _ in range(exponent - 1):
            result = result * self
        return result

    def __neg__(self) -> Traced:
        return Traced(-self.values, self.trace)

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Traced:
        return Traced(np.abs(self.values), self.trace)

    def __bool__(self) -> bool:
        raise TypeError("a branch on a vector")


def _like(*operands: Any) -> Traced:
    """Return the operand whose type numbers among the others take."""
    return next(each for each in operands if isinstance(each, Traced))


def _select(mask: TracedMask, if_true: Any, if_false: Any) -> Any:
    like = mask.like
    pair = like.number(if_true), like.number(if_false)
    return Traced(np.where(mask.values, *pair), like.trace)


def _fma(x: Any, y: Any, z: Any) -> Traced:
    like = _like(x, y, z)
    a, b, c = np.broadcast_arrays(*map(like.number, (x, y, z)))
    if a.dtype == np.float32:
        wide = np.longdouble
        result = (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(np.float32)
    else:
        result = np.asarray(_exact_fma(a, b, c)).astype(np.float64)
    is_assist = is_subnormal(a) | is_subnormal(b) | is_subnormal(c) | is_subnormal(result)
    like.trace.add("fma", is_assist)
    return Traced(result, like.trace)


def _product_in_double(x: Any, y: Any) -> Traced:
    like = _like(x, y)
    a, b = like.number(x), like.number(y)
    if a.dtype == np.float64:
        return Traced(a, like.trace) * Traced(b, like.trace)
    return Traced((a.astype(np.float64) * b).astype(np.float32), like.trace)


def _scale_down(x: Traced, power: Traced) -> Traced:
    if x.values.dtype == np.float64:
        return Traced(x.values * power.values, x.trace)  # by operations on bits
    return _product_in_double(x, power)


def _sqrt(x: Traced) -> Traced:
    x.trace.add("sqrt", is_subnormal(x.values))
    return Traced(np.sqrt(x.values), x.trace)


def _copysign(magnitude: Any, sign: Any) -> Traced:
    like = _like(magnitude, sign)
    return Traced(np.copysign(like.number(magnitude), like.number(sign)), like.trace)


def _scale(x: Any, n: Traced) -> Traced:
    values, exponent = n.number(x), n.values
    result = np.ldexp(values, np.where(np.isfinite(exponent), exponent, 0).astype(int))
    result = np.where(np.isnan(exponent), exponent, result).astype(values.dtype)
    limits = np.finfo(values.dtype)
    is_outside = (exponent < limits.minexp) | (exponent > limits.maxexp)
    is_lost = (result == 0) & (values != 0)
    n.trace.add("scale", is_outside | is_lost | is_subnormal(result) | is_subnormal(values))
    return Traced(result, n.trace)


def _polynomial(x: Traced, coefficients: PerDtype[tuple[float, ...]]) -> Any:
    *lower, result = getattr(coefficients, x.values.dtype.name)
    for coefficient in builtins.reversed(lower):
        result = _fma(result, x, coefficient)
    return result


def _bits(x: Traced) -> TracedIntegers:
    return TracedIntegers(x.values.view(_INTEGER[x.values.dtype]), x.trace)


def _from_bits(x: TracedIntegers) -> Traced:
    return Traced(x.values.view(_FLOAT[x.values.dtype]), x.trace)


def _to_float(x: TracedIntegers) -> Traced:
    return _from_bits(x + formats.BITS_OF_ROUNDING_SHIFT) - formats.ROUNDING_SHIFT


def _lookup(table: PerDtype[Any], index: TracedIntegers) -> Any:
    elements = getattr(table, _FLOAT[index.values.dtype].name)
    found = np.asarray(elements)[np.clip(index.values, 0, len(elements) - 1)]
    if all(isinstance(each, int) for each in elements):
        return TracedIntegers(found.astype(index.values.dtype), index.trace)
    return Traced(found.astype(_FLOAT[index.values.dtype]), index.trace)


_MEANINGS = {
    "select": _select,
    "fma": _fma,
    "sqrt": _sqrt,
    "copysign": _copysign,
    "isnan": lambda x: TracedMask(np.isnan(x.values), x),
    "product_in_double": _product_in_double,
    "round_to_integer": lambda x: Traced(np.rint(x.values), x.trace),
    "scale": _scale,
    "scale_down": _scale_down,
    "bits": _bits,
    "from_bits": _from_bits,
    "to_float": _to_float,
    "polynomial": _polynomial,
    "lookup": _lookup,
    "any_lane": lambda mask: bool(mask.values.any()),
    "any_above": lambda words, threshold: True,
    "value_of": lambda x: x,
}
_namespaces: dict[str, dict[str, Any]] = {}


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function on vectors as one on `Traced`, together with all functions that it calls."""
    return _value(function)


def _value(value: Any) -> Any:
    if not isinstance(value, FunctionType) or not value.__module__.startswith("fastact"):
        return value
    if value.__module__ == simd.__name__:
        return _MEANINGS.get(value.__name__, value)
    cells = tuple(CellType(_value(cell.cell_contents)) for cell in value.__closure__ or ())
    copy = FunctionType(
        value.__code__, _namespace(value), value.__name__, value.__defaults__, cells or None
    )
    copy.__kwdefaults__ = value.__kwdefaults__
    return copy


def _namespace(function: FunctionType) -> dict[str, Any]:
    """Return the globals of a function, traced."""
    module = function.__module__
    if module not in _namespaces:
        _namespaces[module] = namespace = dict(function.__globals__)
        namespace |= {
            name: _value(value)
            for name, value in function.__globals__.items()
            if not isinstance(value, ModuleType)
        }
    return _namespaces[module]
