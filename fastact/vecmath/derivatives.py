"""The derivatives of the elementary functions, for automatic differentiation.

What a function does with bits and exponents cannot be differentiated step by step; each function that a
definition may call has its rule here instead.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.simd import derivative_of, derivative_rule, dual, select, value_of
from fastact.vecmath.error_function import erf, erfc, gelu_and_derivative, normal_cdf_and_pdf
from fastact.vecmath.exponential import (
    exp,
    expm1,
    expm1_and_exp,
    logistic,
    logistic_and_derivative,
    logistic_of_sum_and_derivative,
    tanh,
    tanh_and_derivative,
)
from fastact.vecmath.logarithm import log, log1mexp, log1p, softplus, softplus_and_derivative
from fastact.vecmath.trigonometric import cos, sin, sin_and_cos

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)


@derivative_rule(exp)
def _exp(x: Any) -> Any:
    y = exp(value_of(x))
    return dual(y, y * derivative_of(x))


@derivative_rule(expm1)
def _expm1(x: Any) -> Any:
    y = expm1(value_of(x))
    return dual(y, (y + 1) * derivative_of(x))


@derivative_rule(expm1_and_exp)
def _expm1_and_exp(x: Any) -> Any:
    y, power = expm1_and_exp(value_of(x))
    change = power * derivative_of(x)
    return dual(y, change), dual(power, change)


@derivative_rule(log1p)
def _log1p(x: Any) -> Any:
    return dual(log1p(value_of(x)), derivative_of(x) / (1 + value_of(x)))


@derivative_rule(logistic)
def _logistic(x: Any) -> Any:
    y, slope = logistic_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@derivative_rule(logistic_and_derivative)
def _logistic_and_derivative(x: Any) -> Any:
    y, slope = logistic_and_derivative(value_of(x))
    change = slope * derivative_of(x)
    return dual(y, change), dual(slope, -tanh(0.5 * value_of(x)) * change)


@derivative_rule(tanh)
def _tanh(x: Any) -> Any:
    y, slope = tanh_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@derivative_rule(tanh_and_derivative)
def _tanh_and_derivative(x: Any) -> Any:
    y, slope = tanh_and_derivative(value_of(x))
    change = slope * derivative_of(x)
    return dual(y, change), dual(slope, -2 * y * change)


@derivative_rule(log)
def _log(x: Any) -> Any:
    return dual(log(value_of(x)), derivative_of(x) / value_of(x))


@derivative_rule(log1mexp)
def _log1mexp(x: Any) -> Any:
    y = log1mexp(value_of(x))
    return dual(y, derivative_of(x) / expm1(value_of(x)))


@derivative_rule(softplus)
def _softplus(x: Any) -> Any:
    y, slope = softplus_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@derivative_rule(softplus_and_derivative)
def _softplus_and_derivative(x: Any) -> Any:
    y, slope = softplus_and_derivative(value_of(x))
    _, curvature = logistic_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x)), dual(slope, curvature * derivative_of(x))


@derivative_rule(logistic_of_sum_and_derivative)
def _logistic_of_sum_and_derivative(x: Any, lost: Any) -> Any:
    both = value_of(x), value_of(lost)
    y, slope = logistic_of_sum_and_derivative(both[0], both[1])
    change = slope * (derivative_of(x) + derivative_of(lost))
    return dual(y, change), dual(slope, -tanh(0.5 * both[0]) * change)


@derivative_rule(erf)
def _erf(x: Any) -> Any:
    slope = TWO_OVER_SQRT_PI * exp(-value_of(x) * value_of(x))
    return dual(erf(value_of(x)), slope * derivative_of(x))


@derivative_rule(erfc)
def _erfc(x: Any) -> Any:
    slope = -TWO_OVER_SQRT_PI * exp(-value_of(x) * value_of(x))
    return dual(erfc(value_of(x)), slope * derivative_of(x))


@derivative_rule(normal_cdf_and_pdf)
def _normal_cdf_and_pdf(x: Any) -> Any:
    cdf, pdf = normal_cdf_and_pdf(value_of(x))
    change = pdf * derivative_of(x)
    return dual(cdf, change), dual(pdf, _times(pdf, -value_of(x) * derivative_of(x)))


@derivative_rule(gelu_and_derivative)
def _gelu_and_derivative(x: Any) -> Any:
    y, slope = gelu_and_derivative(value_of(x))
    _, pdf = normal_cdf_and_pdf(value_of(x))
    curvature = _times(pdf, 2 - value_of(x) * value_of(x))
    return dual(y, slope * derivative_of(x)), dual(slope, curvature * derivative_of(x))


@derivative_rule(sin)
def _sin(x: Any) -> Any:
    sine, cosine = sin_and_cos(value_of(x))
    return dual(sine, cosine * derivative_of(x))


@derivative_rule(cos)
def _cos(x: Any) -> Any:
    sine, cosine = sin_and_cos(value_of(x))
    return dual(cosine, -sine * derivative_of(x))


@derivative_rule(sin_and_cos)
def _sin_and_cos(x: Any) -> Any:
    sine, cosine = sin_and_cos(value_of(x))
    change = derivative_of(x)
    return dual(sine, cosine * change), dual(cosine, -sine * change)


def _times(vanishing: Any, x: Any) -> Any:
    """Return the product, and 0 where the first is 0 and the second infinite: the limit."""
    return select(vanishing == 0, 0, vanishing * x)
