"""From a Python function to the address of its machine code, through the kernel cache.

Numba is only the front end, which lowers the function to LLVM IR, and is imported only when
something must be compiled. llvmlite turns the IR into an object file, which is what the cache
stores, and loads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastact.runtime import kernel_cache
from fastact.system import hooks
from fastact.system.first_use import first_use
from fastact.system.machine import require_address_space
from fastact.system.target import llvm, target_machine

_NOTICEABLE_SECONDS = 1.0
LoopFunction = Callable[[Any, Any, Any, Any], None]


def _loop_signature() -> Any:
    """Return the Numba signature of a ufunc's inner loop."""
    from numba import types

    words = types.CPointer(types.intp)
    return types.void(types.CPointer(types.voidptr), words, words, types.voidptr)


def word_signature(arguments: int) -> Any:
    """Return the Numba signature of a function that takes this many words and returns one."""
    from numba import types

    return types.intp(*[types.intp] * arguments)


def load(
    name: str | None,
    build: Callable[[], Callable[..., Any]],
    signature: Callable[[], Any] = _loop_signature,
) -> int:
    """Return the address of a kernel, loaded from the cache or compiled.

    Parameters
    ----------
    name : str or None
        The kernel's name, which together with fastact's sources must identify it. None bypasses the
        cache.
    build : callable
        Returns the function to compile. Called only on a cache miss.
    signature : callable, optional
        Returns the Numba signature; by default that of a ufunc's inner loop.

    Raises
    ------
    fastact.runtime.compiler.NotSelfContainedError
        If the function needs more than the C library.
    """

    def compile_it() -> tuple[str, bytes]:
        # On its first compilation Numba imports SciPy, whose OpenBLAS hangs when it runs out of
        # memory.
        require_address_space(2**29, "compile a kernel")
        from fastact.runtime.compiler import compile_function

        return compile_function(build, signature)

    return _load(name, compile_it)


def load_ir(name: str | None, build: Callable[[], tuple[str, str]]) -> int:
    """Return the address of a function that is written for LLVM, loaded from the cache or compiled without Numba.

    Parameters
    ----------
    name : str
        As for `load`.
    build : callable
        Returns the function's symbol, and the code of a module in LLVM's language. Called only on a cache miss.
    """

    def compile_it() -> tuple[str, bytes]:
        symbol, code = build()
        return symbol, bytes(target_machine().emit_object(llvm.parse_assembly(code)))

    return _load(name, compile_it)


def _load(name: str | None, compile_it: Callable[[], tuple[str, bytes]]) -> int:
    """Return the address of a function, given how to get its symbol and machine code unless they are in the cache."""
    with first_use():
        require_address_space(2**26, "load a kernel")
        entry = None if name is None else kernel_cache.read(name)
        if entry is None:
            hooks.compiling(name)
            started = time.perf_counter()
            symbol, code = compile_it()
            _tell(name, time.perf_counter() - started)
            if name is not None:
                kernel_cache.write(name, symbol.encode() + b"\n" + code)
        else:
            first_line, code = entry.split(b"\n", 1)
            symbol = first_line.decode()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(symbol))
        engine.detach()  # never unloaded: arrays may need the code during interpreter shutdown
        return address


def _tell(name: str | None, seconds: float) -> None:
    """Log a compilation that a person would notice."""
    if seconds > _NOTICEABLE_SECONDS:
        import logging

        text = "compiled %s in %.1f s; later processes take it from the cache"
        logging.getLogger("fastact").info(text, name or "a kernel", seconds)


def assembly(build: Callable[[], LoopFunction]) -> str:
    """Return the assembly code of a kernel, for inspection."""
    return str(target_machine().emit_assembly(loop_module(build)))


def loop_module(build: Callable[[], LoopFunction]) -> Any:
    """Return the LLVM module of a kernel, not yet optimized for a CPU."""
    from fastact.runtime.compiler import llvm_module

    return llvm_module(build, _loop_signature)[1]
