"""Multilayer perceptrons in the style of textbooks: layers with ``forward`` and ``backward``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from benchmarks.nets.net import Gradients, Net, Parameters
from benchmarks.nets.numpy_parts import Array, NumpyParts


class Affine:
    """A matrix product and a bias."""

    def __init__(self, w: Array, b: Array) -> None:
        self.w, self.b = w, b

    def forward(self, x: Array) -> Array:
        self.x = x
        y: Array = x @ self.w
        y += self.b
        return y

    def backward(self, dy: Array) -> Array:
        self.dw, self.db = self.x.T @ dy, dy.sum(axis=0)
        dx: Array = dy @ self.w.T
        return dx


class Hidden:
    """A matrix product, a bias, an activation, and dropout where the net has it."""

    def __init__(self, w: Array, b: Array, activation: Callable[..., Any], **options: Any) -> None:
        self.w, self.b, self.activation, self.options = w, b, activation, options

    def forward(self, x: Array) -> Array:
        self.x = x
        y: Array
        y, self.vjp = self.activation(x @ self.w, bias=self.b, **self.options)
        return y

    def backward(self, dy: Array, is_first: bool = False) -> Array:
        du, self.db = self.vjp(dy)
        self.dw = self.x.T @ du
        dx: Array = du if is_first else du @ self.w.T
        return dx


class Layers:
    """Hidden layers, and one more for the logits."""

    def __init__(self, parts: NumpyParts, hidden: list[Hidden], last: Affine) -> None:
        self.parts, self.hidden, self.last = parts, hidden, last

    def gradients(self, x: Array, labels: Array) -> tuple[float, Parameters]:
        """Return the loss of a batch and the gradients of the parameters."""
        for layer in self.hidden:
            x = layer.forward(x)
        loss, dlogits = self.parts.cross_entropy(self.last.forward(x), labels)
        dy = self.last.backward(dlogits)
        for layer in reversed(self.hidden):
            dy = layer.backward(dy, is_first=layer is self.hidden[0])
        layers: list[Hidden | Affine] = [*self.hidden, self.last]
        gradients = {f"w{i}": layer.dw for i, layer in enumerate(layers)}
        gradients |= {f"b{i}": layer.db for i, layer in enumerate(layers)}
        return loss, gradients


@dataclass(frozen=True, kw_only=True)
class Perceptron(Net):
    """Hidden layers, each with an activation, and a softmax.

    Attributes
    ----------
    inputs, width, outputs : int
        The units of the first, of each hidden and of the last layer.
    activations : tuple of str
        One for each hidden layer.
    dropout : float
        The probability that a hidden unit is dropped.
    """

    inputs: int
    width: int
    activations: tuple[str, ...]
    dropout: float = 0.0
    outputs: int = 10
    tiny: ClassVar[dict[str, Any]] = {"batch_size": 6, "inputs": 7, "width": 5, "outputs": 4}

    def parameters(self, random: np.random.Generator) -> Parameters:
        sizes = (self.inputs, *(self.width,) * len(self.activations), self.outputs)
        parameters = {}
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            parameters[f"w{i}"] = self.weights(random, inputs, outputs)
            parameters[f"b{i}"] = self.zeros(outputs)
        return parameters

    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        labels = random.integers(0, self.outputs, self.batch_size)
        return self.normal(random, self.batch_size, self.inputs), labels

    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        options = {"dropout": self.dropout} if self.dropout else {}
        hidden = [
            Hidden(parameters[f"w{i}"], parameters[f"b{i}"], getattr(parts, name), **options)
            for i, name in enumerate(self.activations)
        ]
        last = len(hidden)
        return Layers(
            parts, hidden, Affine(parameters[f"w{last}"], parameters[f"b{last}"])
        ).gradients

    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        import torch
        from torch.nn import functional as F

        x, labels = batch
        for i, name in enumerate(self.activations):
            options = {"approximate": "tanh"} if name == "gelu" else {}
            x = getattr(F, name)(torch.addmm(p[f"b{i}"], x, p[f"w{i}"]), **options)
            if self.dropout:
                x = dropout(x, self.dropout)
        last = len(self.activations)
        return F.cross_entropy(torch.addmm(p[f"b{last}"], x, p[f"w{last}"]), labels)
