"""Train a net of sigmoid units on scikit-learn's digits in DeZero, with its own functions and with fastact's.

    python examples/backends/digits_dezero.py

prints the time of both, and that of a bias and its activation alone.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

# Releases 0.0.12 and 0.0.13 of DeZero ask for it when they are imported; NumPy has removed it.
vars(np).setdefault("int", int)

import dezero.functions as F
from dezero import Variable

from fastact.backends import dezero as fad

STEPS, REPEATS, RATE = 300, 3, 0.5
SIZES = (64, 512, 512, 10)
CONTENDERS = {
    "DeZero": (lambda x, b: F.sigmoid(x + b), F.softmax_cross_entropy),
    "fastact": (lambda x, b: fad.sigmoid(x, bias=b), fad.softmax_cross_entropy),
}


def parameters() -> list[Any]:
    """Return weights and biases."""
    rng = np.random.default_rng(0)
    shapes = [*pairwise(SIZES)]
    weights = [rng.standard_normal(shape) / np.sqrt(shape[0]) for shape in shapes]
    arrays = [(each, np.zeros(each.shape[1])) for each in weights]
    return [tuple(Variable(each.astype(np.float32)) for each in pair) for pair in arrays]


def train(activation: Any, loss_of: Any, x: Any, t: Any) -> tuple[list[float], float]:
    """Return the losses and the time."""
    layers, losses = parameters(), []
    start = perf_counter()
    for k in range(STEPS):
        batch = slice(k * 128 % 1664, k * 128 % 1664 + 128)
        y = Variable(x[batch])
        for W, b in layers[:-1]:
            y = activation(F.matmul(y, W), b)
        W, b = layers[-1]
        loss = loss_of(F.matmul(y, W) + b, t[batch])
        loss.backward()
        for each in (part for pair in layers for part in pair):
            each.data -= RATE * each.grad.data
            each.cleargrad()
        losses.append(float(loss.data))
    return losses, perf_counter() - start


def time_of_activation(activation: Any) -> float:
    """Return the microseconds of the activation of one layer, forward and backward."""
    x = np.random.default_rng(1).standard_normal((128, 512), dtype=np.float32)
    b = np.zeros(512, np.float32)
    times = []
    for _ in range(100):
        each, bias = Variable(x), Variable(b)
        start = perf_counter()
        activation(each, bias).backward()
        times.append(perf_counter() - start)
    return median(times) * 1e6


def main() -> None:
    """Train with both, and compare."""
    digits = load_digits()
    x, t = (digits.data / 16).astype(np.float32), digits.target
    for each in CONTENDERS.values():
        train(*each, x, t)  # loads the kernels
    runs = [{n: train(*each, x, t) for n, each in CONTENDERS.items()} for _ in range(REPEATS)]
    losses = {name: run[0] for name, run in runs[0].items()}
    np.testing.assert_allclose(losses["fastact"], losses["DeZero"], rtol=1e-3)
    print(f"digits, {' x '.join(map(str, SIZES))}, batches of 128, {STEPS} steps, float32")
    print(f"last loss: {losses['DeZero'][-1]:.6f} and {losses['fastact'][-1]:.6f}")
    for name, (activation, _) in CONTENDERS.items():
        whole = median(run[name][1] for run in runs)
        alone = time_of_activation(activation)
        print(f"{name:8} training {whole:.2f} s, bias and sigmoid of (128, 512) {alone:.0f} us")


if __name__ == "__main__":
    main()
