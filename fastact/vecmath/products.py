"""Exponentials and logistic functions times a factor, accurate down to the smallest subnormal number.

Where ``exp(x)`` underflows, ``x * exp(x)`` need not: the factor comes in before the power of two. The
argument is a double-double, because a product such as ``beta * x`` is rounded, and the rounding error of
a large argument would be a large relative error of the result. The low part of an infinite argument is
ignored.

The functions are linear in the factor, so their derivatives consist of the same functions.
"""

from __future__ import annotations

from fastact.simd import (
    PerDtype,
    Vector,
    any_above,
    bits,
    copysign,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    polynomial,
    select,
    value_of,
)
from fastact.simd.formats import LARGEST
from fastact.vecmath.double_double import DoubleDouble, two_product
from fastact.vecmath.exponential import (
    BITS_OF_NEAR,
    EXP,
    FAR,
    NEAR,
    NUDGE,
    far_exp_times,
    logistic_parts,
    reciprocal_of_one_plus,
    reduce,
)
from fastact.vecmath.scaling import ldexp, ldexp_beside_one

_MINUS_LARGEST = -LARGEST
# Below these, exp(x) times the square of x is zero.
_ZERO = PerDtype(float32=-120.0, float64=-768.0)


def finite_two_product(factor: Vector, x: Vector) -> DoubleDouble:
    """Return factor * x with a low part of 0 where the product is not finite."""
    product, low = two_product(factor, x)
    return product, select(abs(product) <= LARGEST, low, 0)


def finite(x: Vector) -> Vector:
    """Return the finite number nearest to x: its product with 0 is 0, not NaN."""
    bounded = select(x > LARGEST, LARGEST, x)
    return select(bounded < _MINUS_LARGEST, _MINUS_LARGEST, bounded)


def exp_times(x: Vector, x_low: Vector, factor: Vector) -> Vector:
    """Compute ``exp(x + x_low) * factor``; subnormal results are rounded once.

    Valid range: x <= 0.
    """
    n, product = _exp_times_parts(x, x_low, factor)
    return copysign(select(x < _ZERO, 0, ldexp(product, n)), factor)


def _exp_times_parts(x: Vector, x_low: Vector, factor: Vector) -> tuple[Vector, Vector]:
    """Return n and y, where ``exp(x + x_low) * factor = 2**n y``, or is zero because x is below `_ZERO`."""
    vanishes = x < _ZERO
    n, r = reduce(select(vanishes, 0, x - NUDGE))
    r = r + select(vanishes, 0, x_low)
    # exp(r) - 1 is small, so its rounding errors stay small in its product with the factor.
    return n, fma(fma(polynomial(r, EXP), r * r, r), factor, factor)


def logistic_gate(
    x: Vector, argument: Vector, low: Vector, growth: Vector
) -> tuple[Vector, Vector]:
    """Return x times logistic(argument + low), and its derivative.

    The growth is x times the argument's derivative; the derivative of the gated x is
    ``logistic(argument) (1 + growth logistic(-argument))``.
    """
    is_left, exponent = argument < 0, -abs(argument) - NUDGE
    exponent_low = select(is_left, low, -low)
    lower, upper = logistic_parts(exponent, exponent_low)
    gate = select(is_left, lower, upper)
    # On the left, 1 + growth * upper by way of the smaller one, whose error is.
    factor = fma(select(is_left, -growth, growth), lower, select(is_left, 1 + growth, 1))
    value, derivative = x * gate, gate * factor
    if any_above(bits(exponent), BITS_OF_NEAR):
        is_far = exponent < NEAR
        vanishes = exponent < FAR  # with factors that may be infinite
        left_factor = select(vanishes, copysign(1, x), x)
        left = far_exp_times(exponent, exponent_low, left_factor)
        left_slope = far_exp_times(exponent, exponent_low, select(vanishes, -1, 1 + growth))
        value = select(is_far, select(is_left, left, x), value)
        derivative = select(is_far, select(is_left, left_slope, 1), derivative)
    return value, derivative


def _logistic_parts(x: Vector, x_low: Vector) -> tuple[Vector, Vector, Vector]:
    """Return the parts of -abs(x + x_low), and the logistic function of abs(x + x_low)."""
    exponent = -abs(x)
    exponent_low = select(x < 0, x_low, -x_low)
    n, e = _exp_times_parts(exponent, exponent_low, 1)
    y, y_low = reciprocal_of_one_plus(ldexp_beside_one(select(exponent < _ZERO, 0, e), n))
    return exponent, exponent_low, y + y_low


def logistic_times(x: Vector, x_low: Vector, factor: Vector) -> Vector:
    """Compute ``logistic(x + x_low) * factor``; subnormal results are rounded once.

    Valid range: all numbers.
    """
    exponent, exponent_low, y = _logistic_parts(x, x_low)
    return select(x < 0, exp_times(exponent, exponent_low, factor * y), factor * y)


def _logistic_complement(x: Vector, x_low: Vector) -> Vector:
    """Compute ``logistic(-x - x_low)``, which shares most of its work with `logistic_times`."""
    exponent, exponent_low, y = _logistic_parts(x, x_low)
    return select(x < 0, y, exp_times(exponent, exponent_low, y))


# --- Derivative rules ---------------------------------------------------------------------------


@derivative_rule(exp_times)
def _exp_times(x: Vector, x_low: Vector, factor: Vector) -> Vector:
    change = value_of(factor) * (derivative_of(x) + derivative_of(x_low)) + derivative_of(factor)
    x, x_low, factor = value_of(x), value_of(x_low), value_of(factor)
    return dual(exp_times(x, x_low, factor), exp_times(x, x_low, change))


@derivative_rule(logistic_times)
def _logistic_times(x: Vector, x_low: Vector, factor: Vector) -> Vector:
    change = value_of(factor) * (derivative_of(x) + derivative_of(x_low))
    change_of_factor = derivative_of(factor)
    x, x_low, factor = value_of(x), value_of(x_low), value_of(factor)
    change = _times_complement(x, x_low, change) + change_of_factor
    return dual(logistic_times(x, x_low, factor), logistic_times(x, x_low, change))


def _times_complement(x: Vector, x_low: Vector, factor: Vector) -> Vector:
    """Compute ``logistic(-x - x_low) * factor``, which is 0 where the first is 0 and the factor infinite."""
    complement = _logistic_complement(x, x_low)
    return select(complement == 0, 0, complement * factor)


@derivative_rule(logistic_gate)
def _logistic_gate(
    x: Vector, argument: Vector, low: Vector, growth: Vector
) -> tuple[Vector, Vector]:
    # With s and c the logistic functions of the argument w and of -w: (x s)' = s (1 + x c w'), and
    # (s (1 + g c))' = s c (w' (1 + g (c - s)) + g').
    change = derivative_of(argument) + derivative_of(low)
    change_of_x, change_of_growth = derivative_of(x), derivative_of(growth)
    x, argument, low = value_of(x), value_of(argument), value_of(low)
    growth = value_of(growth)
    value, derivative = logistic_gate(x, argument, low, growth)
    change_of_value = change_of_x + _times_complement(argument, low, x * change)
    bend = fma(growth, 1 - 2 * logistic_times(argument, low, 1), 1)
    change_of_factor = _times_complement(argument, low, fma(change, bend, change_of_growth))
    return (
        dual(value, logistic_times(argument, low, change_of_value)),
        dual(derivative, logistic_times(argument, low, change_of_factor)),
    )
