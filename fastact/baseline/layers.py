"""Baselines of layers, and of gelu with a bias.

Inputs must be finite. Nothing is computed twice unless saving it would take another array.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, NDArray

from fastact.baseline.base import (
    Array,
    Baseline,
    LossBaseline,
    Out,
    copied,
    each_of,
    float_array,
    prepare_both,
    restore_nan,
    result,
    split_last,
    two_results,
)
from fastact.baseline.elementwise import (
    ValueAndDerivative,
    write_gelu,
    write_gelu_tanh,
    write_relu,
    write_sigmoid,
    write_silu,
    write_squared_relu,
)
from fastact.baseline.rows import exponentials


def _halves(x: Array, axis: int) -> tuple[Array, Array]:
    """Return views of the two halves along an axis."""
    axis = normalize_axis_index(axis, x.ndim)
    length, odd = divmod(x.shape[axis], 2)
    if odd:
        raise ValueError(f"the length of axis {axis} must be even, but it is {x.shape[axis]}")
    before = (slice(None),) * axis
    return x[(*before, slice(length))], x[(*before, slice(length, None))]


def _half_like(x: Array, axis: int) -> Array:
    """Return a new array with the shape of one half."""
    return np.empty_like(_halves(x, axis)[0], order="C")


def _double_like(x: Array, axis: int) -> Array:
    """Return a new array of twice the length along an axis."""
    axis = normalize_axis_index(axis, x.ndim)
    return np.empty((*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :]), x.dtype)


def _independent(
    name: str, forward: Callable[..., Array], backward: Callable[..., Array]
) -> Baseline:
    """Return a baseline whose value and gradient have no computation in common."""

    def forward_backward(x: ArrayLike, dy: ArrayLike, axis: int = -1, out: Out = None) -> Any:
        y, dx = each_of(out, 2)
        return forward(x, axis, y), backward(dy, x, axis, dx)

    return Baseline(name, forward, backward, forward_backward)


# Gated units ------------------------------------------------------------------------------------


def _gated(name: str, activation: ValueAndDerivative, gate_first: bool = True) -> Baseline:
    """Return a gated unit: one half of the features times an activation of the other."""

    def split(x: Array, axis: int) -> tuple[Array, Array]:
        """Return the gate and the value."""
        first, second = _halves(x, axis)
        return (first, second) if gate_first else (second, first)

    def forward(x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
        x = float_array(x)
        y = result(out, _half_like(x, axis), x)
        gate, value = split(x, axis)
        activation(gate, y, None)
        y *= value
        return y

    def forward_backward(x: ArrayLike, dy: ArrayLike, axis: int = -1, out: Out = None) -> Any:
        x, dy = float_array(x), np.asarray(dy)
        y, dx = two_results(out, (_half_like(x, axis), x), x, dy)
        gate, value = split(x, axis)
        dgate, dvalue = split(dx, axis)
        activation(gate, y, dgate)
        np.multiply(dy, y, out=dvalue)
        dgate *= value
        dgate *= dy
        y *= value
        return y, dx

    def backward(dy: ArrayLike, x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
        dx: Array = forward_backward(x, dy, axis, (None, *each_of(out, 1)))[1]
        return dx

    return Baseline(name, forward, backward, forward_backward)


glu = _gated("glu", write_sigmoid, gate_first=False)
reglu = _gated("reglu", write_relu)
geglu = _gated("geglu", write_gelu)
geglu_tanh = _gated("geglu_tanh", write_gelu_tanh)
swiglu = _gated("swiglu", write_silu)
squared_reglu = _gated("squared_reglu", write_squared_relu)


def _bilinear_forward(x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
    """Return the product of the halves."""
    x = float_array(x)
    y = result(out, _half_like(x, axis), x)
    np.multiply(*_halves(x, axis), out=y)
    return y


def _bilinear_backward(dy: ArrayLike, x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
    """Return dy times the other half."""
    x, dy = float_array(x), np.asarray(dy)
    dx = result(out, x, dy)
    for half, other in zip(_halves(dx, axis), reversed(_halves(x, axis)), strict=True):
        np.multiply(dy, other, out=half)
    return dx


bilinear = _independent("bilinear", _bilinear_forward, _bilinear_backward)

# crelu ------------------------------------------------------------------------------------------


def _crelu_forward(x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
    """Return max(x, 0) and max(-x, 0), concatenated."""
    x = float_array(x)
    y = result(out, _double_like(x, axis), x)
    right, left = _halves(y, axis)
    np.clip(x, 0, np.inf, out=right)
    np.negative(x, out=left)
    np.clip(left, 0, np.inf, out=left)
    return y


def _crelu_backward(dy: ArrayLike, x: ArrayLike, axis: int = -1, out: Out = None) -> Array:
    """Return the right half of dy where x > 0, minus its left half where x < 0, and 0 elsewhere."""
    x = float_array(x)
    right, left = _halves(np.asarray(dy), axis)
    dx = result(out, x, right)
    np.greater(x, 0, out=dx)
    dx *= right
    negative = np.less(x, 0, out=np.empty_like(dx))
    negative *= left
    dx -= negative
    restore_nan(x, dx)
    return dx


crelu = _independent("crelu", _crelu_forward, _crelu_backward)

# gelu with a bias -------------------------------------------------------------------------------


def _gelu_forward(x: ArrayLike, bias: ArrayLike, out: Out = None) -> Array:
    """Return gelu(x + bias), with the bias along the last axis."""
    z = float_array(x) + bias
    y = result(out, z)
    write_gelu(z, y, None)
    return y


def _gelu_forward_backward(
    x: ArrayLike, dy: ArrayLike, bias: ArrayLike, out: Out = None
) -> tuple[Array, Array, Array]:
    """Return y, dx and dbias, which is dx summed over all but the last axis."""
    out, given = split_last(out, 3)
    x, dy, y, dx = prepare_both(x, dy, out)
    write_gelu(x + bias, y, dx)
    dx *= dy
    dbias = np.sum(dx, axis=tuple(range(dx.ndim - 1)))
    return y, dx, copied(dbias, given)


def _gelu_backward(
    dy: ArrayLike, x: ArrayLike, bias: ArrayLike, out: Out = None
) -> tuple[Array, Array]:
    """Return dx and dbias."""
    return _gelu_forward_backward(x, dy, bias, (None, *each_of(out, 2)))[1:]


gelu = Baseline("gelu", _gelu_forward, _gelu_backward, _gelu_forward_backward)

# Cross-entropy ----------------------------------------------------------------------------------


def _cross_entropy_forward(logits: ArrayLike, labels: NDArray[np.integer[Any]]) -> Any:
    """Return the mean of log(sum(exp(x))) - x[label] over the rows, from integer labels."""
    logits = float_array(logits)
    return _mean_loss(logits, labels, *exponentials(logits, -1, np.empty_like(logits)))


def _mean_loss(
    logits: Array, labels: NDArray[np.integer[Any]], largest: Array, total: Array
) -> Any:
    label = np.take_along_axis(logits, labels[..., np.newaxis], axis=-1)
    return np.mean(np.log(total) + (largest - label))


def _cross_entropy_forward_backward(
    logits: ArrayLike, labels: NDArray[np.integer[Any]], out: Array | None = None
) -> tuple[Any, Array]:
    """Return the loss and (softmax(x) - one_hot(label)) / rows."""
    logits = float_array(logits)
    dlogits = result(out, logits)
    largest, total = exponentials(logits, -1, dlogits)
    loss = _mean_loss(logits, labels, largest, total)
    dlogits /= total * labels.size
    flat = dlogits.reshape(labels.size, -1)
    flat[np.arange(labels.size), labels.ravel()] -= 1 / labels.size
    return loss, dlogits


def _cross_entropy_backward(
    dloss: Any, logits: ArrayLike, labels: NDArray[np.integer[Any]], out: Array | None = None
) -> Array:
    """Return the gradient of the logits."""
    dlogits = _cross_entropy_forward_backward(logits, labels, out)[1]
    dlogits *= dloss
    return dlogits


softmax_cross_entropy = LossBaseline(
    "softmax_cross_entropy",
    _cross_entropy_forward,
    _cross_entropy_backward,
    _cross_entropy_forward_backward,
)
