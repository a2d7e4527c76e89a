"""Bound parameters, conventions and other choices: what they mean, and the errors of wrong ones."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastact as fa

X = np.array([-3.0, -1, -0.5, -0.0, 0, 0.5, 1, 3, np.nan])


def test_a_bound_activation_has_other_defaults() -> None:
    bound = fa.get("elu", alpha=0.5)
    assert dict(bound.parameters) == {"alpha": 0.5}
    assert dict(fa.elu.parameters) == {"alpha": 1.0}
    np.testing.assert_array_equal(bound(X), fa.elu(X, alpha=0.5))
    np.testing.assert_array_equal(bound.backward(X, X), fa.elu.backward(X, X, alpha=0.5))
    np.testing.assert_array_equal(bound(X, alpha=2.0), fa.elu(X, alpha=2.0))
    np.testing.assert_array_equal(bound(X, 2.0), fa.elu(X, 2.0))
    again = bound.bind(alpha=0.25)
    np.testing.assert_array_equal(again(X), fa.elu(X, alpha=0.25))
    np.testing.assert_array_equal(bound(X), fa.elu(X, alpha=0.5))
    assert repr(bound) == "<activation 'elu', alpha=0.5>"
    assert fa.elu.bind() is fa.elu
    assert fa.get("elu") is fa.elu


def test_a_bound_activation_pickles() -> None:
    copy = pickle.loads(pickle.dumps(fa.get("elu", alpha=0.5)))
    np.testing.assert_array_equal(copy(X), fa.elu(X, alpha=0.5))
    assert pickle.loads(pickle.dumps(fa.elu)) is fa.elu
    jax = fa.get("leaky_relu", convention="jax", negative_slope=0.5)
    copy = pickle.loads(pickle.dumps(jax))
    np.testing.assert_array_equal(copy.derivative(X), jax.derivative(X))
    assert copy.derivative(0.0) == 1


def test_a_bound_learnable_parameter_has_no_gradient() -> None:
    """It is a constant; the gradient comes where a call is given the parameter."""
    x = X[:8].reshape(2, 4)
    dx = fa.get("prelu", weight=0.25).backward(x, x)
    np.testing.assert_array_equal(dx, fa.prelu.backward(x, x, 0.25)[0])
    dx = fa.silu.backward(x, x)
    np.testing.assert_array_equal(dx, fa.silu.backward(x, x, beta=1.0)[0])
    y, dx = fa.silu.forward_backward(x, x)
    np.testing.assert_array_equal(y, fa.silu(x))
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(
        fa.prelu.bind(weight=weights)(x), fa.prelu(x, weights), strict=True
    )


@pytest.mark.parametrize(
    ("name", "convention", "x", "derivative"),
    [
        ("leaky_relu", "pytorch", 0.0, 0.01),
        ("leaky_relu", "jax", 0.0, 1.0),
        ("leaky_relu", "tensorflow", -1.0, 0.2),
        ("leaky_relu", "chainer", -1.0, 0.2),
        ("leaky_relu", "thinc", 0.0, 0.01),
        ("hardtanh", "pytorch", 1.0, 0.0),
        ("hardtanh", "jax", 1.0, 1.0),
        ("hardsigmoid", "pytorch", 2.9, 1 / 6),
        ("hardsigmoid", "thinc", 2.4, 0.2),
        ("hardsigmoid", "chainer", 2.4, 0.2),
        ("hardswish", "pytorch", -3.0, 0.0),
        ("hardswish", "pytorch", 3.0, 1.0),
        ("hardswish", "thinc", -2.5, -0.5),
        ("hardswish", "thinc", 2.5, 1.5),
        ("elu", "tensorflow", 0.0, 1.0),
        ("selu", "pytorch", 0.0, 1.7580993408473766),
        ("selu", "tensorflow", 0.0, 1.0507009873554805),
        ("clipped_relu", "chainer", 19.0, 1.0),
        ("clipped_relu", "thinc", 6.5, 0.0),
        ("rrelu", "pytorch", 0.0, 11 / 48),
        ("rrelu", "chainer", 0.0, 1.0),
        ("sparse_sigmoid", "jax", 1.0, 0.25),
    ],
)
def test_conventions(name: str, convention: str, x: float, derivative: float) -> None:
    item = fa.get(name)
    np.testing.assert_allclose(item.derivative(x, convention=convention), derivative, 1e-15)
    np.testing.assert_allclose(fa.get(name, convention=convention).derivative(x), derivative, 1e-15)
    in_float32 = item.derivative(np.float32(x), convention=convention)
    np.testing.assert_allclose(in_float32, derivative, 1e-6)
    if x == 0:
        np.testing.assert_allclose(item.derivative(-0.0, convention=convention), derivative, 1e-15)


def test_an_own_slope_in_a_convention() -> None:
    assert fa.elu.derivative(0.0, alpha=0.3) == 0.3
    assert fa.elu.derivative(0.0, alpha=0.3, convention="tensorflow") == 1
    assert fa.elu.bind(alpha=0.3).derivative(-1e-300, convention="tensorflow") == 0.3


def test_which_gelu() -> None:
    np.testing.assert_array_equal(fa.gelu(X, approximate="tanh"), fa.gelu_tanh(X))
    np.testing.assert_array_equal(fa.gelu(X, approximate="quick"), fa.quick_gelu(X))
    np.testing.assert_array_equal(fa.gelu(X, approximate="none"), fa.gelu(X))
    np.testing.assert_array_equal(fa.gelu(X, convention="jax"), fa.gelu_tanh(X))
    assert fa.get("gelu", approximate="tanh") is fa.gelu_tanh
    _, dx = fa.gelu.forward_backward(X, X, approximate="tanh")
    np.testing.assert_array_equal(dx, fa.gelu_tanh.backward(X, X))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fa.elu(X, convention="keras"), ValueError, "convention must be one of"),
        (lambda: fa.get("elu", convention=None), ValueError, "convention must be one of"),
        (lambda: fa.gelu(X, approximate="erf"), ValueError, "approximate must be one of"),
        (lambda: fa.silu(X, approximate="tanh"), TypeError, "unknown argument 'approximate'"),
        (lambda: fa.get("elu", slope=1), TypeError, "elu: unknown parameter 'slope'"),
        (lambda: fa.elu.bind(alpha="1"), TypeError, "elu: alpha has dtype"),
        (lambda: fa.get(["elu"]), TypeError, "a string"),
        (lambda: fa.get("gelo"), ValueError, "Did you mean 'gelu'"),
    ],
)
def test_wrong_choices(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "e", float])
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
def test_dtype_is_that_of_the_arrays(given: Any, dtype: Any) -> None:
    """Parameters are float32 beside half types, whatever ``dtype=`` is."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = X.astype(given)
    wanted = fa.elu(X.astype(dtype), alpha=0.3)
    got = fa.elu(x, alpha=0.3, dtype=dtype)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got.astype(np.float64), wanted.astype(np.float64))
    y, dx = fa.relu.forward_backward(x, x, dtype=dtype)
    assert y.dtype == dx.dtype == np.dtype(dtype)
    out = np.empty(x.shape, dtype)
    assert fa.elu(x, 0.3, dtype=dtype, out=out) is out


def test_a_dtype_that_there_is_not() -> None:
    for dtype in (int, complex, "S3"):
        with pytest.raises(TypeError, match="elu: "):
            fa.elu(X, dtype=dtype)
