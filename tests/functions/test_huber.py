"""The Huber loss against float64 and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastact as fa


def numbers(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape) * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("delta", [0.5, 2.0, np.linspace(0.1, 3, 33)])
def test_values_and_gradients(dtype: Any, delta: Any) -> None:
    x, z = (numbers(20, 33, seed=seed).astype(dtype) for seed in (0, 1))
    loss, dx = fa.huber.forward_backward(x, z, delta=delta, reduction="none")
    error, delta = np.float64(x - z), np.float64(delta)
    right = np.where(abs(error) <= delta, error**2 / 2, delta * (abs(error) - delta / 2))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, right, rtol=4 * eps, atol=4 * eps)
    np.testing.assert_allclose(dx, np.clip(error, -delta, delta), rtol=4 * eps)
    np.testing.assert_allclose(fa.huber(x, z, delta=delta), right.mean(), rtol=4 * eps)
    _, part = fa.huber.forward_backward(x, z, 3.0, delta=delta)
    np.testing.assert_allclose(part, 3 * np.clip(error, -delta, delta) / x.size, rtol=8 * eps)


def test_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x, z = (numbers(9, 4, seed=seed) for seed in (0, 1))
    given = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.huber_loss(given, torch.tensor(z), delta=0.7)
    theirs.backward()
    loss, dx = fa.huber.forward_backward(x, z, delta=0.7)
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-14)
    np.testing.assert_allclose(dx, given.grad.numpy(), rtol=1e-14)


def test_special_numbers_and_domain() -> None:
    loss, dx = fa.huber.forward_backward([np.nan, np.inf, -np.inf], [0.0, 0, 0], reduction="none")
    np.testing.assert_array_equal(loss, [np.nan, np.inf, np.inf])
    np.testing.assert_array_equal(dx, [np.nan, 1, -1])
    with pytest.raises(ValueError, match="huber: delta must be positive, got 0"):
        fa.huber(1.0, 2.0, delta=0)
