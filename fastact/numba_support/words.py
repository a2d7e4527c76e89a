"""NumPy's piecewise functions on vectors and dual numbers, written in the words of `fastact.simd`.

They differ from NumPy in nothing but the derivative, which NumPy lacks. Where two operands tie, the result and its
derivative are those of the first; the derivative of a step function is 0.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.simd import copysign, isnan, round_to_integer, select, value_of


def _plain(x: Any) -> Any:
    """Return the value of a dual number, also of one of dual numbers."""
    return value_of(value_of(x))


def maximum(x: Any, y: Any) -> Any:
    """Return the larger operand; NaN where either is."""
    return select((x >= y) | isnan(x), x, y)


def minimum(x: Any, y: Any) -> Any:
    """Return the smaller operand; NaN where either is."""
    return select((x <= y) | isnan(x), x, y)


def fmax(x: Any, y: Any) -> Any:
    """Return the larger operand; the other one where one is NaN."""
    return select((x >= y) | isnan(y), x, y)


def fmin(x: Any, y: Any) -> Any:
    """Return the smaller operand; the other one where one is NaN."""
    return select((x <= y) | isnan(y), x, y)


def absolute(x: Any) -> Any:
    """Return the absolute value, with derivative 1 at 0."""
    return abs(x)


def square(x: Any) -> Any:
    """Return x times itself."""
    return x * x


def reciprocal(x: Any) -> Any:
    """Return 1 / x."""
    return 1 / x


def sign(x: Any) -> Any:
    """Return -1, 0 or 1."""
    x = _plain(x)
    return select(x > 0, 1, select(x < 0, -1, select(x == 0, 0, x)))


def heaviside(x: Any, at_zero: Any) -> Any:
    """Return 0 for negative and 1 for positive x."""
    return select(x > 0, 1, select(x < 0, 0, select(x == 0, _plain(at_zero), _plain(x))))


def rint(x: Any) -> Any:
    """Round to the nearest integer, halves to even."""
    return round_to_integer(_plain(x))


def floor(x: Any) -> Any:
    """Round down."""
    x = _plain(x)
    whole = round_to_integer(x)
    return select(whole > x, whole - 1, whole)


def ceil(x: Any) -> Any:
    """Round up."""
    x = _plain(x)
    whole = round_to_integer(x)
    return copysign(select(whole < x, whole + 1, whole), x)


def trunc(x: Any) -> Any:
    """Round towards 0."""
    x = _plain(x)
    return copysign(floor(abs(x)), x)


def isfinite(x: Any) -> Any:
    """Return the mask of the lanes that are neither infinite nor NaN."""
    return abs(x) < math.inf


def isinf(x: Any) -> Any:
    """Return the mask of the infinite lanes."""
    return abs(x) == math.inf


def logical_and(x: Any, y: Any) -> Any:
    """Return the mask of the lanes in which both operands are nonzero."""
    return (x != 0) & (y != 0)


def logical_or(x: Any, y: Any) -> Any:
    """Return the mask of the lanes in which an operand is nonzero."""
    return (x != 0) | (y != 0)


def logical_xor(x: Any, y: Any) -> Any:
    """Return the mask of the lanes in which one operand is nonzero."""
    return (x != 0) ^ (y != 0)


def logical_not(x: Any) -> Any:
    """Return the mask of the lanes that are 0."""
    return x == 0
