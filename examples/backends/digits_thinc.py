"""Nets of thinc on scikit-learn's digits, by its NumPy operations and by fastact's: the same nets, in less time.

    python examples/backends/digits_thinc.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import thinc.api
from sklearn.datasets import load_digits
from thinc.api import Adam, Softmax, chain, fix_random_seed, get_ops, set_current_ops

import fastact.backends.thinc  # noqa: F401, registers "fastact"

LAYERS = "ClippedLinear Gelu HardSigmoid HardSwish HardTanh Maxout Mish Relu ReluK Sigmoid Swish"
EPOCHS, BATCH, WIDTH = 10, 128, 96  # the width is that of spaCy's layers
REPETITIONS = 7
# Of the probabilities, on average: in float32, rounding moves a few inputs across a kink, and these then differ by more.
TOLERANCE = 1e-3

digits, labels = load_digits(return_X_y=True)
X, Y = (digits / 16).astype(np.float32), np.eye(10, dtype=np.float32)[labels]


class Clock:
    """Adds up the time that an operations object spends in activations and their gradients."""

    def __init__(self, ops: Any) -> None:
        self.seconds, self.is_running = 0.0, False
        for name in [n for n in dir(ops) if hasattr(ops, f"backprop_{n}")]:
            for each in (name, f"backprop_{name}"):
                setattr(ops, each, self.timed(getattr(ops, each)))

    def timed(self, method: Any) -> Any:
        """Return a method that is timed, unless another one calls it."""

        def run(*args: Any, **options: Any) -> Any:
            if self.is_running:
                return method(*args, **options)
            self.is_running, start = True, time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                self.seconds += time.perf_counter() - start
                self.is_running = False

        return run


def train(layer: str, name: str) -> tuple[Any, float, float]:
    """Train a net, and return its probabilities, the seconds, and those in activations."""
    ops = get_ops(name)
    set_current_ops(ops)
    fix_random_seed(0)
    make = getattr(thinc.api, layer)
    net = chain(make(WIDTH), make(WIDTH), Softmax()).initialize(X[:BATCH], Y[:BATCH])
    optimizer, clock, start = Adam(0.003), Clock(ops), time.perf_counter()
    for _ in range(EPOCHS):
        for x, y in ops.multibatch(BATCH, X, Y, shuffle=True):
            guess, backprop = net.begin_update(x)
            backprop((guess - y) / len(y))
            net.finish_update(optimizer)
    return net.predict(X), time.perf_counter() - start, clock.seconds


def best(runs: Any) -> tuple[Any, float, float]:
    """Return the probabilities and the shortest times of several runs, the first of which compiles."""
    probabilities, seconds, shares = zip(*runs, strict=True)
    return probabilities[0], min(seconds), min(shares)


def main() -> None:
    """Train a net with each kind of layer, by both."""
    print(f"{'layer':14}{'accuracy':>9}{'whole run, ms':>20}{'activations, ms':>20}{'faster':>8}")
    for layer in LAYERS.split():
        runs = [(train(layer, "numpy"), train(layer, "fastact")) for _ in range(REPETITIONS)]
        (before, seconds, share), (after, our_seconds, our_share) = map(
            best, zip(*runs, strict=True)
        )
        assert np.abs(after - before).mean() < TOLERANCE
        accuracy = np.mean(after.argmax(axis=1) == labels)
        whole = f"{seconds * 1e3:.0f} -> {our_seconds * 1e3:.0f}"
        activations = f"{share * 1e3:.1f} -> {our_share * 1e3:.1f}"
        print(f"{layer:14}{accuracy:9.3f}{whole:>20}{activations:>20}{share / our_share:7.1f}x")


if __name__ == "__main__":
    main()
