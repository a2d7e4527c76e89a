"""A classifier whose arrays have labels: fastact by names of dimensions, beside xarray's own words.

Run ``python examples/backends/digits_xarray.py`` in a clone. It trains on scikit-learn's digits, and checks that both versions end
with the same loss and weights, to 1e-4.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import xarray as xr
from sklearn.datasets import load_digits

import fastact.backends.xarray as fx


def own_layer(x: Any) -> tuple[Any, Any]:
    """Return tanh-gelu, and a function to its gradient, in xarray's words."""
    c, k = np.float32(0.7978845608), np.float32(0.044715)
    t = np.tanh(c * (x + k * x * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * k * x * x)
    return 0.5 * x * (1 + t), lambda dy: dy * slope


def own_loss(logits: Any, hot: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and its gradient in xarray's words."""
    e = np.exp(logits - logits.max("class"))
    p = e / e.sum("class")
    return -np.log((p * hot).sum("class")).mean(), (p - hot) / logits.sizes["sample"]


def our_layer(x: Any) -> tuple[Any, Any]:
    """Return the same by fastact."""
    results: tuple[Any, Any] = fx.gelu_tanh.vjp(x)
    return results


def our_loss(logits: Any, hot: Any) -> tuple[Any, Any]:
    """Return the same by fastact."""
    results: tuple[Any, Any] = fx.softmax_cross_entropy.forward_backward(logits, hot, dim="class")
    return results


def train(layer: Any, loss_of: Any, steps: int = 60) -> tuple[float, list[Any], list[float]]:
    """Return the last loss, the parameters, and the seconds of the whole run and of what fastact can do."""
    images, labels = load_digits(return_X_y=True)
    x = xr.DataArray(images.astype(np.float32) / 16, dims=("sample", "pixel"))
    digits = {"class": [f"digit {k}" for k in range(10)]}
    hot = xr.DataArray(np.eye(10, dtype=np.float32)[labels], digits, ("sample", "class"))
    rng = np.random.default_rng(0)
    first = rng.normal(0, 64**-0.5, (64, 512)).astype(np.float32)
    second = rng.normal(0, 512**-0.5, (512, 10)).astype(np.float32)
    w = xr.DataArray(first, dims=("pixel", "unit"))
    bias = xr.DataArray(np.zeros(512, np.float32), dims="unit")
    v = xr.DataArray(second, digits, ("unit", "class"))
    seconds = [0.0, 0.0]

    def timed(function: Any, *args: Any) -> Any:
        start = time.perf_counter()
        results = function(*args)
        seconds[1] += time.perf_counter() - start
        return results

    start = time.perf_counter()
    for _ in range(steps):
        hidden, backward = timed(layer, xr.dot(x, w) + bias)
        loss, dlogits = timed(loss_of, xr.dot(hidden, v), hot)
        dx = timed(backward, xr.dot(dlogits, v))
        gradients = (
            xr.dot(x, dx, dim="sample"),
            dx.sum("sample"),
            xr.dot(hidden, dlogits, dim="sample"),
        )
        w, bias, v = (p - np.float32(0.5) * g for p, g in zip((w, bias, v), gradients, strict=True))
    seconds[0] = time.perf_counter() - start
    return float(loss), [w, bias, v], seconds


def main() -> None:
    """Train with both versions."""
    found = {}
    for name, functions in (("xarray", (own_layer, own_loss)), ("fastact", (our_layer, our_loss))):
        train(*functions, steps=2)  # compiles and loads
        loss, parameters, (whole, share) = train(*functions)
        found[name] = loss, parameters
        print(f"{name:8} loss {loss:.6f}  {whole:6.3f} s, activations and loss {share:6.3f} s")
    (loss, parameters), (right, others) = found["fastact"], found["xarray"]
    np.testing.assert_allclose(loss, right, rtol=1e-4)
    for one, other in zip(parameters, others, strict=True):
        xr.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main()
