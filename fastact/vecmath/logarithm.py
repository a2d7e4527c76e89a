"""Logarithms: of a number, of one plus and one minus something, and the softplus function.

They follow the method of FreeBSD's ``e_log.c``: a series in s = f / (2 + f) for log(1 + f), where f is
exact, or comes with what it lacks.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.simd import PerDtype, bits, fma, from_bits, polynomial, scale, select, to_float
from fastact.vecmath import coefficients
from fastact.vecmath.exponential import (
    EXP_ZERO,
    exp_of_nonpositive,
    expm1_parts,
    reciprocal_of_one_plus,
)

_INFINITY = math.inf

_LOG = PerDtype(**coefficients.LOG)
_LOG1P = PerDtype(**coefficients.LOG1P)
_LN2_SHORT_HIGH = PerDtype(**coefficients.LN2_SHORT_HIGH)
_LN2_SHORT_LOW = PerDtype(**coefficients.LN2_SHORT_LOW)

_MINUS_EXP_ZERO = -EXP_ZERO
_EXPONENT_BITS = PerDtype(float32=-(1 << 23), float64=-(1 << 52))
_MANTISSA_BITS = PerDtype(float32=23, float64=52)
_SQRT_HALF_BITS = PerDtype(float32=0x3F3504F3, float64=0x3FE6A09E667F3BCD)
_ONE_BITS = PerDtype(float32=0x3F800000, float64=0x3FF0000000000000)
_FOUR_BITS = PerDtype(float32=0x40800000, float64=0x4010000000000000)

_SMALLEST_NORMAL = PerDtype(float32=2.0**-126, float64=2.0**-1022)
_TO_NORMAL = PerDtype(float32=2.0**24, float64=2.0**54)
_TO_NORMAL_EXPONENT = PerDtype(float32=24.0, float64=54.0)


def _exponent_of(x: Any) -> Any:
    """Return k, shifted to the place of the exponent, for x = 2**k m with m in [sqrt(1/2), sqrt(2))."""
    return (bits(x) - _SQRT_HALF_BITS) & _EXPONENT_BITS


def _log_of_parts(k: Any, f: Any, correction: Any) -> Any:
    """Compute k ln2 + log(1 + f) + a small correction, for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    s = f / (2 + f)
    z = s * s
    half_square = 0.5 * f * f
    small = fma(k, _LN2_SHORT_LOW, correction)
    tail = fma(s, fma(z, polynomial(z, _LOG), half_square), small)
    return fma(k, _LN2_SHORT_HIGH, f - (half_square - tail))


def log(x: Any) -> Any:
    """Compute the natural logarithm."""
    is_subnormal = x < _SMALLEST_NORMAL
    normal = select(is_subnormal, x * _TO_NORMAL, x)
    exponent = _exponent_of(normal)
    k = to_float(exponent >> _MANTISSA_BITS) - select(is_subnormal, _TO_NORMAL_EXPONENT, 0)
    y = _log_of_parts(k, from_bits(bits(normal) - exponent) - 1, 0.0)
    outside = select(x == 0, -_INFINITY, select(x < 0, math.nan, x))
    return select((x > 0) & (x < _INFINITY), y, outside)


def log1p(x: Any) -> Any:
    """Compute the logarithm of 1 + x, without cancellation near zero."""
    # 1 + x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). Scaling x instead of the rounded sum
    # leaves f with one rounding, which can be told exactly, and with none where k is 0.
    exponent = _exponent_of(1 + x)
    k = to_float(exponent >> _MANTISSA_BITS)
    quarter = 0.25 * from_bits(_FOUR_BITS - exponent)
    scaled = from_bits(bits(x) - exponent)
    f = scaled + (quarter - 1)
    lost = scaled - (f - (quarter - 1))
    y = _log_of_parts(k, f, fma(-f, lost, lost))
    outside = select(x == -1, -_INFINITY, select(x < -1, math.nan, x))
    return select((x > -1) & (x < _INFINITY) & (x != 0), y, outside)


def log1mexp(x: Any) -> Any:
    """Compute the logarithm of 1 - exp(-x), without cancellation for small and for large x."""
    # M. Maechler, "Accurately Computing log(1 - exp(-|a|))" (2012), says where which of log(-expm1(-x))
    # and log1p(-exp(-x)) is right. Here both are one: exp(-x) = 2**n (1 + q), and so the argument of
    # the logarithm is 1 - 2**n - 2**n q, exactly -q for n = 0.
    vanishes = x > _MINUS_EXP_ZERO
    n, q = expm1_parts(select(vanishes, 0, -x))
    power = scale(select(vanishes, 0, 1), n)
    argument = fma(-power, q, 1 - power)
    lost = fma(-power, q, (1 - power) - argument)
    is_subnormal = argument < _SMALLEST_NORMAL
    normal = select(is_subnormal, argument * _TO_NORMAL, argument)
    exponent = _exponent_of(normal)
    k = to_float(exponent >> _MANTISSA_BITS) - select(is_subnormal, _TO_NORMAL_EXPONENT, 0)
    # Near 1, what is left of the argument is -exp(-x), of which 1 would take most digits.
    is_near_one = k == 0
    close = from_bits(bits(normal) - exponent) - 1
    f = select(is_near_one, -fma(power, q, power), close)
    f_lost = select(is_near_one, 0, lost * from_bits(_ONE_BITS - exponent))
    y = -abs(_log_of_parts(k, f, fma(-f, f_lost, f_lost)))
    return select(x > 0, y, select(x == 0, -_INFINITY, select(x < 0, math.nan, x)))


def softplus_and_derivative(x: Any) -> Any:
    """Return log(1 + exp(x)) and its derivative, the logistic function, neither with cancellation."""
    e = exp_of_nonpositive(-abs(x))
    # log(1 + e) = 2 s + s z Q(z), and 2 s = e - s e.
    s = e / (2 + e)
    z = s * s
    logarithm = fma(-s, fma(-z, polynomial(z, _LOG1P), e), e)
    y, y_lost = reciprocal_of_one_plus(e)
    derivative = select(x < 0, fma(e, y, e * y_lost), y + y_lost)
    return select(x > 0, x + logarithm, logarithm), derivative


def softplus(x: Any) -> Any:
    """Compute the logarithm of 1 + exp(x)."""
    return softplus_and_derivative(x)[0]
