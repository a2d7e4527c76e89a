"""The inverse tangent, by W. J. Cody and W. Waite, "Software Manual for the Elementary Functions" (1980)."""

from __future__ import annotations

from fastact.simd import (
    PerDtype,
    Vector,
    copysign,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    polynomial,
    select,
    value_of,
)
from fastact.vecmath import coefficients
from fastact.vecmath.scaling import TINY, at_least_tiny

__all__ = ["arctan"]

_ARCTAN = PerDtype(**coefficients.ARCTAN)
_HALF_PI = PerDtype(**coefficients.HALF_PI_HIGH)
_HALF_PI_LOW = PerDtype(**coefficients.HALF_PI_MIDDLE)
# The tangents of pi / 8 and 3 pi / 8.
_LOW, _HIGH = 0.4142135623730950, 2.414213562373095
# From here on, arctan(x) rounds to half of pi.
_FAR = PerDtype(float32=2.0**40, float64=2.0**64)


def arctan(x: Vector) -> Vector:
    """Compute the inverse tangent.

    Valid range: all numbers. Maximum error: 1.1 ULP.

    Examples
    --------
    >>> fa.math.arctan([-1.0, 0.0, 1.0])
    array([-0.78539816,  0.        ,  0.78539816])
    """
    # arctan(a) = c + arctan(t) with c = 0, pi / 4, pi / 2 and t = a, (a - 1) / (a + 1), -1 / a.
    is_x = abs(x) < TINY
    a = at_least_tiny(select(abs(x) > _FAR, _FAR, abs(x)))
    is_low, is_high = a < _LOW, a > _HIGH
    top = select(is_high, -1, select(is_low, a, a - 1))
    top_low = select(is_high | is_low, 0, (a - (top + 1)))
    bottom = select(is_high, a, select(is_low, 1, a + 1))
    bottom_low = select(is_high | is_low, 0, a - (bottom - 1))
    t = top / bottom
    t_low = (fma(-t, bottom, top) + fma(-t, bottom_low, top_low)) / bottom
    z = t * t
    quarters = select(is_high, 1, select(is_low, 0, 0.5))
    whole, whole_low = quarters * _HALF_PI, quarters * _HALF_PI_LOW
    total = whole + t
    low = select(is_low, 0, (whole - total) + t + whole_low + t_low)
    return select(is_x, x, copysign(total + fma(t * z, polynomial(z, _ARCTAN), low), x))


@derivative_rule(arctan)
def _dual_arctan(x: Vector) -> Vector:
    return dual(arctan(value_of(x)), derivative_of(x) / fma(value_of(x), value_of(x), 1))
