"""Genuine NumPy ufuncs around compiled loops, through NumPy's public C API.

A loop is compiled when it first runs: one for each type in use.
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
from fastact.system.memory_layout import RECORD, SETTINGS, allocate, keep


@dataclass(frozen=True)
class Loop:
    """One loop of a ufunc.

    Attributes
    ----------
    dtypes : sequence of dtype
        One for each operand, inputs first.
    name : str or None
        The kernel's name, unique in fastact; None where the cache must not keep it.
    build : callable
        Returns the function to compile.
    explain : callable, optional
        Takes an error of the compiler and returns what to say of it.
    """

    dtypes: Sequence[Any]
    name: str | None
    build: Callable[[], loading.LoopFunction]
    explain: Callable[[BaseException], str] = lambda error: f"{type(error).__name__}: {error}"


#: The loops of each ufunc, to compile them ahead.
LOOPS: dict[np.ufunc, Sequence[Loop]] = {}


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
        Where it is found again when it is unpickled.
    doc : str
        Its documentation.
    inputs, outputs : sequence of str
        The operands' names, which its signature shows.
    loops : sequence of Loop
        Narrowest type first: NumPy takes the first one that the inputs can safely be cast to.
    core_signature : str, optional
        The signature of a generalized ufunc, such as ``"(p)->()"``.
    """
    core_dimensions = len(set(_core_names(core_signature))) if core_signature else 0
    operands = len(inputs) + len(outputs)
    driver = threads.prepare()
    all_loops, loops = loops, [loop for loop in loops if not _is_foreign(loop)]
    data = [_record(loop, len(inputs), operands, core_dimensions) for loop in loops]
    numbers = bytes(np.dtype(dtype).num for loop in loops for dtype in loop.dtypes)
    functions = (ctypes.c_void_p * len(loops))(*[driver] * len(loops))
    records = (ctypes.c_void_p * len(loops))(*data)
    types = ctypes.create_string_buffer(numbers, len(numbers))
    texts = [None if text is None else text.encode() for text in (name, doc, core_signature)]
    keep((functions, records, types, texts))  # NumPy takes no more than their addresses
    ufunc: np.ufunc = _constructor()(
        ctypes.addressof(functions),
        ctypes.addressof(records),
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
    for loop in filter(_is_foreign, all_loops):
        record = _record(loop, len(inputs), operands, core_dimensions)
        _add_loop(ufunc, loop, driver, record)
    LOOPS[ufunc] = all_loops
    # A ufunc is pickled as a name in its module; help() and editors show the signature.
    ufunc.__module__ = module
    ufunc.__signature__ = _signature(inputs, len(outputs), core_signature is None)  # type: ignore[misc]
    return ufunc


def _core_names(core_signature: str) -> list[str]:
    return core_signature.translate(str.maketrans("()->,", "     ")).split()


def _record(loop: Loop, inputs: int, operands: int, core_dimensions: int) -> int:
    """Return the address of a new loop's record."""
    record = allocate(len(RECORD))

    @threads.raised_by_driver
    @first_use()
    def compile_loop() -> None:
        try:
            record[RECORD.loop] = loading.load(loop.name, loop.build)
        except Exception as error:
            record[RECORD.error] = id(keep(_error_class(error, loop.explain(error), record)))

    record[RECORD.compile] = id(keep(compile_loop))
    record[RECORD.settings] = SETTINGS.ctypes.data
    record[RECORD.inputs] = inputs
    record[RECORD.operands] = operands
    record[RECORD.core_dimensions] = core_dimensions
    return record.ctypes.data


def _error_class(error: Exception, text: str, record: NDArray[np.intp]) -> type[Exception]:
    """Return the class of the error to raise: Python takes a class there and makes the instance.

    Once the instance is made, the next call may try again.
    """
    text = f"fastact could not compile a kernel: {text}"
    cause = error.with_traceback(None)  # whose frames would live as long as the class
    bases = (RuntimeError, MemoryError) if isinstance(error, MemoryError) else (RuntimeError,)

    def __init__(self: Exception) -> None:
        super(raised, self).__init__(text)
        self.__cause__ = cause
        record[RECORD.error] = 0

    raised: type[Exception] = type("CompilationError", bases, {"__init__": __init__})
    return raised


def _signature(inputs: Sequence[str], outputs: int, is_elementwise: bool) -> inspect.Signature:
    """Describe the call as NumPy's own ufuncs do."""
    kinds = inspect.Parameter
    options: dict[str, Any] = {"casting": "same_kind", "order": "K", "dtype": None, "subok": True}
    if is_elementwise:
        options = {"where": True} | options
    out = None if outputs == 1 else (None,) * outputs
    return inspect.Signature(
        [
            *(kinds(name, kinds.POSITIONAL_ONLY) for name in inputs),
            kinds("out", kinds.KEYWORD_ONLY, default=out),
            *(kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in options.items()),
        ]
    )


_NO_IDENTITY = -1  # PyUFunc_None
_FIRST_FOREIGN_TYPE = 256  # NPY_USERDEF: types that other packages register, bfloat16 among them


def _is_foreign(loop: Loop) -> bool:
    return any(np.dtype(dtype).num >= _FIRST_FOREIGN_TYPE for dtype in loop.dtypes)


def _add_loop(ufunc: np.ufunc, loop: Loop, driver: int, record: int) -> None:
    """Give a ufunc a loop for a type that NumPy itself does not have."""
    numbers = [np.dtype(dtype).num for dtype in loop.dtypes]
    types = (ctypes.c_int * len(numbers))(*numbers)
    pointers = [ctypes.c_void_p] * 3
    kind = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_int, *pointers)
    register = kind(numpy_api.of_ufuncs(numpy_api.REGISTER_LOOP_FOR_TYPE))
    register(ufunc, max(numbers), driver, ctypes.addressof(types), record)


def _constructor() -> Callable[..., np.ufunc]:
    """Return NumPy's ``PyUFunc_FromFuncAndDataAndSignature``."""
    pointers, numbers, texts = [ctypes.c_void_p] * 3, [ctypes.c_int] * 4, [ctypes.c_char_p] * 2
    kind = ctypes.PYFUNCTYPE(
        ctypes.py_object, *pointers, *numbers, *texts, ctypes.c_int, ctypes.c_char_p
    )
    return kind(numpy_api.of_ufuncs(numpy_api.FROM_FUNC_AND_DATA_AND_SIGNATURE))
