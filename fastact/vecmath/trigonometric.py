"""Sine and cosine of any number, however large.

The reduction by pi / 2 follows Cody and Waite, with pi / 2 in three parts. Where the multiple of pi / 2
is too large for that, it follows M. H. Payne and R. N. Hanek, "Radian Reduction for Trigonometric
Functions", ACM SIGNUM Newsletter 18 (1983), which computes 2 / pi times the argument modulo 4 only.
"""

from __future__ import annotations

import math

from fastact.simd import (
    IntVector,
    PerDtype,
    Vector,
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
from fastact.simd.formats import MANTISSA_BITS, MANTISSA_MASK, ROUNDING_SHIFT, SIGN_MASK
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import (
    DoubleDouble,
    double_double_product,
    double_double_sum,
    fast_two_sum,
    two_product,
    two_sum,
)
from fastact.vecmath.exponential import round_product
from fastact.vecmath.scaling import TINY, at_least_tiny

_SIN = PerDtype(**coefficients.SIN)
_COS = PerDtype(**coefficients.COS)
_TWO_OVER_PI = PerDtype(**coefficients.TWO_OVER_PI)
_HALF_PI_HIGH = PerDtype(**coefficients.HALF_PI_HIGH)
_HALF_PI_MIDDLE = PerDtype(**coefficients.HALF_PI_MIDDLE)
_MINUS_HALF_PI_HIGH = -_HALF_PI_HIGH
_MINUS_HALF_PI_LOW = -PerDtype(**coefficients.HALF_PI_LOW)

# From here on, pi / 2 in three parts is not exact enough.
_LARGE = PerDtype(float32=2.0**16, float64=2.0**24)

# From the second bit of a quadrant's number to the sign's bit.
_SIGN_SHIFT = PerDtype(float32=30, float64=62)

# The exponent with which the significand is an integer.
_INTEGER_EXPONENT = PerDtype(float32=150 << 23, float64=1075 << 52)

_WORDS = PerDtype(**coefficients.TWO_OVER_PI_WORDS)
_WORD_BITS = PerDtype(float32=22, float64=50)
_WORD_MASK = PerDtype(float32=(1 << 22) - 1, float64=(1 << 50) - 1)
_WORD_UNIT = PerDtype(float32=2.0**-22, float64=2.0**-50)
# Added to a number's biased exponent: the index, among the bits of `_WORDS`, of the bit of weight 2 in the product
# with the number's last bit.
_FIRST_BIT = PerDtype(float32=22 - 2 - 150, float64=50 - 2 - 1075)


def _reduce_moderate(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Split ``x = n pi / 2 + r + r_low`` for 0 <= x < _LARGE."""
    n = round_product(x, _TWO_OVER_PI)
    # All but the last line are exact: `first` has no bits below the last bit of pi / 2.
    first = fma(n, _MINUS_HALF_PI_HIGH, x)
    product, product_low = two_product(n, _HALF_PI_MIDDLE)
    r = first - product
    return n, r, fma(n, _MINUS_HALF_PI_LOW, ((first - r) - product) - product_low)


def _reduce_large(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Do the same for finite x >= _LARGE, with n modulo 4."""
    # x = significand * 2**exponent. Take four words of 2 / pi, from the bit whose product with x has weight 2:
    start = (bits(x) >> MANTISSA_BITS) + _FIRST_BIT
    index = start / _WORD_BITS
    shift = start - index * _WORD_BITS
    back = _WORD_BITS - shift
    word0 = lookup(_WORDS, index)
    word1 = lookup(_WORDS, index + 1)
    word2 = lookup(_WORDS, index + 2)
    word3 = lookup(_WORDS, index + 3)
    word4 = lookup(_WORDS, index + 4)
    unit0 = to_float(((word0 << shift) | (word1 >> back)) & _WORD_MASK)
    unit1 = to_float(((word1 << shift) | (word2 >> back)) & _WORD_MASK)
    unit2 = to_float(((word2 << shift) | (word3 >> back)) & _WORD_MASK)
    unit3 = to_float(((word3 << shift) | (word4 >> back)) & _WORD_MASK)
    factor = 4 * from_bits((bits(x) & MANTISSA_MASK) | _INTEGER_EXPONENT) * _WORD_UNIT
    # Take multiples of 4 out of the largest product; then renormalize: two passes of TwoSum, from the smallest
    # term to the largest, leave terms that do not overlap.
    a, b = two_product(factor, unit0)
    a = fma(round_to_integer(0.25 * a), -4, a)
    factor = factor * _WORD_UNIT
    c, d = two_product(factor, unit1)
    factor = factor * _WORD_UNIT
    e, f = two_product(factor, unit2)
    f = fma(factor * _WORD_UNIT, unit3, f)
    e, f = two_sum(e, f)
    d, e = two_sum(d, e)
    c, d = two_sum(c, d)
    b, c = two_sum(b, c)
    a, b = two_sum(a, b)
    e, f = two_sum(e, f)
    d, e = two_sum(d, e)
    c, d = two_sum(c, d)
    b, c = two_sum(b, c)
    a, b = two_sum(a, b)
    n = round_to_integer(a)
    turn, turn_low = two_sum(a - n, b)
    turn_low = turn_low + (c + d)
    r, r_low = two_product(turn, _HALF_PI_HIGH)
    return n, r, fma(turn, _HALF_PI_MIDDLE, fma(turn_low, _HALF_PI_HIGH, r_low))


def _with_sign(y: Vector, sign: IntVector) -> Vector:
    """Change the sign of y where the highest bit of `sign` is set."""
    return from_bits(bits(y) ^ (sign & SIGN_MASK))


def _sin_and_cos_parts(x: Vector) -> tuple[DoubleDouble, DoubleDouble]:
    """Return the sine and the cosine of a number as double-doubles."""
    a = abs(x)
    is_x = a < TINY
    n, r, r_low = _reduce_moderate(at_least_tiny(a))
    is_large = (a >= _LARGE) & (a < math.inf)
    if any_lane(is_large):
        large_n, large_r, large_r_low = _reduce_large(select(is_large, a, _LARGE))
        n = select(is_large, large_n, n)
        r = select(is_large, large_r, r)
        r_low = select(is_large, large_r_low, r_low)
    z = r * r
    sine, sine_low = fast_two_sum(r, fma(r * z, polynomial(z, _SIN), r_low))
    half = 0.5 * z
    first = 1 - half
    higher = fma(z * z, polynomial(z, _COS), fma(-r, r_low, (1 - first) - half))
    cosine, cosine_low = fast_two_sum(first, higher)
    cosine_low = fma(-0.5, fma(r, r, -z), cosine_low)
    sine, sine_low = select(is_x, a, sine), select(is_x, 0, sine_low)
    quadrant = bits(n + ROUNDING_SHIFT)
    is_swapped = to_float(quadrant & 1) != 0
    sine_sign = (quadrant << _SIGN_SHIFT) ^ bits(x)
    cosine_sign = (quadrant + 1) << _SIGN_SHIFT
    return (
        (
            _with_sign(select(is_swapped, cosine, sine), sine_sign),
            _with_sign(select(is_swapped, cosine_low, sine_low), sine_sign),
        ),
        (
            _with_sign(select(is_swapped, sine, cosine), cosine_sign),
            _with_sign(select(is_swapped, sine_low, cosine_low), cosine_sign),
        ),
    )


def sin_and_cos(x: Vector) -> tuple[Vector, Vector]:
    """Return the sine and the cosine of x radians.

    Valid range: all numbers; NaN for infinite x. Maximum error: 1.1 ULP for both.
    """
    sine, cosine = _sin_and_cos_parts(x)
    return sine[0], cosine[0]


def sin(x: Vector) -> Vector:
    """Compute the sine of x radians.

    Valid range: all numbers; NaN for infinite x. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.sin([-1.0, 0.0, 1.0])
    array([-0.84147098,  0.        ,  0.84147098])
    """
    return sin_and_cos(x)[0]


def cos(x: Vector) -> Vector:
    """Compute the cosine of x radians.

    Valid range: all numbers; NaN for infinite x. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.cos([0.0, 1.0, 2.0])
    array([ 1.        ,  0.54030231, -0.41614684])
    """
    return sin_and_cos(x)[1]


def sin_and_cos_double_double(x: Vector, x_low: Vector) -> tuple[DoubleDouble, DoubleDouble]:
    """Return the sine and the cosine of x + x_low.

    Valid range: all numbers; the low part of a large x may be any angle. Maximum error of the sum of both
    parts: about 0.1 ULP of the high part.
    """
    sine, cosine = _sin_and_cos_parts(x)
    small_sine, small_cosine = _sin_and_cos_parts(x_low)
    minus = (-small_sine[0], -small_sine[1])
    return (
        double_double_sum(
            double_double_product(sine, small_cosine), double_double_product(cosine, small_sine)
        ),
        double_double_sum(
            double_double_product(cosine, small_cosine), double_double_product(sine, minus)
        ),
    )
