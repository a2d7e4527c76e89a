"""Baselines of the losses other than the softmax cross-entropy: their mean, and its gradients.

Inputs must be finite.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastact.baseline.base import Array, LossBaseline, float_array, result
from fastact.baseline.elementwise import write_sigmoid
from fastact.baseline.layers import softmax_cross_entropy

#: Takes predictions, targets and an array for the derivative, or None, and returns each loss.
Losses = Callable[..., Array]


def _mean_of(name: str, losses: Losses) -> LossBaseline:
    """Return the baseline of the mean over all elements."""

    def forward(x: ArrayLike, targets: ArrayLike, **parameters: Any) -> Any:
        return np.mean(losses(float_array(x), np.asarray(targets), None, **parameters))

    def forward_backward(
        x: ArrayLike, targets: ArrayLike, out: Array | None = None, **parameters: Any
    ) -> tuple[Any, Array]:
        x = float_array(x)
        dx = result(out, x)
        loss = np.mean(losses(x, np.asarray(targets), dx, **parameters))
        dx /= x.size
        return loss, dx

    def backward(dloss: Any, x: ArrayLike, targets: ArrayLike, **parameters: Any) -> Array:
        dx = forward_backward(x, targets, **parameters)[1]
        dx *= dloss
        return dx

    return LossBaseline(name, forward, backward, forward_backward)


def _binary(x: Array, targets: Array, dx: Array | None, pos_weight: Any = 1.0) -> Array:
    """Return (1 - z) x + (1 + (w - 1) z) log(1 + exp(-x)), whose logarithm is taken of exp(-|x|)."""
    weight = 1 + (pos_weight - 1) * targets
    size = np.abs(x)
    np.negative(size, out=size)
    loss: Array = np.exp(size, out=size)
    np.log1p(loss, out=loss)
    loss -= np.clip(x, -np.inf, 0)
    loss *= weight
    loss += (1 - targets) * x
    if dx is not None:
        write_sigmoid(x, dx, None)
        dx *= weight
        dx -= pos_weight * targets
    return loss


def _huber(x: Array, targets: Array, dx: Array | None, delta: Any = 1.0) -> Array:
    """Return c (e - c / 2) with the error e and its nearest number c up to delta, which is the derivative."""
    error = np.subtract(x, targets, dtype=x.dtype)
    clipped = np.clip(error, -delta, delta, out=dx)
    loss: Array = error - 0.5 * clipped
    loss *= clipped
    return loss


sigmoid_binary_cross_entropy = _mean_of("sigmoid_binary_cross_entropy", _binary)
huber = _mean_of("huber", _huber)


def _linear_forward(x: ArrayLike, weight: Array, labels: Array) -> Any:
    return softmax_cross_entropy.forward(float_array(x) @ weight.T, labels)


def _linear_forward_backward(
    x: ArrayLike, weight: Array, labels: Array
) -> tuple[Any, Array, Array]:
    x = float_array(x)
    loss, dlogits = softmax_cross_entropy.forward_backward(x @ weight.T, labels)
    return loss, dlogits @ weight, dlogits.T @ x


def _linear_backward(dloss: Any, x: ArrayLike, weight: Array, labels: Array) -> tuple[Array, Array]:
    _, dx, dweight = _linear_forward_backward(x, weight, labels)
    dx *= dloss
    dweight *= dloss
    return dx, dweight


linear_cross_entropy = LossBaseline(
    "linear_cross_entropy", _linear_forward, _linear_backward, _linear_forward_backward
)
