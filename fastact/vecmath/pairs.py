"""Functions and products to nearly twice the digits: for sums in which they cancel.

Each takes and returns pairs: a number, and what it lacks. The sum of both is right to a tenth of a unit
in the last place of the first or so, but for erf above 1/2, which is right to one unit.

What has a rule for dual numbers takes the two parts of a pair one by one, since a rule is found by the
types of arguments; the rest is arithmetic, and takes pairs as tuples.
"""

from __future__ import annotations

from typing import Any

from fastact.simd import (
    PerDtype,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    polynomial,
    scale,
    select,
    value_of,
)
from fastact.vecmath import coefficients
from fastact.vecmath.error_function import ERF, ERFC_ZERO, erfc_parts
from fastact.vecmath.exponential import EXP_ZERO, exp_parts
from fastact.vecmath.trigonometric import sin_and_cos_parts

__all__ = [
    "add_pairs",
    "erf_and_derivative_pairs",
    "exp_and_logistic_pairs",
    "exp_pair",
    "log1p_pair",
    "multiply_pairs",
    "reciprocal_pair_of_one_plus",
    "select_pair",
    "sin_and_cos_pairs",
]

_LOG1P = PerDtype(**coefficients.LOG1P)
_TWO_OVER_SQRT_PI = PerDtype(float32=1.128379225730896, float64=1.1283791670955126)
_TWO_OVER_SQRT_PI_LOST = PerDtype(float32=-5.8635382771399236e-08, float64=1.533545961316588e-17)


def select_pair(mask: Any, if_true: Any, if_false: Any) -> Any:
    """Take one pair where `mask` is set, else the other."""
    return select(mask, if_true[0], if_false[0]), select(mask, if_true[1], if_false[1])


def add_pairs(first: Any, second: Any) -> Any:
    """Return the sum of two pairs, whichever is larger (D. Knuth)."""
    total = first[0] + second[0]
    part = total - first[0]
    lost = (first[0] - (total - part)) + (second[0] - part)
    return total, lost + (first[1] + second[1])


def multiply_pairs(first: Any, second: Any) -> Any:
    """Return the product of two pairs."""
    product = first[0] * second[0]
    lost = fma(first[0], second[0], -product)
    return product, lost + fma(first[0], second[1], first[1] * second[0])


def reciprocal_pair_of_one_plus(x: Any) -> Any:
    """Return 1 / (1 + x) for a pair x between 0 and 2."""
    d = 1 + x[0]
    d_lost = (x[0] - (d - 1)) + x[1]
    y = 1 / d
    return y, y * fma(-y, d_lost, fma(-d, y, 1))


def exp_pair(x: Any) -> Any:
    """Return e to the power of a number x <= 0."""
    vanishes = x < EXP_ZERO
    n, p, p_lost = exp_parts(select(vanishes, 0, x), 0)
    power = scale(select(vanishes, 0, 1), n)
    y = fma(power, p, power)
    return y, fma(power, p, power - y) + power * p_lost


def exp_and_logistic_pairs(x: Any) -> Any:
    """Return exp(-abs(x)), logistic(abs(x)) and logistic(-abs(x)) of a number x."""
    e = exp_pair(-abs(x))
    upper = reciprocal_pair_of_one_plus(e)
    return e, upper, multiply_pairs(e, upper)


def log1p_pair(x: Any, x_lost: Any) -> Any:
    """Return the logarithm of 1 + x for a pair x between 0 and 1."""
    # log(1 + x) = 2 s + s z Q(z) with s = x / (2 + x) and z = s**2, and 2 s = x - s x.
    bottom = 2 + x
    bottom_lost = x - (bottom - 2)
    s = x / bottom
    s_lost = fma(-s, bottom_lost, fma(-s, bottom, x)) / bottom
    z = s * s
    q = polynomial(z, _LOG1P)
    rest = fma(-z, q, x)
    less, less_lost = multiply_pairs((s, s_lost), (rest, fma(-z, q, x - rest)))
    y = x - less
    return y, ((x - y) - less) - less_lost + x_lost / (1 + x)


def erf_and_derivative_pairs(x: Any, x_lost: Any) -> Any:
    """Return erf(x) and ``2 / sqrt(pi) exp(-x**2)``, two pairs, for a pair x that is not negative."""
    vanishes = x > ERFC_ZERO
    a = select(vanishes, 0, x)
    n, tail = erfc_parts(a)
    is_small = a < 0.5
    most = select(is_small, a, 1)
    rest = select(is_small, a * polynomial(a * a, ERF), -scale(tail, n))
    erf = most + rest
    erf_lost = (most - erf) + rest
    square = a * a
    n, p, p_lost = exp_parts(-square, -fma(a, a, -square))
    power = scale(1, n)
    gaussian = fma(power, p, power)
    gaussian_lost = fma(power, p, power - gaussian) + power * p_lost
    constant = (_TWO_OVER_SQRT_PI, _TWO_OVER_SQRT_PI_LOST)
    slope, slope_lost = multiply_pairs((gaussian, gaussian_lost), constant)
    # What x lacks is so small that tangents do for it.
    erf_lost = fma(slope, x_lost, erf_lost)
    slope_lost = fma(-2 * a * slope, x_lost, slope_lost)
    return (
        select_pair(vanishes, (1, 0), (erf, erf_lost)),
        select_pair(vanishes, (0, 0), (slope, slope_lost)),
    )


def sin_and_cos_pairs(x: Any, x_lost: Any) -> Any:
    """Return the sine and the cosine of a pair x; what a large x lacks may be any angle."""
    sine, sine_lost, cosine, cosine_lost = sin_and_cos_parts(x)
    small_sine, small_sine_lost, small_cosine, small_cosine_lost = sin_and_cos_parts(x_lost)
    sine, cosine = (sine, sine_lost), (cosine, cosine_lost)
    small_sine, small_cosine = (small_sine, small_sine_lost), (small_cosine, small_cosine_lost)
    minus = (-small_sine[0], -small_sine[1])
    return (
        add_pairs(multiply_pairs(sine, small_cosine), multiply_pairs(cosine, small_sine)),
        add_pairs(multiply_pairs(cosine, small_cosine), multiply_pairs(sine, minus)),
    )


# --- The same on dual numbers -------------------------------------------------------------------


def _dual_pair(pair: Any, change: Any) -> Any:
    return dual(pair[0], change), dual(pair[1], 0)


@derivative_rule(exp_pair)
def _dual_exp_pair(x: Any) -> Any:
    y = exp_pair(value_of(x))
    return _dual_pair(y, y[0] * derivative_of(x))


@derivative_rule(log1p_pair)
def _dual_log1p_pair(x: Any, x_lost: Any) -> Any:
    change = derivative_of(x) + derivative_of(x_lost)
    return _dual_pair(log1p_pair(value_of(x), value_of(x_lost)), change / (1 + value_of(x)))


@derivative_rule(erf_and_derivative_pairs)
def _dual_erf_and_derivative_pairs(x: Any, x_lost: Any) -> Any:
    erf, slope = erf_and_derivative_pairs(value_of(x), value_of(x_lost))
    change = slope[0] * (derivative_of(x) + derivative_of(x_lost))
    # Where the slope vanishes, x may be infinite.
    curvature = select(slope[0] == 0, 0, -2 * value_of(x) * change)
    return _dual_pair(erf, change), _dual_pair(slope, curvature)


@derivative_rule(sin_and_cos_pairs)
def _dual_sin_and_cos_pairs(x: Any, x_lost: Any) -> Any:
    sine, cosine = sin_and_cos_pairs(value_of(x), value_of(x_lost))
    change = derivative_of(x) + derivative_of(x_lost)
    return _dual_pair(sine, cosine[0] * change), _dual_pair(cosine, -sine[0] * change)
