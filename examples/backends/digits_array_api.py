"""A net on tensors of PyTorch, JAX and array-api-strict, by the same code, with fastact and with each library's own words.

Run ``python examples/backends/digits_array_api.py`` in a clone. It trains on scikit-learn's digits, and checks that both versions
end with the same loss and weights, to 1e-4. Tensors stay where they are: nothing is copied between the libraries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import fastact as fa

LIBRARIES = ("torch", "jax.numpy", "array_api_strict")


def own_layer(xp: Any, x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return tanh-gelu and its gradient in the words of the array API."""
    c, k = 0.7978845608028654, 0.044715
    t = xp.tanh(c * (x + k * x * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * k * x * x)
    return 0.5 * x * (1 + t), lambda dy: dy * slope


def own_loss(xp: Any, logits: Any, hot: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and its gradient in the words of the array API."""
    e = xp.exp(logits)
    p = e / xp.sum(e, axis=1)[:, None]
    return -xp.mean(xp.log(xp.sum(p * hot, axis=1))), (p - hot) / logits.shape[0]


def our_layer(xp: Any, x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the same by fastact."""
    results: tuple[Any, Callable[[Any], Any]] = fa.gelu_tanh.vjp(x)
    return results


def our_loss(xp: Any, logits: Any, hot: Any) -> tuple[Any, Any]:
    """Return the same by fastact."""
    results: tuple[Any, Any] = fa.softmax_cross_entropy.forward_backward(logits, hot)
    return results


def train(
    xp: Any, layer: Any, loss_of: Any, steps: int = 60
) -> tuple[float, list[Any], list[float]]:
    """Return the last loss, the weights, and the seconds of the whole run and of what fastact can do."""
    images, labels = load_digits(return_X_y=True)
    as_own = xp.asarray
    x, hot = as_own(images.astype(np.float32) / 16), as_own(np.eye(10, dtype=np.float32)[labels])
    rng = np.random.default_rng(0)
    weights = [
        as_own(rng.normal(0, n**-0.5, (n, m)).astype(np.float32)) for n, m in ((64, 512), (512, 10))
    ]
    seconds = [0.0, 0.0]

    def timed(function: Any, *args: Any) -> Any:
        start = time.perf_counter()
        results = function(*args)
        for each in results if isinstance(results, tuple) else (results,):
            getattr(each, "block_until_ready", lambda: None)()
        seconds[1] += time.perf_counter() - start
        return results

    start = time.perf_counter()
    for _ in range(steps):
        hidden, backward = timed(layer, xp, x @ weights[0])
        loss, dlogits = timed(loss_of, xp, hidden @ weights[1], hot)
        dhidden = timed(backward, dlogits @ weights[1].T)
        gradients = x.T @ dhidden, hidden.T @ dlogits
        weights = [w - 0.5 * g for w, g in zip(weights, gradients, strict=True)]
    seconds[0] = time.perf_counter() - start
    return float(loss), weights, seconds


def main() -> None:
    """Train with each library that is installed."""
    for name in LIBRARIES:
        try:
            xp = import_module(name)
        except ImportError:
            print(f"{name} is not installed")
            continue
        found = []
        for by, functions in (
            ("itself", (own_layer, own_loss)),
            ("fastact", (our_layer, our_loss)),
        ):
            train(xp, *functions, steps=2)  # compiles and loads
            loss, weights, (whole, share) = train(xp, *functions)
            found.append((loss, *map(np.from_dlpack, weights)))
            print(
                f"{name:16} by {by:8} loss {loss:.6f}  {whole:6.3f} s, activations and loss {share:6.3f} s"
            )
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main()
