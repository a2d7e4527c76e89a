"""From a Python function to the address of machine code, by way of the cache.

Numba is the front end only, and is imported only when something must be compiled: it turns the function
into LLVM's language. llvmlite makes an object file of that, which is what the cache keeps, and loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from fastact.runtime import kernel_cache as disk
from fastact.system.first_use import first_use
from fastact.system.machine import require_room
from fastact.system.target import target_machine

LoopFunction = Callable[[Any, Any, Any, Any], None]


def _of_a_loop() -> Any:
    """Return the signature of a ufunc's inner loop."""
    from numba import types

    words = types.CPointer(types.intp)
    return types.void(types.CPointer(types.voidptr), words, words, types.voidptr)


def of_words(arguments: int) -> Any:
    """Return the signature of a function that takes words and returns one."""
    from numba import types

    return types.intp(*[types.intp] * arguments)


def load(
    name: str | None,
    build: Callable[[], Callable[..., Any]],
    signature: Callable[[], Any] = _of_a_loop,
) -> int:
    """Return the address of a kernel, from the cache or newly compiled.

    Parameters
    ----------
    name : str or None
        What the kernel is called: with fastact's own version, it says all there is to know of it. None
        keeps it out of the cache.
    build : callable
        Returns the function to compile. Called only when the cache has no such kernel.
    signature : callable, optional
        Returns its Numba signature. Without it, it is that of a ufunc's inner loop.

    Raises
    ------
    fastact.runtime.compiler.NotSelfContainedError
        If the function needs more than the C library.
    """
    with first_use():
        require_room(2**26, "load a kernel")
        entry = None if name is None else disk.read(name)
        if entry is None:
            # Numba imports SciPy when it first compiles, whose OpenBLAS waits for ever where memory fails it.
            require_room(2**29, "compile a kernel")
            from fastact.runtime.compiler import compile_function

            symbol, code = compile_function(build, signature)
            if name is not None:
                disk.write(name, symbol.encode() + b"\n" + code)
        else:
            first_line, code = entry.split(b"\n", 1)
            symbol = first_line.decode()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(symbol))
        engine.detach()  # loaded code lives for ever: arrays may need it while Python shuts down
        return address


def assembly(build: Callable[[], LoopFunction]) -> str:
    """Return the assembly code of a kernel, to look at."""
    from fastact.runtime.compiler import llvm_module

    _, module = llvm_module(build, _of_a_loop)
    return str(target_machine().emit_assembly(module))
