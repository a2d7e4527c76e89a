"""The loop over the blocks of one row, which all elementwise loops share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.simd.blocks import Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import finish_streaming, is_likely


def block_loop(
    blocks: Blocks,
    compute: Callable[..., Any],
    copy_in: Callable[..., Any],
    is_memory_bound: bool,
) -> Any:
    """Return a function that applies `compute` to the blocks of a row.

    It takes the base addresses, the steps, the number of elements, the scratch buffers, whether the operands are
    contiguous, whether outputs are to be written with non-temporal stores, if the addresses allow it, and what
    `compute` needs besides.

    Parameters
    ----------
    blocks : Blocks
        The registers of a block.
    compute : callable
        Takes pointers to the operands of a block, the index of its first element, the length of the row and the last
        argument; returns the tuple of outputs.
    copy_in : callable
        Copies what is not contiguous into the scratch buffers.
    is_memory_bound : bool
        Whether memory bandwidth is the bottleneck.
    """
    pointers_at, prefetch, copy_out = blocks.pointers_at, blocks.prefetch, blocks.copy_out
    store, stream, width = blocks.store, blocks.stream, blocks.width
    elements_to_alignment = blocks.elements_to_alignment
    prefetches, compute = not is_memory_bound, internal(compute)

    def loop(
        base: Any, steps: Any, n: Any, scratch: Any, is_plain: Any, is_large: Any, context: Any
    ) -> None:
        head = elements_to_alignment(base) if is_plain and is_large else -1
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
                outputs = compute(pointers, begin + done, n, context)
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

    return internal(loop)
