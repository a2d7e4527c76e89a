"""Kernels as targets of XLA's foreign function interface (FFI): compiled JAX programs call them without Python.

A target is a C function of a call frame, ``XLA_FFI_Handler`` of ``xla/ffi/api/c_api.h``, whose layout has been the same
since JAX 0.6. It is written for LLVM, like `fastact.runtime.replay`: it takes the addresses and the shape of the buffers
and calls the inner loop that NumPy would call, which uses fastact's threads.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from fastact.kernels.kernel import Kernel
from fastact.runtime import loading, threads
from fastact.runtime.replay import Code
from fastact.runtime.ufunc import loop_data_of
from fastact.system.memory_layout import keep_alive

_SYMBOL = "fastact_xla_handler"
# Those whose structures are as described here.
_VERSIONS = {(0, 1), (0, 2), (0, 3)}
# Indices into the extension of a frame, and into the metadata that it refers to.
_METADATA, _METADATA_VERSION = 3, 3


class _Frame(NamedTuple):
    """Indices into a call frame."""

    extension: int = 1
    inputs: int = 9
    outputs: int = 14


class _Buffer(NamedTuple):
    """Indices into a buffer."""

    data: int = 3
    rank: int = 4
    shape: int = 5


_FRAME, _BUFFER = _Frame(), _Buffer()


def has_kernel(function: Any, operation: str, dtype: np.dtype[Any]) -> bool:
    """Whether an operation of a function has a kernel for arrays of a dtype that XLA can call."""
    return _interface_version() != 0 and _loop_data(function, operation, dtype) is not None


def _loop_data(function: Any, operation: str, dtype: np.dtype[Any]) -> int | None:
    return loop_data_of(
        function.kernels[operation], function._family.kernel(operation).types(dtype)
    )


def make_handler(function: Any, operation: str, dtype: np.dtype[Any]) -> int:
    """Return the address of a handler that runs a kernel: of elements, or of rows along the last axis.

    Parameters
    ----------
    function : Function
        The function, whose parameters are numbers.
    operation : str
        The key of the kernel.
    dtype : dtype
        The dtype of the arrays.
    """
    kernel, ufunc = function._family.kernel(operation), function.kernels[operation]
    types = kernel.types(dtype)
    arrays = len(kernel.inputs) - len(function.parameters)
    constants = [
        keep_alive(np.array(value, kind))
        for value, kind in zip(function.parameters.values(), types[arrays:], strict=False)
    ]
    # Run once, the kernel is compiled, and an error has a traceback.
    ones = [np.ones((1,) * len(each.core), dtype) for each in kernel.inputs[:arrays]]
    ufunc(*ones, *constants)
    module, loop_data = ir.Module(), _loop_data(function, operation, dtype)
    _write_handler(module, kernel, types, [each.ctypes.data for each in constants], loop_data)
    # It contains addresses, so that it is not for the cache.
    return loading.load_ir(None, lambda: (_SYMBOL, str(module)))


def as_capsule(address: int) -> Any:
    """Return a C function as what `jax.ffi.register_ffi_target` takes."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    return new(address, None, None)


def _write_handler(
    module: ir.Module,
    kernel: Kernel,
    types: Sequence[np.dtype[Any]],
    constants: Sequence[int],
    loop_data: Any,
) -> None:
    """Write the handler, given the addresses of the constants and of what the inner loop takes."""
    code = Code(module, _SYMBOL, ir.IntType(64), 1)
    (frame,) = code.arguments
    _answer_question_for_version(code, frame)
    inputs, outputs = code.load(frame, _FRAME.inputs), code.load(frame, _FRAME.outputs)
    arrays = len(kernel.inputs) - len(constants)
    buffers: list[Any] = [code.load(inputs, k) for k in range(arrays)]
    buffers += [None] * len(constants)
    buffers += [code.load(outputs, k) for k in range(len(kernel.outputs))]
    with_rows = [k for k, each in enumerate(kernel.operands) if each.core]
    length: Any = code.word(1)
    if with_rows:
        first = buffers[with_rows[0]]
        rank = code.load(first, _BUFFER.rank)
        length = code.load(code.load(first, _BUFFER.shape), code.add(rank, -1))
    args, steps = code.reserve(len(buffers)), code.reserve(2 * len(buffers))
    dimensions = code.reserve(2)
    size = _size(code, buffers[with_rows[0] if with_rows else -1])
    with code.when(code.equal(size, 0)):
        code.give(code.word(0))
    code.store(code.builder.sdiv(size, length), dimensions, 0)
    code.store(length, dimensions, 1)
    for k, (buffer, operand, kind) in enumerate(zip(buffers, kernel.operands, types, strict=True)):
        if buffer is None:
            code.store(constants[k - arrays], args, k)
            code.store(0, steps, k)
        else:
            code.store(code.load(buffer, _BUFFER.data), args, k)
            step = code.times(length, kind.itemsize) if operand.core else kind.itemsize
            code.store(step, steps, k)
    for k, at in enumerate(with_rows):
        code.store(types[at].itemsize, steps, len(buffers) + k)
    code.call(
        code.word(threads.inner_loop_address()), args, dimensions, steps, code.word(loop_data)
    )
    code.give(code.word(0))


@cache
def _interface_version() -> int:
    """Return the version of the interface in the headers of the installed JAX, as a word, or 0 for an unknown one."""
    import jax.ffi

    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8")
    major, minor = (
        int(re.findall(rf"#define XLA_FFI_API_{name} (\d+)", header)[0])
        for name in ("MAJOR", "MINOR")
    )
    return major + (minor << 32) if (major, minor) in _VERSIONS else 0


def _answer_question_for_version(code: Code, frame: Any) -> None:
    """Return if this is the call at registration, which asks for the version of the interface."""
    extension = code.load(frame, _FRAME.extension)
    with code.when(code.differ(extension, 0)):
        code.store(_interface_version(), code.load(extension, _METADATA), _METADATA_VERSION)
        code.give(code.word(0))


def _size(code: Code, buffer: Any) -> Any:
    """Return the number of elements of a buffer."""
    rank, shape = code.load(buffer, _BUFFER.rank), code.load(buffer, _BUFFER.shape)
    total = code.reserve(1)
    code.store(1, total, 0)
    with code.loop(rank) as k:
        code.store(code.builder.mul(code.load(total, 0), code.load(shape, k)), total, 0)
    return code.load(total, 0)
