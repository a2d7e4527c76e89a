"""Baselines of dropout and alpha dropout: NumPy draws the elements that they drop, not those that fastact drops."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastact.baseline.base import Array, Baseline, Out, prepare, prepare_both, result
from fastact.baseline.base import float_array as floats

#: Minus selu's limit at minus infinity: the product of its two constants.
_ALPHA = 1.0507009873554805 * 1.6732632423543772


def _kept(shape: tuple[int, ...], p: float, rng: Any) -> Array:
    """Return which elements are kept, each with probability 1 - p."""
    return np.random.default_rng(rng).random(shape, np.float32) >= np.float32(p)


def _dropout(name: str, numbers: Callable[[float], tuple[float, float, float]]) -> Baseline:
    """Return the baseline of a dropout from the factor of what is kept, its shift, and the value of what is not."""

    def write(x: Array, kept: Array, p: float, y: Array) -> None:
        scale, shift, dropped = numbers(p)
        np.multiply(x, kept, out=y)
        y *= scale
        if shift or dropped:
            y += dropped
            y += np.multiply(kept, shift - dropped, dtype=y.dtype)

    def write_gradient(dy: Array, kept: Array, p: float, dx: Array) -> None:
        np.multiply(dy, kept, out=dx)
        dx *= numbers(p)[0]

    def forward(x: ArrayLike, p: float = 0.5, *, rng: Any = None, out: Out = None) -> Array:
        x = floats(x)
        y = result(out, x)
        write(x, _kept(x.shape, p, rng), p, y)
        return y

    def backward(dy: ArrayLike, p: float = 0.5, *, rng: Any = None, out: Out = None) -> Array:
        dy, _, dx = prepare(dy, dy, out)
        write_gradient(dy, _kept(dy.shape, p, rng), p, dx)
        return dx

    def forward_backward(
        x: ArrayLike, dy: ArrayLike, p: float = 0.5, *, rng: Any = None, out: Out = None
    ) -> tuple[Array, Array]:
        x, dy, y, dx = prepare_both(x, dy, out)
        kept = _kept(x.shape, p, rng)
        write(x, kept, p, y)
        write_gradient(dy, kept, p, dx)
        return y, dx

    return _DropoutBaseline(name, forward, backward, forward_backward)


class _DropoutBaseline(Baseline):
    """A dropout: its gradient takes no input."""

    def vjp(self, x: ArrayLike, *arguments: Any, out: Out = None, **parameters: Any) -> Any:
        """Return the value, and a function that takes `dy` and returns the gradient: it keeps what is drawn."""
        ones = np.ones_like(floats(x))
        y, factors = self.forward_backward(x, ones, *arguments, out=(out, None), **parameters)
        return y, partial(np.multiply, factors)


def _alpha(p: float) -> tuple[float, float, float]:
    if p == 1:
        return 0.0, 0.0, 0.0
    scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
    return scale, _ALPHA * scale * p, -_ALPHA * scale * (1 - p)


dropout = _dropout("dropout", lambda p: (1 / (1 - p) if p < 1 else 0.0, 0.0, 0.0))
alpha_dropout = _dropout("alpha_dropout", _alpha)
