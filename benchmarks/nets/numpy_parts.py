"""The parts of a net that are not matrix products, in plain NumPy as a careful person writes them.

Each part returns its value and a function, the vector-Jacobian product: it takes the gradient of
the value and returns the gradients of the part's inputs. A loss returns its gradient itself, and an
optimizer works in place. Where there is a bias, the input is a fresh product: it is overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
#: From the gradient of a value, or of several, to those of the inputs.
Vjp: TypeAlias = Callable[..., Any]
#: Whether each element is kept, from the shape and the probability that one is dropped.
Keep: TypeAlias = Callable[[tuple[int, ...], float], Array]


# Activations ------------------------------------------------------------------------------------


def _relu(x: Array) -> tuple[Array, Vjp]:
    y = np.maximum(x, 0)
    return y, lambda dy: dy * (y > 0)


def _leaky_relu(x: Array, slope: float = 0.01) -> tuple[Array, Vjp]:
    y = np.maximum(x, slope * x)
    # Not np.where, which mispredicts branches; and a Python float times booleans is float64.
    number = x.dtype.type
    return y, lambda dy: dy * ((y > 0) * number(1 - slope) + number(slope))


def _elu(x: Array) -> tuple[Array, Vjp]:
    y = np.maximum(x, np.exp(np.minimum(x, 0)) - 1)
    return y, lambda dy: dy * (np.minimum(y, 0) + 1)


def _logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _sigmoid(x: Array) -> tuple[Array, Vjp]:
    y = _logistic(x)
    return y, lambda dy: dy * y * (1 - y)


def _gelu(x: Array) -> tuple[Array, Vjp]:
    """Compute the approximation by tanh: NumPy has no error function."""
    a, b = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715
    square = x * x
    t = np.tanh(x * (a + b * square))
    y = 0.5 * x * (1 + t)
    return y, lambda dy: 0.5 * dy * (1 + t + x * (a + 3 * b * square) * (1 - t * t))


#: Each takes x, and returns the value and the gradient's function.
POINTWISE = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "gelu_tanh": _gelu,
}


def _activation(pointwise: Callable[[Array], tuple[Array, Vjp]]) -> Callable[..., Any]:
    """Return a part: a bias along an axis, the activation, and dropout."""

    def part(
        parts: NumpyParts,
        x: Array,
        bias: Array | None = None,
        *,
        axis: int = -1,
        dropout: float = 0.0,
    ) -> tuple[Array, Vjp]:
        if bias is not None:
            x += bias if axis == -1 else bias.reshape(-1, *(1,) * (x.ndim - axis - 1))
        y, to_input = pointwise(x)
        from_output = None
        if dropout:
            y, from_output = parts.dropout(y, dropout)

        def vjp(dy: Array) -> Any:
            dx = to_input(from_output(dy) if from_output else dy)
            if bias is None:
                return dx
            if axis == -1:
                return dx, dx.sum(axis=0)
            return dx, dx.sum(axis=tuple(i for i in range(dx.ndim) if i != axis))

        return y, vjp

    return part


# Normalization ----------------------------------------------------------------------------------


def _normalization(axis: int) -> Callable[..., Any]:
    """Return a part that normalizes an array of rows by mean and variance along an axis."""

    def part(
        parts: NumpyParts, x: Array, weight: Array, bias: Array, epsilon: float = 1e-5
    ) -> tuple[Array, Vjp]:
        normalized = x - x.mean(axis=axis, keepdims=True)
        variance = np.square(normalized).mean(axis=axis, keepdims=True)
        scale = 1 / np.sqrt(variance + epsilon)
        normalized *= scale

        def vjp(dy: Array) -> tuple[Array, Array, Array]:
            d = dy * weight
            along = normalized * (d * normalized).mean(axis=axis, keepdims=True)
            dx = scale * (d - d.mean(axis=axis, keepdims=True) - along)
            return dx, (dy * normalized).sum(axis=0), dy.sum(axis=0)

        return normalized * weight + bias, vjp

    return part


@lru_cache(maxsize=1)
def no_future(length: int, dtype: np.dtype[Any]) -> Array:
    """Return minus infinity above the diagonal, and 0 elsewhere."""
    return np.triu(np.full((length, length), -np.inf, dtype), k=1)


class NumpyParts:
    """All parts.

    Parameters
    ----------
    keep : callable, optional
        Draws the masks of dropout; by default from a NumPy generator.
    """

    def __init__(self, keep: Keep | None = None) -> None:
        random = np.random.default_rng(0)
        self.keep: Keep = keep or (lambda shape, p: random.random(shape, np.float32) >= p)

    relu = _activation(_relu)
    leaky_relu = _activation(_leaky_relu)
    elu = _activation(_elu)
    sigmoid = _activation(_sigmoid)
    gelu = _activation(_gelu)

    #: ``layer_norm(x, weight, bias)`` of each row, ``batch_norm(x, weight, bias)`` of each column.
    layer_norm = _normalization(axis=1)
    batch_norm = _normalization(axis=0)

    def dropout(self, x: Array, p: float) -> tuple[Array, Vjp]:
        """Drop elements with probability p, and scale the others."""
        mask = self.keep(x.shape, p) * x.dtype.type(1 / (1 - p))
        return x * mask, lambda dy: dy * mask

    def causal_softmax(self, scores: Array, scale: float) -> tuple[Array, Vjp]:
        """Weigh, for each position of a sequence, itself and those before it; overwrite scores."""
        y = scores
        y *= scale
        y += no_future(y.shape[-1], y.dtype)
        y -= y.max(axis=-1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)

        def vjp(dy: Array) -> Array:
            weighted = dy * y
            dx: Array = scale * (weighted - y * weighted.sum(axis=-1, keepdims=True))
            return dx

        return y, vjp

    # Recurrent cells, with the gates in PyTorch's order -----------------------------------------

    def lstm_cell(self, gates: Array, c: Array) -> tuple[tuple[Array, Array], Vjp]:
        """Return the new output and state, from the sums of the four gates (n, 4h)."""
        h = c.shape[1]
        sigmoids = _logistic(gates)  # of one superfluous quarter: a call is dearer
        i, f, o = sigmoids[:, :h], sigmoids[:, h : 2 * h], sigmoids[:, 3 * h :]
        g = np.tanh(gates[:, 2 * h : 3 * h])
        new_c = f * c + i * g
        t = np.tanh(new_c)

        def vjp(dh: Array, dc: Array) -> tuple[Array, Array]:
            dc = dc + dh * o * (1 - t * t)
            dgates = sigmoids * (1 - sigmoids)
            dgates[:, :h] *= dc * g
            dgates[:, h : 2 * h] *= dc * c
            dgates[:, 2 * h : 3 * h] = dc * i * (1 - g * g)
            dgates[:, 3 * h :] *= dh * t
            return dgates, dc * f

        return (o * t, new_c), vjp

    def gru_cell(self, from_x: Array, from_h: Array, h: Array) -> tuple[Array, Vjp]:
        """Return the new output, from the sums of the three gates (n, 3h) over input and output."""
        width = h.shape[1]
        reset_update = _logistic(from_x[:, : 2 * width] + from_h[:, : 2 * width])
        r, z = reset_update[:, :width], reset_update[:, width:]
        candidate = from_h[:, 2 * width :]
        n = np.tanh(from_x[:, 2 * width :] + r * candidate)

        def vjp(dh: Array) -> tuple[Array, Array, Array]:
            dn = dh * (1 - z) * (1 - n * n)
            dgates = reset_update * (1 - reset_update)
            dgates[:, :width] *= dn * candidate
            dgates[:, width:] *= dh * (h - n)
            dfrom_x = np.concatenate([dgates, dn], axis=1)
            dfrom_h = dfrom_x.copy()
            dfrom_h[:, 2 * width :] *= r
            return dfrom_x, dfrom_h, dh * z

        return n + z * (h - n), vjp

    # Losses and their gradients -----------------------------------------------------------------

    def cross_entropy(self, logits: Array, labels: Array) -> tuple[float, Array]:
        """Return the mean of the rows' losses."""
        rows = np.arange(len(labels))
        logits = logits - logits.max(axis=1, keepdims=True)
        probabilities = np.exp(logits)
        sums = probabilities.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(sums[:, 0]) - logits[rows, labels])
        probabilities /= sums
        probabilities[rows, labels] -= 1
        probabilities /= len(labels)
        return float(loss), probabilities

    def binary_cross_entropy(self, logits: Array, targets: Array) -> tuple[float, Array]:
        """Return the mean of the elements' losses."""
        losses = np.log1p(np.exp(-np.abs(logits))) + np.maximum(logits, 0) - logits * targets
        return float(losses.mean()), (_logistic(logits) - targets) / logits.size

    # Optimizers: parameter, gradient and state, all updated in place ----------------------------

    def sgd(self, p: Array, g: Array, *, rate: float, step: int) -> None:
        """Take a step of gradient descent."""
        p -= rate * g

    def momentum(self, p: Array, g: Array, velocity: Array, *, rate: float, step: int) -> None:
        """Take a step of gradient descent with momentum 0.9."""
        velocity *= 0.9
        velocity += g
        p -= rate * velocity

    def adam(self, p: Array, g: Array, m: Array, v: Array, *, rate: float, step: int) -> None:
        """Take a step of Adam, with the usual coefficients."""
        m *= 0.9
        m += 0.1 * g
        v *= 0.999
        v += 0.001 * (g * g)
        correction = math.sqrt(1 - 0.999**step)
        p -= rate * correction / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-8 * correction)
