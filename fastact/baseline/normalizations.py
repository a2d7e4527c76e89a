"""Baselines of normalizations.

Sums are taken in the precision of the arrays; `numpy.vecdot` sums a product without storing it. Inputs must be finite,
and their squares must neither overflow nor vanish.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastact.baseline.base import Array, Baseline, Out, copied, each_of, prepare_both, result
from fastact.baseline.base import float_array as floats


def _rstd(normal: Array, eps: float) -> Array:
    """Return the reciprocal of the root mean square of each row."""
    rstd: Array = np.vecdot(normal, normal)[..., np.newaxis]
    rstd /= normal.shape[-1]
    rstd += eps
    np.sqrt(rstd, out=rstd)
    return np.reciprocal(rstd, out=rstd)


def _centered(x: Array, out: Array) -> Array:
    return np.subtract(x, np.mean(x, axis=-1, keepdims=True), out=out)


def _scaled(normal: Array, weight: Any, bias: Any, out: Array) -> Array:
    """Write the normalized rows times the weight, plus the bias."""
    if weight is not None:
        normal = np.multiply(normal, weight, out=out)
    if bias is not None:
        normal = np.add(normal, bias, out=out)
    if normal is not out:
        np.copyto(out, normal)
    return out


def _along_rows(name: str, is_centered: bool) -> Baseline:
    """Return the baseline of a normalization of rows along the last axis."""
    center: Callable[[Array, Array], Array] = _centered if is_centered else lambda x, out: x

    def forward(
        x: ArrayLike,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        eps: float = 1e-5,
        out: Out = None,
    ) -> Array:
        x = floats(x)
        y = result(out, x)
        normal = center(x, y)
        np.multiply(normal, _rstd(normal, eps), out=y)
        return _scaled(y, weight, bias, y)

    def gradients(
        dy: Array,
        x: Array,
        weight: ArrayLike | None,
        bias: ArrayLike | None,
        eps: float,
        y: Array | None,
        dx: Array,
        sums: tuple[Array | None, ...],
    ) -> tuple[Array, ...]:
        """Write the gradient, and the value if `y` is given; return the gradients of weight and bias."""
        normal = np.empty_like(x)
        centered = center(x, normal)
        rstd = _rstd(centered, eps)
        np.multiply(centered, rstd, out=normal)
        if y is not None:
            _scaled(normal, weight, bias, y)
        g = dy if weight is None else np.multiply(dy, weight, out=dx)
        along = np.vecdot(g, normal)[..., np.newaxis] / x.shape[-1]
        if is_centered:
            g = np.subtract(g, np.mean(g, axis=-1, keepdims=True), out=dx)
        others, found = tuple(range(x.ndim - 1)), []
        if weight is not None:
            found.append(np.sum(dy * normal, axis=others))
        if bias is not None:
            found.append(np.sum(dy, axis=others))
        normal *= along
        np.subtract(g, normal, out=dx)
        dx *= rstd
        return tuple(copied(each, to) for each, to in zip(found, sums, strict=True))

    def outputs(out: Out, first: int, *parameters: ArrayLike | None) -> Any:
        """Return the outputs of the shape of x, and those of the sums."""
        every = each_of(out, first + sum(each is not None for each in parameters))
        return every[:first], every[first:]

    def backward(
        dy: ArrayLike,
        x: ArrayLike,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        eps: float = 1e-5,
        out: Out = None,
    ) -> Any:
        of_x, sums = outputs(out, 1, weight, bias)
        x = floats(x)
        dy, dx = floats(dy), result(of_x, x)
        found = gradients(dy, x, weight, bias, eps, None, dx, sums)
        return (dx, *found) if found else dx

    def forward_backward(
        x: ArrayLike,
        dy: ArrayLike,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        eps: float = 1e-5,
        out: Out = None,
    ) -> Any:
        of_x, sums = outputs(out, 2, weight, bias)
        x, dy, y, dx = prepare_both(x, dy, of_x)
        return (y, dx, *gradients(dy, x, weight, bias, eps, y, dx, sums))

    return Baseline(name, forward, backward, forward_backward)


layer_norm = _along_rows("layer_norm", is_centered=True)
rms_norm = _along_rows("rms_norm", is_centered=False)


def _of_channels(x: Array, value: ArrayLike | None) -> Any:
    """Return a parameter so that it broadcasts along axis 1."""
    return None if value is None else np.reshape(value, (-1,) + (1,) * (x.ndim - 2))


def _batch_normal(x: Array, eps: float, out: Array) -> Array:
    """Write the normalized channels, and return the reciprocal of their standard deviations."""
    axes = (0, *range(2, x.ndim))
    np.subtract(x, np.mean(x, axis=axes, keepdims=True), out=out)
    rstd: Array = np.mean(out * out, axis=axes, keepdims=True)
    rstd += eps
    np.sqrt(rstd, out=rstd)
    np.reciprocal(rstd, out=rstd)
    out *= rstd
    return rstd


def _batch_forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    out: Out = None,
) -> Array:
    x = floats(x)
    y = result(out, x)
    _batch_normal(x, eps, y)
    return _scaled(y, _of_channels(x, weight), _of_channels(x, bias), y)


def _batch_gradients(
    dy: Array,
    x: Array,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    y: Array | None,
    dx: Array,
) -> list[Array]:
    axes, count = (0, *range(2, x.ndim)), x.size // x.shape[1]
    normal = np.empty_like(x)
    rstd = _batch_normal(x, eps, normal)
    if y is not None:
        _scaled(normal, _of_channels(x, weight), _of_channels(x, bias), y)
    np.multiply(dy, normal, out=dx)
    dweight, dbias = np.sum(dx, axis=axes), np.sum(dy, axis=axes)
    normal *= _of_channels(x, dweight / count)
    np.subtract(dy, normal, out=dx)
    dx -= _of_channels(x, dbias / count)
    dx *= rstd if weight is None else rstd * _of_channels(x, weight)
    wanted = ((weight, dweight), (bias, dbias))
    return [found for given, found in wanted if given is not None]


def _batch_backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    out: Out = None,
) -> Any:
    x = floats(x)
    dx = result(out, x)
    found = _batch_gradients(floats(dy), x, weight, bias, eps, None, dx)
    return (dx, *found) if found else dx


def _batch_both(
    x: ArrayLike,
    dy: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    out: Out = None,
) -> Any:
    x, dy, y, dx = prepare_both(x, dy, out)
    return (y, dx, *_batch_gradients(dy, x, weight, bias, eps, y, dx))


batch_norm = Baseline("batch_norm", _batch_forward, _batch_backward, _batch_both)
