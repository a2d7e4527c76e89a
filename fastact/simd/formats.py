"""Constants of the formats binary32 and binary64 (IEEE 754)."""

from __future__ import annotations

from fastact.simd import PerDtype

LARGEST = PerDtype(float32=3.4028234663852886e38, float64=1.7976931348623157e308)
SMALLEST_NORMAL = PerDtype(float32=2.0**-126, float64=2.0**-1022)

MANTISSA_BITS = PerDtype(float32=23, float64=52)
MANTISSA_MASK = PerDtype(float32=(1 << 23) - 1, float64=(1 << 52) - 1)
EXPONENT_MASK = PerDtype(float32=-(1 << 23), float64=-(1 << 52))  # and the sign's bit
SIGN_MASK = PerDtype(float32=-(1 << 31), float64=-(1 << 63))

BITS_OF_ONE = PerDtype(float32=0x3F800000, float64=0x3FF0000000000000)
BITS_OF_FOUR = PerDtype(float32=0x40800000, float64=0x4010000000000000)

# Numbers of this size have no fraction bits: adding it rounds to an integer, which the low bits of the sum hold.
ROUNDING_SHIFT = PerDtype(float32=1.5 * 2.0**23, float64=1.5 * 2.0**52)
BITS_OF_ROUNDING_SHIFT = PerDtype(float32=0x4B400000, float64=0x4338000000000000)
# The same with the exponent's bias added: shifted up, the low bits of the sum are the power of two.
SHIFT_TO_POWER = PerDtype(float32=1.5 * 2.0**23 + 127, float64=1.5 * 2.0**52 + 1023)
