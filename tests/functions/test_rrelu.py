"""The randomized rectifier: its slopes, their gradient, and that they depend on the generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastact as fa

X = np.random.default_rng(1).normal(0, 2, (300, 401))


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_value_and_gradient_with_drawn_slopes(dtype: Any) -> None:
    x, dy = X.astype(dtype), np.cos(X).astype(dtype)
    y, slope = fa.rrelu(x, rng=generator())
    assert y.dtype == dtype
    assert slope.shape == x.shape
    wide, slopes = x.astype(np.float64), slope.astype(np.float64)
    tolerance = 2 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(y, np.where(wide > 0, wide, slopes * wide), tolerance, 1e-7)
    dx = fa.rrelu.backward(dy, x, slope=slope)
    np.testing.assert_allclose(
        dx, dy.astype(np.float64) * np.where(wide > 0, 1, slopes), tolerance, 1e-7
    )
    again, dx_again = fa.rrelu.forward_backward(x, dy, slope=slope)
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(dx_again, dx)


def test_slopes_are_uniform() -> None:
    _, slope = fa.rrelu(X, rng=generator())
    assert slope.min() >= 1 / 8
    assert slope.max() <= 1 / 3
    share, _ = np.histogram(slope, bins=10, range=(1 / 8, 1 / 3))
    np.testing.assert_allclose(share / slope.size, 0.1, atol=0.005)
    _, slope = fa.rrelu(X, 0.5, 0.75, rng=generator())
    assert 0.5 <= slope.min() < 0.51
    assert 0.74 < slope.max() <= 0.75
    _, slope = fa.rrelu(X, 0.3, 0.3, rng=generator())
    np.testing.assert_array_equal(slope, 0.3)


def test_slopes_do_not_depend_on_threads() -> None:
    before, found = fa.get_num_threads(), []
    for threads in (1, before):
        fa.set_num_threads(threads)
        found.append(fa.rrelu(X.astype(np.float32), rng=generator()))
    fa.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    random = generator()
    first, second = (fa.rrelu(X, rng=random)[1] for _ in range(2))
    assert (first != second).any()


def test_without_a_generator_it_takes_the_mean() -> None:
    x = np.array([-2.0, 0, 3])
    np.testing.assert_allclose(fa.rrelu(x), [-2 * (1 / 8 + 1 / 3) / 2, 0, 3], 1e-15)
    np.testing.assert_allclose(fa.rrelu(x, lower=0.2, upper=0.4), [-0.6, 0, 3], 1e-15)


def test_pytorch_with_the_same_slopes() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    y = torch.nn.functional.rrelu(x, 0.1, 0.3, training=True)
    y.sum().backward()
    slope = np.where(X > 0, 1, x.grad.numpy())
    np.testing.assert_allclose(fa.rrelu(X, slope, slope), y.detach().numpy(), 1e-15)
    np.testing.assert_allclose(fa.rrelu.derivative(X, slope=slope), x.grad.numpy(), 1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fa.rrelu(X, rng="5"), "rng must be an int, or of numpy.random a SeedSequence"),
        (lambda: fa.rrelu(X, rng=generator(), slope=X), "not both"),
        (lambda: fa.rrelu("a", rng=generator()), "x has dtype"),
        (lambda: fa.rrelu(X, lower="a", rng=generator()), "lower has dtype"),
        (lambda: fa.rrelu(X, slop=0.1), "unknown argument 'slop'"),
    ],
)
def test_wrong_calls(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
