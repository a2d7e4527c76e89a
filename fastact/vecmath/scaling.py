"""Powers of two as factors, and numbers at the lower end of the range.

On Intel's processors an operation with a subnormal operand or result takes a microcode assist of some 150 cycles, for the
whole register (Emerald Rapids, 61 to 93 ns; AMD has none). `scale`, AVX-512's ``vscalefps``, takes it even where the
result underflows to zero. So intermediate results stay in the normal range, whatever the argument, and only results that
are subnormal themselves are made otherwise: by `ldexp`, as float32 by a product in float64. Conversions between the two
take no assist, nor do additions with subnormal operands, comparisons, operations on bits, and a fused multiply-add of a
tiny product and a normal number. ``tests/vecmath/test_assists.py`` holds every function to this.
"""

from __future__ import annotations

from fastact.simd import (
    Mask,
    PerDtype,
    Vector,
    any_above,
    bits,
    copysign,
    derivative_of,
    derivative_rule,
    dual,
    fma,
    from_bits,
    product_in_double,
    scale,
    scale_down,
    select,
    value_of,
)
from fastact.simd.formats import MANTISSA_BITS, MANTISSA_MASK, SHIFT_TO_POWER

# Where a function hardly depends on its argument, a smaller one counts as this: its square, and the rounding error of its
# square, are normal numbers.
TINY = PerDtype(float32=2.0**-28, float64=2.0**-200)
MINUS_TINY = -TINY
#: The square of a smaller number is zero.
SQUARE_ZERO = PerDtype(float32=2.0**-75, float64=2.0**-538)

# Products with a lower power of two may be subnormal.
_LOWEST = PerDtype(float32=-118.0, float64=-1000.0)
# Lower negative numbers have larger bits, as unsigned integers.
_BITS_OF_LOWEST = PerDtype(float32=0xC2EC0000, float64=0xC08F400000000000)

# 2**-60, and 2**-500.
_MINUS_BITS_OF_SMALL_FACTOR = PerDtype(float32=-(67 << 23), float64=-(523 << 52))

# 2**23 and 2**52: a subnormal number's bits are the significand of its sum with them, times a power of two.
_ONE_UNIT = PerDtype(float32=2.0**23, float64=2.0**52)
_BITS_OF_ONE_UNIT = PerDtype(float32=150 << 23, float64=1075 << 52)
#: The exponent by which `integer_of_subnormal` multiplies.
INTEGER_EXPONENT = PerDtype(float32=149.0, float64=1074.0)


def at_least_tiny(size: Vector) -> Vector:
    """Return the larger of a number and `TINY`, or NaN."""
    return select(size < TINY, TINY, size)


def at_most_minus_tiny(x: Vector) -> Vector:
    """Return the smaller of a number and minus `TINY`, or NaN."""
    return select(x > MINUS_TINY, MINUS_TINY, x)


def away_from_zero(x: Vector) -> Vector:
    """Return the number nearest to x, with its sign, whose size is at least `TINY`."""
    return select(abs(x) < TINY, copysign(TINY, x), x)


def zero_below(x: Vector, threshold: Vector) -> Vector:
    """Return x, or 0 where it is so small that it has no effect."""
    return select(abs(x) < threshold, 0, x)


def bound(x: Vector, low: Vector, high: Vector) -> Vector:
    """Return x between bounds beyond which it has no effect."""
    return select(x > high, high, select(x < low, low, x))


def power_of_two(n: Vector) -> Vector:
    """Return ``2**n``, but at least ``2**-118``, in float64 ``2**-1000``: the factor of `dropped`, and for use beside 1.

    Valid range: an integer `n` (a float vector) up to 127; in float64, up to 1023.
    """
    return from_bits(bits(_at_least_lowest(n) + SHIFT_TO_POWER) << MANTISSA_BITS)


def _at_least_lowest(n: Vector) -> Vector:
    return select(n < _LOWEST, _LOWEST, n)


def ldexp(x: Vector, n: Vector) -> Vector:
    """Compute ``x * 2**n`` with one rounding, subnormal results too.

    Where `power_of_two` is needed anyway, `dropped` of a product with it takes an instruction less. Valid range: 0, or
    ``abs(x) >= 2**-8``, in float64 ``2**-22``; an integer `n` (a float vector) from -244 to 128; in float64, from -2022
    to 1024.
    """
    return dropped(scale(x, _at_least_lowest(n)), n)


def ldexp_or_zero(x: Vector, n: Vector, is_zero: Mask) -> Vector:
    """Do the same, but return 0 where the mask is set. There `n` must be so low that the result is subnormal or zero."""
    y = scale(x, _at_least_lowest(n))
    if any_above(bits(n), _BITS_OF_LOWEST):
        y = select(is_zero, 0, select(n < _LOWEST, _dropped(y, n), y))
    return y


def ldexp_beside_one(x: Vector, n: Vector) -> Vector:
    """Compute ``x * 2**n`` for use in a sum with 1, where all small numbers are the same; see `power_of_two`."""
    return x * power_of_two(n)


def dropped(y: Vector, n: Vector) -> Vector:
    """Return a product with ``power_of_two(n)``, or what is one where n is low, as one with ``2**n``; n as for `ldexp`."""
    if any_above(bits(n), _BITS_OF_LOWEST):
        y = select(n < _LOWEST, _dropped(y, n), y)
    return y


def _dropped(y: Vector, n: Vector) -> Vector:
    """Return a product with ``power_of_two(n)`` as one with ``2**n`` where n is low."""
    return scale_down(y, scale(1, select(n < _LOWEST, n - _LOWEST, 0)))


def product(x: Vector, factor: Vector) -> Vector:
    """Compute ``x * factor``, where the factor may be a derivative in the tail of a function.

    In float32 the time does not depend on whether it, or the product, is subnormal.
    """
    if any_above(-bits(abs(factor)), _MINUS_BITS_OF_SMALL_FACTOR):  # 0 is not above
        y = product_in_double(x, factor)  # float64 has room, and conversions take no assist
    else:
        y = x * factor
    return y


# The rounding error of a smaller quotient might be subnormal.
_LEAST_SHARE = PerDtype(float32=2.0**-60, float64=2.0**-600)


def product_of_number(number: float, factor: Vector) -> Vector:
    """Compute the same product of a number, the same for all lanes."""
    return product(select(factor == factor, number, number), factor)  # LLVM drops the comparison


def share_of(e: Vector, total: float, low: float) -> Vector:
    """Compute ``e / (total + low)``, of a sum that is the same for all lanes: 1 where they are equal.

    It takes less time than a division, and small numbers are rounded twice.
    """
    reciprocal = 1 / total
    quotient = product_of_number(reciprocal, e)
    near = zero_below(e, _LEAST_SHARE)
    minus = -select(near == 0, 0, quotient)
    return fma(fma(minus, low, fma(minus, total, near)), reciprocal, quotient)


def integer_of_subnormal(x: Vector) -> Vector:
    """Return a positive subnormal number times ``2**149``, or ``2**1074``, which is an integer."""
    return from_bits(bits(x) & MANTISSA_MASK | _BITS_OF_ONE_UNIT) - _ONE_UNIT


# --- The same on dual numbers: exact, as bounds without effect on a result may have one on its derivative ---


@derivative_rule(away_from_zero)
def _dual_away_from_zero(x: Vector) -> Vector:
    return x


@derivative_rule(bound)
def _dual_bound(x: Vector, low: Vector, high: Vector) -> Vector:
    return x


@derivative_rule(zero_below)
def _dual_zero_below(x: Vector, threshold: Vector) -> Vector:
    return x


@derivative_rule(at_least_tiny)
def _dual_at_least_tiny(size: Vector) -> Vector:
    return size


@derivative_rule(at_most_minus_tiny)
def _dual_at_most_minus_tiny(x: Vector) -> Vector:
    return select(x > 0, 0, x)


@derivative_rule(ldexp)
@derivative_rule(ldexp_beside_one)
def _dual_ldexp(x: Vector, n: Vector) -> Vector:
    return dual(ldexp(value_of(x), n), ldexp(derivative_of(x), n))


@derivative_rule(dropped)
def _dual_dropped(y: Vector, n: Vector) -> Vector:
    return dual(dropped(value_of(y), n), dropped(derivative_of(y), n))
