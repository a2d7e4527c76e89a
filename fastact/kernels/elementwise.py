"""The elementwise loop over broadcast operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import address_of, finish_streaming, is_likely
from fastact.simd.operands import Operands


def elementwise(
    operation: Callable[..., Any],
    operands: Operands,
    is_memory_bound: bool = False,
    unroll: int = UNROLL_FACTOR,
) -> Callable[..., None]:
    """Return the loop that applies `operation` to every element.

    If its ``data`` is set and the addresses allow it, outputs are written with non-temporal stores.

    Parameters
    ----------
    operation : callable
        Takes one vector for each input and returns the tuple of outputs.
    operands : Operands
        The memory layout of the operands.
    is_memory_bound : bool, optional
        Whether the operation has so few instructions that memory bandwidth is the bottleneck.
    unroll : int, optional
        The number of registers of a block otherwise.
    """
    addresses, is_contiguous = operands.addresses, operands.is_contiguous
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR if is_memory_bound else unroll)
    reserve, fill_broadcast, pointers_at = blocks.reserve, blocks.fill_broadcast, blocks.pointers_at
    prefetch = blocks.prefetch
    copy_in, copy_out = blocks.copy_in, blocks.copy_out
    load_arrays, load_inputs = blocks.load_arrays, blocks.load_inputs
    store, stream, width = blocks.store, blocks.stream, blocks.width
    have_one_value, broadcast = blocks.are_broadcast, blocks.broadcast
    elements_to_alignment = blocks.elements_to_alignment
    has_parameters, prefetches = operands.parameters > 0, not is_memory_bound
    compute = internal(operation)

    def loop(args: Any, dimensions: Any, steps: Any, data: Any) -> None:
        base, scratch, n = addresses(args), reserve(), dimensions[0]
        fill_broadcast(base, steps, scratch)
        constants = broadcast(base)  # parameters that vary are loaded like arrays instead
        are_constant = have_one_value(steps)
        is_plain = is_contiguous(steps)
        head = elements_to_alignment(base) if is_plain and address_of(data) else -1
        streams, begin = head >= 0, 0
        while begin < n:
            # All whole blocks that are contiguous, or one by way of the scratch buffers.
            count = min(n - begin, head if begin == 0 and head > 0 else width)
            in_place = is_likely(is_plain and count == width)
            if in_place:
                count = n - begin - (n - begin) % width
                start = pointers_at(base, begin)
            else:
                copy_in(base, steps, scratch, begin, count)
                start = scratch
            done = 0
            while done < count:
                # All loads of a block precede its stores, so that an output may alias its input.
                pointers = pointers_at(start, done)
                if prefetches and streams:
                    prefetch(pointers)
                if has_parameters and not are_constant:
                    outputs = compute(*load_inputs(pointers))
                else:
                    outputs = compute(*(load_arrays(pointers) + constants))
                if in_place and streams:
                    stream(pointers, outputs)
                else:
                    store(pointers, outputs)
                done += width
            if not in_place:
                copy_out(base, steps, scratch, begin, count)
            begin += count
        if streams:
            finish_streaming()

    return loop
