"""Double-double arithmetic: numbers of twice the precision, as unevaluated sums of a high and a low part.

The low part of a result is what rounding took from the high part. The error-free transformations are those of D. E.
Knuth, "The Art of Computer Programming", volume 2, section 4.2.2 (TwoSum), and T. J. Dekker, "A Floating-Point
Technique for Extending the Available Precision", Numerische Mathematik 18 (1971) (FastTwoSum, TwoProd; here TwoProd
takes a fused multiply-add). Sums and products of double-doubles have relative errors of a few units in the last place
of the low part, unless a sum cancels.
"""

from __future__ import annotations

from typing import TypeAlias

from fastact.simd import Mask, Vector, fma, select

DoubleDouble: TypeAlias = tuple[Vector, Vector]


def two_sum(x: Vector, y: Vector) -> DoubleDouble:
    """Return x + y exactly (Knuth's TwoSum).

    Valid range: finite sums.
    """
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def fast_two_sum(x: Vector, y: Vector) -> DoubleDouble:
    """Return x + y exactly (Dekker's FastTwoSum).

    Valid range: abs(x) >= abs(y), or x = 0, and finite sums.
    """
    total = x + y
    return total, (x - total) + y


def two_product(x: Vector, y: Vector) -> DoubleDouble:
    """Return x * y exactly (TwoProd).

    Valid range: finite products whose low part is not subnormal.
    """
    product = x * y
    return product, fma(x, y, -product)


def select_double_double(mask: Mask, if_true: DoubleDouble, if_false: DoubleDouble) -> DoubleDouble:
    """Take each lane from `if_true` where `mask` is set, else from `if_false`."""
    return select(mask, if_true[0], if_false[0]), select(mask, if_true[1], if_false[1])


def double_double_sum(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x + y."""
    total, low = two_sum(x[0], y[0])
    return total, low + (x[1] + y[1])


def double_double_product(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x * y."""
    product, low = two_product(x[0], y[0])
    return product, low + fma(x[0], y[1], x[1] * y[0])


def double_double_reciprocal_of_one_plus(x: DoubleDouble) -> DoubleDouble:
    """Return 1 / (1 + x).

    Valid range: 0 <= x <= 2.
    """
    d = 1 + x[0]
    d_low = (x[0] - (d - 1)) + x[1]
    y = 1 / d
    return y, y * fma(-y, d_low, fma(-d, y, 1))
