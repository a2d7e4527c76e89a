"""The derivatives of the elementary functions, for automatic differentiation.

What a function does with bits and exponents cannot be differentiated step by step; each function that a
definition may call has its rule here instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact import vecmath
from fastact.simd import derivative_of, dual, value_of

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
