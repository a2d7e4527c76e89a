"""Baselines of row functions of finite inputs: sparse ones, a random one, and those with one value for each row.

`backward` takes the value, that of the last the input.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastact.baseline.base import (
    Array,
    Baseline,
    Out,
    ValueBaseline,
    each_of,
    float_array,
    prepare_both,
    result,
    two_results,
)
from fastact.baseline.rows import (
    differences,
    dot,
    exponentials,
    from_value,
    softmax,
    softmax_gradient,
)

# Sparse functions, by sorting each row ----------------------------------------------------------


def _sorted(x: Array, axis: int) -> tuple[Array, Array]:
    """Return each row in descending order along the last axis, and the numbers from 1."""
    descending = np.sort(np.moveaxis(x, axis, -1))[..., ::-1]
    return descending, np.arange(1, x.shape[axis] + 1, dtype=x.dtype)


def _at_last(is_supported: Array, thresholds: Array, axis: int) -> Array:
    """Return the threshold of as many elements as are supported."""
    count = np.count_nonzero(is_supported, axis=-1, keepdims=True)
    return np.moveaxis(np.take_along_axis(thresholds, count - 1, axis=-1), -1, axis)


def _sparsemax_value(x: Array, axis: int, y: Array) -> None:
    """Write max(x - t, 0), where t is the threshold of A. F. T. Martins and R. F. Astudillo (2016)."""
    descending, numbers = _sorted(x, axis)
    thresholds = (np.cumsum(descending, axis=-1) - 1) / numbers
    np.subtract(x, _at_last(descending > thresholds, thresholds, axis), out=y)
    np.clip(y, 0, np.inf, out=y)


def _sparsemax_gradient(dy: Array, y: Array, axis: int, dx: Array) -> None:
    """Write dy minus its mean over the support, and 0 elsewhere."""
    support = np.greater(y, 0, out=np.empty_like(y))
    np.subtract(dy, dot(dy, support, axis) / np.sum(support, axis, keepdims=True), out=dx)
    dx *= support


def _entmax15_value(x: Array, axis: int, y: Array) -> None:
    """Write max(x / 2 - t, 0)^2, where t is the threshold of B. Peters, V. Niculae and A. F. T. Martins (2019)."""
    differences(x, axis, y)
    y *= 0.5
    descending, numbers = _sorted(y, axis)
    means = np.cumsum(descending, axis=-1) / numbers
    squares = np.cumsum(np.square(descending), axis=-1) / numbers
    rest = np.clip(1 / numbers - (squares - np.square(means)), 0, np.inf)
    thresholds = means - np.sqrt(rest)
    y -= _at_last(descending >= thresholds, thresholds, axis)
    np.clip(y, 0, np.inf, out=y)
    np.square(y, out=y)


def _entmax15_gradient(dy: Array, y: Array, axis: int, dx: Array) -> None:
    """Write r (dy - sum(dy r) / sum(r)), where r is the root of the value."""
    root = np.sqrt(y)
    np.subtract(dy, dot(dy, root, axis) / np.sum(root, axis, keepdims=True), out=dx)
    dx *= root


def _hardmax_value(x: Array, axis: int, y: Array) -> None:
    y[...] = 0
    np.put_along_axis(y, np.expand_dims(np.argmax(x, axis), axis), 1, axis)


def _no_gradient(dy: Array, y: Array, axis: int, dx: Array) -> None:
    dx[...] = 0


sparsemax = from_value("sparsemax", _sparsemax_value, _sparsemax_gradient)
entmax15 = from_value("entmax15", _entmax15_value, _entmax15_gradient)
hardmax = from_value("hardmax", _hardmax_value, _no_gradient)

# With noise, and with one value for each row ----------------------------------------------------


def _gumbel_softmax_forward(
    x: ArrayLike, axis: int = -1, rng: Any = None, out: Out = None
) -> Array:
    """Return the softmax of x plus Gumbel noise, which NumPy draws: not the numbers that fastact draws."""
    x = float_array(x)
    noise = np.random.default_rng(rng).gumbel(size=x.shape)
    y: Array = softmax.forward((x + noise).astype(x.dtype, copy=False), axis, out)
    return y


def _gumbel_softmax_forward_backward(
    x: ArrayLike, dy: ArrayLike, axis: int = -1, rng: Any = None, out: Out = None
) -> tuple[Array, Array]:
    x, dy, y, dx = prepare_both(x, dy, out)
    _gumbel_softmax_forward(x, axis, rng, y)
    softmax_gradient(dy, y, axis, dx)
    return y, dx


def _gumbel_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: int = -1, rng: Any = None, out: Out = None
) -> Array:
    dx: Array = softmax.backward(dy, y, axis, out)
    return dx


gumbel_softmax = ValueBaseline(
    "gumbel_softmax",
    _gumbel_softmax_forward,
    _gumbel_softmax_backward,
    _gumbel_softmax_forward_backward,
)


class _ReducedBaseline(Baseline):
    """A function with one value for each row: `vjp` keeps the derivative."""

    def vjp(
        self, x: ArrayLike, axis: int = -1, *arguments: Any, out: Out = None, **parameters: Any
    ) -> Any:
        """Return the value, and a function that takes `dy` and returns its product with the derivative."""
        x = float_array(x)
        y = result(out, np.empty_like(np.take(x, 0, axis)), x)
        _, derivative = self.forward_backward(x, np.ones_like(y), axis, (y, None))
        return y, lambda dy: derivative * np.expand_dims(dy, axis)


def _reduced(name: str, is_mean: bool) -> Baseline:
    """Return the baseline of the logarithm of a row's sum or mean of exponentials."""

    def forward_backward(
        x: ArrayLike, dy: ArrayLike, axis: int = -1, out: Out = None
    ) -> tuple[Array, Array]:
        x = float_array(x)
        y, dx = two_results(out, (np.empty_like(np.take(x, 0, axis)), x), x)
        largest, total = exponentials(x, axis, dx)
        dx *= np.expand_dims(np.asarray(dy), axis) / total
        if is_mean:
            total /= x.shape[axis]
        np.log(total, out=total)
        total += largest
        np.copyto(y, np.squeeze(total, axis))
        return y, dx

    def forward(x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
        x = float_array(x)
        largest, total = exponentials(x, axis, np.empty_like(x))
        if is_mean:
            total /= x.shape[axis]
        value = np.squeeze(np.log(total) + largest, axis)
        y = result(out, value, x)
        np.copyto(y, value)
        return y

    def backward(dy: ArrayLike, x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
        return forward_backward(x, dy, axis, (None, *each_of(out, 1)))[1]

    return _ReducedBaseline(name, forward, backward, forward_backward)


logsumexp = _reduced("logsumexp", is_mean=False)
logmeanexp = _reduced("logmeanexp", is_mean=True)
