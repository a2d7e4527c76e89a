"""What calls return where a result has no dimension: a scalar, or the very array that the caller gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa

X = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)
LABELS = np.array([0, 3, 1])
NUMBER = np.float32(0.75)

# Each has a first result without dimensions.
CALLS: dict[str, Callable[..., Any]] = {
    "softmax": lambda **out: fa.softmax(NUMBER, axis=None, **out),
    "logsumexp": lambda **out: fa.logsumexp(X, axis=None, **out),
    "softmax_cross_entropy": lambda **out: fa.softmax_cross_entropy(X, LABELS, **out),
    "sigmoid_binary_cross_entropy": lambda **out: fa.sigmoid_binary_cross_entropy(X, X > 0, **out),
    "linear_cross_entropy": lambda **out: fa.linear_cross_entropy(X, X, LABELS % 3, **out),
    "dropout": lambda **out: fa.dropout(NUMBER, 0.5, rng=1, **out),
    "gelu": lambda **out: fa.gelu(NUMBER, bias=1.0, **out),
    "swiglu": lambda **out: fa.swiglu(NUMBER, NUMBER, **out),
}


@pytest.mark.parametrize("name", CALLS)
def test_forward(name: str) -> None:
    call, out = CALLS[name], np.empty((), np.float32)
    assert call(out=out) is out
    value = call()
    assert isinstance(value, np.float32)
    assert value == out[()]
    assert call(out=(out,)) is out


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (fa.logsumexp, (X, np.float32(2), None)),
        (fa.softmax_cross_entropy, (X, LABELS)),
        (fa.sigmoid_binary_cross_entropy, (X, X > 0)),
    ],
)
def test_some_given(function: Any, arguments: Any) -> None:
    """Of two results, either may be given."""
    expected, dx = function.forward_backward(*arguments)
    assert isinstance(expected, np.float32)
    value, gradient = np.empty((), np.float32), np.empty_like(X)
    assert function.forward_backward(*arguments, out=(value, None))[0] is value
    assert value[()] == expected
    found = function.forward_backward(*arguments, out=(None, gradient))
    assert isinstance(found[0], np.float32)
    assert found[1] is gradient
    np.testing.assert_array_equal(gradient, dx)
