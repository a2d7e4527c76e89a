"""Optimizers as fused elementwise functions: a step reads and writes each array once.

In NumPy, a step of Adam is a dozen passes over memory with as many temporary arrays. Run this file: it fits a small
regression with each optimizer and prints the losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastact as fa


@fa.elementwise
def momentum_step(
    w: Any, gradient: Any, velocity: Any, rate: Any = 0.1, momentum: Any = 0.9
) -> Any:
    """Take a step of stochastic gradient descent with momentum."""
    velocity = momentum * velocity + gradient
    return w - rate * velocity, velocity


@fa.elementwise
def adam_step(
    w: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    rate: Any = 1e-3,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    epsilon: Any = 1e-8,
) -> Any:
    """Take a step of Adam; the corrections for the first steps are part of `rate` and `epsilon`."""
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    return w - rate * mean / (np.sqrt(square) + epsilon), mean, square


class Momentum:
    """Stochastic gradient descent with momentum, as in PyTorch."""

    def __init__(self, weights: list[Any], rate: float = 0.1, momentum: float = 0.9) -> None:
        self.weights, self.rate, self.momentum = weights, rate, momentum
        self.velocities = [np.zeros_like(w) for w in weights]

    def step(self, gradients: list[Any]) -> None:
        """Update the weights in place."""
        for w, gradient, velocity in zip(self.weights, gradients, self.velocities, strict=True):
            momentum_step(w, gradient, velocity, self.rate, self.momentum, out=(w, velocity))


class Adam:
    """Adam (D. P. Kingma, J. Ba, 2015), as in PyTorch."""

    def __init__(self, weights: list[Any], rate: float = 1e-3) -> None:
        self.weights, self.rate, self.steps = weights, rate, 0
        self.means = [np.zeros_like(w) for w in weights]
        self.squares = [np.zeros_like(w) for w in weights]

    def step(self, gradients: list[Any]) -> None:
        """Update the weights in place."""
        self.steps += 1
        # mean / (1 - 0.9**t) / (sqrt(square / (1 - 0.999**t)) + epsilon), with both corrections moved into numbers
        correction = (1 - 0.999**self.steps) ** 0.5
        rate, epsilon = self.rate * correction / (1 - 0.9**self.steps), 1e-8 * correction
        arrays = self.weights, gradients, self.means, self.squares
        for w, gradient, mean, square in zip(*arrays, strict=True):
            adam_step(w, gradient, mean, square, rate=rate, epsilon=epsilon, out=(w, mean, square))


def losses(optimizer: type[Any], rate: float, steps: int = 200) -> Iterator[float]:
    """Fit a linear regression and yield the loss of each step."""
    rng = np.random.default_rng(0)
    x, wanted = rng.standard_normal((256, 8)), rng.standard_normal(8)
    y, w = x @ wanted, np.zeros(8)
    chosen = optimizer([w], rate)
    for _ in range(steps):
        loss, derror = fa.huber.forward_backward(x @ w, y)
        chosen.step([derror @ x])
        yield float(loss)


if __name__ == "__main__":
    for optimizer, rate in ((Momentum, 0.1), (Adam, 0.05)):
        first, *_, last = losses(optimizer, rate)
        print(f"{optimizer.__name__:9} loss {first:.4f} -> {last:.2e}")
