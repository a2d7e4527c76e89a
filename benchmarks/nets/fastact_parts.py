"""The same parts with fastact.

What NumPy does in two or three passes is inherited, and the tables say so: gradient descent without and with momentum,
which gain nothing on small parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

import fastact as fa
from benchmarks.nets.numpy_parts import Array, Keep, NumpyParts, Vjp


@fa.elementwise
def _adam(p: Any, g: Any, m: Any, v: Any, rate: Any = 1e-3, epsilon: Any = 1e-8) -> Any:
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * (g * g)
    return p - rate * m / (np.sqrt(v) + epsilon), m, v


def _activation(function: Any) -> Callable[..., Any]:
    """Return a part: a bias along an axis, the activation, and dropout, in one pass."""

    def part(
        parts: FastactParts, x: Array, bias: Array | None = None, **options: Any
    ) -> tuple[Array, Vjp]:
        if bias is not None:
            options["bias"] = bias
        if "dropout" in options:
            options["rng"] = next(parts.seeds)
        result: tuple[Array, Vjp] = function.vjp(x, **options)
        return result

    return part


class FastactParts(NumpyParts):
    """All parts."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = count()

    relu = _activation(fa.relu)
    leaky_relu = _activation(fa.leaky_relu)
    elu = _activation(fa.elu)
    sigmoid = _activation(fa.sigmoid)
    gelu = _activation(fa.gelu_tanh)

    def dropout(self, x: Array, p: float) -> tuple[Array, Vjp]:
        """Drop elements with probability p, and scale the others."""
        result: tuple[Array, Vjp] = fa.dropout.vjp(x, p, rng=next(self.seeds))
        return result

    def layer_norm(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Vjp]:
        """Normalize each row."""
        result: tuple[Array, Vjp] = fa.layer_norm.vjp(x, weight=weight, bias=bias)
        return result

    def batch_norm(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Vjp]:
        """Normalize each column."""
        result: tuple[Array, Vjp] = fa.batch_norm.vjp(x, weight=weight, bias=bias)
        return result

    def lstm_cell(self, gates: Array, c: Array) -> tuple[tuple[Array, Array], Vjp]:
        """Return the new output and state, from the sums of the four gates (n, 4h)."""
        h, new_c, vjp = fa.lstm_cell.vjp(gates, c)
        return (h, new_c), vjp

    def gru_cell(self, from_x: Array, from_h: Array, h: Array) -> tuple[Array, Vjp]:
        """Return the new output, from the sums of the three gates (n, 3h) over input and output."""
        result: tuple[Array, Vjp] = fa.gru_cell.vjp(from_x, from_h, h)
        return result

    def causal_softmax(self, scores: Array, scale: float) -> tuple[Array, Vjp]:
        """Weigh, for each position of a sequence, itself and those before it."""
        result: tuple[Array, Vjp] = fa.softmax.vjp(scores, scale=scale, causal=True)
        return result

    def cross_entropy(self, logits: Array, labels: Array) -> tuple[float, Array]:
        """Return the mean of the rows' losses."""
        loss, dlogits = fa.softmax_cross_entropy.forward_backward(logits, labels)
        return float(loss), dlogits

    def adam(self, p: Array, g: Array, m: Array, v: Array, *, rate: float, step: int) -> None:
        """Take a step of Adam, with the usual coefficients."""
        correction = math.sqrt(1 - 0.999**step)
        rate, epsilon = rate * correction / (1 - 0.9**step), 1e-8 * correction
        _adam(p, g, m, v, rate, epsilon, out=(p, m, v))

    def binary_cross_entropy(self, logits: Array, targets: Array) -> tuple[float, Array]:
        """Return the mean of the elements' losses."""
        loss, dlogits = fa.sigmoid_binary_cross_entropy.forward_backward(logits, targets)
        return float(loss), dlogits


def masks_of_fastact() -> Keep:
    """Return a source of the masks that `FastactParts` draws, for who must get the same results."""
    seeds = count()
    return lambda shape, p: fa.dropout(np.ones(shape, np.float32), p, rng=next(seeds)) > 0
