"""Train a net of selu units on scikit-learn's digits in numpy-ml, with its own activations and with fastact's.

    python examples/backends/digits_numpy_ml.py

prints the time of both, and that of the activation alone.
"""

from __future__ import annotations

import collections
import collections.abc
import warnings
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

# numpy-ml 0.1.2 imports it from there, where it is no more since Python 3.10; and it warns that gym is missing.
vars(collections)["Hashable"] = collections.abc.Hashable
warnings.simplefilter("ignore")

from numpy_ml.neural_nets.activations import SELU
from numpy_ml.neural_nets.layers import FullyConnected
from numpy_ml.neural_nets.losses import SquaredError

from fastact.backends.numpy_ml import Selu

STEPS, REPEATS = 150, 3
SIZES = (512, 512)
CONTENDERS = {"numpy-ml": SELU, "fastact": Selu}


def train(activation: Any, x: Any, t: Any) -> tuple[list[float], float]:
    """Return the losses and the time."""
    np.random.seed(0)  # noqa: NPY002  # which numpy-ml draws weights from
    optimizer = "SGD(lr=0.0001)"
    net = [FullyConnected(n, act_fn=activation(), optimizer=optimizer) for n in SIZES]
    net.append(FullyConnected(10, optimizer=optimizer))
    loss, losses = SquaredError(), []
    start = perf_counter()
    for k in range(STEPS):
        batch = slice(k * 128 % 1664, k * 128 % 1664 + 128)
        y = x[batch]
        for layer in net:
            y = layer.forward(y)
        losses.append(float(loss(t[batch], y)))
        # The gradient of half the sum of squares of a linear layer.
        dy = y - t[batch]
        for layer in reversed(net):
            dy = layer.backward(dy)
        for layer in net:
            layer.update()
    return losses, perf_counter() - start


def time_of_activation(activation: Any) -> float:
    """Return the microseconds of the activation of one layer, value and derivative."""
    x, each, times = np.random.default_rng(1).standard_normal((128, 512)), activation(), []
    for _ in range(100):
        start = perf_counter()
        each.fn(x)
        each.grad(x)
        times.append(perf_counter() - start)
    return median(times) * 1e6


def main() -> None:
    """Train with both, and compare."""
    digits = load_digits()
    x, t = digits.data / 16, np.eye(10)[digits.target]
    for each in CONTENDERS.values():
        train(each, x, t)  # loads the kernels
    runs = [{n: train(each, x, t) for n, each in CONTENDERS.items()} for _ in range(REPEATS)]
    losses = {name: run[0] for name, run in runs[0].items()}
    np.testing.assert_allclose(losses["fastact"], losses["numpy-ml"], rtol=1e-6)
    sizes = " x ".join(map(str, (64, *SIZES, 10)))
    print(f"digits, {sizes}, batches of 128, {STEPS} steps, float64")
    print(f"last loss: {losses['numpy-ml'][-1]:.6f} and {losses['fastact'][-1]:.6f}")
    for name, each in CONTENDERS.items():
        whole, alone = median(run[name][1] for run in runs), time_of_activation(each)
        print(
            f"{name:8} training {whole:.2f} s, selu of (128, 512) and its derivative {alone:.0f} us"
        )


if __name__ == "__main__":
    main()
