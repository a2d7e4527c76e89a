"""A perceptron on single examples in columns: each function returns its value and a cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.nets.net import Gradients, Net, Parameters
from benchmarks.nets.numpy_parts import Array, NumpyParts


@dataclass(frozen=True, kw_only=True)
class Columns(Net):
    """One hidden layer of sigmoids, and an output between 0 and 1 for each class."""

    inputs: int
    hidden: int
    outputs: int = 10
    tiny: ClassVar[dict[str, Any]] = {"inputs": 5, "hidden": 4}

    def parameters(self, random: np.random.Generator) -> Parameters:
        return {
            "w1": self.weights(random, self.inputs, self.hidden).T.copy(),
            "b1": self.zeros(self.hidden),
            "w2": self.weights(random, self.hidden, self.outputs).T.copy(),
            "b2": self.zeros(self.outputs),
        }

    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        targets = self.zeros(self.outputs, self.batch_size)
        targets[random.integers(0, self.outputs, self.batch_size), range(self.batch_size)] = 1
        return self.normal(random, self.inputs, self.batch_size), targets

    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        p = parameters

        def gradients(x: Array, targets: Array) -> tuple[float, Parameters]:
            hidden, hidden_cache = hidden_forward(parts, x, p["w1"], p["b1"])
            logits, output_cache = output_forward(hidden, p["w2"], p["b2"])
            loss, dlogits = parts.binary_cross_entropy(logits, targets)
            dhidden, dw2, db2 = output_backward(dlogits, output_cache)
            dw1, db1 = hidden_backward(dhidden, hidden_cache)
            return loss, {"w1": dw1, "b1": db1, "w2": dw2, "b2": db2}

        return gradients

    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        import torch
        from torch.nn import functional as F

        x, targets = batch
        hidden = torch.sigmoid(torch.addmm(p["b1"][:, None], p["w1"], x))
        logits = torch.addmm(p["b2"][:, None], p["w2"], hidden)
        return F.binary_cross_entropy_with_logits(logits, targets)


def hidden_forward(parts: NumpyParts, x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """Return the hidden units."""
    y, vjp = parts.sigmoid(w @ x, bias=b, axis=0)
    return y, (x, vjp)


def hidden_backward(dy: Array, cache: Any) -> tuple[Array, Array]:
    """Return the gradients of weights and biases: nothing asks for that of the input."""
    x, vjp = cache
    du, db = vjp(dy)
    return du @ x.T, db


def output_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """Return the logits."""
    return w @ x + b[:, None], (x, w)


def output_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Return the gradients of input, weights and biases."""
    x, w = cache
    return w.T @ dy, dy @ x.T, dy.sum(axis=1)
