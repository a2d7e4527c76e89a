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


# Broadcast with scalars, bools and integers among them, and with arrays of the same shape.
ARRAY, OTHER = np.linspace(-2, 2, 6), np.linspace(0.1, 0.6, 6)
BROADCAST = {
    "elu(a, w)": lambda a, w: fa.elu(a, w),
    "elu of float32 and float64": lambda a, w: fa.elu(a.astype(np.float32), w),
    "elu of float32": lambda a, w: fa.elu(a.astype(np.float32), w.astype(np.float32)),
    "elu of a scalar": lambda a, w: fa.elu(-1.0, w),
    "leaky_relu": lambda a, w: fa.leaky_relu(a, negative_slope=w),
    "two dimensions": lambda a, w: fa.elu(a.reshape(2, 3).T, w.reshape(3, 2)),
    "bool": lambda a, w: fa.elu(a, True),
    "integer": lambda a, w: fa.elu(a, 2),
    "hardtanh": lambda a, w: fa.hardtanh(a, -0.5, w),
    "dy is a scalar": lambda a, w: fa.sigmoid.backward(0.5, a),
    "where": lambda a, w: fa.math.where(a > 0, a, w),
    "exp2": lambda a, w: fa.math.exp2(a),
}


@pytest.mark.parametrize("call", BROADCAST)
def test_broadcasting(call: str) -> None:
    function = BROADCAST[call]
    assert_same_bits(njit(function)(ARRAY, OTHER), function(ARRAY, OTHER))


def test_scalars_of_every_kind() -> None:
    """As the ufuncs take them, but in float64 where those may choose float16."""

    @njit
    def run() -> Any:
        return fa.relu(True), fa.relu(3), fa.elu(False, True), fa.math.exp(True), fa.relu(-2)

    assert run() == (1.0, 3.0, 0.0, float(fa.math.exp(1.0)), 0.0)


WRONG = {
    "fastact.elu: unknown parameter 'beta'; its parameters: alpha": lambda x: fa.elu(x, beta=1.0),
    "fastact.elu: missing a required argument: 'x'": lambda x: fa.elu(),
    "fastact.prelu: missing a required argument: 'weight'": lambda x: fa.prelu(x),
    "fastact.elu: alpha must be real numbers, a scalar or an array; got a string": lambda x: fa.elu(x, "a"),
    "fastact.elu: alpha must be real numbers, a scalar or an array; got None": lambda x: fa.elu(x, None),
    "fastact.elu: alpha must be real numbers, a scalar or an array; got a tuple": lambda x: fa.elu(x, (1.0, 2)),
    "fastact.elu: alpha must be real numbers, a scalar or an array; got list": lambda x: fa.elu(x, [1.0]),
    "fastact.sigmoid: x must be real numbers, a scalar or an array; got complex128": lambda x: fa.sigmoid(1j),
    "fastact.sigmoid.backward: dy must be real numbers": lambda x: fa.sigmoid.backward("a", x),
    "fastact.math.exp: x must be real numbers": lambda x: fa.math.exp("a"),
    "fastact.sigmoid: x: float16 is not": lambda x: fa.sigmoid(np.zeros(3).astype(np.float16)),
    "fastact.elu: arrays must have the same shape in compiled code; x has ndim 2, alpha has ndim 1": (
        lambda x: fa.elu(np.zeros((2, 3)), np.zeros(3))
    ),
    "fastact.prelu: weight must be one number in compiled code": lambda x: fa.prelu(np.zeros(3), np.zeros(3)),
    "fastact.elu: out= is not available in compiled code": lambda x: fa.elu(x, out=x),
    "fastact.elu: where= is not available": lambda x: fa.elu(x, where=True),
    "fastact.elu: dtype= is not available": lambda x: fa.elu(x, dtype=np.float32),
    "fastact.relu: convention= is not available": lambda x: fa.relu(x, convention="jax"),
    "fastact.gelu: approximate= is not available": lambda x: fa.gelu(x, approximate="tanh"),
    "fastact.gelu: bias= is not available": lambda x: fa.gelu(x, bias=1.0),
    "fastact.prelu: axis= is not available": lambda x: fa.prelu(x, 0.1, axis=0),
    "fastact.rrelu: rng= is not available": lambda x: fa.rrelu(x, rng=1),
    "fastact.math.exp: out= is not available": lambda x: fa.math.exp(x, out=x),
    "fastact.maxout is not available in compiled code": lambda x: fa.maxout(x, 2),
    "fastact.softmax is not available in compiled code": lambda x: fa.softmax(x),
    "fastact.softmax.backward is not available": lambda x: fa.softmax.backward(x, x),
    "fastact.logsumexp is not available": lambda x: fa.logsumexp(x),
    "fastact.gumbel_softmax is not available": lambda x: fa.gumbel_softmax(x),
    "fastact.dropout is not available in compiled code": lambda x: fa.dropout(x, 0.5),
    "fastact.swiglu is not available": lambda x: fa.swiglu(x),
    "fastact.crelu is not available": lambda x: fa.crelu(x),
    "fastact.softmax_cross_entropy is not available": lambda x: fa.softmax_cross_entropy(x, 1),
    "fastact.relu.second_derivative is not available": lambda x: fa.relu.second_derivative(x),
    "fastact.prelu.backward is not available": lambda x: fa.prelu.backward(x, x, 0.1),
    "fastact.gelu.bind is not available": lambda x: fa.gelu.bind(),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_calls_say_what_is_wrong(message: str) -> None:
    """In one line, before what Numba adds of its own: where the call stands."""
    with pytest.raises(TypingError) as raised:
        njit(WRONG[message])(0.5)
    lines = str(raised.value).splitlines()
    assert any(line.startswith(message) for line in lines[:2]), lines


def test_nothing_but_scalars_and_arrays_is_bound() -> None:
    bound = fa.elu.bind(alpha=np.ones(3))
    with pytest.raises(TypingError, match="alpha is bound to array"):
        njit(lambda x: bound(x))(0.5)


def test_unequal_shapes() -> None:
    @njit
    def unequal(x: Any, y: Any) -> Any:
        return fa.sigmoid.backward(x, y)

    with pytest.raises(ValueError, match=r"fastact.sigmoid.backward: .* same shape"):
        unequal(np.ones(3), np.ones(4))


def test_own_activation_that_cannot_be_compiled() -> None:
    @fa.activation
    def broken(x: Any) -> Any:
        return np.tan(x)

    with pytest.raises(TypingError, match=r"broken: np\.tan is not available in a kernel"):
        njit(lambda x: broken(x))(0.5)


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
