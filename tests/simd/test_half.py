"""float16 without the processor's conversions: what NumPy converts to, and what a processor that has them does."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from fastact.simd.half import emit_float_to_half, emit_half_to_float
from fastact.simd.lowering import Vector
from fastact.system.target import llvm, target_machine

Array = NDArray[Any]

VECTOR = Vector(types.float32, 8)
HALVES = ir.VectorType(ir.IntType(16), VECTOR.lanes)
EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16)


def compiled(emit: Callable[..., Any], source: ir.Type, target: ir.Type) -> tuple[Any, int]:
    """Return a function that converts so many registers in memory: ``convert(source, target, count)``."""
    module = ir.Module()
    word = ir.IntType(64)
    signature = ir.FunctionType(ir.VoidType(), [source.as_pointer(), target.as_pointer(), word])
    function = ir.Function(module, signature, "convert")
    builder = ir.IRBuilder(function.append_basic_block())
    given, found, count = function.args
    with cgutils.for_range(builder, count) as loop:
        value = builder.load(builder.gep(given, [loop.index]))
        builder.store(emit(builder, value, VECTOR), builder.gep(found, [loop.index]))
    builder.ret_void()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), target_machine())
    engine.finalize_object()
    return engine, engine.get_function_address("convert")


def converted(emit: Callable[..., Any], numbers: Array, to: Any) -> Array:
    kinds = {2: HALVES, 4: VECTOR.llvm}
    result = np.empty(numbers.size, to)
    engine, address = compiled(emit, kinds[numbers.itemsize], kinds[result.itemsize])
    # Vectors are loaded aligned.
    memory = [np.zeros(array.nbytes + 64, np.uint8) for array in (numbers, result)]
    given, found = (each[-each.ctypes.data % 64 :] for each in memory)
    given[: numbers.nbytes] = numbers.view(np.uint8)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)
    call(given.ctypes.data, found.ctypes.data, numbers.size // VECTOR.lanes)
    del engine
    result.view(np.uint8)[...] = found[: result.nbytes]
    return result


def widened_by_numpy() -> Array:
    with np.errstate(invalid="ignore"):  # of signalling NaNs, on ARM
        return EVERY_HALF.astype(np.float32)


def test_every_half_is_widened() -> None:
    wide = converted(emit_half_to_float, EVERY_HALF, np.float32)
    np.testing.assert_array_equal(wide, widened_by_numpy())
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(EVERY_HALF))


def around_every_half() -> Array:
    """Return numbers about each that float16 has and about each middle of two, and all kinds of others."""
    bits = widened_by_numpy().view(np.uint32).astype(np.int64)
    near = [bits + middle + offset for middle in (0, 0x1000) for offset in (-1, 0, 1)]
    others = np.arange(0, 2**32, 65_521)
    numbers = np.concatenate([*near, others, 2**32 - 1 - others]) % 2**32
    return np.resize(numbers, -(-numbers.size // 8) * 8).astype(np.uint32).view(np.float32)


def test_floats_are_rounded_to_halves() -> None:
    numbers = around_every_half()
    with np.errstate(all="ignore"):
        expected = numbers.astype(np.float16)
    found = converted(emit_float_to_half, numbers, np.float16)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize("is_widening", [True, False])
def test_not_a_number_keeps_its_bits(is_widening: bool) -> None:
    """As the instructions do: the payload is kept as far as it fits, and the number is made quiet."""
    half = EVERY_HALF[np.isnan(EVERY_HALF)][:-6].view(np.uint16)  # whole registers
    words = half.astype(np.uint32)
    wide = (words & 0x8000) << 16 | 0x7F80_0000 | (words & 0x3FF) << 13
    if is_widening:
        found = converted(emit_half_to_float, half.view(np.float16), np.float32).view(np.uint32)
        np.testing.assert_array_equal(found, wide | 0x40_0000)
    else:
        found = converted(emit_float_to_half, wide.view(np.float32), np.float16).view(np.uint16)
        np.testing.assert_array_equal(found, half | 0x200)
