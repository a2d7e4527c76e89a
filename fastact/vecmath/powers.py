"""Powers, and logarithms to other bases: everything that needs the logarithm as a double-double.

The relative error of ``x**y = exp(y log(x))`` is the absolute error of the exponent, which may be as large as
745: a rounded logarithm would cost ten bits. The double-double logarithm follows SLEEF's ``logk`` (N. Shibata,
F. Petrogalli, "SLEEF: A Portable Vectorized Library of C Standard Mathematical Functions", 2020).
"""

from __future__ import annotations

import math

from fastact.simd import (
    PerDtype,
    Vector,
    copysign,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    isnan,
    polynomial,
    round_to_integer,
    select,
    value_of,
)
from fastact.simd import sqrt as square_root
from fastact.simd.formats import SMALLEST_NORMAL
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import DoubleDouble, double_double_product, double_double_sum
from fastact.vecmath.exponential import EXP, EXP_ZERO, NUDGE, exp_parts
from fastact.vecmath.logarithm import exponent_and_significand, log
from fastact.vecmath.scaling import TINY, integer_of_subnormal, ldexp

__all__ = [
    "cbrt",
    "exp2",
    "log2",
    "log10",
    "log_double_double",
    "power",
    "power_of_both",
    "power_of_exponent",
]

_INFINITY = math.inf
# `integer_of_subnormal` multiplies by this power of two, made even, and the root has to be divided by its root.
_EVEN = PerDtype(float32=2.0, float64=1.0)
_ROOT_OF_LIFT = PerDtype(float32=2.0**-75, float64=2.0**-537)
_LN2 = math.log(2)
_LN10 = math.log(10)

_LOG_TAIL = PerDtype(**coefficients.LOG_TAIL)
_LN2_HIGH = PerDtype(**coefficients.LN2_HIGH)
_LN2_LOW = PerDtype(**coefficients.LN2_LOW)
_LN2_SHORT_HIGH = PerDtype(**coefficients.LN2_SHORT_HIGH)
_LN2_SHORT_LOW = PerDtype(**coefficients.LN2_SHORT_LOW)
_LOG2_E = PerDtype(**coefficients.LOG2_E)
_LOG2_E_LOW = PerDtype(**coefficients.LOG2_E_LOW)
_LOG10_E = PerDtype(**coefficients.LOG10_E)
_LOG10_E_LOW = PerDtype(**coefficients.LOG10_E_LOW)
_THIRD = PerDtype(**coefficients.THIRD)
_THIRD_LOW = PerDtype(**coefficients.THIRD_LOW)


# exp and exp2 are zero below the first, and infinite above the second.
_EXP_HIGHEST = PerDtype(float32=89.0, float64=710.0)
_EXP2_LOWEST = PerDtype(float32=-151.0, float64=-1076.0)
_EXP2_HIGHEST = PerDtype(float32=128.5, float64=1024.5)


def sqrt(x: Vector) -> Vector:
    """Compute the square root.

    Valid range: all numbers; NaN below 0. Maximum error: 0.5 ULP, correctly rounded.

    Examples
    --------
    >>> fa.math.sqrt([0.0, 2.0, 4.0])
    array([0.        , 1.41421356, 2.        ])
    """
    is_subnormal = (abs(x) < SMALLEST_NORMAL) & (x != 0)
    normal = select(is_subnormal, copysign(_EVEN * integer_of_subnormal(x), x), x)
    return square_root(normal) * select(is_subnormal, _ROOT_OF_LIFT, 1)


def log_double_double(x: Vector, doublings: Vector) -> DoubleDouble:
    """Return ``log(x * 2**doublings)`` of a finite x > 0 as a double-double, right to twelve bits more than one number."""
    k, _, m = exponent_and_significand(x)
    k = k + doublings
    f = m - 1
    # log(1 + f) = 2 s + 2/3 s**3 + s**5 Q(s**2) with s = f / (2 + f). The last term is below 2**-12 of the first: there
    # a plain product does.
    bottom = 2 + f
    bottom_low = f - (bottom - 2)
    s = f / bottom
    s_low = fma(-s, bottom_low, fma(-s, bottom, f)) / bottom
    z = s * s
    square = z, fma(s, s, -z) + 2 * s * s_low
    double = 2 * s, 2 * s_low
    third = double_double_product(double_double_product(double, square), (_THIRD, _THIRD_LOW))
    tail = s * z * z * polynomial(z, _LOG_TAIL)
    whole = k * _LN2_SHORT_HIGH, k * _LN2_SHORT_LOW
    high, low = double_double_sum(double_double_sum(whole, double), (third[0], third[1] + tail))
    total = high + low
    return total, (high - total) + low


def _exp_of_double_double(x: DoubleDouble) -> Vector:
    """Compute e to the power of a double-double."""
    # Where the first part is out of range, the second may be NaN.
    is_low, is_high = x[0] < EXP_ZERO, x[0] > _EXP_HIGHEST
    high = select(is_low, EXP_ZERO, select(is_high, _EXP_HIGHEST, x[0]))
    n, p, p_low = exp_parts(high + NUDGE, select(is_low | is_high, 0, x[1]))
    total = 1 + p
    return ldexp(total + ((1 - total) + p + p_low), n)


def power(x: Vector, y: Vector) -> Vector:
    """Compute x to the power of y, with the special cases of C's and NumPy's ``pow``."""
    size = abs(x)
    is_inside = (size > 0) & (size < _INFINITY)
    product = double_double_product(log_double_double(select(is_inside, size, 1), 0), (y, 0))
    result = _exp_of_double_double(product)
    # The logarithms of 0 and infinity are infinite; with y = 0 that is not asked for.
    is_grown = ~((size > 1) ^ (y > 0))
    result = select(is_inside & (abs(y) < _INFINITY), result, select(is_grown, _INFINITY, 0))
    result = select(isnan(x) | isnan(y), x + y, result)
    is_whole = round_to_integer(y) == y
    is_odd = is_whole & (round_to_integer(0.5 * y) != 0.5 * y)
    is_undefined = (x < 0) & (size < _INFINITY) & ~is_whole
    result = select(is_undefined, math.nan, select(is_odd, copysign(result, x), result))
    is_one = (y == 0) | (x == 1) | ((x == -1) & (abs(y) == _INFINITY))
    return select(is_one, 1, result)


def power_of_exponent(x: Vector, y: Vector) -> Vector:
    """Compute x to the power of y; with a dual exponent, of a constant x."""
    return power(x, y)


def power_of_both(x: Vector, y: Vector) -> Vector:
    """Compute x to the power of y; of two dual numbers."""
    return power(x, y)


def exp2(x: Vector) -> Vector:
    """Compute 2 to the power of x.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.exp2([-1.0, 0.5, 3.0])
    array([0.5       , 1.41421356, 8.        ])
    """
    low, high = _EXP2_LOWEST, _EXP2_HIGHEST
    clamped = select(abs(x) < TINY, 0, select(x < low, low, select(x > high, high, x)))
    n = round_to_integer(clamped)
    fraction = clamped - n
    r = fraction * _LN2_HIGH
    r_low = fma(fraction, _LN2_LOW, fma(fraction, _LN2_HIGH, -r))
    p = fma(polynomial(r, EXP), r * r, r_low)
    total = 1 + r
    return ldexp(total + (((1 - total) + r) + p), n)


def _log_times(x: Vector, factor: DoubleDouble) -> Vector:
    """Compute log(x) times a double-double."""
    is_inside = (x > 0) & (x < _INFINITY)
    high, low = double_double_product(log_double_double(select(is_inside, x, 1), 0), factor)
    outside = select(x == 0, -_INFINITY, select(x < 0, math.nan, x))
    return select(is_inside, high + low, outside)


def log2(x: Vector) -> Vector:
    """Compute the logarithm to base 2, exact for powers of 2.

    Valid range: x >= 0, NaN for others. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.log2([0.5, 3.0, 8.0])
    array([-1.       ,  1.5849625,  3.       ])
    """
    return _log_times(x, (_LOG2_E, _LOG2_E_LOW))


def log10(x: Vector) -> Vector:
    """Compute the logarithm to base 10, exact for powers of 10.

    Valid range: x >= 0, NaN for others. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.log10([0.5, 10.0, 1000.0])
    array([-0.30103,  1.     ,  3.     ])
    """
    return _log_times(x, (_LOG10_E, _LOG10_E_LOW))


def cbrt(x: Vector) -> Vector:
    """Compute the cube root, with the sign of x.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.cbrt([-8.0, 0.0, 2.0])
    array([-2.        ,  0.        ,  1.25992105])
    """
    size = abs(x)
    is_inside = (size > 0) & (size < _INFINITY)
    root = _exp_of_double_double(
        double_double_product(
            log_double_double(select(is_inside, size, 1), 0), (_THIRD, _THIRD_LOW)
        )
    )
    return select(is_inside, copysign(root, x), x)


# --- The same on dual numbers -------------------------------------------------------------------


def _slope_by_base(x: Vector, y: Vector) -> Vector:
    return select(y == 0, 0, y * power(x, y - 1))


def _slope_by_exponent(x: Vector, y: Vector, z: Vector) -> Vector:
    # x**y log(x) tends to 0 with x, if y is positive.
    return select(z == 0, 0, z * log(x))


@derivative_rule(power)
def _dual_power(x: Vector, y: Vector) -> Vector:
    z = power(value_of(x), y)
    return dual(z, _slope_by_base(value_of(x), y) * derivative_of(x))


@derivative_rule(power_of_exponent)
def _dual_power_of_exponent(x: Vector, y: Vector) -> Vector:
    z = power_of_exponent(x, value_of(y))
    return dual(z, _slope_by_exponent(x, value_of(y), z) * derivative_of(y))


@derivative_rule(power_of_both)
def _dual_power_of_both(x: Vector, y: Vector) -> Vector:
    base, exponent = value_of(x), value_of(y)
    z = power_of_both(base, exponent)
    by_base = exponent * power_of_both(base, exponent - 1)
    by_base = select(exponent == 0, 0, by_base)
    by_exponent = select(z == 0, 0, z * log(base))
    return dual(z, fma(by_base, derivative_of(x), by_exponent * derivative_of(y)))


@derivative_rule(sqrt)
def _dual_sqrt(x: Vector) -> Vector:
    root = sqrt(value_of(x))
    return dual(root, derivative_of(x) / (2 * root))


@derivative_rule(exp2)
def _dual_exp2(x: Vector) -> Vector:
    y = exp2(value_of(x))
    return dual(y, _LN2 * y * derivative_of(x))


@derivative_rule(log2)
def _dual_log2(x: Vector) -> Vector:
    return dual(log2(value_of(x)), derivative_of(x) / (_LN2 * value_of(x)))


@derivative_rule(log10)
def _dual_log10(x: Vector) -> Vector:
    return dual(log10(value_of(x)), derivative_of(x) / (_LN10 * value_of(x)))


@derivative_rule(cbrt)
def _dual_cbrt(x: Vector) -> Vector:
    y = cbrt(value_of(x))
    return dual(y, derivative_of(x) / (3 * y * y))
