"""An array that outgrows the memory, and a net whose batches are chunks: fastact beside plain NumPy, both under dask.

Run ``python examples/backends/digits_dask.py`` in a clone. The first part reduces an array of several times the memory that each
worker process of a cluster may take; the second trains a net on scikit-learn's digits, and checks that both versions end with
the same loss and weights, to 1e-4.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits

import fastact.backends.dask as fd

LIMIT, SIZE = 2**29, 2**30  # bytes that a worker may take, and float32 numbers of the array: 4 GiB


def gelu_tanh(x: Any) -> Any:
    """Compute the formula in NumPy's words, nine passes over each chunk."""
    return (
        0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)))
    )


def larger_than_memory() -> None:
    """Print the throughput of a mean over all elements."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(memory_limit=LIMIT, **options) as cluster, Client(cluster):
        x = (da.arange(SIZE, chunks=2**22, dtype=np.int32) % 7 - 3).astype(np.float32)
        print(
            f"{x.nbytes / 2**30:g} GiB in chunks of {x.nbytes / x.npartitions / 2**20:g} MiB;",
            end=" ",
        )
        print(f"2 workers of {LIMIT / 2**20:g} MiB each")
        means = {}
        for name, function in (
            ("input alone", lambda x: x),
            ("NumPy", gelu_tanh),
            ("fastact", fd.gelu_tanh),
        ):
            mean = function(x).mean(dtype=float)
            mean.compute() if name == "fastact" else None  # compiles and loads
            start = time.perf_counter()
            means[name] = mean.compute()
            seconds = time.perf_counter() - start
            print(
                f"{name:12} {seconds:6.2f} s  {x.nbytes / seconds / 1e9:6.2f} GB/s  mean {means[name]:.7f}"
            )
        np.testing.assert_allclose(means["fastact"], means["NumPy"], rtol=1e-6)


def numpy_layer(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the activation and its gradient in NumPy's words."""
    c, k = np.float32(0.7978845608), np.float32(0.044715)
    t = np.tanh(c * (x + k * x * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * k * x * x)
    return 0.5 * x * (1 + t), lambda dy: dy * slope


def numpy_loss(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and its gradient in NumPy's words."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    hot = labels[:, None] == np.arange(10)
    return -np.log((p * hot).sum(axis=1)).mean(), (p - hot) / np.float32(len(logits))


def train(layer: Any, loss_of: Any, steps: int = 30) -> tuple[float, list[Any], float]:
    """Return the last loss, the weights and the seconds."""
    images, labels = load_digits(return_X_y=True)
    x = da.from_array(images.astype(np.float32) / 16, chunks=(600, 64))
    labels = da.from_array(labels, chunks=600)
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, n**-0.5, (n, m)).astype(np.float32) for n, m in ((64, 256), (256, 10))]
    start = time.perf_counter()
    for _ in range(steps):
        hidden, backward = layer(x @ weights[0])
        loss, dlogits = loss_of(hidden @ weights[1], labels)
        gradients = x.T @ backward(dlogits @ weights[1].T), hidden.T @ dlogits
        loss, *gradients = dask.compute(loss, *gradients)
        weights = [w - w.dtype.type(0.5) * g for w, g in zip(weights, gradients, strict=True)]
    return float(loss), weights, time.perf_counter() - start


def main() -> None:
    """Run both parts."""
    larger_than_memory()
    ours = fd.gelu_tanh.vjp, fd.softmax_cross_entropy.forward_backward
    train(*ours, steps=1)  # compiles
    for name, functions in (("NumPy", (numpy_layer, numpy_loss)), ("fastact", ours)):
        loss, weights, seconds = train(*functions)
        print(f"digits with {name:8} loss {loss:.6f}  {seconds:5.2f} s")
        if name == "NumPy":
            right = loss, weights
    np.testing.assert_allclose(loss, right[0], rtol=1e-4)
    for one, other in zip(weights, right[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main()
