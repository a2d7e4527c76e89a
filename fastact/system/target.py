"""The CPU that kernels are compiled for.

Numba's variables ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` select a CPU other than the host's,
to test narrower instruction sets and to share one cache between machines. A name alone means that
CPU's own features; to Numba, it means the host's.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from fastact.system.machine import require_address_space

if "llvmlite.binding" not in sys.modules:
    require_address_space(2**28, "load LLVM")

import llvmlite.binding as llvm

# LLVM is imported from here, behind the check that there is room for it.
__all__ = ["CPU_VARIABLES", "TARGET", "Target", "host", "llvm", "target_machine"]

#: Numba's environment variables that select the CPU.
CPU_VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX")
_OF_VECTORS = re.compile(r"sse4|avx|fma$|f16c|neon|fullfp16|sve")


@dataclass(frozen=True)
class Target:
    """A CPU and its features, as LLVM names them.

    Attributes
    ----------
    cpu : str
        LLVM's name for the CPU.
    features : str
        LLVM's feature string, such as ``"+avx2,+fma,-avx512f"``.
    triple : str
        LLVM's name for architecture, vendor and system; this machine's by default.
    """

    cpu: str
    features: str
    triple: str = field(default_factory=llvm.get_default_triple)

    @cached_property
    def _enabled(self) -> frozenset[str]:
        return frozenset(
            feature[1:] for feature in self.features.split(",") if feature.startswith("+")
        )

    @property
    def is_x86(self) -> bool:
        """Whether this is a 32- or 64-bit x86."""
        return self.triple.startswith(("x86_64", "i686"))

    @property
    def is_arm(self) -> bool:
        """Whether this is a 64-bit ARM."""
        return self.triple.startswith(("aarch64", "arm64"))

    @property
    def has_avx512(self) -> bool:
        """Whether the CPU has 512-bit vectors and masks (AVX-512F)."""
        return "avx512f" in self._enabled

    def has_masked_moves(self, itemsize: int) -> bool:
        """Whether the CPU has masked loads and stores for elements of this size."""
        if itemsize >= 4:
            return "avx" in self._enabled
        return "avx512bw" in self._enabled

    @property
    def converts_float16(self) -> bool:
        """Whether the CPU has conversions from and to float16."""
        return not self.is_x86 or "f16c" in self._enabled

    @property
    def has_fma(self) -> bool:
        """Whether the CPU has fused multiply-add; otherwise kernels do it in plain arithmetic."""
        return not self.is_x86 or "fma" in self._enabled

    @property
    def vector_bytes(self) -> int:
        """The width of a vector register: AVX-512, AVX, else SSE or NEON."""
        if self.has_avx512:
            return 64
        return 32 if "avx" in self._enabled else 16

    @property
    def instruction_sets(self) -> list[str]:
        """The instruction sets for vectors, as LLVM names them."""
        return sorted(each for each in self._enabled if _OF_VECTORS.match(each))

    @property
    def vector_registers(self) -> int:
        """The number of vector registers."""
        return 16 if self.is_x86 and not self.has_avx512 else 32


def host() -> Target:
    """Return the CPU of this machine, whatever the environment selects."""
    return Target(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


def _selected() -> Target:
    name, features, avx = map(os.environ.get, CPU_VARIABLES)
    if features is None and name:
        features = _features_of(name)
    elif features is None:
        host = llvm.get_host_cpu_features()
        if avx == "0":  # Numba's front end then turns all of these off
            host.update({name: False for name in host if name.startswith("avx")})
        features = host.flatten()
    return Target(name or llvm.get_host_cpu_name(), features)


# LLVM does not tell what a CPU has, but uses it: instructions that show the features that kernels ask about.
_PROBE = """
define void @probe(ptr %p, <16 x float> %x, <16 x half> %h, <64 x i8> %b, <64 x i1> %m) #0 {
  %y = fpext <16 x half> %h to <16 x float>
  %z = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> %x, <16 x float> %y)
  store <16 x float> %z, ptr %p
  call void @llvm.masked.store.v64i8.p0(<64 x i8> %b, ptr %p, i32 1, <64 x i1> %m)
  ret void
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
declare void @llvm.masked.store.v64i8.p0(<64 x i8>, ptr, i32, <64 x i1>)
attributes #0 = { "prefer-vector-width"="512" }
"""
_SHOWN_BY = {
    "avx": r"%[yz]mm",
    "avx512bw": r"vmovdqu8.*\{%k",
    "avx512f": r"%zmm",
    "f16c": r"vcvtph2ps",
    "fma": r"vfn?m(add|sub)",
}


def _features_of(cpu: str) -> str:
    """Return the features of a CPU that kernels ask about."""
    module = llvm.parse_assembly(_PROBE)
    code = str(target_machine(Target(cpu, "")).emit_assembly(module))
    return ",".join(f"+{name}" for name, shown in _SHOWN_BY.items() if re.search(shown, code))


def target_machine(target: Target | None = None) -> Any:
    """Return a new code generator for a CPU, that of kernels by default; an execution engine takes ownership of it."""
    _initialize_llvm()
    target = target or TARGET
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _initialize_llvm() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


TARGET = _selected()
