"""A net in plain NumPy, differentiated by HIPS autograd, on scikit-learn's digits: with gelu in NumPy and by fastact.

Run it: it trains the same net twice from the same weights, compares the losses, and prints the times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.scipy.special import erf, logsumexp
from sklearn.datasets import load_digits

from fastact.backends import autograd as fad

EPOCHS, HIDDEN = 30, 256
Function = Callable[..., Any]


def gelu(x: Any) -> Any:
    """Return gelu by its formula."""
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def log_softmax(x: Any) -> Any:
    """Return the logarithm of the softmax of each row."""
    return x - logsumexp(x, axis=1, keepdims=True)


def make_weights() -> list[Any]:
    """Return the weights and biases of three layers, the same in every call."""
    rng, sizes = np.random.default_rng(0), (64, HIDDEN, HIDDEN, 10)
    return [
        (rng.standard_normal(shape) / np.sqrt(shape[0]), np.zeros(shape[1]))
        for shape in pairwise(sizes)
    ]


def train(
    activation: Function, log_probabilities: Function, x: Any, labels: Any
) -> tuple[float, float]:
    """Train on all digits at once, and return the last loss and the seconds."""

    def loss_of(weights: list[Any]) -> Any:
        hidden = x
        for w, b in weights[:-1]:
            hidden = activation(anp.dot(hidden, w) + b)
        w, b = weights[-1]
        return -anp.mean(log_probabilities(anp.dot(hidden, w) + b)[np.arange(len(x)), labels])

    step, weights = value_and_grad(loss_of), make_weights()
    start = time.perf_counter()
    for _ in range(EPOCHS):
        loss, gradients = step(weights)
        weights = [
            (w - 0.5 * dw, b - 0.5 * db)
            for (w, b), (dw, db) in zip(weights, gradients, strict=True)
        ]
    return float(loss), time.perf_counter() - start


def main() -> None:
    """Train both, compare, and print the times."""
    digits = load_digits()
    x, labels = digits.data / 16, digits.target
    losses = {}
    for _ in range(2):  # the first round compiles kernels and warms up
        for name, functions in {
            "autograd": (gelu, log_softmax),
            "fastact": (fad.gelu, fad.log_softmax),
        }.items():
            losses[name], seconds = train(*functions, x, labels)
            print(f"{name}: loss {losses[name]:.9f}, {seconds:.3f} s")
        print()
    assert abs(losses["autograd"] - losses["fastact"]) < 1e-9 * losses["autograd"]


if __name__ == "__main__":
    main()
