"""Functions of two arguments that neither overflow nor underflow on the way."""

from __future__ import annotations

import math

from fastact.simd import (
    PerDtype,
    Vector,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    isnan,
    select,
    sqrt,
    value_of,
)
from fastact.vecmath.exponential import logistic
from fastact.vecmath.logarithm import softplus

__all__ = ["hypot", "logaddexp"]

# A square is out of range, or loses bits, above the first and below the second; the factor and its inverse bring the
# number back.
_LARGE = PerDtype(float32=2.0**60, float64=2.0**500)
_SMALL = PerDtype(float32=2.0**-30, float64=2.0**-400)
_FACTOR = PerDtype(float32=2.0**80, float64=2.0**600)
_INVERSE = PerDtype(float32=2.0**-80, float64=2.0**-600)


def hypot(x: Vector, y: Vector) -> Vector:
    """Compute sqrt(x**2 + y**2); infinite where either is, even beside NaN."""
    a, b = abs(x), abs(y)
    large, small = select(a > b, a, b), select(a > b, b, a)
    is_large, is_small = large > _LARGE, large < _SMALL
    factor = select(is_large, _INVERSE, select(is_small, _FACTOR, 1))
    back = select(is_large, _FACTOR, select(is_small, _INVERSE, 1))
    large, small = large * factor, small * factor
    square = large * large
    square_low = fma(large, large, -square)
    total = fma(small, small, square)
    total_low = fma(small, small, square - total) + square_low
    root = sqrt(total)
    correction = (fma(-root, root, total) + total_low) / (2 * root)
    result = (root + select(total > 0, correction, 0)) * back
    return select((a == math.inf) | (b == math.inf), math.inf, result)


def logaddexp(x: Vector, y: Vector) -> Vector:
    """Compute log(exp(x) + exp(y)), to a relative error of the larger of the two and the result."""
    difference = select(x == y, 0, abs(x - y))
    larger = select((x > y) | isnan(x), x, y)
    return larger + softplus(-difference)


# --- The same on dual numbers -------------------------------------------------------------------


@derivative_rule(hypot)
def _dual_hypot(x: Vector, y: Vector) -> Vector:
    # At the origin, where every direction has another derivative, it is 0.
    size = hypot(value_of(x), value_of(y))
    divisor = select(size == 0, 1, size)
    change = value_of(x) / divisor * derivative_of(x) + value_of(y) / divisor * derivative_of(y)
    return dual(size, change)


@derivative_rule(logaddexp)
def _dual_logaddexp(x: Vector, y: Vector) -> Vector:
    first, second = value_of(x), value_of(y)
    difference = select(first == second, 0, first - second)
    change = logistic(difference) * derivative_of(x) + logistic(-difference) * derivative_of(y)
    return dual(logaddexp(first, second), change)
