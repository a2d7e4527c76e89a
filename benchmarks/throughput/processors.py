"""The processors that kernels are compiled for, whatever this machine is, and their assembly code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

_X86 = "x86_64-unknown-linux-gnu"
_AARCH64 = "aarch64-unknown-linux-gnu"
_AVX2 = "+avx,+avx2,+fma,+f16c"
_AVX512 = f"{_AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"


@dataclass(frozen=True)
class Processor:
    """A processor as LLVM knows it.

    Attributes
    ----------
    cpu, triple : str
        LLVM's names.
    features : str
        Those of its vectors, in LLVM's notation: kernels are built for them.
    """

    cpu: str
    features: str = _AVX512
    triple: str = _X86

    @property
    def vector_bytes(self) -> int:
        """The width of a register."""
        if "avx512f" in self.features:
            return 64
        return 32 if "avx2" in self.features else 16


#: By the names that people give them.
PROCESSORS = {
    "Haswell": Processor("haswell", _AVX2),
    "Skylake-SP": Processor("skylake-avx512"),
    "Sapphire Rapids": Processor("sapphirerapids"),
    "Zen 3": Processor("znver3", _AVX2),
    "Zen 4": Processor("znver4"),
    "Zen 5": Processor("znver5"),
    "Neoverse V1": Processor("neoverse-v1", "+neon", _AARCH64),
    "Neoverse V2": Processor("neoverse-v2", "+neon", _AARCH64),
    "Apple M1": Processor("apple-m1", "+neon", _AARCH64),
}


def function_names() -> list[str]:
    """Return the names of all pointwise functions, and of those of `fastact.math`."""
    from fastact import vecmath
    from fastact.catalogue import catalogue

    pointwise = [
        name
        for name, definition in catalogue("activation").items()
        if definition.family == "activations"
    ]
    return [*pointwise, *(f"math.{each.__name__}" for each in vecmath.FUNCTIONS)]


def assemblies(processors: Sequence[Processor], name: str) -> tuple[str, ...]:
    """Return the assembly code of a function for processors that have the same vectors, in a process that does nothing else.

    It is that of float32: of value and gradient together, or of the value of an elementary function.
    """
    # Before the modules that build kernels are imported, which ask for the size of vectors.
    _select(processors[0])
    from fastact.runtime.loading import loop_module

    module = loop_module(_build_of(name))
    return tuple(_assembly(module, each) for each in processors)


def _select(processor: Processor) -> None:
    """Make a processor the one that code is generated for."""
    from fastact.system import target

    target.llvm.initialize_all_targets()
    target.llvm.initialize_all_asmprinters()
    target.TARGET = target.Target(processor.cpu, processor.features, processor.triple)


def _assembly(module: Any, processor: Processor) -> str:
    from fastact.system import target

    _select(processor)
    machine = target.target_machine()
    copy = target.llvm.parse_assembly(str(module))  # generating code changes a module
    copy.triple, copy.data_layout = processor.triple, str(machine.target_data)
    return str(machine.emit_assembly(copy))


def _build_of(name: str) -> Callable[[], Any]:
    """Return the callable that builds the loop of a function."""
    from fastact import vecmath
    from fastact.catalogue import catalogue
    from fastact.functions.pointwise import kernel
    from fastact.kernels.build import build
    from fastact.kernels.kernel import Elementwise, Kernel

    if not name.startswith("math."):
        return partial(build, kernel(catalogue()[name], "forward_backward"), "float32")
    function = {each.__name__: each for each in vecmath.FUNCTIONS}[name.removeprefix("math.")]
    schedule = Elementwise(lambda: lambda x: (function(x),))
    return partial(build, Kernel.of("x -> y", schedule), "float32")
