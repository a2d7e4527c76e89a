"""Python builtins that replay calls of kernels, see `fastact.runtime.replay`.

A call is recorded as data: what its arguments must be, which of them are the operands of the kernel, and which arrays it
returns. The builtin walks through the records of one operation, for a net calls it with several shapes.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastact.runtime import loading, threads
from fastact.runtime.output_pool import empty
from fastact.runtime.ufunc import loop_data_of
from fastact.system import numpy_api
from fastact.system.first_use import first_use
from fastact.system.memory_layout import (
    ARRAY,
    HEADER,
    IS_ARRAY,
    IS_KEY,
    IS_OBJECT,
    OBJECT_TYPE,
    OUTPUT_POOL_STATE,
    SETTING,
    SETTINGS,
    TUPLE_ITEMS,
    WORD,
    address_of,
    keep_alive,
)

Replay: TypeAlias = Callable[..., Any]
View: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]

# NumPy too releases the GIL from so many elements on.
_MIN_WITHOUT_GIL = 500
_MAX_SCRATCH = 2**11
_METH_FASTCALL = 0x80


class Key:
    """An argument that is an int from 0 to ``2**64 - 1``: the key of random numbers."""


KEY = Key()


@dataclass(frozen=True)
class Input:
    """An input of a kernel.

    Attributes
    ----------
    source : int or ndarray
        The position of the argument, or a constant.
    view : callable, optional
        Takes the array and returns a view of it for the kernel.
    """

    source: int | NDArray[Any]
    view: View | None = None


@dataclass(frozen=True)
class Output:
    """An output of a kernel: a new array.

    Attributes
    ----------
    shape, dtype : tuple of int, dtype
        Those of the array.
    view : callable, optional
        Takes the array and returns a view of it for the kernel.
    from_float64 : bool
        Whether the kernel computes it in float64.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    view: View | None = None
    from_float64: bool = False

    def new(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return a new array that the kernel writes, and its view; see `is_narrowed`."""
        array = empty(self.shape, np.dtype(np.float64) if self.from_float64 else self.dtype)
        return array, array if self.view is None else self.view(array)

    @property
    def is_narrowed(self) -> bool:
        """Whether what the kernel writes is rounded to `dtype`."""
        return self.from_float64 and self.dtype != np.float64


@dataclass(frozen=True)
class Record:
    """A call of a kernel in words, and what it refers to by address.

    Attributes
    ----------
    words : ndarray of intp
        See `RecordLayout`.
    kept : tuple
        Objects that must live as long.
    places : int
        The number of its arguments and outputs.
    """

    words: NDArray[np.intp]
    kept: tuple[Any, ...]
    places: int


def record_of(
    ufunc: np.ufunc,
    arguments: Sequence[Any],
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    finish: Callable[..., Any] | None = None,
) -> Record | None:
    """Return the record of a call, or None if it cannot be replayed.

    Parameters
    ----------
    ufunc : numpy.ufunc
        The kernel's ufunc.
    arguments : sequence
        The arguments of the call to replay: contiguous arrays of any elements, `KEY`, and other objects that must be the
        same.
    inputs, outputs : sequence
        The operands of the ufunc.
    finish : callable, optional
        Takes all arguments and the new arrays, and returns the result of the call.
    """
    if not _is_supported():
        return None
    given = [_operand_of(each, arguments) for each in inputs]
    made = [each.new() for each in outputs]
    operands = [view for _, view in (*given, *made)]
    loop_data = loop_data_of(ufunc, tuple(each.dtype for each in operands))
    layout = _layout(ufunc, operands)
    narrowed = [math.prod(each.shape) if each.is_narrowed else 0 for each in outputs]
    scratch = sum(narrowed)
    if loop_data is None or layout is None or scratch > _MAX_SCRATCH:
        return None
    if any(each.is_narrowed and each.dtype != np.float32 for each in outputs):
        return None
    dimensions, steps = (np.array(each, np.intp) for each in layout[2:])
    of_arguments, of_outputs = (
        [np.array(shape, np.intp) for shape in some]
        for some in (map(np.shape, arguments), (each.shape for each in outputs))
    )
    elements = layout.runs * math.prod(layout.dimensions)
    words = [
        len(arguments),
        len(operands),
        len(outputs),
        threads.inner_loop_address(),
        loop_data,
        dimensions.ctypes.data,
        steps.ctypes.data,
        int(elements >= _MIN_WITHOUT_GIL),
        scratch,
        0 if finish is None else id(finish),
        layout.runs,
        max((math.prod(each.shape) * each.dtype.itemsize for each in outputs), default=0),
    ]
    for argument, shape in zip(arguments, of_arguments, strict=True):
        words += _expected(argument, shape)
    for k, (array, view) in enumerate((*given, *made)):
        source: Any = inputs[k].source if k < len(inputs) else len(arguments) + k - len(inputs)
        if isinstance(source, np.ndarray):
            words += -1, view.ctypes.data, layout.between[k]
        else:
            words += source, view.ctypes.data - array.ctypes.data, layout.between[k]
    offset = 0
    for each, shape, count in zip(outputs, of_outputs, narrowed, strict=True):
        words += id(each.dtype), len(shape), shape.ctypes.data, count, offset
        offset += count * WORD
    constants = [
        view
        for each, (_, view) in zip(inputs, given, strict=True)
        if isinstance(each.source, np.ndarray)
    ]
    objects = [each for each in arguments if type(each) is not np.ndarray]
    types = [each.dtype for each in arguments if type(each) is np.ndarray]
    shapes = of_arguments, of_outputs
    kept = (dimensions, steps, shapes, finish, constants, objects, types, list(outputs), ufunc)
    return Record(np.array(words, np.intp), kept, len(arguments) + len(outputs))


def _operand_of(operand: Input, arguments: Sequence[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the array of an input, or one like it, and its view."""
    source = operand.source
    if isinstance(source, int):
        argument = arguments[source]
        # Of the same shape, in C order, and of which no element is read.
        source = (
            np.zeros((), np.int64) if argument is KEY else np.empty(argument.shape, argument.dtype)
        )
    return source, source if operand.view is None else operand.view(source)


def _expected(argument: Any, shape: NDArray[np.intp]) -> tuple[int, int, int, int]:
    """Return what an argument must be, see `ArgumentLayout`."""
    if argument is KEY:
        return IS_KEY, 0, 0, 0
    if type(argument) is np.ndarray:
        return IS_ARRAY, id(argument.dtype), argument.ndim, shape.ctypes.data
    return IS_OBJECT, id(argument), 0, 0


class _Layout(NamedTuple):
    """How the inner loop is called: how often, with which steps in between, and its dimensions and steps."""

    runs: int
    between: list[Any]
    dimensions: list[int]
    steps: list[int]


def _layout(ufunc: np.ufunc, operands: Sequence[NDArray[Any]]) -> _Layout | None:
    """Return how to call the inner loop, at best once, or None if the operands have too many strides."""
    signature = ufunc.signature or ",".join("()" for _ in operands)
    cores = [
        [name for name in each.split(",") if name]
        for each in signature.replace("->", ",")[1:-1].split("),(")
    ]
    core_sizes: dict[str, int] = {}
    core_steps: list[int] = []
    splits = [each.ndim - len(names) for each, names in zip(operands, cores, strict=True)]
    for names, operand, split in zip(cores, operands, splits, strict=True):
        core_sizes |= dict(zip(names, operand.shape[split:], strict=True))
        core_steps += operand.strides[split:]
    outer = np.broadcast_shapes(
        *(each.shape[:split] for each, split in zip(operands, splits, strict=True))
    )
    strides = [
        np.broadcast_to(each, outer + each.shape[split:]).strides[: len(outer)]
        for each, split in zip(operands, splits, strict=True)
    ]
    are_whole = (
        math.prod(each.shape[:split]) == math.prod(outer)
        for each, split in zip(operands[ufunc.nin :], splits[ufunc.nin :], strict=True)
    )
    if not all(are_whole):
        return None
    for split in range(len(outer) + 1):
        between = [_step(outer[:split], each[:split]) for each in strides]
        inner = [_step(outer[split:], each[split:]) for each in strides]
        if None not in between and None not in inner:
            dimensions = [math.prod(outer[split:]), *core_sizes.values()]
            steps: list[Any] = [*inner, *core_steps]
            return _Layout(math.prod(outer[:split]), between, dimensions, steps)
    return None


def _step(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """Return the step along dimensions as one, 0 if they have one element, or None if there is no such step."""
    lengths = [(n, step) for n, step in zip(shape, strides, strict=True) if n != 1]
    if not lengths:
        return 0
    for (_, step), (n, inner) in pairwise(lengths):
        if step != n * inner:
            return None
    return lengths[-1][1]


def make_replay(records: Sequence[Record]) -> Replay:
    """Return a builtin that takes the arguments of a call and replays the first record that matches; else it returns None."""
    places = max(each.places for each in records)
    addresses = [each.words.ctypes.data for each in records]
    chain = np.array([SETTINGS.ctypes.data, len(records), places, *addresses], np.intp)
    return _new_builtin()((chain, *records))


@cache
def _is_supported() -> bool:
    """Whether objects are laid out as expected, and the GIL protects them."""
    if sys.byteorder != "little" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    sample = np.zeros((3, 5), np.float32)
    found = (ctypes.c_ssize_t * (HEADER + 7)).from_address(id(sample))
    own = (ctypes.c_ssize_t * (TUPLE_ITEMS + 1)).from_address(id(pair := (sample, None)))
    shape = (ctypes.c_ssize_t * 2).from_address(found[ARRAY.shape])
    return (
        found[OBJECT_TYPE] == id(np.ndarray)
        and found[ARRAY.data] == sample.ctypes.data
        and found[ARRAY.dimensions] & 0xFFFFFFFF == 2
        and tuple(shape) == sample.shape
        and found[ARRAY.dtype] == id(sample.dtype)
        and found[ARRAY.flags] & 0xFFFFFFFF == sample.flags.num
        and own[TUPLE_ITEMS] == id(pair[0])
    )


class _MethodDefinition(ctypes.Structure):
    """CPython's ``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@cache
@first_use()
def _new_builtin() -> Callable[[tuple[Any, ...]], Replay]:
    """Return a function from what a builtin is bound to to the builtin."""
    threads.inner_loop_address()  # fills in what it shares
    python = ctypes.pythonapi
    for setting, function in (
        (SETTING.new_tuple, python.PyTuple_New),
        (SETTING.set_item, python.PyTuple_SetItem),
        (SETTING.call, python.PyObject_Vectorcall),
        (SETTING.save_thread, python.PyEval_SaveThread),
        (SETTING.restore_thread, python.PyEval_RestoreThread),
        (SETTING.as_unsigned, python.PyLong_AsUnsignedLongLong),
    ):
        SETTINGS[setting] = address_of(function)
    SETTINGS[SETTING.new_array] = numpy_api.array_function(numpy_api.NEW_FROM_DESCR)
    SETTINGS[SETTING.set_handler] = numpy_api.array_function(numpy_api.SET_HANDLER)
    SETTINGS[SETTING.output_pool] = OUTPUT_POOL_STATE.ctypes.data
    SETTINGS[SETTING.array_type] = id(np.ndarray)
    SETTINGS[SETTING.int_type] = id(int)
    address = loading.load_ir("replay", _ir)
    definition = keep_alive(
        _MethodDefinition(b"replay", address, _METH_FASTCALL, b"Repeat an earlier call.")
    )
    new = python.PyCFunction_NewEx
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return lambda itself: new(ctypes.addressof(definition), itself, None)


def _ir() -> tuple[str, str]:
    from fastact.runtime.replay import SYMBOL, replay_ir

    return SYMBOL, replay_ir()
