"""Normalizations: layers whose results have mean 0 and variance 1, or mean square 1, before scale and shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastact.catalogue.definition import define_channel_normalization, define_row_normalization
from fastact.kernels.algorithms.normalization import normalized
from fastact.simd import Vector, fma, select, sqrt, to_double
from fastact.vecmath.double_double import two_sum

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


@define_row_normalization(
    formula=r"w_i \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + b_i",
    good_for="transformers and recurrent nets, and any batch size",
    not_for="convolutional nets with large batches, where batch_norm usually does better",
    reference="J. L. Ba, J. R. Kiros, G. E. Hinton, Layer Normalization, arXiv:1607.06450 (2016).",
)
def layer_norm(rows: RowAccess) -> Callable[..., None]:
    """Layer normalization: each row shifted and scaled to mean 0 and variance 1, then by a weight and a bias.

    ``y, dx, dweight, dbias = fa.layer_norm.forward_backward(x, dy, weight=weight, bias=bias)`` returns the value and
    all gradients in one pass; for gradients later, ``fa.layer_norm.backward(dy, x, weight=weight, bias=bias)``.

    Notes
    -----
    PyTorch's ``layer_norm``, whose ``normalized_shape`` is that of the axes. The variance is that of the row as a whole
    population: its divisor is the length. The backward pass needs only the input: computing mean and variance again,
    in the pass that sums the gradient, is cheaper than storing them.

    Errors: values are within 4 units in the last place of the dtype and gradients within 6, relative to the terms that
    they sum, for numbers of any magnitude: squares neither overflow nor vanish, and a mean far larger than the deviation
    costs no digits. Sums along a row are in float64, and compensated for float64. A row that contains NaN or infinity gives NaN.
    The gradients of weight and bias are summed in float64, in an order that depends only on the shape, so results do
    not depend on the number of threads.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 10.0, 10.0, 50.0]])
    >>> y = fa.layer_norm(x, weight=np.array([1.0, 1.0, 1.0, 2.0]))
    >>> print(y.round(3))
    [[-1.342 -0.447  0.447  2.683]
     [-0.577 -0.577 -0.577  3.464]]
    """
    return normalized(rows, is_centered=True)


@define_row_normalization(
    formula=r"w_i \frac{x_i}{\sqrt{\frac{1}{n} \sum_j x_j^2 + \varepsilon}}",
    has_bias=False,
    good_for="language models such as Llama: layer_norm without its mean, and cheaper",
    not_for="features whose mean is far from 0: it stays in the result",
    reference="B. Zhang, R. Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019.",
)
def rms_norm(rows: RowAccess) -> Callable[..., None]:
    """Root mean square normalization: each row scaled to mean square 1, then by a weight; the mean stays.

    ``y, dx, dweight = fa.rms_norm.forward_backward(x, dy, weight=weight)`` returns the value and all gradients in one
    pass; for gradients later, ``fa.rms_norm.backward(dy, x, weight=weight)``.

    Notes
    -----
    PyTorch's ``rms_norm``, except for the default of `eps`: it is 1e-5 for every dtype, as in ``layer_norm`` and in
    most language models, where PyTorch's is the dtype's machine epsilon. The backward pass needs only the input.

    Errors: values are within 4 units in the last place of the dtype and gradients within 6, relative to the terms that
    they sum, for numbers of any magnitude. Sums along a row are in float64, and compensated for float64. A row that contains NaN
    gives NaN; one that contains infinity gives NaN there and 0 elsewhere. The gradient of the weight is summed in
    float64, in an order that depends only on the shape, so results do not depend on the number of threads.

    Examples
    --------
    >>> x = np.array([3.0, -4.0, 0.0, 5.0])
    >>> y = fa.rms_norm(x)
    >>> print(y.round(3))
    [ 0.849 -1.131  0.     1.414]
    """
    return normalized(rows, is_centered=False)


def _differences(x: Vector, origin: Vector) -> tuple[Vector, Vector]:
    """Return the differences to a number near the mean, and their squares: in float64, where they do not overflow."""
    difference = to_double(x) - to_double(origin)
    return difference, difference * difference


def _products(dy: Vector, x: Vector, origin: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    difference, square = _differences(x, origin)
    gradient = to_double(dy)
    return difference, square, gradient, gradient * difference


def _statistics(
    total: Vector,
    squares: Vector,
    dy_sum: Vector,
    products: Vector,
    origin: Vector,
    weight: Vector,
    bias: Vector,
    count: Vector,
    eps: Vector,
    splitter: Vector,
) -> tuple[Vector, ...]:
    """Return what the results of a channel are made of, from sums of differences to the origin, all in float64.

    The mean is cut to the digits of the results' type by Veltkamp's splitting, and the rest goes into the shift.
    """
    offset = total / count
    variance = squares / count - offset * offset
    variance = select(variance < 0, 0, variance)
    mean, low = two_sum(origin, offset)
    large = splitter * mean
    high = large - (large - mean)
    low = (mean - high) + low
    rstd = 1 / sqrt(variance + eps)
    scale = rstd * weight
    product_mean = (products - offset * dy_sum) * rstd / count
    dy_mean = dy_sum / count - low * rstd * product_mean
    return (
        high,
        rstd,
        scale,
        bias - low * scale,
        dy_mean,
        product_mean,
        mean,
        variance,
        product_mean * count,
        offset * offset,
    )


def _value(x: Vector, mean: Vector, scale: Vector, shift: Vector) -> tuple[Vector]:
    return (fma(x - mean, scale, shift),)


def _gradient(
    dy: Vector,
    x: Vector,
    mean: Vector,
    rstd: Vector,
    scale: Vector,
    dy_mean: Vector,
    product_mean: Vector,
) -> tuple[Vector]:
    """Return the gradient, without what it has in common with all of its channel and with the normalized input."""
    return ((dy - dy_mean - (x - mean) * rstd * product_mean) * scale,)


def _value_and_gradient(
    x: Vector,
    dy: Vector,
    mean: Vector,
    rstd: Vector,
    scale: Vector,
    shift: Vector,
    dy_mean: Vector,
    product_mean: Vector,
) -> tuple[Vector, Vector]:
    dx = _gradient(dy, x, mean, rstd, scale, dy_mean, product_mean)
    return _value(x, mean, scale, shift)[0], dx[0]


@define_channel_normalization(
    formula=r"w_c \frac{x - \mu_c}{\sqrt{\sigma_c^2 + \varepsilon}} + b_c",
    parameters_are={"momentum": "the share of the batch in the new running averages"},
    good_for="convolutional nets with batches of 16 or more",
    not_for="small batches, recurrent nets and sequences of unequal lengths: use layer_norm",
    reference="S. Ioffe, C. Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, ICML 2015.",
)
def batch_norm(kernel: str) -> Callable[..., tuple[Vector, ...]]:
    """Batch normalization: each channel shifted and scaled to mean 0 and variance 1 over the batch, then by a weight and a bias.

    ``y, mean, var = fa.batch_norm(x, weight=weight, bias=bias, running_mean=mean, running_var=var)`` returns the value
    and the new running averages, and ``y, dx, dweight, dbias, mean, var = fa.batch_norm.forward_backward(x, dy, ...)``
    all gradients as well; for gradients later, ``fa.batch_norm.backward(dy, x, weight=weight, bias=bias)``. For
    inference, ``fa.batch_norm(x, ..., training=False)``.

    Notes
    -----
    PyTorch's ``batch_norm``, whose `training` is False by default, and which overwrites the running averages: pass them
    in `out` for that. The variance divides by the number of elements of the channel, the running variance by one less.
    The backward pass needs only the input: the pass that sums the gradient computes mean and variance again, and reads
    nothing more for it. Value and gradient are two passes over memory each, and so are both together.

    Errors: values are within 4 units in the last place of the dtype and gradients within 8, relative to the terms that
    they sum, also where the mean is far larger than the deviation; in float64, squares must neither overflow nor vanish. A
    channel that contains NaN or infinity gives NaN. Sums are in float64, over blocks that depend only on the shape, so
    results do not depend on the number of threads.

    Examples
    --------
    >>> x, mean, var = np.array([[1.0], [2.0], [6.0]]), np.zeros(1), np.ones(1)
    >>> y, mean, var = fa.batch_norm(x, running_mean=mean, running_var=var)
    >>> print(y.ravel().round(3), mean, var)
    [-0.926 -0.463  1.389] [0.3] [1.6]
    """
    functions: dict[str, Callable[..., tuple[Vector, ...]]] = {
        "moments": _differences,
        "gradient_moments": _products,
        "statistics": _statistics,
        "forward": _value,
        "backward": _gradient,
        "forward_backward": _value_and_gradient,
    }
    return functions[kernel]
