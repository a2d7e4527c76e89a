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
Losses = Callable[..., Any]


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


def _mse(x: Array, targets: Array, dx: Array | None) -> Array:
    """Return e**2 with the error e; the derivative is 2 e."""
    error = np.subtract(x, targets, dtype=x.dtype)
    if dx is not None:
        np.add(error, error, out=dx)
    error *= error
    return error


mse = _mean_of("mse", _mse)
sigmoid_binary_cross_entropy = _mean_of("sigmoid_binary_cross_entropy", _binary)
huber = _mean_of("huber", _huber)


def _of_labels(name: str, losses: Losses) -> LossBaseline:
    """Return the baseline of the mean over rows of a loss of the label's element."""

    def forward(x: ArrayLike, labels: Array) -> Any:
        x = float_array(x)
        return np.mean(losses(x[np.arange(len(x)), labels])[0])

    def forward_backward(
        x: ArrayLike, labels: Array, out: Array | None = None
    ) -> tuple[Any, Array]:
        x = float_array(x)
        rows = np.arange(len(x))
        loss, derivative = losses(x[rows, labels])
        dx = result(out, x)
        dx[...] = 0
        dx[rows, labels] = derivative / len(x)
        return np.mean(loss), dx

    def backward(dloss: Any, x: ArrayLike, labels: Array) -> Array:
        dx = forward_backward(x, labels)[1]
        dx *= dloss
        return dx

    return LossBaseline(name, forward, backward, forward_backward)


nll = _of_labels("nll", lambda x: (-x, np.full_like(x, -1)))
cross_entropy = _of_labels("cross_entropy", lambda p: (-np.log(p), -1 / p))


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
