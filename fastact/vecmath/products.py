"""Exponentials and logistic functions times a factor, right down to the last subnormal number.

Where ``exp(x)`` is subnormal or zero, ``x * exp(x)`` need not be: the factor is multiplied before the
power of two. Each function also takes what its argument lacks: a product such as ``beta * x`` is
rounded, and the rounding error of a large argument would be a large relative error of the result. What
an infinite argument lacks means nothing.

They are linear in the factor, so that their derivatives are made of the same functions.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.simd import (
    PerDtype,
    copysign,
    derivative_of,
    dual,
    fma,
    polynomial,
    scale,
    select,
    value_of,
)
from fastact.vecmath.derivatives import RULES
from fastact.vecmath.exponential import EXP, reciprocal_of_one_plus, reduce

__all__ = ["exp_times", "logistic_complement", "logistic_times", "product_and_lost"]

# Below these, exp(x) times the square of x is zero.
_ZERO = PerDtype(float32=-120.0, float64=-768.0)


def product_and_lost(factor: Any, x: Any) -> Any:
    """Return factor * x, which is 0 for the factor 0 even where x is infinite, and what it lacks."""
    product = select((factor == 0) & (abs(x) == math.inf), 0, factor * x)
    lost = fma(factor, x, -product)
    return product, select(lost - lost == 0, lost, 0)  # it is not finite where the product is not


def exp_times(x: Any, lost: Any, factor: Any) -> Any:
    """Compute ``exp(x + lost) * factor`` for x <= 0, rounded once where it is subnormal."""
    vanishes = x < _ZERO
    n, r = reduce(select(vanishes, 0, x))
    r = r + lost
    # exp(r) - 1 is small: multiplied by the factor and added to it, its rounding errors are too.
    product = scale(fma(fma(polynomial(r, EXP), r * r, r), factor, factor), n)
    return copysign(select(vanishes, 0, product), factor)


def _logistic_parts(x: Any, lost: Any) -> Any:
    """Return -abs(x + lost) in two parts, and the logistic function of abs(x + lost) in two."""
    exponent = -abs(x)
    exponent_lost = select(x < 0, lost, -lost)
    y, y_lost = reciprocal_of_one_plus(exp_times(exponent, exponent_lost, 1))
    return exponent, exponent_lost, y, y_lost


def logistic_times(x: Any, lost: Any, factor: Any) -> Any:
    """Compute ``logistic(x + lost) * factor``, rounded once where it is subnormal."""
    exponent, exponent_lost, y, y_lost = _logistic_parts(x, lost)
    # An infinite factor meets a y that lacks nothing.
    product = select(y_lost == 0, factor * y, fma(factor, y, factor * y_lost))
    return select(x < 0, exp_times(exponent, exponent_lost, product), product)


def logistic_complement(x: Any, lost: Any) -> Any:
    """Return ``logistic(-x - lost)`` and what it lacks; most of the work is that of `logistic_times`."""
    exponent, exponent_lost, y, y_lost = _logistic_parts(x, lost)
    e = exp_times(exponent, exponent_lost, 1)
    return select(x < 0, y, e * y), select(x < 0, y_lost, e * y_lost)


# --- The same on dual numbers -------------------------------------------------------------------


def _dual_exp_times(x: Any, lost: Any, factor: Any) -> Any:
    change = value_of(factor) * (derivative_of(x) + derivative_of(lost)) + derivative_of(factor)
    x, lost, factor = value_of(x), value_of(lost), value_of(factor)
    return dual(exp_times(x, lost, factor), exp_times(x, lost, change))


def _dual_logistic_times(x: Any, lost: Any, factor: Any) -> Any:
    change = value_of(factor) * (derivative_of(x) + derivative_of(lost))
    change_of_factor = derivative_of(factor)
    x, lost, factor = value_of(x), value_of(lost), value_of(factor)
    complement, _ = logistic_complement(x, lost)
    # Where the complement vanishes, the factor may be infinite.
    change = select(complement == 0, 0, complement * change) + change_of_factor
    return dual(logistic_times(x, lost, factor), logistic_times(x, lost, change))


def _dual_logistic_complement(x: Any, lost: Any) -> Any:
    change = derivative_of(x) + derivative_of(lost)
    x, lost = value_of(x), value_of(lost)
    complement, complement_lost = logistic_complement(x, lost)
    slope = -logistic_times(x, lost, complement * change)
    return dual(complement, slope), dual(complement_lost, 0)


RULES[exp_times] = _dual_exp_times
RULES[logistic_times] = _dual_logistic_times
RULES[logistic_complement] = _dual_logistic_complement
