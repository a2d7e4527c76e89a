"""The exponential function, and what is made of one of it: logistic function and hyperbolic tangent.

The range reduction follows W. J. Cody and W. Waite, "Software Manual for the Elementary Functions"
(1980).
"""

from __future__ import annotations

from typing import Any

from fastact.simd import PerDtype, copysign, fma, polynomial, scale, select
from fastact.vecmath import coefficients

EXP = PerDtype(**coefficients.EXP)
_EXPM1 = PerDtype(**coefficients.EXPM1)
_RECIPROCAL = PerDtype(**coefficients.RECIPROCAL)
_LOG2_E = PerDtype(**coefficients.LOG2_E)
_MINUS_LN2_HIGH = -PerDtype(**coefficients.LN2_HIGH)
_MINUS_LN2_LOW = -PerDtype(**coefficients.LN2_LOW)

_ROUND = PerDtype(float32=1.5 * 2.0**23, float64=1.5 * 2.0**52)

# What exp is zero for by far. A power of two that just underflows costs 200 cycles (Intel's Sapphire
# Rapids), one below 2**-512, in float64 2**-4096, nothing; and masked logits (-1e4, -inf) are common.
_FAR = PerDtype(float32=-400.0, float64=-3000.0)
# exp is zero below the first, and infinite above the second.
EXP_ZERO = PerDtype(float32=-106.0, float64=-748.0)
_EXP_INFINITE = PerDtype(float32=89.0, float64=710.0)
# expm1 is its argument to the last bit below the first, and -1 from the second down.
_EXPM1_IS_X = PerDtype(float32=2.0**-30, float64=2.0**-60)
_EXPM1_IS_MINUS_ONE = PerDtype(float32=-18.0, float64=-38.0)


def _reduce_first(x: Any) -> Any:
    """Return the n of `reduce`, and exactly ``x - n * LN2_HIGH``."""
    # The large number has no bits for a fraction: what is added to it is rounded to an integer.
    n = fma(x, _LOG2_E, _ROUND) - _ROUND
    return n, fma(n, _MINUS_LN2_HIGH, x)


def reduce(x: Any) -> Any:
    """Split ``x = n ln2 + r``, abs(r) <= ln2 / 2, with the remainder rounded once."""
    n, first = _reduce_first(x)
    return n, fma(n, _MINUS_LN2_LOW, first)


def exp_parts(x: Any, x_lost: Any) -> Any:
    """Return n, p and p_lost, where ``exp(x + x_lost) = 2**n (1 + p + p_lost)``."""
    n, first = _reduce_first(x)
    correction = fma(n, _MINUS_LN2_LOW, x_lost)
    r = first + correction
    higher = polynomial(r, EXP)
    p = fma(higher, r * r, r)
    return n, p, fma(higher, r * r, r - p) + ((first - r) + correction)


def exp(x: Any) -> Any:
    """Compute e to the power of x."""
    n, r = reduce(select(x < _FAR, _FAR, select(x > _EXP_INFINITE, _EXP_INFINITE, x)))
    return scale(1 + fma(polynomial(r, EXP), r * r, r), n)


def exp_of_nonpositive(x: Any) -> Any:
    """Compute e to the power of x for x <= 0."""
    n, r = reduce(select(x < _FAR, _FAR, x))
    # For x > 0 the power might overflow where the result does not; here it saves a rounding.
    power = scale(1, n)
    return fma(power, fma(polynomial(r, EXP), r * r, r), power)


def exp_parts_of_minus_abs(x: Any, lost: Any) -> Any:
    """Return n, q, where ``exp(-abs(x + lost)) = 2**n (1 + q)``, and where that is zero by far.

    What x lacks is small against it, and means nothing where x is infinite.
    """
    exponent = -abs(x)
    is_far = exponent < _FAR
    n, first = _reduce_first(select(is_far, _FAR, exponent))
    r = first + fma(n, _MINUS_LN2_LOW, select(is_far, 0, select(x < 0, lost, -lost)))
    return n, fma(polynomial(r, EXP), r * r, r), is_far


def _exp_of_minus_abs_of_sum(x: Any, lost: Any) -> Any:
    """Compute e to the power of -abs(x + lost), where `lost` is small against x."""
    n, q, _ = exp_parts_of_minus_abs(x, lost)
    power = scale(1, n)
    return fma(power, q, power)


def expm1(x: Any) -> Any:
    """Compute e to the power of x, less one, without cancellation near zero."""
    low, high = _EXPM1_IS_MINUS_ONE, _EXP_INFINITE
    clamped = select(x > high, high, select(x < low, low, x))
    # Just above ln2 / 2 the result is smaller than what it is the difference of, and so each step
    # also keeps what its rounding loses.
    n, first = _reduce_first(clamped)
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


def expm1_parts(x: Any) -> Any:
    """Return n and expm1(r), where ``x = n ln2 + r``."""
    n, r = reduce(x)
    return n, fma(polynomial(r, _EXPM1), r * r, r)


def expm1_and_exp(x: Any) -> Any:
    """Return expm1(x) and exp(x) for x <= 0 from one reduction."""
    n, q = expm1_parts(select(x < _FAR, _FAR, x))
    power = scale(1, n)
    return copysign(fma(power, q, power - 1), x), fma(power, q, power)


def reciprocal_of_one_plus(e: Any) -> Any:
    """Compute 1 / (1 + e) for 0 <= e <= 1 as a number and what it lacks: a tenth of it or less."""
    # A polynomial and a step of Newton's method: a division takes as long as ten multiplications.
    y = polynomial(e, _RECIPROCAL)
    return y, y * fma(-e, y, 1 - y)


def _logistic_from_exp(x: Any, e: Any) -> Any:
    """Return the logistic function of x and its derivative from e = exp(-abs(x))."""
    y, y_lost = reciprocal_of_one_plus(e)
    upper = y + y_lost
    lower = fma(e, y, e * y_lost)
    return select(x < 0, lower, upper), lower * upper


def logistic_and_derivative(x: Any) -> Any:
    """Return the logistic function 1 / (1 + exp(-x)) and its derivative, neither with cancellation."""
    return _logistic_from_exp(x, exp_of_nonpositive(-abs(x)))


def logistic_of_sum_and_derivative(x: Any, lost: Any) -> Any:
    """Return the logistic function and its derivative at x + lost.

    `lost` is what x lacks of the intended argument, such as the rounding error of a product: at most
    half a unit in the last place of x. It may be NaN where x is infinite.
    """
    return _logistic_from_exp(x, _exp_of_minus_abs_of_sum(x, lost))


def logistic(x: Any) -> Any:
    """Compute the logistic function, 1 / (1 + exp(-x))."""
    return logistic_and_derivative(x)[0]


def tanh_and_derivative(x: Any) -> Any:
    """Return the hyperbolic tangent and its derivative, 1 / cosh(x)**2, neither with cancellation."""
    # With e = exp(-2 abs(x)): tanh = (1 - e) / (1 + e), derivative 4 e / (1 + e)**2. The factor 4 is
    # there from the start: where 4 e is representable, e may no longer be.
    exponent = -2 * abs(x)
    n, q = expm1_parts(select(exponent < _FAR, _FAR, exponent))
    four = scale(4, n)
    power = 0.25 * four
    difference = fma(-power, q, 1 - power)
    y, y_lost = reciprocal_of_one_plus(fma(power, q, power))
    quotient = fma(difference, y, difference * y_lost)
    four_e = fma(four, q, four)
    return copysign(quotient, x), fma(four_e, y, four_e * y_lost) * (y + y_lost)


def tanh(x: Any) -> Any:
    """Compute the hyperbolic tangent."""
    return tanh_and_derivative(x)[0]
