"""The concatenated relu against NumPy's concatenate."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastact as fa


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_value_and_gradient(axis: int, dtype: str) -> None:
    for layout in (np.ascontiguousarray, np.asfortranarray, lambda a: a[::-1]):
        x = layout(normal(5, 3, 21, dtype=dtype))
        y = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis)
        dy = layout(normal(*y.shape, dtype=dtype, seed=1))
        right, left = np.split(dy, 2, axis)
        dx = np.where(x > 0, right, -left)
        found = fa.crelu.forward_backward(x, dy, axis=axis)
        np.testing.assert_array_equal(found[0], y)
        np.testing.assert_array_equal(found[1], dx)
        assert found[0].dtype == found[1].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(fa.crelu(x, axis=axis), y)
        np.testing.assert_array_equal(fa.crelu.backward(dy, x, axis=axis), dx)


def test_special_values() -> None:
    x = np.array([0.0, -0.0, np.nan, np.inf, -np.inf])
    y, dx = fa.crelu.forward_backward(x, np.ones(10))
    np.testing.assert_array_equal(y, [0, 0, np.nan, np.inf, 0, 0, 0, np.nan, 0, np.inf])
    np.testing.assert_array_equal(dx, [0, 0, np.nan, 1, -1])
    assert fa.crelu(np.ones((0, 3))).shape == (0, 6)
    assert fa.crelu(np.ones((3, 0))).shape == (3, 0)


def test_long_and_out() -> None:
    x, out = normal(100_003), np.empty(400_012)[::2]
    assert fa.crelu(x, out=out) is out
    np.testing.assert_array_equal(out, np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)]))


def test_lookup_and_wrong_calls() -> None:
    assert fa.get("crelu") is fa.crelu
    assert pickle.loads(pickle.dumps(fa.crelu)) is fa.crelu
    for call, kind, word in (
        (lambda: fa.crelu(1.0), ValueError, "axis"),
        (lambda: fa.crelu(np.ones(3) * 1j), TypeError, "complex"),
        (lambda: fa.crelu.backward(np.ones(3), np.ones(3)), ValueError, r"dy has shape \(3,\)"),
        (lambda: fa.crelu(np.ones(3), out=np.ones(3)), ValueError, "out has shape"),
    ):
        with pytest.raises(kind, match=f"crelu.*{word}"):
            call()
