"""The CPU that kernels are compiled for.

Numba's own variables ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` choose another CPU than the host's,
for tests of the narrower instruction sets and for caches that several machines share.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from fastact.system.machine import require_room

if "llvmlite.binding" not in sys.modules:
    require_room(2**28, "load LLVM")

import llvmlite.binding as llvm

#: Numba's variables that choose the CPU.
VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX")


@dataclass(frozen=True)
class Target:
    """An instruction set, as LLVM names it.

    Attributes
    ----------
    cpu : str
        LLVM's name of the processor.
    features : str
        LLVM's feature string, such as ``"+avx2,+fma,-avx512f"``.
    """

    cpu: str
    features: str

    @cached_property
    def _enabled(self) -> frozenset[str]:
        return frozenset(
            feature[1:] for feature in self.features.split(",") if feature.startswith("+")
        )

    @property
    def is_x86(self) -> bool:
        """Whether this is a 32- or 64-bit x86."""
        return str(llvm.get_default_triple()).startswith(("x86_64", "i686"))

    @property
    def has_avx512(self) -> bool:
        """Whether 512-bit vectors with masks are there."""
        return "avx512f" in self._enabled

    def moves_masked(self, itemsize: int) -> bool:
        """Whether there are instructions that load and store some numbers of this size of a register."""
        if itemsize >= 4:
            return "avx" in self._enabled
        return "avx512bw" in self._enabled

    @property
    def converts_float16(self) -> bool:
        """Whether there are instructions to and from float16."""
        return not self.is_x86 or "f16c" in self._enabled

    @property
    def vector_bytes(self) -> int:
        """Width of one vector register: AVX-512, AVX, else SSE or NEON."""
        if self.has_avx512:
            return 64
        return 32 if "avx" in self._enabled else 16

    @property
    def vector_registers(self) -> int:
        """How many vector registers there are."""
        return 16 if self.is_x86 and not self.has_avx512 else 32


def _host() -> Target:
    name, features, avx = map(os.environ.get, VARIABLES)
    if features is None:
        host = llvm.get_host_cpu_features()
        if avx == "0":  # Numba's front end then knows none of them
            host.update({name: False for name in host if name.startswith("avx")})
        features = host.flatten()
    return Target(name or llvm.get_host_cpu_name(), features)


TARGET = _host()


def target_machine() -> Any:
    """Return LLVM's code generator for this CPU, a new one: an engine owns the one that it is given."""
    _initialize_llvm()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=TARGET.cpu,
        features=TARGET.features,
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _initialize_llvm() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
