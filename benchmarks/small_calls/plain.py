"""Plain NumPy for one call, as a careful person writes it, without checks of arguments.

Each function returns the value, or the values in a tuple, and its vector-Jacobian product; a loss returns its gradient
itself. Those of the nets are among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.nets.numpy_parts import POINTWISE, Array, NumpyParts, Vjp

PARTS = NumpyParts()
relu, sigmoid, gelu_tanh = (POINTWISE[name] for name in ("relu", "sigmoid", "gelu_tanh"))


# Activations -------------------------------------------------------------------------------------


def tanh(x: Array) -> tuple[Array, Vjp]:
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - y * y)


def silu(x: Array) -> tuple[Array, Vjp]:
    s = 1 / (1 + np.exp(-x))
    y = x * s
    return y, lambda dy: dy * (y + s * (1 - y))


def mish(x: Array) -> tuple[Array, Vjp]:
    e = np.exp(np.minimum(x, 20))  # beyond, mish is x
    n = e * (e + 2)
    t = n / (n + 2)  # tanh(log(1 + e))
    return x * t, lambda dy: dy * (t + x * (1 - t * t) * e / (e + 1))


def squared_relu(x: Array) -> tuple[Array, Vjp]:
    r = np.maximum(x, 0)
    return r * r, lambda dy: dy * (2 * r)


def prelu(x: Array, weight: Any) -> tuple[Array, Vjp]:
    negative = np.minimum(x, 0)

    def vjp(dy: Array) -> tuple[Array, Array]:
        dweight = dy * negative
        dx = dy * np.where(x > 0, x.dtype.type(1), weight)
        return dx, dweight.sum(axis=0) if np.ndim(weight) else dweight.sum()

    return np.maximum(x, 0) + weight * negative, vjp


def maxout(x: Array, pieces: int) -> tuple[Array, Vjp]:
    groups = x.reshape(*x.shape[:-1], -1, pieces)
    y = groups.max(axis=-1)
    return y, lambda dy: ((groups == y[..., np.newaxis]) * dy[..., np.newaxis]).reshape(x.shape)


def crelu(x: Array) -> tuple[Array, Vjp]:
    y = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1)
    n = x.shape[-1]
    return y, lambda dy: dy[..., :n] * (x > 0) - dy[..., n:] * (x < 0)


def relu_residual(x: Array, residual: Array) -> tuple[Array, Vjp]:
    y, vjp = relu(x)
    y += residual
    return y, vjp


def relu_dropout(x: Array, p: float) -> tuple[Array, Vjp]:
    y, to_input = relu(x)
    y, from_output = PARTS.dropout(y, p)
    return y, lambda dy: to_input(from_output(dy))


def with_bias(activation: Callable[[Array], tuple[Array, Vjp]]) -> Callable[..., Any]:
    def biased(x: Array, bias: Array) -> tuple[Array, Vjp]:
        y, to_input = activation(x + bias)

        def vjp(dy: Array) -> tuple[Array, Array]:
            dx = to_input(dy)
            return dx, dx.sum(axis=0)

        return y, vjp

    return biased


# Gated units -------------------------------------------------------------------------------------


def bilinear(gate: Array, value: Array) -> tuple[Array, Vjp]:
    return gate * value, lambda dy: (dy * value, dy * gate)


def gated(activation: Callable[[Array], tuple[Array, Vjp]]) -> Callable[..., Any]:
    """Return a gated unit of a gate and a value."""

    def unit(gate: Array, value: Array) -> tuple[Array, Vjp]:
        opened, to_gate = activation(gate)
        return opened * value, lambda dy: (to_gate(dy * value), dy * opened)

    return unit


def of_halves(unit: Callable[..., Any], gate_first: bool = True) -> Callable[..., Any]:
    """Return the same of one array whose halves are gate and value."""

    def packed(x: Array) -> tuple[Array, Vjp]:
        n = x.shape[-1] // 2
        gate, value = (slice(n), slice(n, None)) if gate_first else (slice(n, None), slice(n))
        return _of_parts(unit, x, gate, value)

    return packed


def of_pairs(unit: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same of one array in which gates and values alternate."""
    return lambda x: _of_parts(unit, x, slice(0, None, 2), slice(1, None, 2))


def _of_parts(unit: Callable[..., Any], x: Array, gate: slice, value: slice) -> tuple[Array, Vjp]:
    y, to_parts = unit(x[..., gate], x[..., value])

    def vjp(dy: Array) -> Array:
        dx = np.empty_like(x)
        dx[..., gate], dx[..., value] = to_parts(dy)
        return dx

    return y, vjp


swiglu = gated(silu)


# Rows --------------------------------------------------------------------------------------------


def softmax(x: Array, axis: int = -1, mask: Array | None = None) -> tuple[Array, Vjp]:
    """Weigh elements; the mask is added: minus infinity excludes."""
    if mask is not None:
        x = x + mask
    y = x - x.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)

    def vjp(dy: Array) -> Array:
        dx = dy * y
        dx -= y * dx.sum(axis=axis, keepdims=True)
        return dx

    return y, vjp


def softmin(x: Array) -> tuple[Array, Vjp]:
    y, to_input = softmax(-x)
    return y, lambda dy: -to_input(dy)


def log_softmax(x: Array) -> tuple[Array, Vjp]:
    y = x - x.max(axis=-1, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return y, lambda dy: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def logsumexp(x: Array) -> tuple[Array, Vjp]:
    largest = x.max(axis=-1, keepdims=True)
    e = np.exp(x - largest)
    total = e.sum(axis=-1, keepdims=True)
    return (np.log(total) + largest)[..., 0], lambda dy: e * (dy[..., np.newaxis] / total)


def rms_norm(x: Array, weight: Array, eps: float = 1e-5) -> tuple[Array, Vjp]:
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    normalized = x * scale

    def vjp(dy: Array) -> tuple[Array, Array]:
        d = dy * weight
        dx = scale * (d - normalized * (d * normalized).mean(axis=-1, keepdims=True))
        return dx, (dy * normalized).sum(axis=0)

    return normalized * weight, vjp


# Losses ------------------------------------------------------------------------------------------


def huber(predictions: Array, targets: Array, delta: float = 1.0) -> tuple[Any, Array]:
    difference = predictions - targets
    slope = np.clip(difference, -delta, delta)
    loss = (slope * (difference - 0.5 * slope)).mean()
    return loss, slope / difference.size


#: What the catalogue's functions compute, with no options but those that they require.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **POINTWISE,
    "tanh": tanh,
    "silu": silu,
    "mish": mish,
    "squared_relu": squared_relu,
    "prelu": prelu,
    "maxout": maxout,
    "crelu": crelu,
    "glu": of_halves(gated(sigmoid), gate_first=False),
    "reglu": of_halves(gated(relu)),
    "geglu_tanh": of_halves(gated(gelu_tanh)),
    "swiglu": of_halves(swiglu),
    "bilinear": of_halves(bilinear),
    "softmax": softmax,
    "softmin": softmin,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "lstm_cell": PARTS.lstm_cell,
    "gru_cell": PARTS.gru_cell,
    "softmax_cross_entropy": PARTS.cross_entropy,
    "sigmoid_binary_cross_entropy": PARTS.binary_cross_entropy,
    "huber": huber,
}
