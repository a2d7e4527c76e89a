"""Fused multiply-add without the instruction: the C library's results, bit for bit."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from fastact.simd.multiply_add import emit_fma
from fastact.system.target import llvm, target_machine

Array = NDArray[Any]

LANES = 8
COUNT = 4000 * LANES
RANDOM = np.random.default_rng(0)


def emulated(x: Array, y: Array, z: Array) -> Array:
    element = {4: ir.FloatType(), 8: ir.DoubleType()}[x.itemsize]
    vector = ir.VectorType(element, LANES).as_pointer()
    module = ir.Module()
    word = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [vector] * 4 + [word]), "apply")
    builder = ir.IRBuilder(function.append_basic_block())
    *operands, result, count = function.args
    with cgutils.for_range(builder, count) as loop:
        places = [builder.gep(each, [loop.index]) for each in (*operands, result)]
        values = [builder.load(place, align=x.itemsize) for place in places[:3]]
        builder.store(emit_fma(builder, *values), places[3], align=x.itemsize)
    builder.ret_void()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), target_machine())
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)(
        engine.get_function_address("apply")
    )
    found = np.empty_like(x)
    call(*(each.ctypes.data for each in (x, y, z, found)), x.size // LANES)
    return found


def by_the_c_library(x: Array, y: Array, z: Array) -> Array:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    function, kind = {
        4: (library.fmaf, ctypes.c_float),
        8: (library.fma, ctypes.c_double),
    }[x.itemsize]
    function.restype, function.argtypes = kind, [kind] * 3
    return np.array([function(*each) for each in zip(x, y, z, strict=True)], x.dtype)


def anything(dtype: str) -> list[Array]:
    """Return random bit patterns, among them NaNs, infinities, zeros and subnormal numbers."""
    kind = np.dtype(dtype)
    operands = [np.frombuffer(RANDOM.bytes(COUNT * kind.itemsize), kind).copy() for _ in range(3)]
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1.0,
        -1.0,
        np.finfo(kind).tiny / 4,
        np.finfo(kind).max,
    ]
    for each in operands:
        chosen = RANDOM.random(COUNT) < 0.3
        each[chosen] = RANDOM.choice(np.array(special, kind), chosen.sum())
    return operands


def moderate(dtype: str) -> list[Array]:
    return [RANDOM.normal(0, 3, COUNT).astype(dtype) for _ in range(3)]


def cancelling(dtype: str) -> list[Array]:
    """Return sums of which little is left."""
    x, y = (RANDOM.normal(0, 3, COUNT).astype(dtype) for _ in range(2))
    return [
        x,
        y,
        -(x * y) * (1 + RANDOM.integers(-2, 3, COUNT) * np.finfo(dtype).eps).astype(dtype),
    ]


def nearly_halfway(dtype: str) -> list[Array]:
    """Return sums about the middle of two numbers, on either side by much less than the last place of a wider type."""
    places = {"float32": 23, "float64": 52}[dtype]
    z = RANDOM.integers(2**places, 2 ** (places + 1), COUNT).astype(dtype)
    x = (0.5 * (1 + RANDOM.integers(-1, 2, COUNT) * np.finfo(dtype).eps)).astype(dtype)
    y = (1 + RANDOM.integers(-1, 2, COUNT) * np.finfo(dtype).eps).astype(dtype)
    return [x * RANDOM.choice([-1, 1], COUNT).astype(dtype), y, z]


def subnormal(dtype: str) -> list[Array]:
    """Return sums that are subnormal, or about to be."""
    limits = np.finfo(dtype)
    x = (RANDOM.normal(0, 1, COUNT) * 2.0 ** RANDOM.integers(-60, 3, COUNT)).astype(dtype)
    return [
        x,
        RANDOM.normal(0, limits.tiny, COUNT).astype(dtype),
        RANDOM.normal(0, limits.tiny, COUNT).astype(dtype),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [anything, moderate, cancelling, nearly_halfway, subnormal])
def test_fma(kind: Any, dtype: str) -> None:
    with np.errstate(all="ignore"):
        operands = kind(dtype)
        found, expected = emulated(*operands), by_the_c_library(*operands)
    np.testing.assert_array_equal(found, expected)
    is_number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found[is_number]), np.signbit(expected[is_number]))
