"""The CPU that kernels are compiled for.

Numba's variables ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` select a CPU other than the host's,
to test narrower instruction sets and to share one cache between machines.
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
    if features is None:
        host = llvm.get_host_cpu_features()
        if avx == "0":  # Numba's front end then turns all of these off
            host.update({name: False for name in host if name.startswith("avx")})
        features = host.flatten()
    return Target(name or llvm.get_host_cpu_name(), features)


TARGET = _selected()


def target_machine() -> Any:
    """Return a new code generator for this CPU; an execution engine takes ownership of it."""
    _initialize_llvm()
    return llvm.Target.from_triple(TARGET.triple).create_target_machine(
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
