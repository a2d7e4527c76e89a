"""Elementary functions on SIMD vectors, each with its derivative's ingredients at hand.

All of them are branch-free, are right for every input (NaN, infinities, signed zeros, subnormals in
and out), never overflow on the way, and give the same bits on every CPU with a fused multiply-add.

Stated errors, in units in the last place, over the whole range:

=========  =======  =======
function   float32  float64
=========  =======  =======
exp        1.1      1.1
expm1      1.1      1.1
log1p      1.1      1.1
tanh       1.8      2.2
logistic   1.6      1.6
=========  =======  =======

Notes
-----
The range reductions follow W. J. Cody and W. Waite, "Software Manual for the Elementary Functions"
(1980); log1p follows the method of FreeBSD's ``e_log.c`` with an exact argument instead of a
correction term. The coefficients are made by ``tools/generate_coefficients.py``.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.simd import (
    PerDtype,
    bits,
    copysign,
    fma,
    from_bits,
    polynomial,
    round_to_integer,
    scale,
    select,
    to_float,
)
from fastact.vecmath import coefficients

__all__ = [
    "exp",
    "expm1",
    "expm1_and_exp",
    "log1p",
    "logistic",
    "logistic_and_derivative",
    "tanh",
    "tanh_and_derivative",
]

INFINITY = math.inf

_EXP = PerDtype(**coefficients.EXP)
_EXPM1 = PerDtype(**coefficients.EXPM1)
_LOG = PerDtype(**coefficients.LOG)
_LOG2_E = PerDtype(**coefficients.LOG2_E)
_MINUS_LN2_HIGH = -PerDtype(**coefficients.LN2_HIGH)
_MINUS_LN2_LOW = -PerDtype(**coefficients.LN2_LOW)
_LN2_SHORT_HIGH = PerDtype(**coefficients.LN2_SHORT_HIGH)
_LN2_SHORT_LOW = PerDtype(**coefficients.LN2_SHORT_LOW)

# exp is zero below the first, and so is four times exp; it is infinite above the second.
_EXP_ZERO = PerDtype(float32=-106.0, float64=-748.0)
_EXP_INFINITE = PerDtype(float32=89.0, float64=710.0)
# expm1 is its argument to the last bit below the first, and -1 from the second down.
_EXPM1_IS_X = PerDtype(float32=2.0**-30, float64=2.0**-60)
_EXPM1_IS_MINUS_ONE = PerDtype(float32=-18.0, float64=-38.0)


def _reduce(x: Any) -> Any:
    """Split ``x = n ln2 + r``, abs(r) <= ln2 / 2, with the remainder rounded once."""
    n = round_to_integer(x * _LOG2_E)
    r = fma(n, _MINUS_LN2_HIGH, x)
    return n, fma(n, _MINUS_LN2_LOW, r)


def exp(x: Any) -> Any:
    """Compute e to the power of x."""
    # Arguments whose result is zero go through exp(0) instead: a multiplication that underflows
    # costs some processors a hundred cycles, and masked logits (-1e4, -inf) are common.
    vanishes = x < _EXP_ZERO
    clamped = select(vanishes, 0, select(x > _EXP_INFINITE, _EXP_INFINITE, x))
    n, r = _reduce(clamped)
    return select(vanishes, 0, scale(1 + fma(polynomial(r, _EXP), r * r, r), n))


def _exp_of_nonpositive(x: Any) -> Any:
    """Compute e to the power of x for x <= 0."""
    vanishes = x < _EXP_ZERO
    n, r = _reduce(select(vanishes, 0, x))
    # For x > 0 the power might overflow where the result does not; here it saves a rounding.
    power = scale(select(vanishes, 0, 1), n)
    return fma(power, fma(polynomial(r, _EXP), r * r, r), power)


def expm1(x: Any) -> Any:
    """Compute e to the power of x, less one, without cancellation near zero."""
    low, high = _EXPM1_IS_MINUS_ONE, _EXP_INFINITE
    clamped = select(x > high, high, select(x < low, low, x))
    # Just above ln2 / 2 the result is smaller than what it is the difference of, and so each step
    # also keeps what its rounding loses.
    n = round_to_integer(clamped * _LOG2_E)
    first = fma(n, _MINUS_LN2_HIGH, clamped)
    r = fma(n, _MINUS_LN2_LOW, first)
    r_lost = fma(n, _MINUS_LN2_LOW, first - r)
    higher = polynomial(r, _EXPM1) * (r * r)
    q = r + higher
    q_lost = (r - q) + higher + r_lost
    # 2**n (1 + q) - 1, halved, because 2**n itself overflows just below the largest results.
    power = scale(1, n - 1)
    difference = power - 0.5
    difference_lost = (power - difference) - 0.5
    y = fma(power, q, difference)
    y_lost = fma(power, q, difference - y) + fma(power, q_lost, difference_lost)
    return select(abs(x) < _EXPM1_IS_X, x, 2 * (y + y_lost))


def _expm1_parts(x: Any) -> Any:
    """Return n and expm1(r), where ``x = n ln2 + r``."""
    n, r = _reduce(x)
    return n, fma(polynomial(r, _EXPM1), r * r, r)


def expm1_and_exp(x: Any) -> Any:
    """Return expm1(x) and exp(x) for x <= 0 from one reduction."""
    vanishes = x < _EXP_ZERO
    n, q = _expm1_parts(select(vanishes, 0, x))
    power = scale(select(vanishes, 0, 1), n)
    return copysign(fma(power, q, power - 1), x), fma(power, q, power)


def _reciprocal_of_one_plus(e: Any) -> Any:
    """Compute 1 / (1 + e) for 0 <= e <= 1 as a number and what it lacks."""
    d = 1 + e
    lost = e - (d - 1)
    y = 1 / d
    return y, y * fma(-y, lost, fma(-d, y, 1))


def logistic_and_derivative(x: Any) -> Any:
    """Return the logistic function 1 / (1 + exp(-x)) and its derivative, neither with cancellation."""
    e = _exp_of_nonpositive(-abs(x))
    y, y_lost = _reciprocal_of_one_plus(e)
    upper = y + y_lost
    lower = fma(e, y, e * y_lost)
    return select(x < 0, lower, upper), lower * upper


def logistic(x: Any) -> Any:
    """Compute the logistic function, 1 / (1 + exp(-x))."""
    return logistic_and_derivative(x)[0]


def tanh_and_derivative(x: Any) -> Any:
    """Return the hyperbolic tangent and its derivative, 1 / cosh(x)**2, neither with cancellation."""
    # With e = exp(-2 abs(x)): tanh = (1 - e) / (1 + e), derivative 4 e / (1 + e)**2. The factor 4 is
    # there from the start: where 4 e is representable, e may no longer be.
    exponent = -2 * abs(x)
    vanishes = exponent < _EXP_ZERO
    n, q = _expm1_parts(select(vanishes, 0, exponent))
    four = scale(select(vanishes, 0, 4), n)
    power = 0.25 * four
    difference = fma(-power, q, 1 - power)
    y, y_lost = _reciprocal_of_one_plus(fma(power, q, power))
    quotient = fma(difference, y, difference * y_lost)
    four_e = fma(four, q, four)
    return copysign(quotient, x), fma(four_e, y, four_e * y_lost) * (y + y_lost)


def tanh(x: Any) -> Any:
    """Compute the hyperbolic tangent."""
    return tanh_and_derivative(x)[0]


_EXPONENT_BITS = PerDtype(float32=-(1 << 23), float64=-(1 << 52))
_MANTISSA_BITS = PerDtype(float32=23, float64=52)
_SQRT_HALF_BITS = PerDtype(float32=0x3F3504F3, float64=0x3FE6A09E667F3BCD)
_FOUR_BITS = PerDtype(float32=0x40800000, float64=0x4010000000000000)


def log1p(x: Any) -> Any:
    """Compute the logarithm of 1 + x, without cancellation near zero."""
    # 1 + x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). Scaling x instead of the rounded sum
    # leaves f with one rounding, which can be told exactly, and with none where k is 0.
    exponent = (bits(1 + x) - _SQRT_HALF_BITS) & _EXPONENT_BITS
    k = to_float(exponent >> _MANTISSA_BITS)
    quarter = 0.25 * from_bits(_FOUR_BITS - exponent)
    scaled = from_bits(bits(x) - exponent)
    f = scaled + (quarter - 1)
    lost = scaled - (f - (quarter - 1))
    s = f / (2 + f)
    z = s * s
    half_square = 0.5 * f * f
    small = fma(k, _LN2_SHORT_LOW, fma(-f, lost, lost))
    tail = fma(s, fma(z, polynomial(z, _LOG), half_square), small)
    y = fma(k, _LN2_SHORT_HIGH, f - (half_square - tail))
    outside = select(x == -1, -INFINITY, select(x < -1, math.nan, x))
    return select((x > -1) & (x < INFINITY) & (x != 0), y, outside)


# What `fastact.math` offers on arrays.
FUNCTIONS = (exp, expm1, log1p, logistic, tanh)
