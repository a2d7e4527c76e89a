"""float16 from and to float32 in integer arithmetic, for an x86 without the conversions (F16C, before 2012).

The same bits as the instructions give, those of NaNs too. Otherwise LLVM would call functions of a compiler's library,
one element at a time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir

from fastact.simd.lowering import Vector, constant

# Between the formats: the mantissas differ by 13 bits, the exponents' biases by 112.
_SHIFT, _REBIASED = 13, 112 << 23
_SIGN, _INFINITY, _QUIET = 0x8000, 0x7C00, 0x200
_WIDE_INFINITY = 0x7F80_0000
_OVERFLOW = (127 + 16) << 23  # 2**16; what rounds up to it carries into the exponent of infinity
_LEAST_NORMAL = (127 - 14) << 23
# The last place of 0.5 in float32 is the smallest subnormal number of float16.
_ONE_HALF = (127 - 1) << 23


def emit_half_to_float(builder: Any, half: Any, vector: Vector) -> Any:
    """Widen the bits of float16 numbers."""
    words = ir.VectorType(ir.IntType(32), vector.lanes)
    number, as_float = partial(constant, words), partial(builder.bitcast, typ=vector.llvm)
    word = builder.zext(half, words)
    sign = builder.shl(builder.and_(word, number(_SIGN)), number(16))
    shifted = builder.shl(builder.and_(word, number(_SIGN - 1)), number(_SHIFT))
    rebiased = builder.add(shifted, number(_REBIASED))
    # Of a subnormal number, the first bit of the mantissa is not implied: taken for implied, it is taken away again.
    least = number(_LEAST_NORMAL)
    excess = builder.fsub(as_float(builder.add(shifted, least)), as_float(least))
    is_subnormal = builder.icmp_unsigned("<", shifted, number(1 << 23))
    finite = builder.select(is_subnormal, builder.bitcast(excess, words), rebiased)
    infinity = number(_INFINITY << _SHIFT)
    is_finite = builder.icmp_unsigned("<", shifted, infinity)
    is_nan = builder.icmp_unsigned(">", shifted, infinity)
    quiet = builder.select(
        is_nan, number(_WIDE_INFINITY | _QUIET << _SHIFT), number(_WIDE_INFINITY)
    )
    magnitude = builder.select(is_finite, finite, builder.or_(shifted, quiet))
    return as_float(builder.or_(magnitude, sign))


def emit_float_to_half(builder: Any, value: Any, vector: Vector) -> Any:
    """Return the bits of float16 numbers: rounds to nearest, ties to even."""
    words = ir.VectorType(ir.IntType(32), vector.lanes)
    number, as_float = partial(constant, words), partial(builder.bitcast, typ=vector.llvm)
    word = builder.bitcast(value, words)
    magnitude = builder.and_(word, number(0x7FFF_FFFF))
    mantissa = builder.lshr(magnitude, number(_SHIFT))
    is_odd = builder.and_(mantissa, number(1))
    rounding = builder.add(is_odd, number((1 << _SHIFT - 1) - 1 - _REBIASED & 0xFFFF_FFFF))
    normal = builder.lshr(builder.add(magnitude, rounding), number(_SHIFT))
    # A sum with 0.5 rounds to a whole number of subnormal units, and its bits count them.
    total = builder.fadd(as_float(magnitude), as_float(number(_ONE_HALF)))
    subnormal = builder.sub(builder.bitcast(total, words), number(_ONE_HALF))
    is_normal = builder.icmp_unsigned(">=", magnitude, number(_LEAST_NORMAL))
    finite = builder.select(is_normal, normal, subnormal)
    payload = builder.or_(builder.and_(mantissa, number(2 * _QUIET - 1)), number(_QUIET))
    is_nan = builder.icmp_unsigned(">", magnitude, number(_WIDE_INFINITY))
    beyond = builder.or_(builder.select(is_nan, payload, number(0)), number(_INFINITY))
    is_finite = builder.icmp_unsigned("<", magnitude, number(_OVERFLOW))
    sign = builder.and_(builder.lshr(word, number(16)), number(_SIGN))
    bits = builder.or_(builder.select(is_finite, finite, beyond), sign)
    return builder.trunc(bits, ir.VectorType(ir.IntType(16), vector.lanes))
