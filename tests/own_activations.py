"""Activations that a user might write, in a module of their own so that they pickle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastact as fa


@fa.activation
def swishy(x: Any, beta: Any = 1.5) -> Any:
    """Open the gate of silu more steeply."""
    return x * fa.math.logistic(beta * x)


@fa.activation(kinks={"0": "0"}, formula="...", reference="Somebody, 2026.")
def in_numpy_words(x: Any) -> Any:
    """Say all in NumPy's words."""
    low = np.where(x > 0, 0, np.minimum(x, -np.expm1(-np.abs(x))))
    return np.maximum(x, 0) + 0.5 * np.tanh(low) - 0.25 * np.square(np.sin(low))


@fa.activation
def with_all_functions(x: Any) -> Any:
    """Use every elementary function once."""
    a = fa.math.erf(x) + fa.math.erfc(0.3 * x) + fa.math.cos(x) * fa.math.sin(2 * x)
    b = fa.math.log(1 + x**2) / fa.math.sqrt(2 + x * x) + fa.math.log1p(abs(x) ** 3)
    return a + b * fa.math.softplus(-x) - math.pi * fa.math.exp(-(x**2)) + (3 + x**4) ** -2


@fa.activation
def pair(x: Any) -> Any:
    """Give value and derivative."""
    s = fa.math.logistic(x)
    return x * s, s + x * s * (1 - s)


@fa.activation
def wrong_pair(x: Any) -> Any:
    """Give a derivative that is wrong where x is above 2."""
    return x * x, 2 * x + fa.math.where(x > 2, 0.001, 0)


@fa.activation(learnable="a")
def with_learnable(x: Any, a: Any = 0.5) -> Any:
    """Have a gradient by `a` too."""
    return x * fa.math.tanh(a * x)


@fa.activation
def of_others(x: Any) -> Any:
    """Use an activation of the catalogue and of a function that is no activation."""
    return fa.sigmoid(x) * _helper(x) + fa.elu(x, 0.5)


def _helper(x: Any) -> Any:
    return x / (1 + abs(x))


FORMULAS = {
    swishy: lambda x: x / (1 + np.exp(-1.5 * x)),
    in_numpy_words: lambda x: (
        np.maximum(x, 0)
        + 0.5 * np.tanh(np.where(x > 0, 0, np.minimum(x, -np.expm1(-np.abs(x)))))
        - 0.25 * np.sin(np.where(x > 0, 0, np.minimum(x, -np.expm1(-np.abs(x))))) ** 2
    ),
    with_all_functions: lambda x: (
        _erf(x)
        + 1
        - _erf(0.3 * x)
        + np.cos(x) * np.sin(2 * x)
        + (np.log(1 + x**2) / np.sqrt(2 + x * x) + np.log1p(np.abs(x) ** 3)) * np.logaddexp(0, -x)
        - np.pi * np.exp(-(x**2))
        + (3 + x**4) ** -2
    ),
    pair: lambda x: x / (1 + np.exp(-x)),
    with_learnable: lambda x: x * np.tanh(0.5 * x),
    of_others: lambda x: (
        x / (1 + np.abs(x)) / (1 + np.exp(-x))
        + np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0)))
    ),
}


def _erf(x: Any) -> Any:
    from scipy import special

    return special.erf(x)


@fa.elementwise
def adam_step(
    w: Any, gradient: Any, mean: Any, square: Any, rate: Any = 1e-3, epsilon: Any = 1e-8
) -> Any:
    """Take a step of Adam."""
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    return w - rate * mean / (np.sqrt(square) + epsilon), mean, square


@fa.elementwise
def smooth_distance(y: Any, target: Any, sharpness: Any = 2.0) -> Any:
    """Have an array of the name that results have."""
    return fa.math.softplus(sharpness * (y - target)) / sharpness
