"""From a Python function to an object file that needs nothing but the C library. Numba is the front end only.

Kernels are compiled with Numba's default settings, whatever ``NUMBA_`` variables, a ``.numba_config.yaml`` or
``numba.config`` say. Those are for the user's own functions; one that changed a kernel's code would have to be in the
key of the cache. The variables that choose the CPU are in it, see `fastact.system.target`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fastact.runtime import constant_arrays  # noqa: F401  what arrays of constants are in a kernel
from fastact.system.target import VARIABLES, target_machine

_MATHS = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 exp2 expm1 fabs floor fma fmax "
    "fmin fmod frexp hypot ldexp lgamma log log10 log1p log2 nearbyint nextafter pow remainder rint round roundeven sin sincos "
    "sinh sqrt tan tanh tgamma trunc"
)
# The C library, which every process has: what LLVM calls of its own accord, and mathematics in float64 and float32.
C_LIBRARY = frozenset(
    {
        "memcmp",
        "memcpy",
        "memmove",
        "memset",
        *_MATHS.split(),
        *(f"{name}f" for name in _MATHS.split()),
    }
)


class NotSelfContainedError(Exception):
    """A function that needs more than kernels have: Numba's run time, or Python to raise an error in.

    Attributes
    ----------
    symbols : set of str
        The names that the machine code refers to.
    """

    def __init__(self, symbols: set[str]) -> None:
        super().__init__(f"it needs {', '.join(sorted(symbols))}, which kernels do without")
        self.symbols = symbols


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Let Numba compile as it does by default."""
    with global_compiler_lock:
        config.reload_config()  # now: it keeps what has been set since, as long as the environment stays
        before = {name: value for name, value in vars(config).items() if name.isupper()}
        code_generator = cpu_target.target_context.codegen()
        levels = code_generator._loopvect, code_generator._opt_level
        kept = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        try:
            config._env_reloader.process_environ(
                kept | {"NUMBA_NUM_THREADS": str(config.NUMBA_NUM_THREADS)}
            )
            code_generator._loopvect, code_generator._opt_level = False, 0
            yield
        finally:
            vars(config).update(before)
            code_generator._loopvect, code_generator._opt_level = levels


def compile_function(build: Callable[[], Callable[..., Any]], signature: Any) -> tuple[str, bytes]:
    """Return the name of a function's entry, and the object file that defines it.

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
    """Return the name of a function's entry, and the module that defines it."""
    with default_settings():
        compiled = cfunc(signature(), error_model="numpy")(build())
    module = llvm.parse_assembly(compiled.inspect_llvm())
    _drop_error_handling(module, compiled.native_name)
    return compiled.native_name, module


def _drop_error_handling(module: Any, entry: str) -> None:
    """Remove the code for an exception that no kernel raises.

    Numba's entry function asks whether the function proper has raised one, and would report it through
    functions of Numba's own, which are not there where Numba is not loaded. That the answer is always
    no shows once the function is known to be called from here only.
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


# An entry of ELF: the place of its name, kind, visibility, section, address, size.
_SYMBOL = struct.Struct("<IBBHQQ")
_MADE_BY_THE_LINKER = "_GLOBAL_OFFSET_TABLE_"


def undefined_symbols(code: bytes) -> set[str]:
    """Return the names that an object file refers to and does not define.

    https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.symtab.html
    """
    file = llvm.object_file.ObjectFileRef.from_data(code)
    sections = {section.name(): section.data() for section in file.sections()}
    names = sections[b".strtab"]
    found = set()
    for name, _, _, section, _, _ in _SYMBOL.iter_unpack(sections[b".symtab"]):
        if name and not section:
            found.add(names[name : names.index(b"\0", name)].decode())
    return found - {_MADE_BY_THE_LINKER}
