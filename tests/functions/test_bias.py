"""A bias before an activation: values and gradients against formulas, PyTorch and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from scipy import special

import fastact as fa


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gelu(z: Any) -> tuple[Any, Any]:
    """Return value and derivative in float64."""
    z = np.asarray(z, np.float64)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return z * special.ndtr(z), special.ndtr(z) + z * density


def expected(x: Any, dy: Any, bias: Any, axis: int) -> tuple[Any, Any, Any]:
    """Return value and gradients of gelu in float64."""
    shape = [1] * x.ndim
    if np.ndim(bias):
        shape[axis] = np.size(bias)
    value, slope = gelu(np.float64(x) + np.reshape(np.float64(bias), shape))
    dx = dy * slope
    others = tuple(i for i in range(x.ndim) if np.ndim(bias) == 0 or i != axis % x.ndim)
    return value, dx, dx.sum(axis=others)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((7,), -1),
        ((5, 37), -1),
        ((5, 37), 0),
        ((3, 4, 5, 6), 1),
        ((2, 3, 70), -1),
        ((2, 70, 3), -2),
    ],
)
def test_channels(shape: tuple[int, ...], axis: int) -> None:
    for layout in (
        np.ascontiguousarray,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, -1)[..., ::2],
    ):
        x, dy = layout(normal(*shape)), layout(normal(*shape, seed=1))
        bias = normal(2 * shape[axis], seed=2)[::2]
        wanted = expected(x, dy, bias, axis)
        options = {"bias": bias} if axis == -1 else {"bias": bias, "axis": axis}
        y, dx, dbias = fa.gelu.forward_backward(x, dy, **options)
        for found, exact in zip((y, dx, dbias), wanted, strict=True):
            assert found.shape == exact.shape
            np.testing.assert_allclose(found, exact, rtol=1e-13, atol=1e-14)
        np.testing.assert_array_equal(fa.gelu(x, **options), y)
        back = fa.gelu.backward(dy, x, **options)
        np.testing.assert_array_equal(back[0], dx)
        np.testing.assert_array_equal(back[1], dbias)


@pytest.mark.parametrize("bias", [0.5, 2, np.float64(0.5), np.array([0.5])])
def test_one_number(bias: Any) -> None:
    x, dy = normal(6, 5), normal(6, 5, seed=1)
    y, dx, dbias = fa.gelu.forward_backward(x, dy, bias=bias)
    wanted = expected(x, dy, float(np.squeeze(bias)), -1)
    np.testing.assert_allclose(y, wanted[0], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dx, wanted[1], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dbias, np.reshape(wanted[2], np.shape(bias)), rtol=1e-13)
    assert np.shape(dbias) == np.shape(bias)


def test_value_and_derivative() -> None:
    x, bias = normal(6, 5), normal(5, seed=2)
    y, d = fa.tanh.value_and_derivative(x, bias=bias)
    np.testing.assert_allclose(y, np.tanh(x + bias), rtol=1e-14)
    np.testing.assert_allclose(d, 1 / np.cosh(x + bias) ** 2, rtol=1e-13)
    np.testing.assert_array_equal(fa.tanh.derivative(x, bias=bias), d)


def test_parameters_and_choices() -> None:
    """They go on to the activation; a relu's kink is where x + bias is 0."""
    x, dy, bias = normal(6, 5), normal(6, 5, seed=1), normal(5, seed=2)
    z = x + bias
    slope = np.where(z > 0, 1, 0.3)
    for call in (
        lambda: fa.leaky_relu.forward_backward(x, dy, 0.3, bias=bias),
        lambda: fa.leaky_relu.bind(negative_slope=0.3).forward_backward(x, dy, bias=bias),
    ):
        y, dx, dbias = call()
        np.testing.assert_allclose(y, z * slope, rtol=1e-14)
        np.testing.assert_allclose(dx, dy * slope, rtol=1e-14)
        np.testing.assert_allclose(dbias, (dy * slope).sum(0), rtol=1e-13)
    inner = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    y = fa.gelu(x, bias=bias, approximate="tanh")
    np.testing.assert_allclose(y, 0.5 * z * (1 + np.tanh(inner)), rtol=1e-12, atol=1e-15)


def test_learnable_parameters() -> None:
    """A default serves, such as silu's, and one that is bound; the value takes a given one too."""
    x, dy, bias = normal(6, 5), normal(6, 5, seed=1), normal(5, seed=2)
    slope = np.where(x + bias > 0, 1, 0.3)
    np.testing.assert_allclose(fa.prelu(x, 0.3, bias=bias), (x + bias) * slope, rtol=1e-14)
    dx, dbias = fa.prelu.bind(weight=0.3).backward(dy, x, bias=bias)
    np.testing.assert_allclose(dx, dy * slope, rtol=1e-14)
    np.testing.assert_allclose(dbias, (dy * slope).sum(0), rtol=1e-13)


def test_a_parameter_of_that_name_is_the_activations_own() -> None:
    y = fa.shrink(np.array([-2.0, 0.0, 2.0]), bias=0.5, lambd=1.0)
    np.testing.assert_array_equal(y, [-1.5, 0, 1.5])


def test_finite_differences() -> None:
    x, dy, bias, step = normal(4, 6), normal(4, 6, seed=1), normal(6, seed=2), 1e-6
    _, dbias = fa.mish.backward(dy, x, bias=bias)
    for channel in range(6):
        change = np.zeros(6)
        change[channel] = step
        slope = np.sum(dy * (fa.mish(x, bias=bias + change) - fa.mish(x, bias=bias - change)))
        assert np.isclose(dbias[channel], slope / (2 * step), rtol=1e-7)


@pytest.mark.parametrize(
    ("of_x", "of_bias", "of_y", "of_sums"),
    [
        ("f", "f", "f", "f"),
        ("f", "d", "d", "d"),
        ("e", "e", "e", "e"),
        ("e", "f", "e", "f"),
        ("b", "e", "e", "e"),
        (">f4", ">f4", "f", "f"),
    ],
)
def test_types(of_x: str, of_bias: str, of_y: str, of_sums: str) -> None:
    x, dy = (normal(40, 5) * 2).astype(of_x), normal(40, 5, seed=1).astype(of_x)
    bias = normal(5, seed=2).astype(of_bias)
    y, dx, dbias = fa.gelu.forward_backward(x, dy, bias=bias)
    assert (y.dtype, dx.dtype, dbias.dtype) == tuple(map(np.dtype, (of_y, of_y, of_sums)))
    wanted = expected(x, dy, bias, -1)
    for found, exact in zip((y, dx, dbias), wanted, strict=True):
        unit = np.finfo(found.dtype).eps
        np.testing.assert_allclose(found, exact, rtol=8 * unit, atol=8 * unit)


def test_bfloat16() -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16
    x, bias = normal(4, 5, dtype=kind), normal(5, dtype=kind)
    y, dx, dbias = fa.gelu.forward_backward(x, x, bias=bias)
    assert y.dtype == dx.dtype == dbias.dtype == kind
    wanted, _, _ = expected(x.astype(float), x.astype(float), bias.astype(float), -1)
    np.testing.assert_allclose(y.astype(float), wanted, rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_long_sums_are_exact_and_the_same(axis: int) -> None:
    """The sums of float32 numbers in float64, over many blocks, by one thread or two."""
    x, dy = np.ones((40, 3, 5003), "f"), normal(40, 3, 5003, dtype=np.float32)
    others = tuple({0, 1, 2} - {axis})
    before = fa.get_num_threads()
    try:
        results = []
        for threads in (1, 2) * 5:
            fa.set_num_threads(threads)
            dx, dbias = fa.relu.backward(dy, x, bias=np.zeros(x.shape[axis]), axis=axis)
            results.append(dbias.tobytes())
    finally:
        fa.set_num_threads(before)
    assert all(result == results[0] for result in results)
    assert dx.dtype == np.float64
    np.testing.assert_allclose(dbias, dy.sum(others, dtype=np.float64), rtol=1e-12, atol=1e-10)


def test_empty_and_special() -> None:
    for shape in ((0, 3), (2, 0, 3)):
        y, dx, dbias = fa.relu.forward_backward(np.ones(shape), np.ones(shape), bias=np.ones(3))
        assert y.shape == dx.shape == shape
        np.testing.assert_array_equal(dbias, np.zeros(3))
    assert fa.relu(2.0, bias=1.0) == 3
    y = fa.relu(np.array([np.inf, -np.inf, np.nan, 0.0]), bias=np.array([0, 0, 0, np.nan]))
    np.testing.assert_array_equal(y, [np.inf, 0, np.nan, np.nan])


def test_out() -> None:
    x, dy, bias = normal(6, 5), normal(6, 5, seed=1), normal(5, seed=2)
    y, dx, dbias = fa.gelu.forward_backward(x, dy, bias=bias)
    out = np.empty((5, 6)).T, dy.copy(), np.empty(10)[::2]
    results = fa.gelu.forward_backward(x, out[1], bias=bias, out=out)
    for result, own, wanted in zip(results, out, (y, dx, dbias), strict=True):
        assert result is own
        np.testing.assert_array_equal(own, wanted)
    over = x.copy()
    assert fa.gelu(over, bias=bias, out=over) is over
    np.testing.assert_array_equal(over, y)


def test_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x, dy, bias = normal(50, 33), normal(50, 33, seed=1), normal(33, seed=2)
    leaf, of_bias = (torch.tensor(each, requires_grad=True) for each in (x, bias))
    y = torch.nn.functional.silu(leaf + of_bias)
    y.backward(torch.tensor(dy))
    found = fa.silu.forward_backward(x, dy, bias=bias)
    for got, wanted in zip(found, (y.detach(), leaf.grad, of_bias.grad), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)


def test_memory() -> None:
    """forward_backward takes its outputs and at most a MiB for each thread."""
    output = assert_clean(
        run_python(
            """
            import tracemalloc
            import numpy as np
            import fastact as fa
            x, bias = np.ones((4096, 1024), "f"), np.ones(1024, "f")
            fa.set_output_cache(max_bytes=0)  # whose blocks tracemalloc does not see
            fa.relu.forward_backward(x, x, bias=bias)  # which may compile the kernel, and what the threads run
            tracemalloc.start()
            y, dx, dbias = fa.relu.forward_backward(x, x, bias=bias)
            print(tracemalloc.get_traced_memory()[1] - y.nbytes - dx.nbytes - dbias.nbytes)
            """
        )
    )
    assert 0 <= int(output) <= 2 * 2**20


X = np.ones((2, 4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: fa.elu(X, bias=np.ones(3)), ValueError, ["bias", "3 values", "4 channels"]),
        (lambda: fa.elu(X, bias=X), ValueError, ["bias", "(2, 4)"]),
        (lambda: fa.elu(X, bias="a"), TypeError, ["bias"]),
        (lambda: fa.elu(X, bias=np.ones(4), axis=2), ValueError, ["axis 2"]),
        (lambda: fa.elu(X, bias=1j), TypeError, ["bias", "complex"]),
        (lambda: fa.elu(X * 1j, bias=1), TypeError, ["x", "complex"]),
        (lambda: fa.elu(X, alpha=X, bias=1), ValueError, ["alpha", "number", "(2, 4)"]),
        (lambda: fa.elu(X, bias=1, where=X > 0), TypeError, ["where", "alpha, bias"]),
        (lambda: fa.elu.backward(X, np.ones(4), bias=1), ValueError, ["dy", "(2, 4)", "(4,)"]),
        (lambda: fa.tanh.second_derivative(X, bias=1), TypeError, ["no 'bias'", "tanh.backward"]),
        (lambda: fa.elu(X, bias=1, out=np.ones(3)), ValueError, ["out", "(3,)", "(2, 4)"]),
        (lambda: fa.prelu.backward(X, X, 0.2, bias=1), TypeError, ["prelu", "weight", "bias"]),
    ],
)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (1, 7), (5, 1), (1, 1), (3, 1, 1), (1, 5, 1), (1, 1, 7)]
)
def test_bias_broadcasts(shape: tuple[int, ...]) -> None:
    """Its gradient is the sum over the axes along which it was broadcast."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 5, 7))
    b = rng.standard_normal(shape)
    s = 1 / (1 + np.exp(-(x + b)))
    d = dy * s * (1 - s)
    axes = tuple(k for k in range(-3, 0) if k < -len(shape) or shape[k] == 1)
    expected = d.sum(axis=axes, keepdims=True).reshape(shape)
    for _ in range(2):  # the second call by a plan
        np.testing.assert_allclose(fa.sigmoid(x, bias=b), s, rtol=1e-14)
        _, dx, db = fa.sigmoid.forward_backward(x, dy, bias=b)
        np.testing.assert_allclose(dx, d, rtol=1e-12)
        np.testing.assert_allclose(db, expected, rtol=1e-12, atol=1e-14)
        assert np.shape(db) == shape
        found = fa.prelu.backward(dy, x, b, axis=-1)[1]
        expected_slope = np.where(x > 0, 0, x * dy).sum(axis=axes, keepdims=True).reshape(shape)
        np.testing.assert_allclose(found, expected_slope, rtol=1e-12, atol=1e-14)
        where = np.where(x > 0, x, b * x)
        np.testing.assert_allclose(fa.prelu(x, b, axis=-1), where, rtol=1e-14)


@pytest.mark.parametrize("shape", [(5, 7), (3, 1, 7), (1, 1, 1, 7), (4, 1), (1, 6)])
def test_bias_that_does_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="bias"):
        fa.sigmoid(np.ones((3, 5, 7)), bias=np.ones(shape))
