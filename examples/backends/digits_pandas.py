"""A classifier whose data and scores are DataFrames: fastact beside pandas' own words.

Run ``python examples/backends/digits_pandas.py`` in a clone. It trains on scikit-learn's digits, and checks that both versions end
with the same loss and weights, to 1e-4.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

import fastact.backends.pandas as fp


def own_loss(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and its gradient in pandas' words."""
    e = np.exp(logits.sub(logits.max(axis=1), axis=0))
    p = e.div(e.sum(axis=1), axis=0)
    hot = pd.get_dummies(labels, dtype=np.float32).set_axis(p.columns, axis=1)
    return -np.log((p * hot).sum(axis=1)).mean(), (p - hot) / np.float32(len(p))


def our_loss(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return the same by fastact."""
    results: tuple[Any, Any] = fp.softmax_cross_entropy.forward_backward(logits, labels)
    return results


def train(loss_of: Any, steps: int = 100) -> tuple[float, Any, list[float]]:
    """Return the last loss, the weights, and the seconds of the whole run and of the loss."""
    images, labels = load_digits(return_X_y=True, as_frame=True)
    images = (images / 16).astype(np.float32)
    names = [f"digit {k}" for k in range(10)]
    w = pd.DataFrame(np.zeros((64, 10), np.float32), images.columns, names)
    seconds = [0.0, 0.0]
    start = time.perf_counter()
    for _ in range(steps):
        logits = images @ w
        before = time.perf_counter()
        loss, dlogits = loss_of(logits, labels)
        seconds[1] += time.perf_counter() - before
        w = w - np.float32(0.5) * (images.T @ dlogits)
    seconds[0] = time.perf_counter() - start
    return float(loss), w, seconds


def main() -> None:
    """Train with both versions."""
    found = {}
    for name, loss_of in (("pandas", own_loss), ("fastact", our_loss)):
        train(loss_of, steps=2)  # compiles and loads
        loss, w, (whole, share) = train(loss_of)
        found[name] = loss, w
        print(f"{name:8} loss {loss:.6f}  {whole:6.3f} s, loss {share:6.3f} s")
    np.testing.assert_allclose(found["fastact"][0], found["pandas"][0], rtol=1e-4)
    pd.testing.assert_frame_equal(found["fastact"][1], found["pandas"][1], rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main()
