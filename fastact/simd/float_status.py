"""The floating-point environment of a thread, in one word: flags that have been raised, and the mode of rounding.

MXCSR on x86; on ARM, FPCR with the mode and FPSR with the flags. Elsewhere it is left alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastact.simd.lowering import call_llvm
from fastact.system.target import TARGET

_WORD = ir.IntType(64)
_HALF_WORD = ir.IntType(32)
_MODE_AND_FLAGS = ("fpcr", "fpsr")  # each has 32 bits in use

#: No flags, exceptions masked, to nearest, subnormal numbers kept.
DEFAULT_FLOAT_STATUS = 0x1F80 if TARGET.is_x86 else 0


def emit_read_float_status(builder: Any) -> Any:
    """Read the status."""
    if TARGET.is_x86:
        slot = cgutils.alloca_once(builder, _HALF_WORD)
        call_llvm(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [_byte_pointer(builder, slot)])
        return builder.zext(builder.load(slot), _WORD)
    status = ir.Constant(_WORD, 0)
    if TARGET.is_arm:
        for register in _MODE_AND_FLAGS:
            value = call_llvm(builder, f"llvm.aarch64.get.{register}", _WORD, [])
            status = builder.or_(builder.shl(status, ir.Constant(_WORD, 32)), value)
    return status


def emit_write_float_status(builder: Any, status: Any) -> None:
    """Write a status that was read, or the default."""
    if TARGET.is_x86:
        slot = cgutils.alloca_once_value(builder, builder.trunc(status, _HALF_WORD))
        pointer = _byte_pointer(builder, slot)
        call_llvm(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [pointer])
    elif TARGET.is_arm:
        flags = builder.and_(status, ir.Constant(_WORD, 2**32 - 1))
        values = builder.lshr(status, ir.Constant(_WORD, 32)), flags
        for register, value in zip(_MODE_AND_FLAGS, values, strict=True):
            call_llvm(builder, f"llvm.aarch64.set.{register}", ir.VoidType(), [value])


def _byte_pointer(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, ir.IntType(8).as_pointer())
