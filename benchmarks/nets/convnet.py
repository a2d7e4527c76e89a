"""A convolutional net on NCHW arrays: one convolution by im2col, pooling, one hidden layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.nets.net import Gradients, Net, Parameters
from benchmarks.nets.numpy_parts import Array, NumpyParts
from benchmarks.nets.perceptron import Affine, Hidden


class Convolution:
    """A convolution with square filters, a bias for each, and an activation."""

    def __init__(self, w: Array, b: Array, activation: Callable[..., Any]) -> None:
        self.w, self.b, self.activation = w, b, activation

    def forward(self, x: Array) -> Array:
        filters, _, side, _ = self.w.shape
        windows = sliding_window_view(x, (side, side), (2, 3))
        n, _, height, width, _, _ = windows.shape
        self.columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, -1, height * width)
        u = self.w.reshape(filters, -1) @ self.columns
        y: Array
        y, self.vjp = self.activation(u.reshape(n, filters, height, width), bias=self.b, axis=1)
        return y

    def backward(self, dy: Array) -> None:
        du, self.db = self.vjp(dy)
        du = du.reshape(*du.shape[:2], -1)
        self.dw = (du @ self.columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.w.shape)


class Pooling:
    """The mean of each square of two by two."""

    def forward(self, x: Array) -> Array:
        y: Array = x[..., ::2, ::2] + x[..., 1::2, ::2]
        y += x[..., ::2, 1::2]
        y += x[..., 1::2, 1::2]
        y *= 0.25
        return y

    def backward(self, dy: Array) -> Array:
        dx = np.empty((*dy.shape[:-2], 2 * dy.shape[-2], 2 * dy.shape[-1]), dy.dtype)
        for row in (0, 1):
            for column in (0, 1):
                np.multiply(dy, 0.25, out=dx[..., row::2, column::2])
        return dx


@dataclass(frozen=True, kw_only=True)
class Convnet(Net):
    """Convolution, mean pooling, one hidden layer, and a softmax; rectifiers."""

    side: int
    filters: int
    filter_side: int
    hidden: int
    channels: int = 1
    outputs: int = 10
    tiny: ClassVar[dict[str, Any]] = {
        "batch_size": 3,
        "side": 6,
        "filters": 4,
        "filter_side": 3,
        "hidden": 5,
        "channels": 2,
    }

    def parameters(self, random: np.random.Generator) -> Parameters:
        area = self.channels * self.filter_side**2
        pooled = (self.side - self.filter_side + 1) // 2
        shape = self.filters, self.channels, self.filter_side, self.filter_side
        return {
            "w": self.weights(random, area, self.filters).T.reshape(shape).copy(),
            "b": self.zeros(self.filters),
            "w0": self.weights(random, self.filters * pooled**2, self.hidden),
            "b0": self.zeros(self.hidden),
            "w1": self.weights(random, self.hidden, self.outputs),
            "b1": self.zeros(self.outputs),
        }

    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        labels = random.integers(0, self.outputs, self.batch_size)
        return self.normal(random, self.batch_size, self.channels, self.side, self.side), labels

    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        p = parameters
        convolution, pooling = Convolution(p["w"], p["b"], parts.relu), Pooling()
        hidden, last = Hidden(p["w0"], p["b0"], parts.relu), Affine(p["w1"], p["b1"])

        def gradients(x: Array, labels: Array) -> tuple[float, Parameters]:
            pooled = pooling.forward(convolution.forward(x))
            logits = last.forward(hidden.forward(pooled.reshape(len(x), -1)))
            loss, dlogits = parts.cross_entropy(logits, labels)
            dpooled = hidden.backward(last.backward(dlogits))
            convolution.backward(pooling.backward(dpooled.reshape(pooled.shape)))
            return loss, {
                "w": convolution.dw,
                "b": convolution.db,
                "w0": hidden.dw,
                "b0": hidden.db,
                "w1": last.dw,
                "b1": last.db,
            }

        return gradients

    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        import torch
        from torch.nn import functional as F

        x, labels = batch
        x = F.avg_pool2d(F.relu(F.conv2d(x, p["w"], p["b"])), 2).flatten(1)
        x = F.relu(torch.addmm(p["b0"], x, p["w0"]))
        return F.cross_entropy(torch.addmm(p["b1"], x, p["w1"]), labels)
