"""Build the inner loop of a declared kernel. Importing this module imports Numba."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastact.kernels.channels import channel_sums, channels_in_blocks
from fastact.kernels.contiguous import contiguous
from fastact.kernels.elementwise import elementwise
from fastact.kernels.groups import groups
from fastact.kernels.kernel import (
    Channels,
    Contiguous,
    Elementwise,
    Groups,
    Kernel,
    Packed,
    Rows,
)
from fastact.kernels.packed import packed
from fastact.kernels.rows import rows
from fastact.simd.compilable import is_memory_bound
from fastact.simd.lowering import lanes_of_sums
from fastact.simd.operands import Operands
from fastact.simd.storage import Storage

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


def build(kernel: Kernel, dtype: str) -> LoopFunction:
    """Return the inner loop of a kernel for arrays of a dtype."""
    compute = kernel.schedule.compute()
    draws = any(each.kind == "int64" for each in kernel.inputs)
    match kernel.schedule:
        case Elementwise():
            return elementwise(compute, _operands(kernel, dtype), is_memory_bound(compute))
        case Contiguous():
            return contiguous(compute, _operands(kernel, dtype), draws, is_memory_bound(compute))
        case Channels():
            sums = sum(each.kind == "float64" for each in kernel.outputs)
            per_channel = sum(each.core == ("c",) for each in kernel.inputs)
            is_light = is_memory_bound(compute)
            if sums:
                operands = _operands(kernel, dtype, lanes_of_sums(Storage(dtype).computed_in))
                return channel_sums(compute, operands, sums, draws, per_channel, is_light)
            operands = _operands(kernel, dtype)
            return channels_in_blocks(compute, operands, draws, per_channel, is_light)
        case Packed():
            parts = tuple(_parts(each.core) for each in kernel.operands)
            return packed(compute, _operands(kernel, dtype), parts, kernel.schedule.order)
        case Rows():
            return rows(compute, kernel, dtype)
        case Groups():
            return groups(compute, kernel.schedule.operation, dtype)
        case _:
            raise TypeError(f"unknown schedule: {kernel.schedule!r}")


def _operands(kernel: Kernel, dtype: str, lanes: int | None = None) -> Operands:
    """Return the memory layout of arrays, parameters and outputs, without random operands and sums."""
    inputs, outputs = (
        [
            each
            for each in some
            if each.kind in ("array", "parameter")
            for _ in range(_parts(each.core))
        ]
        for some in (kernel.inputs, kernel.outputs)
    )
    storages = tuple(Storage(each.dtype(dtype)) for each in (*inputs, *outputs))
    arrays = sum(each.kind == "array" for each in inputs)
    return Operands(storages, arrays, len(inputs) - arrays, lanes)


def _parts(core: tuple[str, ...]) -> int:
    return int(core[0]) if core and core[0].isdigit() else 1
