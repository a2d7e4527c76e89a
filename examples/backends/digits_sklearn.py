"""scikit-learn's MLPClassifier on digits, as it is and patched: the same net, in less time; and one with another activation.

    python examples/backends/digits_sklearn.py
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._base import ACTIVATIONS, DERIVATIVES

import fastact.backends.sklearn as backend

TOLERANCE = {np.float64: 1e-9, np.float32: 1e-3}  # of probabilities on average, after 180 steps
REPETITIONS = 7

warnings.simplefilter("ignore", ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X /= 16


@contextmanager
def clock() -> Iterator[list[float]]:
    """Time each call of an activation or a derivative, by functions around those in scikit-learn's tables."""
    seconds: list[float] = []

    def timed(function: Any) -> Any:
        def run(*arrays: Any) -> None:
            start = time.perf_counter()
            function(*arrays)
            seconds.append(time.perf_counter() - start)

        return run

    originals = [(table, dict(table)) for table in (ACTIVATIONS, DERIVATIVES)]
    for table, functions in originals:
        table.update({name: timed(function) for name, function in functions.items()})
    yield seconds
    for table, functions in originals:
        table.update(functions)


def train(activation: str, dtype: Any, is_patched: bool) -> tuple[Any, float, float]:
    """Train a net, and return its probabilities, the seconds, and those in activations."""
    net = MLPClassifier((100,), activation=activation, max_iter=20, random_state=0)
    with backend.patched() if is_patched else nullcontext(), clock() as seconds:
        start = time.perf_counter()
        net.fit(X.astype(dtype), y)
        whole = time.perf_counter() - start
    return net.predict_proba(X), whole, sum(seconds)


def best(runs: Any) -> tuple[Any, float, float]:
    """Return the probabilities and the shortest times of several runs, the first of which compiles."""
    probabilities, seconds, shares = zip(*runs, strict=True)
    return probabilities[0], min(seconds), min(shares)


def main() -> None:
    """Train nets of scikit-learn's usual size, in batches of 200."""
    print(f"{'activation':12}{'dtype':>8}{'whole run, ms':>20}{'activations, ms':>20}{'faster':>8}")
    for activation in DERIVATIVES:
        for dtype in TOLERANCE:
            runs = [
                [train(activation, dtype, on) for on in (False, True)] for _ in range(REPETITIONS)
            ]
            (before, seconds, share), (after, our_seconds, our_share) = map(
                best, zip(*runs, strict=True)
            )
            assert np.abs(after - before).mean() < TOLERANCE[dtype]
            whole = f"{seconds * 1e3:.0f} -> {our_seconds * 1e3:.0f}"
            activations = f"{share * 1e3:.1f} -> {our_share * 1e3:.1f}"
            name = np.dtype(dtype).name
            print(f"{activation:12}{name:>8}{whole:>20}{activations:>20}{share / our_share:7.1f}x")
    net = backend.MLPClassifier((100,), activation="mish", max_iter=20, random_state=0).fit(X, y)
    print(f"mish, which scikit-learn lacks: accuracy {net.score(X, y):.3f}")


if __name__ == "__main__":
    main()
