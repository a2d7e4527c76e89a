"""Sine and cosine of any number, however large.

The reduction by pi / 2 follows Cody and Waite, with pi / 2 in three parts. Where the multiple of pi / 2
is too large for that, it follows M. H. Payne and R. N. Hanek, "Radian Reduction for Trigonometric
Functions", ACM SIGNUM Newsletter 18 (1983): of 2 / pi times the argument only the bits are computed
that a multiple of 4 leaves.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.simd import (
    PerDtype,
    any_lane,
    bits,
    fma,
    from_bits,
    lookup,
    polynomial,
    round_to_integer,
    select,
    to_float,
)
from fastact.vecmath import coefficients

_SIN = PerDtype(**coefficients.SIN)
_COS = PerDtype(**coefficients.COS)
_TWO_OVER_PI = PerDtype(**coefficients.TWO_OVER_PI)
_HALF_PI_HIGH = PerDtype(**coefficients.HALF_PI_HIGH)
_HALF_PI_MIDDLE = PerDtype(**coefficients.HALF_PI_MIDDLE)
_MINUS_HALF_PI_HIGH = -_HALF_PI_HIGH
_MINUS_HALF_PI_LOW = -PerDtype(**coefficients.HALF_PI_LOW)

# From here on pi / 2 in three parts is not exact enough.
_LARGE = PerDtype(float32=2.0**16, float64=2.0**24)

# Adding it leaves the nearest whole number in the lowest bits of the sum.
_ROUND = PerDtype(float32=1.5 * 2.0**23, float64=1.5 * 2.0**52)
_SIGN_SHIFT = PerDtype(float32=30, float64=62)
_SIGN = PerDtype(float32=-(1 << 31), float64=-(1 << 63))

_MANTISSA_BITS = PerDtype(float32=23, float64=52)
_FRACTION = PerDtype(float32=(1 << 23) - 1, float64=(1 << 52) - 1)
# The exponent of a number whose significand is whole.
_WHOLE = PerDtype(float32=150 << 23, float64=1075 << 52)

_WORDS = PerDtype(**coefficients.TWO_OVER_PI_WORDS)
_WORD_BITS = PerDtype(float32=22, float64=50)
_WORD = PerDtype(float32=(1 << 22) - 1, float64=(1 << 50) - 1)
_WORD_UNIT = PerDtype(float32=2.0**-22, float64=2.0**-50)
# To the biased exponent of a number, the place among the bits of `_WORDS` that its last bit makes a 2.
_FIRST_BIT = PerDtype(float32=22 - 2 - 150, float64=50 - 2 - 1075)


def _two_sum(x: Any, y: Any) -> Any:
    """Return the sum and what it lacks."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x: Any, y: Any) -> Any:
    """Return the product and what it lacks."""
    product = x * y
    return product, fma(x, y, -product)


def _reduce_moderate(x: Any) -> Any:
    """Split ``x = n pi / 2 + r + r_lost`` for 0 <= x < _LARGE."""
    n = fma(x, _TWO_OVER_PI, _ROUND) - _ROUND
    # All but the last line are exact: the result of the first has no bits below those of pi / 2.
    first = fma(n, _MINUS_HALF_PI_HIGH, x)
    product = n * _HALF_PI_MIDDLE
    product_lost = fma(n, _HALF_PI_MIDDLE, -product)
    r = first - product
    return n, r, fma(n, _MINUS_HALF_PI_LOW, ((first - r) - product) - product_lost)


def _reduce_large(x: Any) -> Any:
    """Do the same for finite x >= _LARGE, with n less a multiple of 4."""
    # x = significand * 2**exponent. Four words of 2 / pi, from the bit on that x makes a 2:
    start = (bits(x) >> _MANTISSA_BITS) + _FIRST_BIT
    place = start / _WORD_BITS
    shift = start - place * _WORD_BITS
    back = _WORD_BITS - shift
    word0 = lookup(_WORDS, place)
    word1 = lookup(_WORDS, place + 1)
    word2 = lookup(_WORDS, place + 2)
    word3 = lookup(_WORDS, place + 3)
    word4 = lookup(_WORDS, place + 4)
    unit0 = to_float(((word0 << shift) | (word1 >> back)) & _WORD)
    unit1 = to_float(((word1 << shift) | (word2 >> back)) & _WORD)
    unit2 = to_float(((word2 << shift) | (word3 >> back)) & _WORD)
    unit3 = to_float(((word3 << shift) | (word4 >> back)) & _WORD)
    factor = 4 * from_bits((bits(x) & _FRACTION) | _WHOLE) * _WORD_UNIT
    # Multiples of 4 leave the largest product; then sums and what they lack, twice from the smallest
    # to the largest, so that each number comes to lie behind the last bit of the one before it.
    a, b = _two_product(factor, unit0)
    a = fma(round_to_integer(0.25 * a), -4, a)
    factor = factor * _WORD_UNIT
    c, d = _two_product(factor, unit1)
    factor = factor * _WORD_UNIT
    e, f = _two_product(factor, unit2)
    f = fma(factor * _WORD_UNIT, unit3, f)
    e, f = _two_sum(e, f)
    d, e = _two_sum(d, e)
    c, d = _two_sum(c, d)
    b, c = _two_sum(b, c)
    a, b = _two_sum(a, b)
    e, f = _two_sum(e, f)
    d, e = _two_sum(d, e)
    c, d = _two_sum(c, d)
    b, c = _two_sum(b, c)
    a, b = _two_sum(a, b)
    n = round_to_integer(a)
    turn, turn_lost = _two_sum(a - n, b)
    turn_lost = turn_lost + (c + d)
    r, r_lost = _two_product(turn, _HALF_PI_HIGH)
    return n, r, fma(turn, _HALF_PI_MIDDLE, fma(turn_lost, _HALF_PI_HIGH, r_lost))


def _with_sign(y: Any, sign: Any) -> Any:
    """Change the sign of y where the highest bit of `sign` is set."""
    return from_bits(bits(y) ^ (sign & _SIGN))


def sin_and_cos_parts(x: Any) -> Any:
    """Return the sine and what it lacks, and the cosine and what it lacks."""
    a = abs(x)
    n, r, r_lost = _reduce_moderate(a)
    is_large = (a >= _LARGE) & (a < math.inf)
    if any_lane(is_large):
        large_n, large_r, large_r_lost = _reduce_large(select(is_large, a, _LARGE))
        n = select(is_large, large_n, n)
        r = select(is_large, large_r, r)
        r_lost = select(is_large, large_r_lost, r_lost)
    z = r * r
    sine_rest = fma(r * z, polynomial(z, _SIN), r_lost)
    sine = r + sine_rest
    sine_lost = (r - sine) + sine_rest
    half = 0.5 * z
    most = 1 - half
    cosine_rest = fma(z * z, polynomial(z, _COS), fma(-r, r_lost, (1 - most) - half))
    cosine = most + cosine_rest
    cosine_lost = fma(-0.5, fma(r, r, -z), (most - cosine) + cosine_rest)
    quadrant = bits(n + _ROUND)
    is_swapped = to_float(quadrant & 1) != 0
    sine_sign = (quadrant << _SIGN_SHIFT) ^ bits(x)
    cosine_sign = (quadrant + 1) << _SIGN_SHIFT
    return (
        _with_sign(select(is_swapped, cosine, sine), sine_sign),
        _with_sign(select(is_swapped, cosine_lost, sine_lost), sine_sign),
        _with_sign(select(is_swapped, sine, cosine), cosine_sign),
        _with_sign(select(is_swapped, sine_lost, cosine_lost), cosine_sign),
    )


def sin_and_cos(x: Any) -> Any:
    """Return the sine and the cosine of x."""
    sine, _, cosine, _ = sin_and_cos_parts(x)
    return sine, cosine


def sin(x: Any) -> Any:
    """Compute the sine of x radians."""
    return sin_and_cos(x)[0]


def cos(x: Any) -> Any:
    """Compute the cosine of x radians."""
    return sin_and_cos(x)[1]
