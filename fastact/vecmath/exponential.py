"""The exponential function, and what one exponential gives: the logistic function and the hyperbolic tangent.

The range reduction follows W. J. Cody and W. Waite, "Software Manual for the Elementary Functions"
(1980).
"""

from __future__ import annotations

from fastact.simd import (
    PerDtype,
    Vector,
    any_above,
    bits,
    copysign,
    fma,
    from_bits,
    polynomial,
    scale,
    select,
)
from fastact.simd.formats import (
    MANTISSA_BITS,
    ROUNDING_SHIFT,
    SHIFT_TO_POWER,
    SMALLEST_NORMAL,
)
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import (
    DoubleDouble,
    double_double_product,
    double_double_reciprocal_of_one_plus,
    fast_two_sum,
)
from fastact.vecmath.scaling import (
    MINUS_TINY,
    TINY,
    at_most_minus_tiny,
    dropped,
    integer_of_subnormal,
    ldexp,
    power_of_two,
)

EXP = PerDtype(**coefficients.EXP)
_EXPM1 = PerDtype(**coefficients.EXPM1)
LOG2_E = PerDtype(**coefficients.LOG2_E)
_MINUS_LN2_HIGH = -PerDtype(**coefficients.LN2_HIGH)
_MINUS_LN2_LOW = -PerDtype(**coefficients.LN2_LOW)

# Below, exp(x) times any number up to 2**92, in float64 2**915, is zero, and `ldexp` is not valid.
FAR = PerDtype(float32=-168.0, float64=-1380.0)
# Down to this, exp(x) is not next to the subnormal numbers. Lower negative numbers have larger bits, as unsigned integers.
NEAR = PerDtype(float32=-81.0, float64=-690.0)
BITS_OF_NEAR = PerDtype(float32=0xC2A20000, float64=0xC085900000000000)
# exp is zero below the first, and infinite above the second.
EXP_ZERO = PerDtype(float32=-106.0, float64=-748.0)
_EXP_INFINITE = PerDtype(float32=89.0, float64=710.0)
# Added to the argument of an exponential, where it has no effect but to keep the argument from being subnormal.
NUDGE = PerDtype(float32=2.0**-60, float64=2.0**-400)
# Added to squares, where it has no effect but to keep them from being subnormal.
TINY_SQUARE = PerDtype(float32=2.0**-110, float64=2.0**-1000)
# A power of two that vanishes even beside the low part of 1, while low parts of its products are normal numbers.
VANISHING = PerDtype(float32=-60.0, float64=-150.0)
# Their product is what `integer_of_subnormal` multiplies by.
_ROOT_OF_LIFT = PerDtype(float32=2.0**75, float64=2.0**537)
_REST_OF_LIFT = PerDtype(float32=2.0**74, float64=2.0**537)
# expm1(x) rounds to x for arguments smaller than the first, and to -1 below the second.
_EXPM1_IS_X = PerDtype(float32=2.0**-30, float64=2.0**-60)
_EXPM1_IS_MINUS_ONE = PerDtype(float32=-18.0, float64=-38.0)


def round_product(x: Vector, factor: Vector) -> Vector:
    """Return ``x * factor`` rounded to an integer.

    Valid range: products below 2**22 in size.
    """
    return fma(x, factor, ROUNDING_SHIFT) - ROUNDING_SHIFT


def _reduce_by_high_part(x: Vector) -> tuple[Vector, Vector]:
    """Return the n of `reduce`, and ``x - n * LN2_HIGH`` exactly."""
    n = round_product(x, LOG2_E)
    return n, fma(n, _MINUS_LN2_HIGH, x)


def reduce(x: Vector) -> tuple[Vector, Vector]:
    """Split ``x = n ln2 + r`` with abs(r) <= ln2 / 2; r is rounded once.

    Valid range: abs(x) <= 4000.
    """
    n, first = _reduce_by_high_part(x)
    return n, fma(n, _MINUS_LN2_LOW, first)


def exp_parts(x: Vector, x_low: Vector) -> tuple[Vector, Vector, Vector]:
    """Return n and a double-double p, where ``exp(x + x_low) = 2**n (1 + p)``.

    Valid range: abs(x) <= 4000.
    """
    n, first = _reduce_by_high_part(x)
    correction = fma(n, _MINUS_LN2_LOW, x_low)
    r = first + correction
    higher = polynomial(r, EXP)
    p = fma(higher, r * r, r)
    return n, p, fma(higher, r * r, r - p) + ((first - r) + correction)


def exp(x: Vector) -> Vector:
    """Compute e to the power of x.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.exp([-1.0, 0.0, 1.0])
    array([0.36787944, 1.        , 2.71828183])
    """
    near = select(x < FAR, FAR, select(x > _EXP_INFINITE, _EXP_INFINITE, x))
    # A tiny argument changes nothing but, where it is subnormal, the time. The square's addend has no effect either.
    n, r = reduce(near + NUDGE)
    return ldexp(1 + fma(polynomial(r, EXP), fma(r, r, TINY_SQUARE), r), n)


def expm1(x: Vector) -> Vector:
    """Compute e to the power of x, less one, without cancellation near zero.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.expm1([-1.0, 0.0, 1.0])
    array([-0.63212056,  0.        ,  1.71828183])
    """
    low, high = _EXPM1_IS_MINUS_ONE, _EXP_INFINITE
    is_x = abs(x) < _EXPM1_IS_X
    clamped = select(is_x, 0, select(x > high, high, select(x < low, low, x)))
    # Just above ln2 / 2 the result is smaller than the terms that it is the difference of, so each step
    # carries a low part.
    n, first = _reduce_by_high_part(clamped)
    r = fma(n, _MINUS_LN2_LOW, first)
    r_low = fma(n, _MINUS_LN2_LOW, first - r)
    q, q_low = fast_two_sum(r, polynomial(r, _EXPM1) * (r * r))
    q_low = q_low + r_low
    # 2**n (1 + q) - 1, halved, because 2**n itself overflows just below the largest results.
    power = scale(1, n - 1)
    difference, difference_low = fast_two_sum(power, -0.5)
    y = fma(power, q, difference)
    y_low = fma(power, q, difference - y) + fma(power, q_low, difference_low)
    return select(is_x, x, 2 * (y + y_low))


def expm1_parts(x: Vector) -> tuple[Vector, Vector]:
    """Return n and expm1(r), where ``x = n ln2 + r``.

    Valid range: abs(x) <= 4000.
    """
    n, r = reduce(x)
    return n, fma(polynomial(r, _EXPM1), r * r, r)


def expm1_and_exp_parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Return expm1(x), and n and q, where ``exp(x) = 2**n (1 + q)``.

    Valid range: x <= -TINY. Maximum error: 1.1 ULP.
    """
    n, q = expm1_parts(select(x < FAR, FAR, x))
    power = power_of_two(n)
    return fma(power, q, power - 1), n, q


def near_expm1_and_exp(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Return expm1(x), and a power of two and q, where ``exp(x) = power (1 + q)``; below `NEAR`, x counts as that.

    Valid range: x <= -TINY. Maximum error: 1.1 ULP.
    """
    power, n, first = _near_reduce(x)
    r = fma(n, _MINUS_LN2_LOW, first)
    q = fma(polynomial(r, _EXPM1), r * r, r)
    return fma(power, q, power - 1), power, q


def expm1_and_exp(x: Vector) -> tuple[Vector, Vector]:
    """Return expm1(x) and exp(x) from one reduction.

    Valid range: x <= 0. Maximum error: 1.1 ULP for both.
    """
    is_x, exponent = x > MINUS_TINY, at_most_minus_tiny(x)
    value, power, q = near_expm1_and_exp(exponent)
    return select(is_x, x, value), tail(fma(power, q, power), exponent, 0, 1)


def reciprocal_of_expm1(x: Vector) -> Vector:
    """Return ``1 / expm1(x)``.

    Valid range: x >= 0. Maximum error: 2.3 ULP.
    """
    minus, n, q = expm1_and_exp_parts(at_most_minus_tiny(-x))
    # The reciprocal of a subnormal number may be normal: it is that of an integer, and then multiplied.
    is_subnormal = x < SMALLEST_NORMAL
    divisor = select(is_subnormal, integer_of_subnormal(x), select(x < TINY, x, -minus))
    quotient = (1 + q) / divisor * select(is_subnormal, _ROOT_OF_LIFT, 1)
    return ldexp(quotient * select(is_subnormal, _REST_OF_LIFT, 1), n)


def reciprocal_of_one_plus(e: Vector) -> DoubleDouble:
    """Return 1 / (1 + e); the low part has a relative error of a tenth or less.

    Valid range: 0 <= e <= 1.
    """
    divisor = 1 + e
    y = 1 / divisor
    return y, y * fma(divisor - 1 - e, y, fma(-divisor, y, 1))


def near_exp_parts(x: Vector) -> tuple[Vector, Vector]:
    """Return a power of two and p, where ``exp(x) = power (1 + p)``; below `NEAR`, x counts as that.

    Valid range: x <= 1.
    """
    power, n, first = _near_reduce(x)
    r = fma(n, _MINUS_LN2_LOW, first)
    return power, fma(polynomial(r, EXP), r * r, r)


def near_exp_parts_of_sum(x: Vector, x_low: Vector) -> tuple[Vector, Vector]:
    """Do the same for a sum with a small low part."""
    return exp_parts_of_sum(select(x < NEAR, NEAR, x), x_low)


def exp_parts_of_sum(x: Vector, x_low: Vector) -> tuple[Vector, Vector]:
    """Do the same for x not below `NEAR`."""
    power, n, first = _reduce_to_power(x)
    r = first + fma(n, _MINUS_LN2_LOW, x_low)
    return power, fma(polynomial(r, EXP), r * r, r)


def _near_reduce(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Return ``2**n``, n, and ``x - n * LN2_HIGH`` exactly; below `NEAR`, x counts as that."""
    return _reduce_to_power(select(x < NEAR, NEAR, x))


def _reduce_to_power(x: Vector) -> tuple[Vector, Vector, Vector]:
    shifted = fma(x, LOG2_E, SHIFT_TO_POWER)
    n = shifted - SHIFT_TO_POWER
    return from_bits(bits(shifted) << MANTISSA_BITS), n, fma(n, _MINUS_LN2_HIGH, x)


def far_exp_times(x: Vector, x_low: Vector, factor: Vector) -> Vector:
    """Compute ``exp(x + x_low) * factor`` of numbers below `NEAR`; subnormal results are rounded once."""
    is_far = x < FAR
    n, first = _reduce_by_high_part(select(is_far, FAR, x))
    r = first + fma(n, _MINUS_LN2_LOW, select(is_far, 0, x_low))
    p = fma(polynomial(r, EXP), r * r, r)
    return dropped(factor * power_of_two(n) * (1 + p), n)


def tail(near: Vector, exponent: Vector, low: Vector, factor: Vector) -> Vector:
    """Return a number, or ``exp(exponent + low) * factor`` where the exponent is below `NEAR`."""
    if any_above(bits(exponent), BITS_OF_NEAR):
        near = select(exponent < NEAR, far_exp_times(exponent, low, factor), near)
    return near


def tails_alike(x: Vector, y: Vector, exponent: Vector) -> tuple[Vector, Vector]:
    """Return two numbers, or ``exp(exponent)`` for both where the exponent is below `NEAR`."""
    if any_above(bits(exponent), BITS_OF_NEAR):
        is_far, power = exponent < NEAR, far_exp_times(exponent, 0, 1)
        x, y = select(is_far, power, x), select(is_far, power, y)
    return x, y


def logistic_parts(exponent: Vector, low: Vector) -> tuple[Vector, Vector]:
    """Return the logistic functions of ``exponent + low`` and of its opposite; below `NEAR`, the exponent counts as that.

    Valid range: exponent <= 0.
    """
    return logistic_of_parts(*near_exp_parts_of_sum(exponent, low))


def logistic_of_parts(power: Vector, p: Vector) -> tuple[Vector, Vector]:
    """Return ``e / (1 + e)`` and ``1 / (1 + e)`` for ``e = power (1 + p) <= 1``."""
    e = fma(power, p, power)
    divisor = 1 + e
    # The rounding error of the divisor comes in with the dividend, times about (1 + p) / (1 + e).
    divisor_low = e - (divisor - 1)
    lower = (1 + fma(-divisor_low, fma(-0.5, e, 1 + p), p)) / divisor * power
    return lower, 1 - lower


def logistic_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    """Return the logistic function 1 / (1 + exp(-x)) and its derivative, neither with cancellation.

    Valid range: all numbers. Maximum error: 1.8 ULP; derivative 3.0 ULP.
    """
    exponent = -abs(x) - NUDGE
    lower, upper = logistic_of_parts(*near_exp_parts(exponent))
    lower, derivative = tails_alike(lower, lower * upper, exponent)
    return select(x < 0, lower, upper), derivative


def logistic_of_sum_and_derivative(x: Vector, x_low: Vector) -> tuple[Vector, Vector]:
    """Return the logistic function of x + x_low and its derivative.

    The low part may be the rounding error of a product, for example.

    Valid range: all x, and a low part of at most half a unit in the last place of x, or anything, NaN
    included, where x is infinite. Maximum error: 1.6 ULP; derivative 3.0 ULP.
    """
    exponent = -abs(x) - NUDGE
    low = select(exponent < FAR, 0, select(x < 0, x_low, -x_low))
    lower, upper = logistic_parts(exponent, low)
    derivative = lower * upper
    if any_above(bits(exponent), BITS_OF_NEAR):
        is_far, power = exponent < NEAR, far_exp_times(exponent, low, 1)
        lower, derivative = select(is_far, power, lower), select(is_far, power, derivative)
    return select(x < 0, lower, upper), derivative


def logistic(x: Vector) -> Vector:
    """Compute the logistic function, 1 / (1 + exp(-x)).

    Valid range: all numbers. Maximum error: 1.8 ULP.

    Examples
    --------
    >>> fa.math.logistic([-1.0, 0.0, 1.0])
    array([0.26894142, 0.5       , 0.73105858])
    """
    return logistic_and_derivative(x)[0]


def tanh_and_derivative_parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Return the hyperbolic tangent, and its derivative, 1 / cosh(x)**2, but for its `tail`, and the exponent of that.

    Where the exponent is below `NEAR`, the derivative is four times the exponential of it. Valid range: all numbers.
    Maximum error: 1.8 ULP in float32, 2.2 ULP in float64; derivative 3.0 ULP in float32.
    """
    # With e = exp(-2 abs(x)): tanh = (1 - e) / (1 + e), derivative 4 e / (1 + e)**2 = e (1 + tanh)**2.
    is_x = abs(x) < TINY
    minus_abs = select(is_x, MINUS_TINY, -abs(x))
    exponent = minus_abs + minus_abs
    power, n, first = _near_reduce(exponent)
    r = fma(n, _MINUS_LN2_LOW, first)
    q = fma(polynomial(r, _EXPM1), r * r, r)
    y, y_low = reciprocal_of_one_plus(fma(power, q, power))
    difference = fma(-power, q, 1 - power)
    quotient = fma(difference, y, difference * y_low)
    square = fma(quotient, 2 + quotient, 1)
    derivative = fma(square, q, square) * power
    return select(is_x, x, copysign(quotient, x)), derivative, exponent


def tanh_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    """Return the hyperbolic tangent and its derivative, 1 / cosh(x)**2, neither with cancellation.

    Valid range: all numbers. Maximum error: 1.8 ULP in float32, 2.2 ULP in float64; derivative 3.0 ULP
    in float32.
    """
    value, derivative, exponent = tanh_and_derivative_parts(x)
    return value, tail(derivative, exponent, 0, 4)


def tanh(x: Vector) -> Vector:
    """Compute the hyperbolic tangent.

    Valid range: all numbers. Maximum error: 1.8 ULP in float32, 2.2 ULP in float64.

    Examples
    --------
    >>> fa.math.tanh([-1.0, 0.0, 1.0])
    array([-0.76159416,  0.        ,  0.76159416])
    """
    return tanh_and_derivative(x)[0]


# --- Double-doubles -----------------------------------------------------------------------------


def exp_double_double(x: Vector) -> DoubleDouble:
    """Compute e to the power of a number x.

    Valid range: x <= 0. Maximum error of the sum of both parts: about 0.1 ULP of the high part.
    """
    vanishes = x < EXP_ZERO
    n, p, p_low = exp_parts(select(vanishes, 0, x), 0)
    return _double_double_of_parts(scale(select(vanishes, 0, 1), n), p, p_low)


def exp_double_double_beside_one(x: Vector) -> DoubleDouble:
    """Do the same for use in a sum with 1, where numbers that vanish are not distinguished."""
    n, p, p_low = exp_parts(select(x < EXP_ZERO, EXP_ZERO, x - NUDGE), 0)
    return _double_double_of_parts(scale(1, select(n < VANISHING, VANISHING, n)), p, p_low)


def _double_double_of_parts(power: Vector, p: Vector, p_low: Vector) -> DoubleDouble:
    y = fma(power, p, power)
    return y, fma(power, p, power - y) + power * p_low


def exp_and_logistic_double_double(x: Vector) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
    """Return exp(-abs(x)), logistic(abs(x)) and logistic(-abs(x)) of a number x.

    Valid range: all numbers; below 2**-60 (in float64 2**-150), the exponential stays the same, except in derivatives.
    Maximum error of the sum of both parts: about 0.1 ULP of the high part.
    """
    e = exp_double_double_beside_one(-abs(x))
    upper = double_double_reciprocal_of_one_plus(e)
    return e, upper, double_double_product(e, upper)
