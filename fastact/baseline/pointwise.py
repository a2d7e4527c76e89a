"""Baselines of elementwise activations and of maxout.

Times in comments are ns an element, on 10^6 float32 normal deviates times 4 (NumPy 2.4, AVX-512,
one core).
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, NDArray

from fastact.baseline.base import (
    Array,
    Baseline,
    IndexedBaseline,
    Out,
    PointwiseBaseline,
    copied,
    float_array,
    prepare,
    prepare_both,
    restore_nan,
    result,
    split_last,
    times,
    two_results,
)

#: From this number of pieces, argmax beats passes over one piece at a time.
MANY_PIECES = 24
#: The most terms that BLAS may accumulate in their own precision; longer sums continue in float64.
MAX_TERMS = 1024
#: The least number of accumulators of a BLAS dot product.
DOT_LANES = 32


def _slope(x: Array, negative_slope: Any, slope: Array) -> None:
    """Write 1 to `slope` where `x` is positive, and `negative_slope` elsewhere, including NaN."""
    np.greater(x, 0, out=slope)
    if not np.all((negative_slope >= 0) & (negative_slope <= 1)):
        negative = np.less_equal(x, 0, out=np.empty_like(slope))
        negative *= negative_slope
        slope += negative
    elif np.ndim(negative_slope) == 0:
        np.clip(slope, negative_slope, 1, out=slope)  # 0.15 ns; maximum with a scalar takes 0.5
    else:
        np.maximum(slope, negative_slope, out=slope)  # 0.2 ns; clip with an array takes 1


def _two_lines(x: Array, negative_slope: Any, y: Array) -> None:
    """Write `x` to `y` where it is positive, and ``negative_slope * x`` elsewhere."""
    if np.ndim(negative_slope) == 0 and negative_slope == 0:
        np.clip(x, 0, np.inf, out=y)  # 0 times infinity is NaN
    elif np.all((negative_slope <= 1) & (negative_slope != 0)):
        np.multiply(x, negative_slope, out=y)
        np.maximum(x, y, out=y)  # convex: the upper of the two lines
    else:
        _slope(x, negative_slope, y)
        y *= x


# sigmoid ---------------------------------------------------------------------------------------
# exp(-x), not exp(-|x|), which needs a mask to choose the branch (1.96 ns instead of 1.35). It
# overflows to infinity only where the value is below the smallest normal number.


@np.errstate(over="ignore")
def _sigmoid_forward(x: ArrayLike, out: Out = None) -> Array:
    """Return 1 / (1 + exp(-x)); results below the smallest normal number may be 0."""
    x = float_array(x)
    y = result(out, x)
    np.negative(x, out=y)
    np.exp(y, out=y)
    y += 1
    np.divide(1, y, out=y)
    return y


def _sigmoid_backward(dy: ArrayLike, x: ArrayLike, out: Out = None) -> Array:
    """Return dy s(x) s(-x), accurate down to the smallest normal number."""
    dy, x, dx = prepare(dy, x, out)
    _sigmoid_forward_backward(x, dy, (None, dx))
    return dx


@np.errstate(over="ignore")
def _sigmoid_forward_backward(x: ArrayLike, dy: ArrayLike, out: Out = None) -> tuple[Array, Array]:
    """Return y and dx."""
    x, dy, y, dx = prepare_both(x, dy, out)
    np.negative(x, out=dx)
    np.exp(dx, out=dx)
    np.add(dx, 1, out=y)
    np.divide(1, y, out=y)
    # s(-x) = exp(-x) s(x). The usual 1 - s(x) is 0.15 ns cheaper, but 0 from x = 17. The clip
    # avoids infinity times 0.
    np.clip(dx, 0, np.finfo(dx.dtype).max, out=dx)
    dx *= y
    dx *= y
    times(dx, dy)
    return y, dx


sigmoid = PointwiseBaseline(
    "sigmoid", _sigmoid_forward, _sigmoid_backward, _sigmoid_forward_backward
)

# tanh ------------------------------------------------------------------------------------------


def _tanh_forward(x: ArrayLike, out: Out = None) -> Array:
    """Return tanh(x)."""
    x = float_array(x)
    y = result(out, x)
    np.tanh(x, out=y)
    return y


def _tanh_backward(dy: ArrayLike, x: ArrayLike, out: Out = None) -> Array:
    """Return dy (1 - tanh(x)^2).

    The difference suffers cancellation: in float32 half of the digits are lost at abs(x) = 4.5, and
    from 9.02 (19.1 in float64) the result is 0. The alternative 1/cosh(x)^2 takes half as long
    again.
    """
    dy, x, dx = prepare(dy, x, out)
    np.tanh(x, out=dx)
    np.square(dx, out=dx)
    np.subtract(1, dx, out=dx)
    dx *= dy
    return dx


def _tanh_forward_backward(x: ArrayLike, dy: ArrayLike, out: Out = None) -> tuple[Array, Array]:
    """Return y and dx."""
    x, dy, y, dx = prepare_both(x, dy, out)
    np.tanh(x, out=y)
    np.square(y, out=dx)
    np.subtract(1, dx, out=dx)
    times(dx, dy)
    return y, dx


tanh = PointwiseBaseline("tanh", _tanh_forward, _tanh_backward, _tanh_forward_backward)

# relu ------------------------------------------------------------------------------------------


def _relu_forward(x: ArrayLike, out: Out = None) -> Array:
    """Return max(x, 0)."""
    x = float_array(x)
    y = result(out, x)
    np.clip(x, 0, np.inf, out=y)
    return y


def _relu_backward(dy: ArrayLike, x: ArrayLike, out: Out = None) -> Array:
    """Return dy where x > 0, and 0 elsewhere."""
    dy, x, dx = prepare(dy, x, out)
    np.greater(x, 0, out=dx)  # written as 0.0 and 1.0: a bool mask takes 0.05 ns more
    dx *= dy
    restore_nan(x, dx)
    return dx


def _relu_forward_backward(x: ArrayLike, dy: ArrayLike, out: Out = None) -> tuple[Array, Array]:
    """Return y and dx."""
    x, dy, y, dx = prepare_both(x, dy, out)
    np.clip(x, 0, np.inf, out=y)
    np.greater(x, 0, out=dx)
    times(dx, dy)
    restore_nan(y, dx)
    return y, dx


relu = PointwiseBaseline("relu", _relu_forward, _relu_backward, _relu_forward_backward)

# leaky_relu ------------------------------------------------------------------------------------


@np.errstate(over="ignore")
def _leaky_relu_forward(x: ArrayLike, negative_slope: float = 0.01, out: Out = None) -> Array:
    """Return x where x > 0, and negative_slope x elsewhere."""
    x = float_array(x)
    y = result(out, x)
    _two_lines(x, negative_slope, y)
    return y


def _leaky_relu_backward(
    dy: ArrayLike, x: ArrayLike, negative_slope: float = 0.01, out: Out = None
) -> Array:
    """Return dy where x > 0, and negative_slope dy elsewhere."""
    dy, x, dx = prepare(dy, x, out)
    _slope(x, negative_slope, dx)
    dx *= dy
    restore_nan(x, dx)
    return dx


@np.errstate(over="ignore")
def _leaky_relu_forward_backward(
    x: ArrayLike, dy: ArrayLike, negative_slope: float = 0.01, out: Out = None
) -> tuple[Array, Array]:
    """Return y and dx."""
    x, dy, y, dx = prepare_both(x, dy, out)
    _two_lines(x, negative_slope, y)
    _slope(x, negative_slope, dx)
    times(dx, dy)
    restore_nan(x, dx)
    return y, dx


leaky_relu = PointwiseBaseline(
    "leaky_relu", _leaky_relu_forward, _leaky_relu_backward, _leaky_relu_forward_backward
)

# prelu -----------------------------------------------------------------------------------------


def _weight_along(x: Array, weight: ArrayLike, axis: int) -> Array:
    """Return `weight` in a shape that broadcasts along `axis` of `x`."""
    weight = np.asarray(weight, dtype=x.dtype)
    if weight.size == 1:
        return weight.reshape(())
    axis = normalize_axis_index(axis, x.ndim)
    if weight.shape != (x.shape[axis],):
        raise ValueError(
            f"weight must be a scalar or have shape ({x.shape[axis]},), the length of axis {axis} "
            f"of x, but has {weight.shape}"
        )
    return weight.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _weight_gradient(x: Array, dy: Array, weight: ArrayLike, axis: int) -> Array:
    """Return the sum of dy min(x, 0) over all elements of each weight."""
    shape = np.shape(weight)
    channels = int(np.prod(shape))
    before = () if channels == 1 else x.shape[: normalize_axis_index(axis, x.ndim)]
    outer = int(np.prod(before))
    inner = x.size // (outer * channels) if x.size else 0
    negative = np.clip(x, -np.inf, 0).reshape(outer, channels, inner)
    dy = np.broadcast_to(dy, x.shape).reshape(outer, channels, inner)
    gradient = np.zeros(channels)
    # In blocks: a float32 sum of equal terms stops growing at 2^24 of them.
    if inner > 8:
        length = MAX_TERMS * DOT_LANES
        for start in range(0, inner, length):
            block = slice(start, start + length)
            dots = np.vecdot(negative[..., block], dy[..., block])
            gradient += dots.sum(axis=0, dtype=np.float64)
    elif inner:
        # vecdot on strided data takes 2 ns an element, a matrix product with ones 0.06.
        negative *= dy
        rows = negative.reshape(outer, channels * inner)
        ones = np.ones(min(outer, MAX_TERMS), dtype=rows.dtype)
        for start in range(0, outer, MAX_TERMS):
            some = rows[start : start + MAX_TERMS]
            gradient += (ones[: len(some)] @ some).reshape(channels, inner).sum(axis=1)
    return gradient.astype(x.dtype).reshape(shape)


@np.errstate(over="ignore")
def _prelu_forward(x: ArrayLike, weight: ArrayLike, axis: int = 1, out: Out = None) -> Array:
    """Return x where x > 0, and weight x elsewhere, with the weights along `axis`."""
    x = float_array(x)
    y = result(out, x)
    _two_lines(x, _weight_along(x, weight, axis), y)
    return y


def _prelu_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike, axis: int = 1, out: Out = None
) -> tuple[Array, Array]:
    """Return dx and dweight; the latter has the shape of `weight`."""
    out, given = split_last(out, 2)
    dy, x, dx = prepare(dy, x, out)
    _slope(x, _weight_along(x, weight, axis), dx)
    dx *= dy
    restore_nan(x, dx)
    return dx, copied(_weight_gradient(x, dy, weight, axis), given)


@np.errstate(over="ignore")
def _prelu_forward_backward(
    x: ArrayLike, dy: ArrayLike, weight: ArrayLike, axis: int = 1, out: Out = None
) -> tuple[Array, Array, Array]:
    """Return y, dx and dweight."""
    out, given = split_last(out, 3)
    x, dy, y, dx = prepare_both(x, dy, out)
    slope = _weight_along(x, weight, axis)
    _two_lines(x, slope, y)
    _slope(x, slope, dx)
    dx *= dy
    restore_nan(x, dx)
    return y, dx, copied(_weight_gradient(x, dy, weight, axis), given)


prelu = Baseline("prelu", _prelu_forward, _prelu_backward, _prelu_forward_backward)

# elu -------------------------------------------------------------------------------------------


def _join(x: Array, alpha: float, y: Array) -> None:
    """Compute the value in place from expm1(min(x, 0)) in `y`."""
    if 0 <= alpha < 1:
        y *= alpha
    np.maximum(x, y, out=y)  # for x < 0 and alpha up to 1 the curve lies above the line x
    if 0 <= alpha <= 1:
        return
    slope = np.empty_like(y)
    _slope(x, alpha, slope)
    y *= slope


def _elu_forward(x: ArrayLike, alpha: float = 1.0, out: Out = None) -> Array:
    """Return x where x > 0, and alpha expm1(x) elsewhere.

    NumPy's expm1 is vectorized only for AVX-512. On other processors it takes 9 ns an element, and
    ``2 t / (1 - t)`` with ``t = tanh(x / 2)`` would take 2; here that takes half as long again as
    expm1.
    """
    x = float_array(x)
    y = result(out, x)
    np.clip(x, -np.inf, 0, out=y)
    np.expm1(y, out=y)
    _join(x, alpha, y)
    return y


def _elu_backward(dy: ArrayLike, x: ArrayLike, alpha: float = 1.0, out: Out = None) -> Array:
    """Return dy where x > 0, and dy alpha exp(x) elsewhere."""
    dy, x, dx = prepare(dy, x, out)
    np.clip(x, -np.inf, 0, out=dx)
    np.exp(dx, out=dx)
    if alpha != 1:
        slope = np.empty_like(dx)
        _slope(x, alpha, slope)
        dx *= slope
    dx *= dy
    return dx


def _elu_forward_backward(
    x: ArrayLike, dy: ArrayLike, alpha: float = 1.0, out: Out = None
) -> tuple[Array, Array]:
    """Return y and dx."""
    x, dy, y, dx = prepare_both(x, dy, out)
    np.clip(x, -np.inf, 0, out=dx)
    np.expm1(dx, out=y)
    _join(x, alpha, y)
    # y + alpha instead of the second exp saves 0.15 ns of 1.6, but is 0 for x below -17.
    np.exp(dx, out=dx)
    if alpha != 1:
        slope = np.empty_like(dx)
        _slope(x, alpha, slope)
        dx *= slope
    times(dx, dy)
    return y, dx


elu = PointwiseBaseline("elu", _elu_forward, _elu_backward, _elu_forward_backward)

# maxout ----------------------------------------------------------------------------------------


def _split(x: Array, pieces: int, axis: int) -> Array:
    """Return a view of `x` whose first axis runs over the pieces of each group."""
    axis = normalize_axis_index(axis, x.ndim)
    length = x.shape[axis]
    if pieces < 1 or length % pieces:
        raise ValueError(
            f"the length of axis {axis} must be a multiple of pieces, "
            f"but it is {length}, and pieces is {pieces}"
        )
    groups = x.reshape(*x.shape[:axis], length // pieces, pieces, *x.shape[axis + 1 :])
    return np.moveaxis(groups, axis + 1, 0)


def _maxout_forward(x: ArrayLike, pieces: int, axis: int = -1, out: Out = None) -> Array:
    """Return the maximum over groups of `pieces` consecutive features."""
    parts = _split(float_array(x), pieces, axis)
    y = result(out, parts[0])
    # max(axis=-1) restarts for each group: 19 ns an element for two pieces, instead of 0.3.
    if pieces < MANY_PIECES:
        np.copyto(y, parts[0])
        for part in parts[1:]:
            np.maximum(y, np.ascontiguousarray(part), out=y)
    else:
        np.max(parts, axis=0, out=y)
    return y


def _largest(parts: Array, y: Array) -> Array:
    """Write the maximum over the first axis to `y`, and return its index."""
    if len(parts) >= MANY_PIECES:
        which: Array = parts.argmax(axis=0)
        np.copyto(y, np.take_along_axis(parts, which[np.newaxis], axis=0)[0])
        return which
    # argmax restarts for each group: 5 ns an element for two pieces, instead of 0.4. The copy
    # makes all passes over a piece contiguous, and saves more than it costs.
    np.copyto(y, parts[0])
    which = np.zeros(y.shape, dtype=np.uint8)
    for index, part in enumerate(parts[1:], 1):
        part = np.ascontiguousarray(part)
        larger = np.greater(part, y).view(np.uint8)
        larger *= np.uint8(index)
        np.maximum(which, larger, out=which)
        np.maximum(y, part, out=y)
    if np.isnan(np.max(y, initial=-np.inf)):  # the comparisons missed it
        nan = np.isnan(y)
        which[nan] = parts[:, nan].argmax(axis=0)
    return which


def _scatter(dy: Array, which: Array, parts: Array) -> None:
    """Write `dy` to the pieces of `parts` with index `which`, and 0 to the others."""
    if len(parts) >= MANY_PIECES:
        parts[...] = 0
        np.put_along_axis(parts, which[np.newaxis], dy[np.newaxis], axis=0)
        return
    chosen = np.empty_like(dy)
    for index, part in enumerate(parts):
        np.equal(which, index, out=chosen)
        np.multiply(chosen, dy, out=part)


def _maxout_forward_with_index(
    x: ArrayLike, pieces: int, axis: int = -1, out: Out = None
) -> tuple[Array, NDArray[np.integer[Any]]]:
    """Return the maximum of each group and its index: the first of equal pieces, NaN above all others.

    The index is stored in bytes if possible: less memory makes the backward pass faster.
    """
    out, given = split_last(out, 2)
    parts = _split(float_array(x), pieces, axis)
    y = result(out, parts[0])
    return y, copied(_largest(parts, y), given)


def _maxout_backward(
    dy: ArrayLike, which: Array, pieces: int, axis: int = -1, out: Out = None
) -> Array:
    """Return `dy` at the position of the maximum, and 0 elsewhere."""
    dy = float_array(dy)
    if dy.shape != which.shape:
        raise ValueError(f"dy and which must have one shape, but have {dy.shape} and {which.shape}")
    axis = normalize_axis_index(axis, dy.ndim)
    shape = (*dy.shape[:axis], dy.shape[axis] * pieces, *dy.shape[axis + 1 :])
    dx = result(out, np.empty(shape, dtype=dy.dtype), dy)
    _scatter(dy, which, _split(dx, pieces, axis))
    return dx


def _maxout_forward_backward(
    x: ArrayLike, dy: ArrayLike, pieces: int, axis: int = -1, out: Out = None
) -> tuple[Array, Array]:
    """Return y and dx."""
    x = float_array(x)
    parts = _split(x, pieces, axis)
    dy = np.broadcast_to(np.asarray(dy), parts[0].shape)
    y, dx = two_results(out, (parts[0], x), x, dy)
    _scatter(dy, _largest(parts, y), _split(dx, pieces, axis))
    return y, dx


maxout = IndexedBaseline(
    "maxout",
    _maxout_forward,
    _maxout_backward,
    _maxout_forward_backward,
    _maxout_forward_with_index,
)
