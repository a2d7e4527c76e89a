"""Train the net of *Deep Learning from Scratch* on scikit-learn's digits, with the book's layers and with fastact's.

    python examples/backends/digits_layers.py

prints the time of both, and that of the layers between the matrix products alone.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from fastact.backends import layers

STEPS, REPEATS, RATE = 300, 3, 0.1
SIZES = (64, 512, 512, 10)


class Sigmoid:
    """The book's."""

    def forward(self, x: Any) -> Any:
        """Keep the output."""
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout: Any) -> Any:
        """Return the gradient."""
        return dout * (1.0 - self.out) * self.out


class BatchNormalization:
    """The book's, for rows."""

    def __init__(self, gamma: Any, beta: Any) -> None:
        self.gamma, self.beta = gamma, beta

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        """Normalize by the statistics of the batch."""
        self.centered = x - x.mean(axis=0)
        self.std = np.sqrt(np.mean(self.centered**2, axis=0) + 10e-7)
        self.normalized = self.centered / self.std
        return self.gamma * self.normalized + self.beta

    def backward(self, dout: Any) -> Any:
        """Return the gradient, and keep those of the parameters."""
        self.dbeta, self.dgamma = dout.sum(axis=0), np.sum(self.normalized * dout, axis=0)
        dnormalized = self.gamma * dout
        dstd = -np.sum(dnormalized * self.centered / self.std**2, axis=0)
        dcentered = dnormalized / self.std + self.centered * (dstd / self.std / len(dout))
        return dcentered - dcentered.mean(axis=0)


class SoftmaxWithLoss:
    """The book's."""

    def forward(self, x: Any, t: Any) -> Any:
        """Keep the probabilities."""
        exponentials = np.exp(x - x.max(axis=1, keepdims=True))
        self.y, self.t = exponentials / exponentials.sum(axis=1, keepdims=True), t
        return -np.mean(np.log(self.y[np.arange(len(t)), t] + 1e-7))

    def backward(self, dout: float = 1) -> Any:
        """Return the gradient."""
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / len(self.t)


BOOK = SimpleNamespace(
    Affine=layers.Affine,  # the products are NumPy's in both
    BatchNormalization=BatchNormalization,
    Sigmoid=Sigmoid,
    SoftmaxWithLoss=SoftmaxWithLoss,
)


class Net:
    """The book's net, made of layers with these names."""

    def __init__(self, kinds: Any) -> None:
        rng = np.random.default_rng(0)
        self.layers: OrderedDict[str, Any] = OrderedDict()
        for k, (inputs, outputs) in enumerate(pairwise(SIZES), 1):
            W = rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)
            zeros, ones = np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
            self.layers[f"Affine{k}"] = kinds.Affine(W.astype(np.float32), zeros)
            if k < len(SIZES) - 1:
                self.layers[f"BatchNorm{k}"] = kinds.BatchNormalization(ones, zeros.copy())
                self.layers[f"Sigmoid{k}"] = kinds.Sigmoid()
        self.last_layer = kinds.SoftmaxWithLoss()

    def step(self, x: Any, t: Any) -> float:
        """Descend by one step and return the loss."""
        for layer in self.layers.values():
            x = layer.forward(x)
        loss = self.last_layer.forward(x, t)
        dout = self.last_layer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        for layer in self.layers.values():
            for name in ("W", "b", "gamma", "beta"):
                if hasattr(layer, name):
                    getattr(layer, name)[...] -= RATE * getattr(layer, f"d{name}")
        return float(loss)


def train(kinds: Any, x: Any, t: Any) -> tuple[list[float], float]:
    """Return the losses and the time."""
    net, losses = Net(kinds), []
    start = perf_counter()
    for k in range(STEPS):
        batch = slice(k * 128 % 1664, k * 128 % 1664 + 128)
        losses.append(net.step(x[batch], t[batch]))
    return losses, perf_counter() - start


def time_between_products(kinds: Any) -> float:
    """Return the microseconds of one batch normalization and sigmoid, forward and backward."""
    x = np.random.default_rng(1).standard_normal((128, 512), dtype=np.float32)
    parts = (
        kinds.BatchNormalization(np.ones(512, np.float32), np.zeros(512, np.float32)),
        kinds.Sigmoid(),
    )
    times = []
    for _ in range(100):
        start = perf_counter()
        parts[1].forward(parts[0].forward(x))
        parts[0].backward(parts[1].backward(x))
        times.append(perf_counter() - start)
    return median(times) * 1e6


def main() -> None:
    """Train with both, and compare."""
    digits = load_digits()
    x, t = (digits.data / 16).astype(np.float32), digits.target
    contenders = {"the book": BOOK, "fastact": layers}
    for kinds in contenders.values():
        train(kinds, x, t)  # loads the kernels
    runs = [
        {name: train(kinds, x, t) for name, kinds in contenders.items()} for _ in range(REPEATS)
    ]
    losses = {name: run[0] for name, run in runs[0].items()}
    np.testing.assert_allclose(losses["fastact"], losses["the book"], rtol=1e-3)
    print(f"digits, {' x '.join(map(str, SIZES))}, batches of 128, {STEPS} steps, float32")
    print(f"last loss: {losses['the book'][-1]:.6f} and {losses['fastact'][-1]:.6f}")
    for name, kinds in contenders.items():
        whole = median(run[name][1] for run in runs)
        alone = time_between_products(kinds)
        print(
            f"{name:8} training {whole:.2f} s, normalization and sigmoid of (128, 512) {alone:.0f} us"
        )


if __name__ == "__main__":
    main()
