"""fastact, the NumPy baseline and one implementation of each library installed, side by side, for code reviews.

    pytest benchmarks/test_side_by_side.py -k "gelu and 32x100"
    pytest benchmarks/test_side_by_side.py -k "softmax and forward_backward" --benchmark-json=softmax.json
    pytest benchmarks/test_side_by_side.py --benchmark-disable

There is a table for each operation and shape, with a row for each function of the catalogue; it gives NumPy's time, and how many
times as fast the others are. The last command measures nothing, but checks that all compute what NumPy computes. A library that
computes something else by default is left out of the tables; if fastact does, that is a failure.

Requires pytest-benchmark and SciPy. All of it takes some 20 minutes on two cores. All calls are made in one process,
in which threads of one library may disturb the next: `fastact bench`, which takes longer, gives each a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from timeit import timeit
from typing import TYPE_CHECKING, Any

import numpy as np

import fastact as fa
from fastact import baseline
from fastact.bench import competition, contenders
from fastact.bench.workloads import Workload

if TYPE_CHECKING:  # asv imports this file without pytest
    import pytest

SHAPES = ((32, 100), (1024, 1000))
ROUNDS = 15
SECONDS_OF_ROUND = 1e-3


def implementations() -> list[str]:
    """Return the first implementation that each library has."""
    found = reversed(contenders.installed_implementations())
    return [*{contenders.IMPLEMENTATIONS[name].packages: name for name in found}.values()][::-1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over all operations, shapes, functions and implementations."""
    metafunc.parametrize("implementation", implementations())
    metafunc.parametrize("function", fa.names())
    metafunc.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
    metafunc.parametrize("operation", contenders.OPERATIONS)


def test_speed(
    benchmark: Any, operation: str, shape: tuple[int, int], function: str, implementation: str
) -> None:
    """Compare the results of a call that returns new arrays with NumPy's, and measure it."""
    import pytest

    work = Workload.of(function, shape)
    try:
        call = make_call(work, implementation, operation)
    except NotImplementedError:
        pytest.skip("the library lacks the function")
    if implementation == "fastact":
        assert_close(call(), by_numpy(operation, shape, function), "rng" in work.parameters)
    elif not competition.agree(as_arrays(by_numpy(operation, shape, function)), as_arrays(call())):
        pytest.skip("the library computes something else by default")
    iterations = round(SECONDS_OF_ROUND / timeit(call, number=1)) if benchmark.enabled else 1
    benchmark.pedantic(call, rounds=ROUNDS, iterations=max(1, iterations), warmup_rounds=2)


def make_call(work: Workload, implementation: str, operation: str) -> Callable[[], Any]:
    """Return the call to measure; of activations that nobody has written by hand, NumPy evaluates the formula."""
    if implementation == "numpy":
        return contenders.method_call(baseline.get(work.name), work, operation)
    return contenders.make_call(work, implementation, operation)


@lru_cache(maxsize=1)  # of consecutive tests
def by_numpy(operation: str, shape: tuple[int, int], function: str) -> Any:
    """Return what the baseline computes."""
    return make_call(Workload.of(function, shape), "numpy", operation)()


def assert_close(ours: Any, theirs: Any, are_random: bool) -> None:
    """Check that float32 results agree to 1e-5 of the largest; of random ones, the distributions, to a quarter."""
    for our, their in zip(as_arrays(ours), as_arrays(theirs), strict=True):
        assert our.shape == their.shape
        assert our.dtype == their.dtype == np.float32
        if are_random:  # each draws its own numbers, 3200 or more
            distance = np.mean(np.abs(np.sort(our, axis=None) - np.sort(their, axis=None)))
            assert distance < 0.25 * np.mean(np.abs(their))
        else:
            np.testing.assert_allclose(our, their, rtol=0, atol=1e-5 * np.nanmax(np.abs(their)))


def as_arrays(results: Any) -> list[Any]:
    """Return one result or several as a list."""
    return [np.asarray(each) for each in (results if isinstance(results, tuple) else (results,))]
