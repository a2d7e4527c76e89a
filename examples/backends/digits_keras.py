"""Let a net of gelu units read scikit-learn's digits in Keras' NumPy backend, with its own functions and with fastact's.

    python examples/backends/digits_keras.py

prints the time of both, and that of the activation alone. That backend is for inference: the weights come from a classifier of scikit-learn on top of random
features, so that the net knows the digits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

os.environ["KERAS_BACKEND"] = "numpy"

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from fastact.backends.keras import patched

REPEATS = 15
HIDDEN = 1024


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its milliseconds."""
    found, times = call(), []
    for _ in range(REPEATS):
        start = perf_counter()
        call()
        times.append((perf_counter() - start) * 1e3)
    return found, median(times)


def main() -> None:
    """Predict with both, and compare."""
    digits = load_digits()
    x = (digits.data / 16).astype(np.float32)
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(HIDDEN, activation="gelu", kernel_initializer="he_normal")
    output = keras.layers.Dense(10, activation="softmax")
    net = keras.Sequential([keras.Input((64,)), hidden, output])
    features = keras.Sequential([keras.Input((64,)), hidden]).predict(x, verbose=0)
    classifier = RidgeClassifier().fit(features[:1000], digits.target[:1000])
    output.set_weights([classifier.coef_.T, classifier.intercept_])

    x_hidden = np.random.default_rng(0).standard_normal((len(x), HIDDEN), dtype=np.float32)
    calls = {
        "the net": lambda: net.predict(x, batch_size=len(x), verbose=0),
        "gelu": lambda: keras.ops.gelu(x_hidden, approximate=False),
    }
    plain = {name: timed(call) for name, call in calls.items()}
    with patched():
        fast = {name: timed(call) for name, call in calls.items()}
    expected, found = plain["the net"][0], fast["the net"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    accuracy = np.mean(found[1000:].argmax(axis=1) == digits.target[1000:])
    print(f"{len(x)} digits, 64 x {HIDDEN} x 10, float32: {accuracy:.1%} of those not seen right")
    for name in calls:
        print(
            f"{name:8} {plain[name][1]:.1f} ms with Keras' own, {fast[name][1]:.1f} ms with fastact"
        )


if __name__ == "__main__":
    main()
