"""Overloads of NumPy's functions, the `math` module's and Python's operators for vectors, masks and dual numbers.

Importing this module registers them, so that a function written for arrays serves as a definition unchanged. Beside a
vector, scalars are weak, and masks and bools count as 0 and 1.
"""

from __future__ import annotations

import builtins
import inspect
import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload, overload_method

from fastact import simd, vecmath
from fastact.numba_support import words
from fastact.simd import select
from fastact.simd.compilable import make_compilable
from fastact.simd.differentiation import Dual, is_constant
from fastact.simd.lowering import JIT_OPTIONS, Mask, Vector, coerce, constant
from fastact.vecmath import powers

#: The functions that are overloaded here.
OFFERED: list[Any] = []


def _vector_among(kinds: tuple[Any, ...]) -> Vector | None:
    """Return the vector type of a call's operands; None if there is no vector or an operand does not fit."""
    found = None
    for kind in kinds:
        part = kind
        while isinstance(part, Dual):
            part = part.part
        if isinstance(part, Mask):
            part = Vector(part.dtype, part.lanes)
        if isinstance(part, Vector) and isinstance(part.dtype, types.Float):
            found = part
        elif not is_constant(part):
            return None
    return found


@cache
def _numbers(vector: Vector) -> Any:
    """Return the intrinsic that turns scalars and masks into vectors and passes vectors and dual numbers through."""

    @intrinsic
    def as_vector(context: Any, x: Any) -> Any:
        if isinstance(x, Vector | Dual):
            return x(x), lambda context, builder, call, values: values[0]
        if not isinstance(x, Mask):
            return vector(x), lambda context, builder, call, values: coerce(
                context, builder, x, values[0], vector
            )
        one, zero = (constant(vector.llvm, number) for number in (1.0, 0.0))
        return vector(x), lambda context, builder, call, values: builder.select(
            values[0], one, zero
        )

    return as_vector


def _converted(function: Any, vector: Vector, count: int) -> Callable[..., Any]:
    """Return `function` of `count` operands, converted to vectors first."""
    of = _numbers(vector)
    by_count: dict[int, Callable[..., Any]] = {
        1: lambda x: function(of(x)),
        2: lambda x, y: function(of(x), of(y)),
        3: lambda x, y, z: function(of(x), of(y), of(z)),
    }
    return by_count[count]


def _offer(function: Callable[..., Any], *names: Any) -> None:
    """Overload the functions `names` with a plain function."""
    make_compilable(function)
    count = len(inspect.signature(function).parameters)
    for name in dict.fromkeys(names):
        OFFERED.append(name)

        @overload(name, strict=False, jit_options=JIT_OPTIONS)
        def _(*args: Any) -> Any:
            vector = _vector_among(args)
            return _converted(function, vector, count) if vector and len(args) == count else None


def _homes(name: str) -> list[Any]:
    """Return the functions of this name in NumPy and in `math`."""
    in_math = {"arcsinh": "asinh", "arctan": "atan", "fabs": "fabs"}.get(name, name)
    found = getattr(np, name, None), getattr(math, in_math, None)
    return [each for each in found if each is not None]


for function in (*vecmath.FUNCTIONS, vecmath.hypot, vecmath.logaddexp):
    _offer(function, *_homes(function.__name__))
for function in vars(words).values():
    name = getattr(function, "__name__", "_")
    if getattr(function, "__module__", "") == words.__name__ and not name.startswith("_"):
        _offer(function, *_homes(function.__name__))
_offer(words.absolute, math.fabs, np.fabs)
_offer(words.rint, np.round, np.around, builtins.round)
_offer(words.trunc, np.fix)
_offer(simd.isnan, *_homes("isnan"))
_offer(simd.copysign, *_homes("copysign"))


@overload(np.where, strict=False, jit_options=JIT_OPTIONS)
def _(condition: Any, x: Any, y: Any) -> Any:
    vector = _vector_among((condition, x, y))
    if vector is None:
        return None
    of = _numbers(vector)
    if isinstance(condition, Mask):
        return lambda condition, x, y: select(condition, of(x), of(y))
    return lambda condition, x, y: select(of(condition) != 0, of(x), of(y))


def _offer_fold(name: Any, choose: Callable[[Any, Any], Any]) -> None:
    """Overload `max` or `min` for two to four operands."""
    OFFERED.append(name)

    @overload(name, strict=False, jit_options=JIT_OPTIONS)
    def _(*args: Any) -> Any:
        vector = _vector_among(args)
        if vector is None:
            return None
        of = _numbers(vector)
        by_count: dict[int, Callable[..., Any]] = {
            2: lambda x, y: choose(of(x), of(y)),
            3: lambda x, y, z: choose(choose(of(x), of(y)), of(z)),
            4: lambda x, y, z, w: choose(choose(of(x), of(y)), choose(of(z), of(w))),
        }
        return by_count.get(len(args))


# Unlike Python's they propagate NaN from every operand, as all activations do.
_offer_fold(max, words.maximum)
_offer_fold(min, words.minimum)


def _is_none(kind: Any) -> bool:
    """Whether an argument is None or left out."""
    value = getattr(kind, "value", kind)
    return value is None or isinstance(kind, types.NoneType)


@overload(np.clip, strict=False, jit_options=JIT_OPTIONS)
def _(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
    bounds = [each for each in (a_min, a_max) if not _is_none(each)]
    vector = _vector_among((a, *bounds))
    if vector is None:
        return None
    of, maximum, minimum = _numbers(vector), words.maximum, words.minimum
    if len(bounds) == 2:
        return lambda a, a_min=None, a_max=None: minimum(maximum(of(a), of(a_min)), of(a_max))
    if _is_none(a_max):
        return lambda a, a_min=None, a_max=None: maximum(of(a), of(a_min))
    return lambda a, a_min=None, a_max=None: minimum(of(a), of(a_max))


@overload(float, strict=False, jit_options=JIT_OPTIONS)
def _(x: Any) -> Any:
    vector = _vector_among((x,))
    return _converted(operator.pos, vector, 1) if vector else None


def _astype(x: Any, dtype: Any) -> Any:
    """Implement the method ``astype``: masks become numbers, vectors stay as they are."""
    vector = _vector_among((x,))
    assert vector is not None
    of = _numbers(vector)
    return lambda x, dtype: of(x)


for kind in (Vector, Mask, Dual):
    overload_method(kind, "astype", strict=False, jit_options=JIT_OPTIONS)(_astype)


# --- Operators ----------------------------------------------------------------------------------

_OPERATORS = {
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.mul: np.multiply,
    operator.truediv: np.divide,
    operator.lt: np.less,
    operator.le: np.less_equal,
    operator.gt: np.greater,
    operator.ge: np.greater_equal,
    operator.eq: np.equal,
    operator.ne: np.not_equal,
    operator.neg: np.negative,
    operator.pos: np.positive,
}
_IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def _offer_operator(stub: Any, name: Any, *, masks_only: bool) -> None:
    """Overload `name` with an operator whose operands are converted to vectors first."""

    @overload(name, strict=False, jit_options=JIT_OPTIONS)
    def _(*args: Any) -> Any:
        vector = _vector_among(args)
        concerns = vector and not (masks_only and not any(isinstance(k, Mask) for k in args))
        return _converted(stub, vector, len(args)) if vector and concerns else None


for stub, ufunc in _OPERATORS.items():
    _offer_operator(stub, stub, masks_only=True)
    _offer_operator(stub, ufunc, masks_only=False)
for in_place, stub in _IN_PLACE.items():
    _offer_operator(stub, in_place, masks_only=True)
_offer_operator(abs, abs, masks_only=True)
OFFERED.extend((*_OPERATORS.values(), np.where, np.clip, np.power, np.float_power, math.pow, float))

for function in (powers.power, powers.power_of_exponent, powers.power_of_both):
    make_compilable(function)


@overload(operator.pow, strict=False, jit_options=JIT_OPTIONS)
def _(x: Any, y: Any) -> Any:
    vector = _vector_among((x, y))
    # `fastact.simd.differentiation` handles literal integer exponents by multiplication.
    if vector is None or (isinstance(y, types.IntegerLiteral) and not isinstance(x, Mask)):
        return None
    function = powers.power_of_exponent if isinstance(y, Dual) else powers.power
    if isinstance(x, Dual) and isinstance(y, Dual):
        function = powers.power_of_both
    return _converted(function, vector, 2)


for name in (operator.ipow, builtins.pow, np.power, np.float_power, math.pow):

    @overload(name, strict=False, jit_options=JIT_OPTIONS, prefer_literal=True)
    def _(x: Any, y: Any) -> Any:
        return (lambda x, y: x**y) if _vector_among((x, y)) else None
