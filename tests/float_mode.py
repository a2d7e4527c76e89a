"""The floating-point mode in which subnormal numbers are taken for zero, as other libraries set it for a thread."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from fastact.system.target import TARGET, llvm, target_machine

# Of MXCSR: flush to zero, denormals are zero, all exceptions masked. Of FPCR: flush to zero.
_X86 = """
declare void @llvm.x86.sse.ldmxcsr(ptr)
define void @set(i64 %is_on) {
  %is_flushing = icmp ne i64 %is_on, 0
  %mode = select i1 %is_flushing, i32 40896, i32 8064
  %slot = alloca i32
  store i32 %mode, ptr %slot
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void
}
"""
_ARM = """
declare void @llvm.aarch64.set.fpcr(i64)
define void @set(i64 %is_on) {
  %is_flushing = icmp ne i64 %is_on, 0
  %mode = select i1 %is_flushing, i64 16777216, i64 0
  call void @llvm.aarch64.set.fpcr(i64 %mode)
  ret void
}
"""


@cache
def _setter() -> Any:
    code = _X86 if TARGET.is_x86 else _ARM
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(code), target_machine())
    engine.finalize_object()
    return engine, ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address("set"))


def set_flush_denormal(is_on: bool) -> None:
    """Set this thread's mode, as the function of PyTorch's of this name does."""
    _setter()[1](is_on)
