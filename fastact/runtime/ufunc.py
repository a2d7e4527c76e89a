"""Real NumPy ufuncs around compiled kernels, through NumPy's public C API.

Each kernel is compiled when its loop first runs: only the types in use are.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.runtime import loading, threads
from fastact.system import numpy_api
from fastact.system.first_use import first_use
from fastact.system.memory_layout import LOOP_DATA, SETTINGS, allocate_words, keep_alive


@dataclass(frozen=True)
class Loop:
    """One loop of a ufunc: a combination of types and its kernel.

    Attributes
    ----------
    dtypes : sequence of dtype
        One for each operand, inputs first.
    name : str or None
        The kernel's name, unique in fastact; None if it must not be cached.
    build : callable
        Returns the function to compile.
    explain : callable, optional
        Turns a compiler error into a message for the user.
    """

    dtypes: Sequence[Any]
    name: str | None
    build: Callable[[], loading.LoopFunction]
    explain: Callable[[BaseException], str] = lambda error: f"{type(error).__name__}: {error}"


#: The loops of each ufunc, for compiling them ahead of time.
LOOPS: dict[np.ufunc, Sequence[Loop]] = {}
# The addresses of their ``data``, by the dtypes of their operands.
_LOOP_DATA: dict[np.ufunc, dict[tuple[np.dtype[Any], ...], int]] = {}


def make_ufunc(
    module: str,
    name: str,
    doc: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    loops: Sequence[Loop],
    core_signature: str | None = None,
) -> np.ufunc:
    """Return a new ufunc.

    Parameters
    ----------
    module, name : str
        The location that pickle stores.
    doc : str
        The docstring.
    inputs, outputs : sequence of str
        The operands' names, shown in the signature.
    loops : sequence of Loop
        Narrowest type first: NumPy picks the first one that the inputs can safely be cast to.
    core_signature : str, optional
        The signature of a generalized ufunc, such as ``"(p)->()"``.
    """
    core_dimensions = len(set(_core_names(core_signature))) if core_signature else 0
    operands = len(inputs) + len(outputs)
    inner_loop = threads.inner_loop_address()
    all_loops, loops = loops, [loop for loop in loops if not _has_user_type(loop)]
    data = [_loop_data(loop, len(inputs), operands, core_dimensions) for loop in loops]
    numbers = bytes(np.dtype(dtype).num for loop in loops for dtype in loop.dtypes)
    functions = (ctypes.c_void_p * len(loops))(*[inner_loop] * len(loops))
    pointers = (ctypes.c_void_p * len(loops))(*data)
    types = ctypes.create_string_buffer(numbers, len(numbers))
    texts = [None if text is None else text.encode() for text in (name, doc, core_signature)]
    keep_alive((functions, pointers, types, texts))  # NumPy stores only their addresses
    ufunc: np.ufunc = _constructor()(
        ctypes.addressof(functions),
        ctypes.addressof(pointers),
        ctypes.addressof(types),
        len(loops),
        len(inputs),
        len(outputs),
        _NO_IDENTITY,
        texts[0],
        texts[1],
        0,
        texts[2],
    )
    for loop in filter(_has_user_type, all_loops):
        loop_data = _loop_data(loop, len(inputs), operands, core_dimensions)
        _register_loop(ufunc, loop, inner_loop, loop_data)
    LOOPS[ufunc] = all_loops
    _LOOP_DATA[ufunc] = {
        tuple(map(np.dtype, loop.dtypes)): address
        for loop, address in zip(loops, data, strict=True)
    }
    # Pickle stores module and name; help() and editors show the signature.
    ufunc.__module__ = module
    ufunc.__signature__ = _signature(inputs, len(outputs), core_signature is None)  # type: ignore[misc]
    return ufunc


def loop_data_of(ufunc: np.ufunc, dtypes: tuple[np.dtype[Any], ...]) -> int | None:
    """Return the address of the ``data`` of the loop with exactly these dtypes, or None if there is none."""
    return _LOOP_DATA.get(ufunc, {}).get(dtypes)  # without any if this module is another copy


def _core_names(core_signature: str) -> list[str]:
    return core_signature.translate(str.maketrans("()->,", "     ")).split()


def _loop_data(loop: Loop, inputs: int, operands: int, core_dimensions: int) -> int:
    """Return the address of the ``data`` of a loop."""
    loop_data = allocate_words(len(LOOP_DATA))

    @threads.returning_error
    @first_use()
    def compile_loop() -> None:
        try:
            loop_data[LOOP_DATA.kernel] = loading.load(loop.name, loop.build)
        except Exception as error:
            loop_data[LOOP_DATA.error] = id(
                keep_alive(_error_class(error, loop.explain(error), loop_data))
            )

    loop_data[LOOP_DATA.compile] = id(keep_alive(compile_loop))
    loop_data[LOOP_DATA.settings] = SETTINGS.ctypes.data
    loop_data[LOOP_DATA.inputs] = inputs
    loop_data[LOOP_DATA.operands] = operands
    loop_data[LOOP_DATA.core_dimensions] = core_dimensions
    return loop_data.ctypes.data


def _error_class(error: Exception, text: str, loop_data: NDArray[np.intp]) -> type[Exception]:
    """Return the class of the error to raise: Python expects a class there and instantiates it.

    Instantiation clears the error, so that the next call tries again.
    """
    text = f"fastact could not compile a kernel: {text}"
    cause = error.with_traceback(None)  # whose frames would live as long as the class
    bases = (RuntimeError, MemoryError) if isinstance(error, MemoryError) else (RuntimeError,)

    def __init__(self: Exception) -> None:
        super(raised, self).__init__(text)
        self.__cause__ = cause
        loop_data[LOOP_DATA.error] = 0

    raised: type[Exception] = type("CompilationError", bases, {"__init__": __init__})
    return raised


def _signature(inputs: Sequence[str], outputs: int, is_elementwise: bool) -> inspect.Signature:
    """Return the signature in the form of NumPy's own ufuncs."""
    kinds = inspect.Parameter
    options: dict[str, Any] = {"out": None if outputs == 1 else (None,) * outputs}
    if is_elementwise:
        options["where"] = True
    options |= {"casting": "same_kind", "order": "K", "dtype": None, "subok": True}
    return inspect.Signature(
        [
            *(kinds(name, kinds.POSITIONAL_ONLY) for name in inputs),
            *(
                kinds(name, kinds.KEYWORD_ONLY, default=value)
                for name, value in options.items()
                if name not in inputs  # a custom function may call an input so
            ),
        ]
    )


_NO_IDENTITY = -1  # PyUFunc_None
_FIRST_USER_TYPE = 256  # NPY_USERDEF: types that other packages register, such as bfloat16


def _has_user_type(loop: Loop) -> bool:
    return any(np.dtype(dtype).num >= _FIRST_USER_TYPE for dtype in loop.dtypes)


def _register_loop(ufunc: np.ufunc, loop: Loop, inner_loop: int, loop_data: int) -> None:
    """Register a loop for a user-defined type with a ufunc."""
    numbers = [np.dtype(dtype).num for dtype in loop.dtypes]
    types = (ctypes.c_int * len(numbers))(*numbers)
    pointers = [ctypes.c_void_p] * 3
    kind = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_int, *pointers)
    register = kind(numpy_api.ufunc_function(numpy_api.REGISTER_LOOP_FOR_TYPE))
    register(ufunc, max(numbers), inner_loop, ctypes.addressof(types), loop_data)


def _constructor() -> Callable[..., np.ufunc]:
    """Return NumPy's ``PyUFunc_FromFuncAndDataAndSignature``."""
    pointers, numbers, texts = [ctypes.c_void_p] * 3, [ctypes.c_int] * 4, [ctypes.c_char_p] * 2
    kind = ctypes.PYFUNCTYPE(
        ctypes.py_object, *pointers, *numbers, *texts, ctypes.c_int, ctypes.c_char_p
    )
    return kind(numpy_api.ufunc_function(numpy_api.FROM_FUNC_AND_DATA_AND_SIGNATURE))
