"""Ratios of pairs of calls that should cost the same or less, measured in turn.

A custom activation beside one of the catalogue, loops in compiled code beside the ufunc, and
half-precision types beside float32 in memory-bound calls:

    python -m benchmarks.ratios
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import njit

import fastact as fa
from fastact.bench.timing import Contender, describe, machine, measure_in_turn

IN_CACHE, LARGE = 16_384, 20_000_000


@fa.activation
def own(x: Any, beta: Any = 1.5) -> Any:
    """Return only the value."""
    return x * fa.math.logistic(beta * x)


@fa.activation
def own_with_derivative(x: Any) -> Any:
    """Return the value and derivative of sigmoid."""
    y = fa.math.logistic(x)
    return y, y * (1 - y)


def loop_over(function: Any) -> Callable[..., Any]:
    """Return a compiled loop that calls a function for each element."""

    @njit
    def loop(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = function(x[i])

    return loop


def numbers(elements: int, dtype: Any = np.float32) -> Any:
    """Return normal deviates times 4."""
    random = np.random.default_rng(20)
    return (random.standard_normal(elements, dtype=np.float32) * 4).astype(dtype)


def fused(activation: Any, x: Any) -> Callable[[], object]:
    """Return a call of value and gradient, into given arrays."""
    dy = np.roll(x, 1)
    return partial(activation.forward_backward, x, dy, out=(np.empty_like(x), np.empty_like(x)))


def pairs() -> Iterator[tuple[str, int, Callable[[], object], Callable[[], object]]]:
    """Yield a title, a number of threads, a call, and the call to compare it with."""
    x = numbers(IN_CACHE)
    yield (
        "own x logistic(1.5 x) : silu(beta=1.5)",
        1,
        fused(own, x),
        fused(fa.silu.bind(beta=1.5), x),
    )
    yield "own pair : sigmoid", 1, fused(own_with_derivative, x), fused(fa.sigmoid, x)
    for dtype in (np.float32, np.float64):
        x = numbers(IN_CACHE, dtype)
        y = np.empty_like(x)
        for function in (fa.math.exp, fa.math.tanh, fa.math.erf, fa.sigmoid, fa.gelu):
            ufunc = function if isinstance(function, np.ufunc) else function.ufuncs["forward"]
            title = f"loop of {getattr(function, '__name__', function)}, {np.dtype(dtype)} : ufunc"
            yield title, 1, partial(loop_over(function), x, y), partial(ufunc, x, out=y)
    for dtype in half_types():
        for name in ("relu", "sigmoid", "silu", "gelu", "mish"):
            title = f"{name}, {np.dtype(dtype).name} : float32"
            calls = (fused(fa.get(name), numbers(LARGE, each)) for each in (dtype, np.float32))
            yield title, 0, *calls


def half_types() -> list[Any]:
    """Return the available half-precision types."""
    try:
        import ml_dtypes
    except ImportError:
        return [np.float16]
    return [ml_dtypes.bfloat16, np.float16]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all pairs and print the table."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("--samples", type=int, default=31, help="samples of each call")
    parser.add_argument("--only", default="", help="only pairs whose title contains this")
    options = parser.parse_args(arguments)
    table = Table("first : second", "threads", "first", "second", "ratio")
    threads = fa.get_num_threads()
    for title, wanted, first, second in pairs():
        if options.only not in title:
            continue
        fa.set_num_threads(wanted or threads)
        first(), second()
        times = measure_in_turn(
            {"first": Contender(first), "second": Contender(second)}, options.samples
        )
        ratio = times["first"].median / times["second"].median
        count = str(fa.get_num_threads())
        table.add_row(title, count, str(times["first"]), str(times["second"]), f"{ratio:.2f}")
        fa.set_num_threads(threads)
    console = Console()
    console.print(table)
    console.print(describe(machine()), soft_wrap=True)


if __name__ == "__main__":
    main()
