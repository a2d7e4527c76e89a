"""Row algorithms of layer normalization and its kin: a row's mean and variance, and results made of them.

One pass over a row sums its differences to a nearby number, and their squares. Mean and variance follow without
cancellation as long as that number is near the mean, which is checked: if it is not, or if squares overflow or vanish,
the pass is repeated with a better one, or with the row times a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastact.kernels.algorithms.sums import adding, total_of
from fastact.simd import fma, fold_to_double, select, to_double
from fastact.vecmath.double_double import two_sum

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


class _Limits(NamedTuple):
    """When a row is computed again.

    Attributes
    ----------
    distance : float
        The largest acceptable square of the distance to the mean, in variances: beyond it, too many digits cancel.
    smallest, largest : float
        The range of variances for which neither the sums nor the results lose digits at a scale of 1.
    grow, shrink : float
        The scales for rows outside.
    """

    distance: float
    smallest: float
    largest: float
    grow: float
    shrink: float


# Sums are in float64. For float32 its digits and exponents are plenty; there the limits keep the results in range.
_SINGLE = _Limits(2.0**20, 2.0**-200, 2.0**200, 2.0**64, 2.0**-64)
_DOUBLE = _Limits(4.0, 2.0**-900, 2.0**1000, 2.0**600, 2.0**-600)
# How often a pass is repeated at most: at another scale, and twice with a better number.
_PASSES = 4


class Moments(NamedTuple):
    """What a row's results are computed from.

    Attributes
    ----------
    scale : float
        The power of two that the row is multiplied with: 1 unless its numbers are huge or tiny.
    mean, low : float
        The mean of the scaled row, rounded to the type of the computation, and the rest.
    variance : float
        The variance of the scaled row.
    rstd : float
        The reciprocal of its standard deviation, with epsilon.
    dy_mean : float
        The mean of ``dy``, times `weight` if that is a row; 0 where the mean is not subtracted.
    product_mean : float
        The mean of the same times the normalized row.
    """

    scale: Any
    mean: Any
    low: Any
    variance: Any
    rstd: Any
    dy_mean: Any
    product_mean: Any


def _moments(rows: RowAccess, is_centered: bool) -> Any:
    """Return a function that computes the `Moments` of a row."""
    limits = _DOUBLE if rows.is_double else _SINGLE
    distance, smallest, largest, grow, shrink = limits
    x_at, dy_at, weight_at = (rows.index(name) for name in ("x", "dy", "weight"))
    has_gradient, has_weights, width = rows.has("dy"), weight_at >= 0, rows.width
    add, doubles, positions = adding(rows), rows.doubles, rows.positions_in_block
    eps_of, element_at, address_of = rows.scalar("eps"), rows.element_at, rows.address_of
    rounded = rows.internal((lambda x: x) if rows.is_double else (lambda x: np.float32(x)))

    def step(arrays: Any, begin: Any, sums: Any, state: Any) -> Any:
        total, squares, dy_sum, products = sums
        scale, origin, n = state
        x = to_double(arrays[x_at]) * scale
        if is_centered:
            x = x - origin
            if begin + width > n:
                x = select(to_double(positions()) < n - begin, x, 0)
            total = add(total, fold_to_double(x))
        squares = add(squares, fold_to_double(x * x))
        if has_gradient:
            g = to_double(arrays[dy_at] * arrays[weight_at] if has_weights else arrays[dy_at])
            products = add(products, fold_to_double(g * x))
            if is_centered:
                dy_sum = add(dy_sum, fold_to_double(g))
        return total, squares, dy_sum, products

    fold = rows.fold(step, [0.0] * rows.inputs)

    @rows.internal
    def moments(row: Any) -> Any:
        n, eps = row.n, eps_of(row)
        nothing = doubles(), doubles()
        first = np.float64(0.0)
        if is_centered and n > 0:
            first = np.float64(element_at(address_of(row.base[x_at])))
        scale, origin, passes = 1.0, first, 0
        while True:
            passes += 1
            sums = fold(row, (nothing, nothing, nothing, nothing), (scale, origin, n))
            shift = total_of(sums[0]) / n
            squares = total_of(sums[1]) / n
            variance = squares - shift * shift
            if variance < 0.0:
                variance = 0.0
            dy_mean = total_of(sums[2]) / n
            product_mean = total_of(sums[3]) / n - shift * dy_mean
            if scale == 1.0 and not (smallest < variance and squares < largest):  # NaN as well
                scale = shrink if not squares < largest else grow
                origin = first * scale
            elif passes < _PASSES and shift * shift > distance * variance:
                origin += shift
            else:
                break
        if scale == 1.0:
            rstd = 1 / math.sqrt(variance + eps)
        else:  # eps may overflow if it is scaled twice
            root = math.sqrt(eps) * scale
            rstd = 1 / (math.sqrt(variance + root * root) if root < 2.0**500 else root)
        high, low = two_sum(origin, shift)
        mean = rounded(high)
        low += high - mean
        return Moments(scale, mean, low, variance, rstd, dy_mean, product_mean * rstd)

    return moments


def normalized(rows: RowAccess, is_centered: bool) -> Callable[..., None]:
    """Return the function that normalizes one row, and computes its gradient.

    Parameters
    ----------
    rows : RowAccess
        Operands: the rows ``x``, ``dy`` for the gradient, ``weight``, ``bias`` for the value if there is one; the scalar
        ``eps``; the results ``y``, ``dx``, and the sums over rows ``dweight``, ``dbias``.
    is_centered : bool
        Whether the mean is subtracted.
    """
    x_at, dy_at, weight_at, bias_at = (rows.index(name) for name in ("x", "dy", "weight", "bias"))
    names = [name for name in ("y", "dx", "dweight", "dbias") if rows.has(name)]
    first = 0 if "y" in names else 1  # the results are neighbours in that order
    last, has_bias = first + len(names), rows.has("bias")
    prepare, moments_of = rows.prepare([0.0] * rows.inputs), _moments(rows, is_centered)

    def results(arrays: Any, begin: Any, moments: Any) -> Any:
        x, dy, weight, bias = arrays[x_at], arrays[dy_at], arrays[weight_at], arrays[bias_at]
        if is_centered:
            normal = (fma(x, moments.scale, -moments.mean) - moments.low) * moments.rstd
        else:
            normal = x * moments.scale * moments.rstd
        y = fma(normal, weight, bias) if has_bias else normal * weight
        dx = fma(-moments.product_mean, normal, dy * weight - moments.dy_mean)
        found = y, dx * moments.rstd * moments.scale, dy * normal, dy
        return found[first:last]

    write = rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        write(row, moments_of(row))

    return one_row
