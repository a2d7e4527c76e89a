"""Compile a Python function to an object file that depends only on the C library.

Numba is only the front end. Kernels are compiled with its default settings, whatever ``NUMBA_``
variables, a ``.numba_config.yaml`` or ``numba.config`` say: those are for the user's own functions,
and any that changed a kernel's code would have to be part of the cache key. The variables that
select the CPU are part of it, see `fastact.system.target`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fastact.runtime import constant_arrays  # noqa: F401  registers a rewrite with Numba
from fastact.simd.front_end import FrontEnd
from fastact.simd.staged.compilation import SYMBOL, module_of
from fastact.simd.staged.values import UnsupportedError
from fastact.system.target import CPU_VARIABLES, target_machine

_MATH = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 exp2 expm1 fabs floor fma fmax "
    "fmin fmod frexp hypot ldexp lgamma log log10 log1p log2 nearbyint nextafter pow remainder rint round roundeven sin sincos "
    "sinh sqrt tan tanh tgamma trunc"
)
# Available in every process: the functions that LLVM itself emits calls to, and libm in float64 and
# float32.
C_LIBRARY = frozenset(
    {
        "memcmp",
        "memcpy",
        "memmove",
        "memset",
        *_MATH.split(),
        *(f"{name}f" for name in _MATH.split()),
    }
)


class NotSelfContainedError(Exception):
    """A function that needs more than a kernel may: Numba's runtime, or Python to raise an exception.

    Attributes
    ----------
    symbols : set of str
        The unresolved symbols of the machine code.
    """

    def __init__(self, symbols: set[str]) -> None:
        super().__init__(f"it needs {', '.join(sorted(symbols))}, which kernels do without")
        self.symbols = symbols


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Make Numba compile with its default settings."""
    with global_compiler_lock:
        # Up front: the reloads that compilation triggers then leave the settings below alone, as
        # the environment is unchanged.
        config.reload_config()
        before = {name: value for name, value in vars(config).items() if name.isupper()}
        code_generator = cpu_target.target_context.codegen()
        levels = code_generator._loopvect, code_generator._opt_level
        cpu = {name: os.environ[name] for name in CPU_VARIABLES if name in os.environ}
        try:
            config._env_reloader.process_environ(
                cpu | {"NUMBA_NUM_THREADS": str(config.NUMBA_NUM_THREADS)}
            )
            code_generator._loopvect, code_generator._opt_level = False, 0
            yield
        finally:
            vars(config).update(before)
            code_generator._loopvect, code_generator._opt_level = levels


def compile_function(build: Callable[[], Callable[..., Any]], signature: Any) -> tuple[str, bytes]:
    """Return the symbol of a compiled function, and the object file that defines it.

    Parameters
    ----------
    build : callable
        Returns the function.
    signature : callable
        Returns its Numba signature.

    Raises
    ------
    NotSelfContainedError
        If the code needs more than the C library.
    """
    entry, module = llvm_module(build, signature)
    code = bytes(target_machine().emit_object(module))
    needed = undefined_symbols(code) - C_LIBRARY
    if needed:
        raise NotSelfContainedError(needed)
    return entry, code


def llvm_module(build: Callable[[], Callable[..., Any]], signature: Any) -> tuple[str, Any]:
    """Return the symbol of a compiled function, and the LLVM module that defines it."""
    with _no_garbage_collection():
        function = build()
        try:
            module = llvm.parse_assembly(module_of(function, signature()))
        except UnsupportedError:
            return _by_numba(function, signature())
    _optimize(module)
    return SYMBOL, module


def _optimize(module: Any) -> None:
    """Run LLVM's passes over a module."""
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    tuning.loop_interleaving = tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(target_machine(), tuning)
    builder.getModulePassManager().run(module, builder)


def _by_numba(function: Callable[..., Any], signature: Any) -> tuple[str, Any]:
    with default_settings():
        compiled = cfunc(signature, pipeline_class=FrontEnd, error_model="numpy")(function)
    module = llvm.parse_assembly(compiled.inspect_llvm())
    _drop_error_handling(module, compiled.native_name)
    return compiled.native_name, module


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector: Numba makes millions of objects, and it would take a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _drop_error_handling(module: Any, entry: str) -> None:
    """Remove the code for exceptions, which no kernel raises.

    Numba's C wrapper checks the status of the function proper and reports errors through Numba's
    own functions, which do not exist in a process without Numba. With internal linkage LLVM can
    prove that the status is always "ok".
    """
    for function in module.functions:
        if not function.is_declaration and function.name != entry:
            function.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_ipsccp_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    tuning = llvm.create_pipeline_tuning_options()
    passes.run(module, llvm.create_pass_builder(target_machine(), tuning))


# An ELF symbol: offset of its name, type, visibility, section, address, size.
_SYMBOL = struct.Struct("<IBBHQQ")
_LINKER_DEFINED = "_GLOBAL_OFFSET_TABLE_"


def undefined_symbols(code: bytes) -> set[str]:
    """Return the undefined symbols of an object file.

    https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.symtab.html
    """
    file = llvm.object_file.ObjectFileRef.from_data(code)
    sections = {section.name(): section.data() for section in file.sections()}
    names = sections[b".strtab"]
    found = set()
    for name, _, _, section, _, _ in _SYMBOL.iter_unpack(sections[b".symtab"]):
        if name and not section:
            found.add(names[name : names.index(b"\0", name)].decode())
    return found - {_LINKER_DEFINED}
