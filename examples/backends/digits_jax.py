"""Train a net of mish units on scikit-learn's digits in JAX, with `jax.nn` and with fastact.

    python examples/backends/digits_jax.py

prints the time of both, and that of the activation alone. XLA compiles both programs; the second calls fastact's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from fastact.backends import jax as fax

STEPS, REPEATS, RATE = 500, 5, 0.1
SIZES = (64, 512, 512, 10)


def initial_parameters() -> list[tuple[Any, Any]]:
    """Return weights and biases."""
    rng = np.random.default_rng(0)
    return [
        (
            jnp.asarray(rng.standard_normal(shape) * np.sqrt(2 / shape[0]), jnp.float32),
            jnp.zeros(shape[1], jnp.float32),
        )
        for shape in pairwise(SIZES)
    ]


def loss_of(activation: Callable[..., Any], parameters: Any, x: Any, labels: Any) -> Any:
    """Return the cross-entropy of a batch."""
    *hidden, (weight, bias) = parameters
    for w, b in hidden:
        x = activation(x @ w + b)
    return -jax.nn.log_softmax(x @ weight + bias)[jnp.arange(len(labels)), labels].mean()


def train(activation: Callable[..., Any], x: Any, labels: Any) -> tuple[list[float], float]:
    """Return the losses and the time."""
    gradient = jax.value_and_grad(partial(loss_of, activation))

    @jax.jit
    def step(parameters: Any, x: Any, labels: Any) -> Any:
        loss, changes = gradient(parameters, x, labels)
        return jax.tree.map(lambda p, d: p - RATE * d, parameters, changes), loss

    parameters, losses = initial_parameters(), []
    step(parameters, x[:128], labels[:128])  # compiles
    start = perf_counter()
    for k in range(STEPS):
        batch = slice(k * 128 % 1664, k * 128 % 1664 + 128)
        parameters, loss = step(parameters, x[batch], labels[batch])
        losses.append(loss)
    jax.block_until_ready(parameters)
    return [float(each) for each in losses], perf_counter() - start


def time_of_activation(activation: Callable[..., Any]) -> float:
    """Return the microseconds of value and gradient of one layer's activation."""
    x = jnp.asarray(np.random.default_rng(1).standard_normal((128, 512)), jnp.float32)
    both = jax.jit(lambda x, dy: (lambda y, vjp: (y, vjp(dy)))(*jax.vjp(activation, x)))
    jax.block_until_ready(both(x, x))
    start = perf_counter()
    for _ in range(200):
        jax.block_until_ready(both(x, x))
    return (perf_counter() - start) / 200 * 1e6


def main() -> None:
    """Train with both, and compare."""
    digits = load_digits()
    x, labels = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)
    contenders = {"jax.nn": jax.nn.mish, "fastact": fax.mish}
    runs = [{name: train(f, x, labels) for name, f in contenders.items()} for _ in range(REPEATS)]
    losses = {name: run[0] for name, run in runs[0].items()}
    np.testing.assert_allclose(losses["fastact"], losses["jax.nn"], rtol=1e-2)
    print(f"digits, {' x '.join(map(str, SIZES))}, batches of 128, {STEPS} steps, float32")
    print(f"last loss: {losses['jax.nn'][-1]:.6f} and {losses['fastact'][-1]:.6f}")
    for name, f in contenders.items():
        alone = median(time_of_activation(f) for _ in range(REPEATS))
        whole = median(run[name][1] for run in runs)
        print(
            f"{name:8} training {whole:.2f} s, mish of (128, 512) with its gradient {alone:.0f} us"
        )


if __name__ == "__main__":
    main()
