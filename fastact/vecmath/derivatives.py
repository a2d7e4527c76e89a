"""The derivatives of the elementary functions, for automatic differentiation.

What a function does with bits and exponents cannot be differentiated step by step; each function that a
definition may call has its rule here instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastact import vecmath
from fastact.simd import derivative_of, dual, select, value_of

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)

# By function: the same on dual numbers.
RULES: dict[Callable[..., Any], Callable[..., Any]] = {}


def _rule(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the function below what `function` is on dual numbers."""
    return lambda rule: RULES.setdefault(function, rule)


@_rule(vecmath.exp)
def _exp(x: Any) -> Any:
    y = vecmath.exp(value_of(x))
    return dual(y, y * derivative_of(x))


@_rule(vecmath.expm1)
def _expm1(x: Any) -> Any:
    y = vecmath.expm1(value_of(x))
    return dual(y, (y + 1) * derivative_of(x))


@_rule(vecmath.expm1_and_exp)
def _expm1_and_exp(x: Any) -> Any:
    y, power = vecmath.expm1_and_exp(value_of(x))
    change = power * derivative_of(x)
    return dual(y, change), dual(power, change)


@_rule(vecmath.log1p)
def _log1p(x: Any) -> Any:
    return dual(vecmath.log1p(value_of(x)), derivative_of(x) / (1 + value_of(x)))


@_rule(vecmath.logistic)
def _logistic(x: Any) -> Any:
    y, slope = vecmath.logistic_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@_rule(vecmath.logistic_and_derivative)
def _logistic_and_derivative(x: Any) -> Any:
    y, slope = vecmath.logistic_and_derivative(value_of(x))
    change = slope * derivative_of(x)
    return dual(y, change), dual(slope, -vecmath.tanh(0.5 * value_of(x)) * change)


@_rule(vecmath.tanh)
def _tanh(x: Any) -> Any:
    y, slope = vecmath.tanh_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@_rule(vecmath.tanh_and_derivative)
def _tanh_and_derivative(x: Any) -> Any:
    y, slope = vecmath.tanh_and_derivative(value_of(x))
    change = slope * derivative_of(x)
    return dual(y, change), dual(slope, -2 * y * change)


@_rule(vecmath.log)
def _log(x: Any) -> Any:
    return dual(vecmath.log(value_of(x)), derivative_of(x) / value_of(x))


@_rule(vecmath.log1mexp)
def _log1mexp(x: Any) -> Any:
    y = vecmath.log1mexp(value_of(x))
    return dual(y, derivative_of(x) / vecmath.expm1(value_of(x)))


@_rule(vecmath.softplus)
def _softplus(x: Any) -> Any:
    y, slope = vecmath.softplus_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x))


@_rule(vecmath.softplus_and_derivative)
def _softplus_and_derivative(x: Any) -> Any:
    y, slope = vecmath.softplus_and_derivative(value_of(x))
    _, curvature = vecmath.logistic_and_derivative(value_of(x))
    return dual(y, slope * derivative_of(x)), dual(slope, curvature * derivative_of(x))


@_rule(vecmath.logistic_of_sum_and_derivative)
def _logistic_of_sum_and_derivative(x: Any, lost: Any) -> Any:
    both = value_of(x), value_of(lost)
    y, slope = vecmath.logistic_of_sum_and_derivative(both[0], both[1])
    change = slope * (derivative_of(x) + derivative_of(lost))
    return dual(y, change), dual(slope, -vecmath.tanh(0.5 * both[0]) * change)


@_rule(vecmath.erf)
def _erf(x: Any) -> Any:
    slope = TWO_OVER_SQRT_PI * vecmath.exp(-value_of(x) * value_of(x))
    return dual(vecmath.erf(value_of(x)), slope * derivative_of(x))


@_rule(vecmath.erfc)
def _erfc(x: Any) -> Any:
    slope = -TWO_OVER_SQRT_PI * vecmath.exp(-value_of(x) * value_of(x))
    return dual(vecmath.erfc(value_of(x)), slope * derivative_of(x))


@_rule(vecmath.normal_cdf_and_pdf)
def _normal_cdf_and_pdf(x: Any) -> Any:
    cdf, pdf = vecmath.normal_cdf_and_pdf(value_of(x))
    change = pdf * derivative_of(x)
    return dual(cdf, change), dual(pdf, _times(pdf, -value_of(x) * derivative_of(x)))


@_rule(vecmath.gelu_and_derivative)
def _gelu_and_derivative(x: Any) -> Any:
    y, slope = vecmath.gelu_and_derivative(value_of(x))
    _, pdf = vecmath.normal_cdf_and_pdf(value_of(x))
    curvature = _times(pdf, 2 - value_of(x) * value_of(x))
    return dual(y, slope * derivative_of(x)), dual(slope, curvature * derivative_of(x))


@_rule(vecmath.sin)
def _sin(x: Any) -> Any:
    sine, cosine = vecmath.sin_and_cos(value_of(x))
    return dual(sine, cosine * derivative_of(x))


@_rule(vecmath.cos)
def _cos(x: Any) -> Any:
    sine, cosine = vecmath.sin_and_cos(value_of(x))
    return dual(cosine, -sine * derivative_of(x))


@_rule(vecmath.sin_and_cos)
def _sin_and_cos(x: Any) -> Any:
    sine, cosine = vecmath.sin_and_cos(value_of(x))
    change = derivative_of(x)
    return dual(sine, cosine * change), dual(cosine, -sine * change)


def _times(vanishing: Any, x: Any) -> Any:
    """Return the product, and 0 where the first is 0 and the second infinite: the limit."""
    return select(vanishing == 0, 0, vanishing * x)
