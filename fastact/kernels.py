"""From a Python function to the address of machine code, by way of the cache.

Numba is the front end only, and is imported only when something must be compiled: it turns the function
into LLVM's language. llvmlite makes an object file of that, which is what the cache keeps, and loads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm

from fastact import cache as disk
from fastact import simd
from fastact.first_use import first_use
from fastact.machine import require_room
from fastact.target import TARGET

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
    """
    with first_use():
        require_room(2**26, "load a kernel")
        entry = None if name is None else disk.read(name)
        if entry is None:
            # Numba imports SciPy when it first compiles, whose OpenBLAS waits for ever where memory fails it.
            require_room(2**29, "compile a kernel")
            entry = _compile(build(), signature())
            if name is not None:
                disk.write(name, entry)
        symbol, code = entry.split(b"\n", 1)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(symbol.decode()))
        engine.detach()  # loaded code lives for ever: arrays may need it while Python shuts down
        return address


def assembly(build: Callable[[], LoopFunction]) -> str:
    """Return the assembly code of a kernel, to look at."""
    _, module = _llvm_module(build(), _of_a_loop())
    return str(_target_machine().emit_assembly(module))


def _compile(function: Callable[..., Any], signature: Any) -> bytes:
    """Return a symbol's name, a newline and the object file that defines it."""
    symbol, module = _llvm_module(function, signature)
    return symbol.encode() + b"\n" + bytes(_target_machine().emit_object(module))


def _llvm_module(function: Callable[..., Any], signature: Any) -> tuple[str, Any]:
    """Return the name of a function's entry, and the module that defines it and calls nothing else."""
    from numba import cfunc

    compiled = cfunc(signature, error_model="numpy")(function)
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
    passes.run(module, llvm.create_pass_builder(_target_machine(), tuning))


def _target_machine() -> Any:
    """Return a new one: an engine owns the one it is given."""
    _initialize_llvm()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
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


_compilable: set[Any] = set()


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


def used_by(function: Callable[..., Any]) -> list[Any]:
    """Return what a function refers to from outside: globals, closures, and attributes of modules."""
    assert isinstance(function, FunctionType)
    names = inspect.getclosurevars(function)
    found = [*names.globals.values(), *names.nonlocals.values()]
    for value in found:  # which grows by what it finds in modules
        if isinstance(value, ModuleType):
            attributes = (getattr(value, name, None) for name in function.__code__.co_names)
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
