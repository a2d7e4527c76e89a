"""Exponentials and logistic functions times a factor, right down to the last subnormal number.

Where ``exp(x)`` is subnormal or zero, ``x * exp(x)`` need not be: the factor is multiplied before the
power of two. Each function also takes what its argument lacks: a product such as ``beta * x`` is
rounded, and the rounding error of a large argument would be a large relative error of the result. What
an infinite argument lacks means nothing.

They are linear in the factor, so that their derivatives are made of the same functions.
"""

from __future__ import annotations

from typing import Any

from fastact.simd import (
    PerDtype,
    copysign,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    polynomial,
    scale,
    select,
    value_of,
)
from fastact.vecmath.exponential import EXP, exp_parts_of_minus_abs, reciprocal_of_one_plus, reduce

__all__ = [
    "difference_and_lost",
    "exp_of_difference",
    "exp_times",
    "finite",
    "logistic_gate",
    "logistic_times",
    "product_and_lost",
    "quotient_and_lost",
]

_LARGEST = PerDtype(float32=3.4028234663852886e38, float64=1.7976931348623157e308)
_LEAST = -_LARGEST
# Below these, exp(x) times the square of x is zero.
_ZERO = PerDtype(float32=-120.0, float64=-768.0)


def product_and_lost(factor: Any, x: Any) -> Any:
    """Return factor * x and what it lacks, which is 0 where the product is not finite."""
    product = factor * x
    lost = fma(factor, x, -product)
    return product, select(abs(product) <= _LARGEST, lost, 0)


def finite(x: Any) -> Any:
    """Return the finite number nearest to x: its product with 0 is 0."""
    most = select(x > _LARGEST, _LARGEST, x)
    return select(most < _LEAST, _LEAST, most)


def exp_times(x: Any, lost: Any, factor: Any) -> Any:
    """Compute ``exp(x + lost) * factor`` for x <= 0, rounded once where it is subnormal."""
    vanishes = x < _ZERO
    n, r = reduce(select(vanishes, 0, x))
    r = r + lost
    # exp(r) - 1 is small: multiplied by the factor and added to it, its rounding errors are too.
    product = scale(fma(fma(polynomial(r, EXP), r * r, r), factor, factor), n)
    return copysign(select(vanishes, 0, product), factor)


def difference_and_lost(x: Any, top: Any) -> Any:
    """Return x - top and what its rounding loses, which is NaN where the difference is infinite."""
    difference = x - top
    part = difference - x
    return difference, (x - (difference - part)) - (top + part)


def quotient_and_lost(x: Any, lost: Any, divisor: Any, reciprocal: Any) -> Any:
    """Return (x + lost) / divisor and what it lacks, with the divisor's rounded reciprocal."""
    quotient = x * reciprocal
    return quotient, (fma(-quotient, divisor, x) + lost) * reciprocal


def exp_of_difference(difference: Any, lost: Any) -> Any:
    """Compute the exponential of a difference that is not positive, with what it lacks.

    Where it vanishes, what was lost means nothing.
    """
    n, r = reduce(difference)
    r = r + lost
    e = scale(1 + fma(polynomial(r, EXP), r * r, r), n)
    return select(difference < _ZERO, 0, e)


def logistic_gate(x: Any, argument: Any, lost: Any, growth: Any) -> Any:
    """Return x times logistic(argument + lost), and its derivative.

    The growth is x times the argument's derivative, of which the derivative is
    ``logistic(argument) (1 + growth logistic(-argument))``.
    """
    n, q, is_far = exp_parts_of_minus_abs(argument, lost)
    power = scale(1, n)
    e = fma(power, q, power)
    y, y_lost = reciprocal_of_one_plus(e)
    upper = y + y_lost
    # On the left, the power of two is multiplied last. Half of the rest is less than 1, and a product with
    # it overflows only where the result does.
    is_left = argument < 0
    gate = select(is_left, upper * fma(0.5, q, 0.5), upper)
    exponent = select(is_left, n + 1, 0)
    value = scale(select(is_left & is_far, copysign(0, x), x) * gate, exponent)
    shut = select(is_left, upper, e * upper)
    factor = select(is_far, copysign(1, argument), fma(growth, shut, 1))
    return value, scale(gate * factor, exponent)


def _logistic_parts(x: Any, lost: Any) -> Any:
    """Return -abs(x + lost) in two parts, its exponential and the logistic function of abs(x + lost)."""
    exponent = -abs(x)
    exponent_lost = select(x < 0, lost, -lost)
    e = exp_times(exponent, exponent_lost, 1)
    y, y_lost = reciprocal_of_one_plus(e)
    return exponent, exponent_lost, e, y + y_lost


def logistic_times(x: Any, lost: Any, factor: Any) -> Any:
    """Compute ``logistic(x + lost) * factor``, rounded once where it is subnormal."""
    exponent, exponent_lost, _, y = _logistic_parts(x, lost)
    return select(x < 0, exp_times(exponent, exponent_lost, factor * y), factor * y)


def _logistic_complement(x: Any, lost: Any) -> Any:
    """Compute ``logistic(-x - lost)``; most of the work is that of `logistic_times`."""
    _, _, e, y = _logistic_parts(x, lost)
    return select(x < 0, y, e * y)


# --- The same on dual numbers -------------------------------------------------------------------


@derivative_rule(exp_times)
def _dual_exp_times(x: Any, lost: Any, factor: Any) -> Any:
    change = value_of(factor) * (derivative_of(x) + derivative_of(lost)) + derivative_of(factor)
    x, lost, factor = value_of(x), value_of(lost), value_of(factor)
    return dual(exp_times(x, lost, factor), exp_times(x, lost, change))


@derivative_rule(logistic_times)
def _dual_logistic_times(x: Any, lost: Any, factor: Any) -> Any:
    change = value_of(factor) * (derivative_of(x) + derivative_of(lost))
    change_of_factor = derivative_of(factor)
    x, lost, factor = value_of(x), value_of(lost), value_of(factor)
    change = _times_complement(x, lost, change) + change_of_factor
    return dual(logistic_times(x, lost, factor), logistic_times(x, lost, change))


def _times_complement(x: Any, lost: Any, factor: Any) -> Any:
    """Compute ``logistic(-x - lost) * factor``, where the factor may be infinite if the other is 0."""
    complement = _logistic_complement(x, lost)
    return select(complement == 0, 0, complement * factor)


@derivative_rule(logistic_gate)
def _dual_logistic_gate(x: Any, argument: Any, lost: Any, growth: Any) -> Any:
    # With s and c for the logistic function of the argument w and of -w: (x s)' = s (1 + x c w'), and
    # (s (1 + g c))' = s c (w' (1 + g (c - s)) + g').
    change = derivative_of(argument) + derivative_of(lost)
    change_of_x, change_of_growth = derivative_of(x), derivative_of(growth)
    x, argument, lost = value_of(x), value_of(argument), value_of(lost)
    growth = value_of(growth)
    value, derivative = logistic_gate(x, argument, lost, growth)
    change_of_value = change_of_x + _times_complement(argument, lost, x * change)
    bend = fma(growth, 1 - 2 * logistic_times(argument, lost, 1), 1)
    change_of_factor = _times_complement(argument, lost, fma(change, bend, change_of_growth))
    return (
        dual(value, logistic_times(argument, lost, change_of_value)),
        dual(derivative, logistic_times(argument, lost, change_of_factor)),
    )
