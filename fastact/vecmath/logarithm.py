"""Logarithms: log, log1p, log1mexp, and the softplus function.

They follow FreeBSD's ``e_log.c``: a series in s = f / (2 + f) for log(1 + f), where f is exact or has a
low part.
"""

from __future__ import annotations

import math

from fastact.simd import (
    IntVector,
    PerDtype,
    Vector,
    bits,
    fma,
    from_bits,
    polynomial,
    scale,
    select,
    to_float,
)
from fastact.simd.formats import (
    BITS_OF_FOUR,
    BITS_OF_ONE,
    EXPONENT_MASK,
    MANTISSA_BITS,
    SMALLEST_NORMAL,
)
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import DoubleDouble, double_double_product
from fastact.vecmath.exponential import (
    EXP_ZERO,
    NUDGE,
    TINY_SQUARE,
    expm1_parts,
    logistic_of_parts,
    near_exp_parts,
    tails_alike,
)
from fastact.vecmath.scaling import (
    INTEGER_EXPONENT,
    MINUS_TINY,
    TINY,
    integer_of_subnormal,
    ldexp,
)

_INFINITY = math.inf

_LOG = PerDtype(**coefficients.LOG)
_LOG1P = PerDtype(**coefficients.LOG1P)
_LN2_SHORT_HIGH = PerDtype(**coefficients.LN2_SHORT_HIGH)
_LN2_SHORT_LOW = PerDtype(**coefficients.LN2_SHORT_LOW)

_MINUS_EXP_ZERO = -EXP_ZERO
# Below this power of two, log1mexp is minus the exponential.
_FAR = PerDtype(float32=-36.0, float64=-80.0)
_SQRT_HALF_BITS = PerDtype(float32=0x3F3504F3, float64=0x3FE6A09E667F3BCD)


def _exponent_of(x: Vector) -> IntVector:
    """Return k, shifted to the exponent's bits, for x = 2**k m with m in [sqrt(1/2), sqrt(2))."""
    return (bits(x) - _SQRT_HALF_BITS) & EXPONENT_MASK


def exponent_and_significand(x: Vector) -> tuple[Vector, IntVector, Vector]:
    """Return k, the same shifted to the exponent's bits, and m, for x = 2**k m with m in [sqrt(1/2), sqrt(2)).

    Valid range: 0 < x < inf.
    """
    is_subnormal = x < SMALLEST_NORMAL
    normal = select(is_subnormal, integer_of_subnormal(x), x)
    exponent = _exponent_of(normal)
    k = to_float(exponent >> MANTISSA_BITS) - select(is_subnormal, INTEGER_EXPONENT, 0)
    return k, exponent, from_bits(bits(normal) - exponent)


def _log_of_parts(k: Vector, f: Vector, correction: Vector) -> Vector:
    """Compute k ln2 + log(1 + f) + a small correction, for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    s = f / (2 + f)
    z = s * s
    half_square = 0.5 * f * f
    small = fma(k, _LN2_SHORT_LOW, correction)
    tail = fma(s, fma(z, polynomial(z, _LOG), half_square), small)
    return fma(k, _LN2_SHORT_HIGH, f - (half_square - tail))


def log(x: Vector) -> Vector:
    """Compute the natural logarithm.

    Valid range: all numbers; NaN below 0. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.log([0.5, 1.0, 10.0])
    array([-0.69314718,  0.        ,  2.30258509])
    """
    k, _, m = exponent_and_significand(x)
    y = _log_of_parts(k, m - 1, 0.0)
    outside = select(x == 0, -_INFINITY, select(x < 0, math.nan, x))
    return select((x > 0) & (x < _INFINITY), y, outside)


def log1p(x: Vector) -> Vector:
    """Compute the logarithm of 1 + x, without cancellation near zero.

    Valid range: all numbers; NaN below -1. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.log1p([-0.5, 0.0, 9.0])
    array([-0.69314718,  0.        ,  2.30258509])
    """
    # 1 + x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). Scaling x instead of the rounded sum
    # leaves f with one rounding, whose error is exactly representable, and with none where k is 0.
    is_x = abs(x) < TINY
    exponent = _exponent_of(1 + x)
    k = to_float(exponent >> MANTISSA_BITS)
    power_less_one = fma(0.25, from_bits(BITS_OF_FOUR - exponent), -1)  # 2**-k - 1
    scaled = select(is_x, 0, from_bits(bits(x) - exponent))
    f = scaled + power_less_one
    f_low = scaled - (f - power_less_one)
    y = _log_of_parts(k, f, fma(-f, f_low, f_low))
    outside = select(x == -1, -_INFINITY, select(x < -1, math.nan, x))
    return select((x > -1) & (x < _INFINITY) & ~is_x, y, outside)


def log1mexp(x: Vector) -> Vector:
    """Compute the logarithm of 1 - exp(-x), without cancellation for small or large x.

    Valid range: all numbers; NaN below 0. Maximum error: 2.0 ULP.

    Examples
    --------
    >>> fa.math.log1mexp([0.5, 1.0, 2.0])
    array([-0.93275213, -0.45867515, -0.14541346])
    """
    # M. Maechler, "Accurately Computing log(1 - exp(-|a|))" (2012), switches between log(-expm1(-x)) and
    # log1p(-exp(-x)). Here both are one: exp(-x) = 2**n (1 + q), so the argument of the logarithm is
    # 1 - 2**n - 2**n q, exactly -q for n = 0.
    is_tiny = x < TINY
    n, q = expm1_parts(select(is_tiny, MINUS_TINY, select(x > _MINUS_EXP_ZERO, EXP_ZERO, -x)))
    power = scale(1, select(n < _FAR, _FAR, n))
    argument = fma(-power, q, 1 - power)
    argument_low = fma(-power, q, (1 - power) - argument)
    k, exponent, m = exponent_and_significand(select(is_tiny, x, argument))
    # Near 1, f is -exp(-x): taken directly, as the sum with 1 would lose most of its digits.
    is_near_one = k == 0
    f = select(is_near_one, -fma(power, q, power), m - 1)
    low = argument_low * from_bits(BITS_OF_ONE - exponent)
    f_low = select(is_near_one | is_tiny, 0, low)
    y = -abs(_log_of_parts(k, f, fma(-f, f_low, f_low)))
    y = select(n < _FAR, -ldexp(1 + q, n), y)
    return select(x > 0, y, select(x == 0, -_INFINITY, select(x < 0, math.nan, x)))


def softplus_parts_of_minus_abs(x: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """Return ``log(1 + exp(-abs(x)))``, ``logistic(-abs(x))``, ``logistic(abs(x))``, and the exponent of the first two.

    Where the exponent is below `NEAR`, both are its exponential, and not returned. Valid range: all numbers.
    """
    exponent = -abs(x) - NUDGE
    power, p = near_exp_parts(exponent)
    e = fma(power, p, power)
    # log(1 + e) = 2 s + s z Q(z), and 2 s = e - s e.
    s = e / (2 + e)
    z = fma(s, s, TINY_SQUARE)  # a square, not subnormal
    logarithm = fma(-s, fma(-z, polynomial(z, _LOG1P), e), e)
    lower, upper = logistic_of_parts(power, p)
    return logarithm, lower, upper, exponent


def softplus_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    """Return log(1 + exp(x)) and its derivative, the logistic function, neither with cancellation.

    Valid range: all numbers. Maximum error: 2.0 ULP; derivative 1.6 ULP.
    """
    logarithm, lower, upper, exponent = softplus_parts_of_minus_abs(x)
    logarithm, lower = tails_alike(logarithm, lower, exponent)
    return select(x > 0, x + logarithm, logarithm), select(x < 0, lower, upper)


def softplus(x: Vector) -> Vector:
    """Compute the logarithm of 1 + exp(x).

    Valid range: all numbers. Maximum error: 2.0 ULP.

    Examples
    --------
    >>> fa.math.softplus([-1.0, 0.0, 1.0])
    array([0.31326169, 0.69314718, 1.31326169])
    """
    return softplus_and_derivative(x)[0]


def log1p_double_double(x: Vector, x_low: Vector) -> DoubleDouble:
    """Return the logarithm of 1 + x + x_low.

    Valid range: 0 <= x <= 1. Maximum error of the sum of both parts: about 0.1 ULP of the high part.
    """
    # log(1 + x) = 2 s + s z Q(z) with s = x / (2 + x) and z = s**2, and 2 s = x - s x.
    bottom = 2 + x
    bottom_low = x - (bottom - 2)
    s = x / bottom
    s_low = fma(-s, bottom_low, fma(-s, bottom, x)) / bottom
    z = s * s
    q = polynomial(z, _LOG1P)
    factor = fma(-z, q, x)
    less, less_low = double_double_product((s, s_low), (factor, fma(-z, q, x - factor)))
    y = x - less
    return y, ((x - y) - less) - less_low + x_low / (1 + x)
