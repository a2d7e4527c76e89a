"""A multilayer perceptron, which the examples share, and digits for it to learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.datasets import load_digits

import fastact as fa


class Net:
    """Layers ``h = f(h @ W + b)``, and logits at the end.

    Parameters
    ----------
    sizes : sequence of int
        The features of the input, of each hidden layer, and the classes.
    activation : str
        The name of `f`.
    gain : float
        Weights are drawn with the variance ``gain**2 / fan_in``: 1 after LeCun, sqrt(2) after He.
    seed : int
        Seed of the weights.
    """

    def __init__(self, sizes: Sequence[int], activation: str, gain: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.f = fa.get(activation)
        self.weights = [
            (gain / np.sqrt(n) * rng.standard_normal((n, m))).astype("f")
            for n, m in zip(sizes, sizes[1:])
        ]
        self.biases = [np.zeros(m, "f") for m in sizes[1:]]
        # PReLU learns its slope on the left, one for each unit.
        self.slopes = [np.full(m, 0.25, "f") for m in sizes[1:-1]] if activation == "prelu" else []

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the logits; remember what the backward pass needs."""
        self.inputs, self.hidden, self.vjps = [x], [], []
        *hidden, last = range(len(self.weights))
        for k in hidden:
            z = self.inputs[-1] @ self.weights[k] + self.biases[k]
            slope = {"weight": self.slopes[k]} if self.slopes else {}
            h, vjp = self.f.vjp(z, **slope)
            self.hidden.append(z)
            self.inputs.append(h)
            self.vjps.append(vjp)
        return self.inputs[-1] @ self.weights[last] + self.biases[last]

    def backward(self, dlogits: np.ndarray) -> list[np.ndarray]:
        """Return the gradients of the layers' outputs before their activations, first layer first.

        Those of parameters are kept for `step`.
        """
        *hidden, last = range(len(self.weights))
        dz, found = dlogits, [dlogits]
        self.gradients = [
            (self.weights[last], self.inputs[last].T @ dz),
            (self.biases[last], dz.sum(axis=0)),
        ]
        for k in reversed(hidden):
            dz = self.vjps[k](dz @ self.weights[k + 1].T)
            if self.slopes:
                dz, dslope = dz
                self.gradients.append((self.slopes[k], dslope))
            self.gradients += [
                (self.weights[k], self.inputs[k].T @ dz),
                (self.biases[k], dz.sum(axis=0)),
            ]
            found.insert(0, dz)
        return found

    def step(self, x: np.ndarray, labels: np.ndarray, rate: float) -> float:
        """Take a step of gradient descent; return the loss."""
        loss, dlogits = fa.softmax_cross_entropy.forward_backward(self.forward(x), labels)
        self.backward(dlogits)
        for parameter, gradient in self.gradients:
            parameter -= rate * gradient
        return float(loss)

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of inputs that are classified right."""
        return float(np.mean(self.forward(x).argmax(axis=1) == labels))


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the images and labels of 1,400 digits to learn from and 397 others, standardized."""
    x, labels = load_digits(return_X_y=True)
    x = ((x - 8) / 6).astype("f")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    return x[train], labels[train], x[test], labels[test]
