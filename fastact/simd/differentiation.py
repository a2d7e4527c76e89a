"""Dual numbers over SIMD vectors: forward-mode automatic differentiation.

A dual number is a value and its derivative with respect to some input. Arithmetic on dual numbers treats
the values as on vectors, and the derivatives by the rules of differentiation: a kernel on dual numbers
returns its values on vectors and their derivatives. Other operands are constants. Operations without a
rule below are rejected at compile time.

The rules are those of A. Griewank, A. Walther, "Evaluating Derivatives" (2008), chapter 3.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

from fastact import simd
from fastact.simd import derivative_of, dual, fma, select, sqrt, value_of
from fastact.simd.lowering import JIT_OPTIONS, Mask, PerDtypeType, Vector, coerce, taught


class Dual(types.Type):
    """A vector of values and one of derivatives; nested, both are dual numbers, for second derivatives."""

    def __init__(self, part: types.Type) -> None:
        self.part = part
        super().__init__(f"Dual({part})")


@register_model(Dual)
class _DualModel(models.StructModel):
    def __init__(self, manager: Any, kind: Dual) -> None:
        super().__init__(manager, kind, [("value", kind.part), ("derivative", kind.part)])


def is_constant(kind: types.Type) -> bool:
    """Return whether operands of this type have no derivative."""
    return isinstance(kind, Vector | types.Number | types.Boolean | PerDtypeType)


@intrinsic
def _make(context: Any, value: Any, derivative: Any) -> Any:
    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        pair = cgutils.create_struct_proxy(call.return_type)(context, builder)
        pair.value, change = values
        if isinstance(value, Vector):
            change = coerce(context, builder, derivative, change, value)
        pair.derivative = change
        return pair._getvalue()

    fits = value == derivative or (isinstance(value, Vector) and is_constant(derivative))
    return (Dual(value)(value, derivative), emit) if fits else None


@intrinsic
def _as_vector(context: Any, like: Any, number: Any) -> Any:
    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return coerce(context, builder, number, values[1], like)

    return like(like, number), emit


def _part(name: str) -> Any:
    @intrinsic
    def part(context: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
            return getattr(cgutils.create_struct_proxy(x)(context, builder, values[0]), name)

        return (x.part(x), emit) if isinstance(x, Dual) else None

    return part


_value_part, _derivative_part = _part("value"), _part("derivative")


@taught(simd.dual)
def _(value: Any, derivative: Any) -> Any:
    if isinstance(value, Dual) and is_constant(derivative):
        return lambda value, derivative: _make(
            value, dual(_as_vector(value_of(value), derivative), 0)
        )
    return lambda value, derivative: _make(value, derivative)


@taught(simd.value_of)
def _(x: Any) -> Any:
    return (lambda x: _value_part(x)) if isinstance(x, Dual) else (lambda x: x)


@taught(simd.derivative_of)
def _(x: Any) -> Any:
    return (lambda x: _derivative_part(x)) if isinstance(x, Dual) else (lambda x: 0)


@taught(simd.value_and_derivative_of)
def _(result: Any) -> Any:
    if isinstance(result, types.BaseTuple):
        return lambda result: (value_of(result[0]), value_of(result[1]))
    if isinstance(result, Dual):
        return lambda result: (value_of(result), derivative_of(result))
    if isinstance(result, Vector):  # of a step function; NaN gives NaN
        return lambda result: (result, select(simd.isnan(result), result, 0))
    if isinstance(result, Mask):
        return lambda result: (select(result, 1, 0), select(result, 0, 0))
    raise TypingError("the function's result does not depend on its first argument")


def _as_lanes(result: Any, like: Any) -> Any:
    raise NotImplementedError


@taught(_as_lanes)
def _(result: Any, like: Any) -> Any:
    if isinstance(result, Mask):
        return lambda result, like: select(result, 1, 0)
    if isinstance(result, Vector | Dual):
        return lambda result, like: value_of(result)
    if isinstance(result, types.Number | types.Boolean):
        return lambda result, like: _as_vector(like, result)
    return None


@taught(simd.values_of, prefer_literal=True)
def _(results: Any, like: Any, count: Any) -> Any:
    given = len(results) if isinstance(results, types.BaseTuple) else 1
    if given != count.literal_value:
        return None
    if not isinstance(results, types.BaseTuple):
        return lambda results, like, count: (_as_lanes(results, like),)
    if given == 1:
        return lambda results, like, count: (_as_lanes(results[0], like),)
    rest = given - 1
    return lambda results, like, count: (
        (_as_lanes(results[0], like),) + simd.values_of(results[1:], like, rest)
    )


@taught(simd.weighted_derivative_of)
def _(results: Any, weights: Any) -> Any:
    if not isinstance(results, types.BaseTuple):
        if isinstance(results, Dual):
            return lambda results, weights: weights[0] * derivative_of(results)
        return lambda results, weights: _as_vector(weights[0], 0)
    terms = [k for k, kind in enumerate(results) if isinstance(kind, Dual)]
    if not terms:
        return lambda results, weights: _as_vector(weights[0], 0)
    first, *others = terms

    def total(results: Any, weights: Any) -> Any:
        return weights[first] * derivative_of(results[first])

    for k in others:
        total = _plus_term(njit(**JIT_OPTIONS)(total), k)
    return total


def _plus_term(total: Any, k: int) -> Callable[..., Any]:
    return lambda results, weights: fma(
        weights[k], derivative_of(results[k]), total(results, weights)
    )


def _unary(stub: Any, rule: Callable[[Any], Any]) -> None:
    """Teach Numba `stub` on a dual number."""

    @taught(stub)
    def _(x: Any) -> Any:
        return rule if isinstance(x, Dual) else None


def _binary(
    stub: Any,
    both: Callable[[Any, Any], Any],
    first: Callable[[Any, Any], Any],
    second: Callable[[Any, Any], Any],
) -> None:
    """Teach Numba `stub` on two dual numbers, and on one as the first or as the second operand."""

    @taught(stub)
    def _(x: Any, y: Any) -> Any:
        if isinstance(x, Dual):
            return both if isinstance(y, Dual) else first if is_constant(y) else None
        return second if isinstance(y, Dual) and is_constant(x) else None


def _comparison(stub: Any) -> None:
    def compare(x: Any, y: Any) -> Any:
        return stub(value_of(x), value_of(y))

    _binary(stub, compare, compare, compare)


_unary(operator.pos, lambda x: x)
_unary(operator.neg, lambda x: dual(-value_of(x), -derivative_of(x)))
_unary(
    abs,
    lambda x: dual(abs(value_of(x)), select(value_of(x) < 0, -derivative_of(x), derivative_of(x))),
)
_unary(simd.isnan, lambda x: simd.isnan(value_of(x)))
_unary(simd.round_to_integer, lambda x: simd.round_to_integer(value_of(x)))


@taught(simd.sqrt)
def _(x: Any) -> Any:
    def rule(x: Any) -> Any:
        root = sqrt(value_of(x))
        return dual(root, 0.5 * derivative_of(x) / root)

    return rule if isinstance(x, Dual) else None


for stub in (operator.add, operator.iadd):
    _binary(
        stub,
        lambda x, y: dual(value_of(x) + value_of(y), derivative_of(x) + derivative_of(y)),
        lambda x, y: dual(value_of(x) + y, derivative_of(x)),
        lambda x, y: dual(x + value_of(y), derivative_of(y)),
    )
for stub in (operator.sub, operator.isub):
    _binary(
        stub,
        lambda x, y: dual(value_of(x) - value_of(y), derivative_of(x) - derivative_of(y)),
        lambda x, y: dual(value_of(x) - y, derivative_of(x)),
        lambda x, y: dual(x - value_of(y), -derivative_of(y)),
    )
for stub in (operator.mul, operator.imul):
    _binary(
        stub,
        lambda x, y: dual(
            value_of(x) * value_of(y),
            fma(derivative_of(x), value_of(y), value_of(x) * derivative_of(y)),
        ),
        lambda x, y: dual(value_of(x) * y, derivative_of(x) * y),
        lambda x, y: dual(x * value_of(y), x * derivative_of(y)),
    )


def _quotient(x: Any, y: Any) -> Any:
    quotient = value_of(x) / value_of(y)
    change = fma(-quotient, derivative_of(y), derivative_of(x))
    return dual(quotient, change / value_of(y))


for stub in (operator.truediv, operator.itruediv):
    _binary(
        stub,
        _quotient,
        lambda x, y: dual(value_of(x) / y, derivative_of(x) / y),
        _quotient,
    )


def _copysign(x: Any, y: Any) -> Any:
    # The sign changes where the two signs differ.
    change = simd.copysign(1, value_of(x)) * simd.copysign(1, value_of(y))
    return dual(simd.copysign(value_of(x), value_of(y)), derivative_of(x) * change)


_binary(simd.copysign, _copysign, _copysign, lambda x, y: dual(simd.copysign(x, value_of(y)), 0))
for stub in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
    _comparison(stub)


@taught(simd.fma)
def _(x: Any, y: Any, z: Any) -> Any:
    def rule(x: Any, y: Any, z: Any) -> Any:
        value = fma(value_of(x), value_of(y), value_of(z))
        return dual(value, derivative_of(x * y + z))

    return rule if any(isinstance(kind, Dual) for kind in (x, y, z)) else None


@taught(simd.select)
def _(mask: Any, if_true: Any, if_false: Any) -> Any:
    def rule(mask: Any, if_true: Any, if_false: Any) -> Any:
        return dual(
            select(mask, value_of(if_true), value_of(if_false)),
            select(mask, derivative_of(if_true), derivative_of(if_false)),
        )

    return rule if isinstance(if_true, Dual) or isinstance(if_false, Dual) else None


@taught(operator.pow, prefer_literal=True)
def _(x: Any, exponent: Any) -> Any:
    """Raise to a literal integer power by multiplication."""
    if not isinstance(x, Dual | Vector) or not isinstance(exponent, types.IntegerLiteral):
        return None
    power = exponent.literal_value
    if power == 0:
        return lambda x, exponent: select(x == x, 1, 1)
    more = abs(power) - 1

    def product(x: Any, exponent: Any) -> Any:
        result = x
        for _ in range(more):
            result = result * x
        return result

    def reciprocal(x: Any, exponent: Any) -> Any:
        result = x
        for _ in range(more):
            result = result * x
        return 1 / result

    return product if power > 0 else reciprocal
