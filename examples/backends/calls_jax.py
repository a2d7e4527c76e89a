"""Compiled calls from JAX programs: fastact's kernels beside `jax.nn`.

    python examples/backends/calls_jax.py

prints a table in Markdown: microseconds of value, and of value and gradient, with the results awaited.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastact.backends import jax as fax

SHAPES = ((32, 100), (128, 512), (1000, 1000))
NAMES = ("relu", "sigmoid", "tanh", "elu", "silu", "mish", "softmax", "log_softmax")
ROUNDS, SECONDS = 7, 0.05


def with_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of x and dy that computes the value and the gradient."""

    def both(x: Any, dy: Any) -> Any:
        y, vjp = jax.vjp(function, x)
        return y, vjp(dy)

    return both


def microseconds(call: Callable[[], Any]) -> float:
    """Return the time of one call in the fastest of several rounds."""
    jax.block_until_ready(call())
    best, count = np.inf, 1
    for _ in range(ROUNDS):
        start = perf_counter()
        for _ in range(count):
            jax.block_until_ready(call())
        seconds = (perf_counter() - start) / count
        best, count = min(best, seconds), max(1, int(SECONDS / seconds))
    return best * 1e6


def main() -> None:
    """Print the table."""
    print("| | " + " | ".join(f"{shape}" for shape in SHAPES) + " |")
    print("|:--" + "|--:" * len(SHAPES) + "|")
    rng = np.random.default_rng(0)
    for name in NAMES:
        theirs = getattr(jax.nn, name)
        for title, change in (("", lambda f: f), (", with its gradient", with_gradient)):
            cells = []
            for shape in SHAPES:
                x, dy = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
                arrays = (x,) if not title else (x, dy)
                functions = [jax.jit(change(f)) for f in (theirs, getattr(fax, name))]
                times = [microseconds(partial(f, *arrays)) for f in functions]
                cells.append("{:.0f} -> {:.0f}".format(*times))
            print(f"| {name}{title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
