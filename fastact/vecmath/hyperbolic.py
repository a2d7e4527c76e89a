"""The hyperbolic sine, its inverse, and the hyperbolic cosine."""

from __future__ import annotations

import math

from fastact.simd import (
    PerDtype,
    Vector,
    copysign,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    isnan,
    polynomial,
    scale,
    select,
    sqrt,
    value_of,
)
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import DoubleDouble, double_double_sum
from fastact.vecmath.exponential import exp_parts
from fastact.vecmath.powers import log_double_double
from fastact.vecmath.scaling import TINY, at_least_tiny
from fastact.vecmath.two_arguments import hypot

__all__ = ["arcsinh", "cosh", "sinh"]

_SINH = PerDtype(**coefficients.SINH)
# sinh and cosh are infinite from here on.
_INFINITE = PerDtype(float32=89.5, float64=710.6)
# An exponential of this size is alone in its sum with its inverse.
_ALONE = PerDtype(float32=2.0**60, float64=2.0**120)
# arcsinh(x) is x - x**3 / 6 below the first, and log(2 x) above the second.
_SMALL = PerDtype(float32=2.0**-12, float64=2.0**-26)
_LARGE = PerDtype(float32=2.0**14, float64=2.0**28)


def _half_exp(a: Vector) -> DoubleDouble:
    """Return ``exp(a) / 2`` for a >= TINY, which overflows where sinh and cosh do, as a double-double."""
    n, p, p_low = exp_parts(a, 0)
    quarter = scale(1, n - 2)  # the power of two of the half may overflow where the half does not
    y = fma(quarter, p, quarter)
    y_low = fma(quarter, p, quarter - y) + quarter * p_low
    return 2 * y, 2 * y_low


def sinh(x: Vector) -> Vector:
    """Compute the hyperbolic sine.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.sinh([-1.0, 0.0, 1.0])
    array([-1.17520119,  0.        ,  1.17520119])
    """
    a = abs(x)
    bounded = at_least_tiny(select(a > _INFINITE, _INFINITE, a))
    y, y_low = _half_exp(bounded)
    inverse = 0.25 / select(y > _ALONE, _ALONE, y)
    difference = y - inverse
    correction = ((y - difference) - inverse) + y_low
    wide = difference + select(y < math.inf, correction, 0)
    near = select(a < 1, bounded, 0)
    z = near * near
    narrow = select(a < TINY, a, fma(near * z, polynomial(z, _SINH), a))
    return copysign(select(a < 1, narrow, wide), x)


def cosh(x: Vector) -> Vector:
    """Compute the hyperbolic cosine.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.cosh([-1.0, 0.0, 1.0])
    array([1.54308063, 1.        , 1.54308063])
    """
    a = abs(x)
    y, y_low = _half_exp(at_least_tiny(select(a > _INFINITE, _INFINITE, a)))
    return y + (0.25 / select(y > _ALONE, _ALONE, y) + y_low)


def arcsinh(x: Vector) -> Vector:
    """Compute the inverse of the hyperbolic sine.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.arcsinh([-1.0, 0.0, 1.0])
    array([-0.88137359,  0.        ,  0.88137359])
    """
    # log(x + sqrt(1 + x**2)), with the argument as a double-double: near 1 the logarithm keeps only what is beside 1.
    a = abs(x)
    is_small, is_large = a < _SMALL, ~(a <= _LARGE)
    inner = select(is_small | is_large, 1, a)
    square = inner * inner
    radicand, radicand_low = double_double_sum((1, 0), (square, fma(inner, inner, -square)))
    root = sqrt(radicand)
    root_low = (fma(-root, root, radicand) + radicand_low) / (2 * root)
    argument, argument_low = double_double_sum((root, root_low), (inner, 0))
    is_finite = a < math.inf
    outer = select(is_finite, a, 1)
    high, low = log_double_double(select(is_large, outer, argument), select(is_large, 1, 0))
    y = high + (low + select(is_large, 0, argument_low / argument))
    near = at_least_tiny(select(is_small, a, 0))
    y = select(is_small, fma(near * near * (-1 / 6), a, a), y)
    return copysign(select(is_finite, y, a), x)


# --- The same on dual numbers -------------------------------------------------------------------


@derivative_rule(sinh)
def _dual_sinh(x: Vector) -> Vector:
    return dual(sinh(value_of(x)), cosh(value_of(x)) * derivative_of(x))


@derivative_rule(cosh)
def _dual_cosh(x: Vector) -> Vector:
    return dual(cosh(value_of(x)), sinh(value_of(x)) * derivative_of(x))


@derivative_rule(arcsinh)
def _dual_arcsinh(x: Vector) -> Vector:
    one = select(isnan(value_of(x)), 1, 1)
    return dual(arcsinh(value_of(x)), derivative_of(x) / hypot(value_of(x), one))
