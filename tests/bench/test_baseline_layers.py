"""The NumPy baselines of rows and layers, against formulas in float64 that are written a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

import fastact as fa
from fastact import baseline

Array = NDArray[Any]

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_axis = pytest.mark.parametrize("axis", [-1, 0, 1])


def gradient(function: Callable[[Array], Array], x: Array, dy: Array) -> Array:
    """Return the gradient of ``sum(dy * function(x))``: by complex numbers, without a difference."""
    found = np.empty(x.shape)
    step = 1e-30
    for place in np.ndindex(x.shape):
        moved = x.astype(np.complex128)
        moved[place] += step * 1j
        found[place] = np.sum(dy * function(moved)).imag / step
    return found


def halves(x: Array, axis: int) -> tuple[Array, Array]:
    first, second = np.split(x, 2, axis=axis)
    return first, second


def logistic(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def rectified(x: Array) -> Array:
    return np.where(x.real > 0, x, 0)


def normal(x: Array) -> Array:
    """Return x times the normal distribution's integral, as erf of complex numbers."""
    result: Array = x * (1 + special.erf(x / np.sqrt(2))) / 2
    return result


def gated(f: Callable[[Array], Array], gate: int = 0) -> Callable[[Array, int], Array]:
    def unit(x: Array, axis: int) -> Array:
        parts = halves(x, axis)
        return parts[1 - gate] * f(parts[gate])

    return unit


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.real.max(axis, keepdims=True))
    result: Array = e / e.sum(axis, keepdims=True)
    return result


FORMULAS: dict[str, Callable[[Array, int], Array]] = {
    "softmax": softmax,
    "log_softmax": lambda x, axis: np.log(softmax(x, axis)),
    "softmin": lambda x, axis: softmax(-x, axis),
    "glu": gated(logistic, gate=1),
    "reglu": gated(rectified),
    "geglu": gated(normal),
    "geglu_tanh": gated(lambda x: x * logistic(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))),
    "swiglu": gated(lambda x: x * logistic(x)),
    "squared_reglu": gated(lambda x: rectified(x) ** 2),
    "bilinear": gated(lambda x: x),
    "crelu": lambda x, axis: np.concatenate([rectified(x), rectified(-x)], axis),
}
ROWS = baseline.row_names()


def close(got: Array, expected: Array, dtype: type) -> None:
    tolerance = 16 * float(np.finfo(dtype).eps)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, tolerance, tolerance)


def all_three(name: str, x: Array, dy: Array, **options: Any) -> tuple[Array, Array]:
    """Return value and gradient, after a check that the three methods agree."""
    item: Any = getattr(baseline, name)
    y, dx = item.forward_backward(x, dy, **options)
    last = y if name in ROWS else x
    tolerance = 16 * float(np.finfo(y.dtype).eps)
    np.testing.assert_array_equal(item(x, **options), y)
    np.testing.assert_allclose(item.backward(dy, last, **options), dx, tolerance, tolerance)
    return y, dx


@every_dtype
@every_axis
@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_gradient(name: str, axis: int, dtype: type) -> None:
    """Both are right along any axis, and are what fastact computes."""
    random = np.random.default_rng(7)
    x = (random.standard_normal((6, 4, 8)) * 3).astype(dtype)
    value = FORMULAS[name](x.astype(np.float64), axis)
    dy = random.standard_normal(value.shape).astype(dtype)
    y, dx = all_three(name, x, dy, axis=axis)
    close(y, value, dtype)
    close(dx, gradient(lambda z: FORMULAS[name](z, axis), x, dy), dtype)
    for ours, theirs in zip(fa.get(name).forward_backward(x, dy, axis=axis), (y, dx), strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5)


def test_there_is_a_formula_for_each() -> None:
    assert {*FORMULAS, "softmax_cross_entropy"} == {*ROWS, *baseline.layer_names()}
    assert set(ROWS) <= set(fa.names("row"))


@pytest.mark.parametrize("name", FORMULAS)
def test_outputs(name: str) -> None:
    """Outputs that are given are filled, and what does not fit is refused."""
    item: Any = getattr(baseline, name)
    x = np.random.default_rng(8).standard_normal((3, 6))
    dy = np.random.default_rng(9).standard_normal(item(x).shape)
    y, dx = item.forward_backward(x, dy)
    out = np.zeros_like(y), np.zeros_like(x)
    for got, given, expected in zip(
        item.forward_backward(x, dy, out=out), out, (y, dx), strict=True
    ):
        assert got is given
        np.testing.assert_array_equal(got, expected)
    assert item.forward(x, out=out[0]) is out[0]
    assert item.backward(dy, y if name in ROWS else x, out=out[1]) is out[1]
    with pytest.raises(ValueError, match="out must hold 2"):
        item.forward_backward(x, dy, out=(out[0],))
    with pytest.raises(ValueError, match="out must"):
        item.forward(x, out=np.zeros((2, 2)))


@pytest.mark.parametrize("name", ROWS)
def test_special_rows(name: str) -> None:
    """What is not finite spoils its own row, and large numbers do no harm."""
    item: Any = getattr(baseline, name)
    lowest = np.inf if name == "softmin" else -np.inf
    x = np.array([[1, 2, np.nan], [1, 2, -lowest], [lowest] * 3, [1, lowest, 3], [1e30, 1, 2]])
    y = item(x)
    assert np.isnan(y[:3]).all()
    np.testing.assert_array_equal(y[3, 1], -np.inf if name == "log_softmax" else 0)
    assert np.isfinite(y[4]).all()
    np.testing.assert_allclose(y, fa.get(name)(x))


def test_crelu_of_nan() -> None:
    y, dx = all_three("crelu", np.array([np.nan, 1.0, 0.0]), np.ones(6))
    np.testing.assert_array_equal(y, [np.nan, 1, 0, np.nan, 0, 0])
    np.testing.assert_array_equal(dx, [np.nan, 1, 0])


def test_odd_features() -> None:
    with pytest.raises(ValueError, match="axis 1 must be even, but it is 3"):
        baseline.swiglu.forward(np.ones((2, 3)))


@every_dtype
def test_gelu_with_bias(dtype: type) -> None:
    random = np.random.default_rng(10)
    x = (random.standard_normal((5, 4, 3)) * 2).astype(dtype)
    dy = random.standard_normal(x.shape).astype(dtype)
    bias = random.standard_normal(3).astype(dtype)
    y, dx, dbias = baseline.gelu.forward_backward(x, dy, bias=bias)
    z = x.astype(np.float64) + bias
    close(y, normal(z), dtype)
    expected = gradient(normal, z, dy)
    close(dx, expected, dtype)
    close(dbias, expected.sum((0, 1)), dtype)
    np.testing.assert_array_equal(baseline.gelu(x, bias=bias), y)
    for alone, fused in zip(baseline.gelu.backward(dy, x, bias=bias), (dx, dbias), strict=True):
        np.testing.assert_array_equal(alone, fused)
    for ours, theirs in zip(
        fa.get("gelu").forward_backward(x, dy, bias=bias), (y, dx, dbias), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5)


@every_dtype
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4)])
def test_cross_entropy(shape: tuple[int, ...], dtype: type) -> None:
    """The mean over all rows; a label whose probability is 0 in the type still has a loss."""
    random = np.random.default_rng(11)
    logits = (random.standard_normal(shape) * 3).astype(dtype)
    logits[0, ..., 0] = 1000
    labels = random.integers(1, shape[-1], shape[:-1])

    def mean_loss(x: Array) -> Array:
        shifted = x - x.real.max(-1, keepdims=True)
        picked = np.take_along_axis(shifted, labels[..., np.newaxis], -1)[..., 0]
        result: Array = np.mean(np.log(np.exp(shifted).sum(-1)) - picked)
        return result

    loss, dlogits = baseline.softmax_cross_entropy.forward_backward(logits, labels)
    close(loss, mean_loss(logits.astype(np.float64)), dtype)
    close(dlogits, gradient(mean_loss, logits, np.ones(())), dtype)
    assert baseline.softmax_cross_entropy(logits, labels) == loss
    doubled = baseline.softmax_cross_entropy.backward(2.0, logits, labels)
    np.testing.assert_array_equal(doubled, 2 * dlogits)
