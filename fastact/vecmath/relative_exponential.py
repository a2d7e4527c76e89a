"""Exponentials of the elements of a row, relative to that of its maximum.

An exponential is ``2**n exp(r)``, and it is enough that the exponents are relative: reduced by itself, an element needs no
difference, whose rounding error would be a relative error of the exponential. Elements too large to be reduced by
themselves are close to each other unless their exponentials vanish, and their differences are exact (P. H. Sterbenz).
"""

from __future__ import annotations

from fastact.simd import PerDtype, Vector, fma, polynomial, select
from fastact.vecmath.double_double import DoubleDouble, fast_two_sum
from fastact.vecmath.exponential import EXP, LOG2_E, NUDGE, exp_parts, reduce, round_product
from fastact.vecmath.scaling import ldexp_or_zero, power_of_two

# Exponentials of numbers this much smaller than the maximum are zero.
_NEGLIGIBLE = PerDtype(float32=120.0, float64=768.0)
# A maximum above this is subtracted. It is more than twice the above, so that differences are exact.
_FAR = PerDtype(float32=256.0, float64=2048.0)


def relative_to(
    top: Vector, temperature: Vector, reciprocal: Vector
) -> tuple[Vector, Vector, Vector, Vector]:
    """Return the operands of `relative_exponential` for a row: origin, least and exponent; and ``top - origin``.

    The exponential of the maximum is then between 0.3 and 0.8.
    """
    origin = select(
        abs(top * reciprocal) > _FAR, top, NUDGE
    )  # keeps arguments from being subnormal
    shifted = top - origin
    exponent = round_product(shifted * reciprocal, LOG2_E) + 1
    return origin, shifted - temperature * _NEGLIGIBLE, exponent, shifted


def exponential_of_top(
    shifted: Vector, temperature: Vector, reciprocal: Vector, exponent: Vector
) -> DoubleDouble:
    """Return the exponential of the maximum with its low part, for logarithms of sums that are relative to it."""
    quotient = shifted * reciprocal
    low = fma(-quotient, temperature, shifted) * reciprocal
    n, p, p_low = exp_parts(quotient, low)
    e, e_low = fast_two_sum(1, p)
    power = power_of_two(n - exponent)
    return e * power, (e_low + p_low) * power


def at_least(shifted: Vector, least: float) -> Vector:
    """Return elements from which the origin has been subtracted, but none whose exponential is zero."""
    return select(shifted < least, least, shifted)


def reduced_quotient(x: Vector, divisor: float, reciprocal: float) -> tuple[Vector, Vector]:
    """Split ``x / divisor`` as `reduce` does, given the divisor's rounded reciprocal."""
    quotient = x * reciprocal
    n, r = reduce(quotient)
    return n, fma(-quotient, divisor, x) * reciprocal + r


def relative_exponential(
    shifted: Vector, least: float, exponent: float, n: Vector, r: Vector
) -> Vector:
    """Compute ``2**(n - exponent) exp(r)``, or 0 for elements below the least."""
    return ldexp_or_zero(1 + fma(polynomial(r, EXP), r * r, r), n - exponent, shifted < least)
