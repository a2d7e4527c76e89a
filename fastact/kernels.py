"""From a Python function to the address of machine code, by way of the cache.

Numba is the front end only, and is imported only when something must be compiled: it turns the function
into LLVM's language. llvmlite makes an object file of that, which is what the cache keeps, and loads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm

from fastact import cache as disk
from fastact import simd
from fastact.first_use import first_use
from fastact.machine import require_room
from fastact.target import target_machine

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
    fastact.compiler.NotSelfContainedError
        If the function needs more than the C library.
    """
    with first_use():
        require_room(2**26, "load a kernel")
        entry = None if name is None else disk.read(name)
        if entry is None:
            # Numba imports SciPy when it first compiles, whose OpenBLAS waits for ever where memory fails it.
            require_room(2**29, "compile a kernel")
            from fastact.compiler import compile_function

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
    from fastact.compiler import llvm_module

    _, module = llvm_module(build, _of_a_loop)
    return str(target_machine().emit_assembly(module))


_compilable: set[Any] = set()


def is_compilable(function: Any) -> bool:
    """Whether a function is one of those that kernels consist of."""
    return function in _compilable


def make_compilable(function: Callable[..., Any]) -> None:
    """Let compiled code call a plain Python function, and all the plain functions that it calls."""
    from numba.extending import overload

    import fastact.vecmath.numpy_names  # noqa: F401  what NumPy's names mean in a kernel
    from fastact import numba_extension
    from fastact.simd.differentiation import Dual
    from fastact.simd.lowering import JIT_OPTIONS
    from fastact.vecmath.derivatives import RULES

    if function.__module__ == simd.__name__ or function in _compilable:
        return
    _compilable.add(function)
    numba_extension.init()
    rule = RULES.get(function)

    @overload(function, jit_options=JIT_OPTIONS, strict=False)
    def choose(*args: Any, **kwargs: Any) -> Any:
        return rule if rule and any(isinstance(kind, Dual) for kind in args) else function

    for caller in (function, rule) if rule else (function,):
        for used in used_by(caller):
            if isinstance(used, FunctionType):
                make_compilable(used)


def names_in(code: CodeType) -> list[str]:
    """Return the names of globals and attributes that code refers to, the functions inside it included."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return sorted({*code.co_names, *(name for each in inner for name in names_in(each))})


def used_by(function: Callable[..., Any]) -> list[Any]:
    """Return what a function refers to from outside: globals, closures, and attributes of modules."""
    assert isinstance(function, FunctionType)
    names, globals_ = names_in(function.__code__), function.__globals__
    found = [globals_[name] for name in names if name in globals_]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not yet assigned
            found.append(cell.cell_contents)
    for value in found:  # which grows by what it finds in modules
        if isinstance(value, ModuleType):
            attributes = (getattr(value, name, None) for name in names)
            found += [each for each in attributes if each is not None and not _is_in(each, found)]
    return found


def is_short(function: Callable[..., Any]) -> bool:
    """Whether a definition of the catalogue does without the vector maths, and so has few instructions."""
    if not function.__module__.startswith("fastact.definitions"):
        return False
    used = [each for each in used_by(function) if isinstance(each, FunctionType)]
    return all(each.__module__ == simd.__name__ or is_short(each) for each in used)


def _is_in(value: Any, values: list[Any]) -> bool:
    return any(value is each for each in values)  # `in` would compare arrays
