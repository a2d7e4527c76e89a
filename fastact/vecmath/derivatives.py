"""The derivatives of the elementary functions, for automatic differentiation.

Operations on bits and exponents cannot be differentiated step by step, so each function that a definition
may call has a rule here.
"""

from __future__ import annotations

import math

from fastact.simd import (
    PerDtype,
    Vector,
    derivative_of,
    derivative_rule,
    dual,
    isnan,
    select,
    value_of,
)
from fastact.vecmath.double_double import DoubleDouble
from fastact.vecmath.error_function import (
    erf,
    erf_and_derivative_double_double,
    erfc,
    gelu_and_derivative,
    normal_cdf_and_pdf,
)
from fastact.vecmath.exponential import (
    exp,
    exp_double_double,
    exp_double_double_beside_one,
    expm1,
    expm1_and_exp,
    expm1_and_exp_parts,
    logistic,
    logistic_and_derivative,
    logistic_of_sum_and_derivative,
    near_exp_parts,
    near_expm1_and_exp,
    reciprocal_of_expm1,
    tail,
    tails_alike,
    tanh,
    tanh_and_derivative,
    tanh_and_derivative_parts,
)
from fastact.vecmath.logarithm import (
    log,
    log1mexp,
    log1p,
    log1p_double_double,
    softplus,
    softplus_and_derivative,
    softplus_parts_of_minus_abs,
)
from fastact.vecmath.scaling import ldexp
from fastact.vecmath.trigonometric import cos, sin, sin_and_cos, sin_and_cos_double_double

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
# The exponent of the smallest number.
_LOWEST = PerDtype(float32=-149.0, float64=-1074.0)


@derivative_rule(exp)
def _exp(x: Vector) -> Vector:
    y = exp(value_of(x))
    return dual(y, y * derivative_of(x))


@derivative_rule(expm1)
def _expm1(x: Vector) -> Vector:
    y = expm1(value_of(x))
    return dual(y, (y + 1) * derivative_of(x))


@derivative_rule(expm1_and_exp)
def _expm1_and_exp(x: Vector) -> tuple[Vector, Vector]:
    y, power = expm1_and_exp(value_of(x))
    change = power * derivative_of(x)
    return dual(y, change), dual(power, change)


@derivative_rule(expm1_and_exp_parts)
def _expm1_and_exp_parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    y, n, q = expm1_and_exp_parts(value_of(x))
    change = (1 + q) * derivative_of(x)
    return dual(y, ldexp(change, n)), n, dual(q, change)


@derivative_rule(near_expm1_and_exp)
def _near_expm1_and_exp(x: Vector) -> tuple[Vector, Vector, Vector]:
    y, power, q = near_expm1_and_exp(value_of(x))
    change = (1 + q) * derivative_of(x)
    return dual(y, change * power), power, dual(q, change)


@derivative_rule(reciprocal_of_expm1)
def _reciprocal_of_expm1(x: Vector) -> Vector:
    y = reciprocal_of_expm1(value_of(x))
    return dual(y, -y * (1 + y) * derivative_of(x))


@derivative_rule(near_exp_parts)
def _near_exp_parts(x: Vector) -> tuple[Vector, Vector]:
    power, p = near_exp_parts(value_of(x))
    return power, dual(p, (1 + p) * derivative_of(x))


@derivative_rule(tail)
def _tail(near: Vector, exponent: Vector, low: Vector, factor: Vector) -> Vector:
    change = value_of(factor) * (derivative_of(exponent) + derivative_of(low))
    change = change + derivative_of(factor)
    slope, near, factor = derivative_of(near), value_of(near), value_of(factor)
    exponent, low = value_of(exponent), value_of(low)
    return dual(tail(near, exponent, low, factor), tail(slope, exponent, low, change))


@derivative_rule(log1p)
def _log1p(x: Vector) -> Vector:
    return dual(log1p(value_of(x)), derivative_of(x) / (1 + value_of(x)))


@derivative_rule(logistic)
def _logistic(x: Vector) -> Vector:
    y, slope = logistic_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@derivative_rule(logistic_and_derivative)
def _logistic_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    y, slope = logistic_and_derivative(value_of(x))
    change = slope * derivative_of(x)
    return dual(y, change), dual(slope, _curvature_of_logistic(value_of(x), change))


def _curvature_of_logistic(x: Vector, change: Vector) -> Vector:
    # The signs of the factors' NaNs differ, and LLVM may exchange the factors.
    return select(isnan(x), x, -tanh(0.5 * x) * change)


@derivative_rule(tanh)
def _tanh(x: Vector) -> Vector:
    y, slope = tanh_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@derivative_rule(tanh_and_derivative)
def _tanh_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    y, slope = tanh_and_derivative(value_of(x))
    change = slope * derivative_of(x)
    return dual(y, change), dual(slope, -2 * y * change)


@derivative_rule(tanh_and_derivative_parts)
def _tanh_and_derivative_parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    value, derivative, exponent = tanh_and_derivative_parts(value_of(x))
    slope = tail(derivative, exponent, 0, 4)
    change = slope * derivative_of(x)
    change_of_exponent = select(value_of(x) < 0, 2, -2) * derivative_of(x)
    return (
        dual(value, change),
        dual(slope, -2 * value * change),
        dual(exponent, change_of_exponent),
    )


@derivative_rule(log)
def _log(x: Vector) -> Vector:
    return dual(log(value_of(x)), derivative_of(x) / value_of(x))


@derivative_rule(log1mexp)
def _log1mexp(x: Vector) -> Vector:
    y = log1mexp(value_of(x))
    return dual(y, derivative_of(x) / expm1(value_of(x)))


@derivative_rule(softplus)
def _softplus(x: Vector) -> Vector:
    y, slope = softplus_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@derivative_rule(softplus_and_derivative)
def _softplus_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    y, slope = softplus_and_derivative(value_of(x))
    _, curvature = logistic_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x)), dual(slope, curvature * derivative_of(x))


@derivative_rule(softplus_parts_of_minus_abs)
def _softplus_parts_of_minus_abs(x: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    y, lower, upper, exponent = softplus_parts_of_minus_abs(value_of(x))
    y, lower = tails_alike(y, lower, exponent)
    change = select(value_of(x) < 0, derivative_of(x), -derivative_of(x))
    slope = lower * change
    curvature = slope * upper
    return (
        dual(y, slope),
        dual(lower, curvature),
        dual(upper, -curvature),
        dual(exponent, change),
    )


@derivative_rule(logistic_of_sum_and_derivative)
def _logistic_of_sum_and_derivative(x: Vector, x_low: Vector) -> tuple[Vector, Vector]:
    y, slope = logistic_of_sum_and_derivative(value_of(x), value_of(x_low))
    change = slope * (derivative_of(x) + derivative_of(x_low))
    return dual(y, change), dual(slope, _curvature_of_logistic(value_of(x), change))


@derivative_rule(erf)
def _erf(x: Vector) -> Vector:
    slope = TWO_OVER_SQRT_PI * exp(-value_of(x) * value_of(x))
    return dual(erf(value_of(x)), slope * derivative_of(x))


@derivative_rule(erfc)
def _erfc(x: Vector) -> Vector:
    slope = -TWO_OVER_SQRT_PI * exp(-value_of(x) * value_of(x))
    return dual(erfc(value_of(x)), slope * derivative_of(x))


@derivative_rule(normal_cdf_and_pdf)
def _normal_cdf_and_pdf(x: Vector) -> tuple[Vector, Vector]:
    cdf, pdf = normal_cdf_and_pdf(value_of(x))
    change = pdf * derivative_of(x)
    return dual(cdf, change), dual(pdf, _times(pdf, -value_of(x) * derivative_of(x)))


@derivative_rule(gelu_and_derivative)
def _gelu_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    y, slope = gelu_and_derivative(value_of(x))
    _, pdf = normal_cdf_and_pdf(value_of(x))
    curvature = _times(pdf, 2 - value_of(x) * value_of(x))
    return dual(y, slope * derivative_of(x)), dual(slope, curvature * derivative_of(x))


@derivative_rule(sin)
def _sin(x: Vector) -> Vector:
    sine, cosine = sin_and_cos(value_of(x))
    return dual(sine, cosine * derivative_of(x))


@derivative_rule(cos)
def _cos(x: Vector) -> Vector:
    sine, cosine = sin_and_cos(value_of(x))
    return dual(cosine, -sine * derivative_of(x))


@derivative_rule(sin_and_cos)
def _sin_and_cos(x: Vector) -> tuple[Vector, Vector]:
    sine, cosine = sin_and_cos(value_of(x))
    change = derivative_of(x)
    return dual(sine, cosine * change), dual(cosine, -sine * change)


def _times(vanishing: Vector, x: Vector) -> Vector:
    """Return the product, or its limit 0 where the first factor is 0 and the second infinite."""
    return select(vanishing == 0, 0, vanishing * x)


# --- Double-doubles: the derivative goes with the high part -------------------------------------


def _dual_double_double(x: DoubleDouble, change: Vector) -> DoubleDouble:
    return dual(x[0], change), dual(x[1], 0)


@derivative_rule(exp_double_double_beside_one)
def _exp_double_double_beside_one(x: Vector) -> DoubleDouble:
    y = exp_double_double(value_of(x))
    return _dual_double_double(y, y[0] * derivative_of(x))


@derivative_rule(log1p_double_double)
def _log1p_double_double(x: Vector, x_low: Vector) -> DoubleDouble:
    y = log1p_double_double(value_of(x), value_of(x_low))
    change = derivative_of(x) + derivative_of(x_low)
    return _dual_double_double(y, change / (1 + value_of(x)))


@derivative_rule(erf_and_derivative_double_double)
def _erf_and_derivative_double_double(
    x: Vector, x_low: Vector, lowest: Vector
) -> tuple[DoubleDouble, DoubleDouble]:
    y, slope = erf_and_derivative_double_double(value_of(x), value_of(x_low), _LOWEST)
    change = slope[0] * (derivative_of(x) + derivative_of(x_low))
    # Where the slope vanishes, x may be infinite.
    curvature = select(slope[0] == 0, 0, -2 * value_of(x) * change)
    return _dual_double_double(y, change), _dual_double_double(slope, curvature)


@derivative_rule(sin_and_cos_double_double)
def _sin_and_cos_double_double(x: Vector, x_low: Vector) -> tuple[DoubleDouble, DoubleDouble]:
    sine, cosine = sin_and_cos_double_double(value_of(x), value_of(x_low))
    change = derivative_of(x) + derivative_of(x_low)
    return (
        _dual_double_double(sine, cosine[0] * change),
        _dual_double_double(cosine, -sine[0] * change),
    )
