"""Calls from other people's compiled code: scalars, arrays, loops, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import own_activations as own
import pytest
from fresh_process import run_python
from numba import njit, prange, vectorize
from numba.core.errors import TypingError
from numpy.typing import NDArray

import fastact as fa
from fastact import vecmath

Array = NDArray[Any]
X = np.concatenate([np.linspace(-8, 8, 131), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 90.0]])
DTYPES = (np.float32, np.float64)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def assert_same_bits(one: Any, other: Any) -> None:
    one, other = np.asarray(one), np.asarray(other)
    assert one.dtype == other.dtype
    both_nan = np.isnan(one) & np.isnan(other)
    kind = f"u{one.itemsize}"
    np.testing.assert_array_equal(one.view(kind)[~both_nan], other.view(kind)[~both_nan])


@every_dtype
def test_every_operation_on_arrays_and_scalars(dtype: Any) -> None:
    @njit
    def run(x: Any, dy: Any) -> Any:
        return (
            fa.sigmoid(x),
            fa.sigmoid.derivative(x),
            fa.sigmoid.value_and_derivative(x),
            fa.sigmoid.backward(dy, x),
            fa.sigmoid.forward_backward(x, dy),
            fa.sigmoid.backward_from_output(dy, x),
        )

    x = X.astype(dtype)
    dy = np.cos(np.arange(x.size)).astype(dtype)
    wanted = (
        fa.sigmoid(x),
        fa.sigmoid.derivative(x),
        fa.sigmoid.value_and_derivative(x),
        fa.sigmoid.backward(dy, x),
        fa.sigmoid.forward_backward(x, dy),
        fa.sigmoid.backward_from_output(dy, x),
    )
    for got, right in zip(run(x, dy), wanted, strict=True):
        assert_same_bits(got, right)
    for place in (3, 70, 131, 133):
        for got, right in zip(run(x[place], dy[place]), wanted, strict=True):
            right = np.asarray(right)[..., place]
            np.testing.assert_array_equal(np.asarray(got, dtype), right)


@every_dtype
def test_a_loop_gives_the_bits_of_the_ufunc(dtype: Any) -> None:
    """For every elementary function, whatever LLVM makes of the loop."""
    x = np.abs(X).astype(dtype)
    for function in vecmath.FUNCTIONS:
        ufunc = getattr(fa.math, function.__name__)
        assert_same_bits(loop_over(ufunc)(x), ufunc(x))


def loop_over(ufunc: Any) -> Any:
    """Return a compiled loop that calls a function for each element."""

    @njit
    def loop(x: Any) -> Any:
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = ufunc(x[i])
        return y

    return loop


def test_parameters() -> None:
    bound = fa.elu.bind(alpha=0.25)

    @njit
    def run(x: Any, alpha: Any) -> Any:
        return fa.elu(x), fa.elu(x, 0.5), fa.elu(x, alpha=alpha), bound(x), fa.prelu(x, 0.1)

    x = X.astype(np.float32)
    wanted = (fa.elu(x), fa.elu(x, 0.5), fa.elu(x, 2.0), fa.elu(x, 0.25), fa.prelu(x, 0.1))
    for got, right in zip(run(x, 2.0), wanted, strict=True):
        assert_same_bits(got, right)
    one = np.array([-1.0], np.float32)
    wanted = (fa.elu(one), fa.elu(one, 0.5), fa.elu(one, 2), bound(one), fa.prelu(one, 0.1))
    assert run(np.float32(-1), 2) == tuple(float(right[0]) for right in wanted)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(24.0).reshape(2, 3, 4) - 11,
        np.asfortranarray(np.arange(12.0).reshape(3, 4) - 5),
        np.arange(40.0, dtype=np.float32)[::-3],
        np.zeros((0, 3), np.float32),
        np.array(-0.5),
        np.arange(-3, 4),
        np.arange(-3, 4, dtype=np.int8),
        np.array([True, False]),
    ],
    ids=lambda x: f"{x.dtype}{x.shape}",
)
def test_any_array(x: Array) -> None:
    @njit
    def run(x: Any) -> Any:
        return fa.tanh.value_and_derivative(x)

    in_float = x if x.dtype.kind == "f" else x.astype(np.float64)
    for got, wanted in zip(run(x), fa.tanh.value_and_derivative(in_float), strict=True):
        assert_same_bits(got, wanted)
        assert got.shape == x.shape


def test_parallel_loop_and_vectorize() -> None:
    @njit(parallel=True)
    def rows(x: Any) -> Any:
        y = np.empty_like(x)
        for i in prange(x.shape[0]):
            y[i] = fa.sigmoid(x[i])
            for j in range(x.shape[1]):
                y[i, j] += fa.math.exp(-x[i, j])
        return y

    @vectorize(["float32(float32)", "float64(float64)"])
    def mixed(x: Any) -> Any:
        return fa.tanh(x) + fa.math.log1p(abs(x))

    x = np.random.default_rng(0).normal(0, 3, (50, 1001)).astype(np.float32)
    np.testing.assert_allclose(rows(x), fa.sigmoid(x) + fa.math.exp(-x), 1e-6)
    np.testing.assert_allclose(mixed(x), np.tanh(x) + np.log1p(np.abs(x)), 1e-5, 1e-6)


def test_own_activation() -> None:
    @njit
    def run(x: Any) -> Any:
        return own.swishy(x), own.swishy.derivative(x, beta=1.0), own.pair.second_derivative(x)

    x = X[:131]
    wanted = own.swishy(x), own.swishy.derivative(x, beta=1.0), own.pair.second_derivative(x)
    for got, right in zip(run(x), wanted, strict=True):
        assert_same_bits(got, right)
    assert np.isclose(run(0.3)[0], 0.3 / (1 + np.exp(-0.45)), rtol=1e-15)


def test_wrong_calls_say_what_is_wrong() -> None:
    calls: list[tuple[Any, str]] = [
        (lambda x: fa.elu(x, beta=1.0), "beta"),
        (lambda x: fa.elu(), "missing a required argument: 'x'"),
        (lambda x: fa.sigmoid("a"), "real numbers"),
        (lambda x: fa.sigmoid(1j), "real numbers"),
        (lambda x: fa.sigmoid.backward(x, np.ones(3)), "same shape"),
    ]
    for function, message in calls:
        with pytest.raises(TypingError, match=message):
            njit(function)(0.5)

    @njit
    def unequal(x: Any, y: Any) -> Any:
        return fa.sigmoid.backward(x, y)

    with pytest.raises(ValueError, match="same shape"):
        unequal(np.ones(3), np.ones(4))


def test_in_a_process_that_imports_numba_first() -> None:
    """And one that takes the ufunc before Numba is there."""
    script = """
        from fastact.math import exp
        import numba
        import fastact as fa
        @numba.njit
        def run(x):
            return exp(x) + fa.relu(x)
        print(run(1.0))
    """
    done = run_python(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3.718281828")


def test_memory_is_given_back() -> None:
    """Neither outputs nor the copies of inputs stay."""
    script = """
        import numpy as np
        from numba import njit
        from numba.core.runtime import rtsys
        import fastact as fa

        @njit
        def run(x):
            return fa.sigmoid.forward_backward(x, x)[1].sum()

        x = np.ones((64, 64), np.float32).T[::2]
        run(x)
        before = rtsys.get_allocation_stats()
        for _ in range(10):
            run(x)
        after = rtsys.get_allocation_stats()
        print(after.alloc - before.alloc, after.free - before.free)
    """
    done = run_python(script, NUMBA_NRT_STATS="1")
    assert done.returncode == 0, done.stderr
    allocated, freed = map(int, done.stdout.split())
    assert allocated == freed > 20
