"""The loop over contiguous rows, with random numbers by element index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.random_operands import NoRandomOperands, RandomOperands
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import address_of, finish_streaming, stack, words, words_behind
from fastact.simd.operands import Operands


def contiguous(
    operation: Callable[..., Any],
    operands: Operands,
    is_random: bool,
    is_memory_bound: bool = False,
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that applies `operation` to every element of its rows.

    Its signature is ``(),(),(),(n),...,(),...->(n),...``: key, index of the row's first element and threshold (only
    if it is random), arrays, parameters, results. If its ``data`` is set and the addresses allow it, outputs are
    written with non-temporal stores. Strided rows are copied block by block.

    Parameters
    ----------
    operation : callable
        Takes random words and the threshold (only if it is random), and one vector for each input; returns the tuple
        of outputs.
    operands : Operands
        The memory layout of arrays, parameters and outputs.
    is_random : bool
        Whether the operation takes random numbers.
    is_memory_bound : bool, optional
        Whether memory bandwidth is the bottleneck.
    """
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR if is_memory_bound else UNROLL_FACTOR)
    reserve_scratch, pointers_at, prefetch = blocks.reserve, blocks.pointers_at, blocks.prefetch
    copy_in = blocks.copy(range(operands.arrays), inward=True, skips_broadcast=False)
    copy_out = blocks.copy_out
    load_arrays, broadcast = blocks.load_arrays, blocks.broadcast
    store, stream, width = blocks.store, blocks.stream, blocks.width
    elements_to_alignment = blocks.elements_to_alignment
    random_operands = (
        RandomOperands(blocks.vector, blocks.is_deinterleaved) if is_random else NoRandomOperands()
    )
    reserve_window, begin_random, random_at, leading = (
        random_operands.reserve,
        random_operands.begin,
        random_operands.at,
        random_operands.count,
    )
    addresses, reserve = operands.addresses, stack(operands.count)
    is_contiguous, prefetches = operands.is_contiguous, not is_memory_bound
    count, arrays, inputs = operands.count, operands.arrays, operands.inputs
    compute = internal(operation)

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args, n = words(arguments), dimensions[1]
        scratch, operand_args, operand_steps, window = (
            reserve_scratch(),
            reserve(),
            reserve(),
            reserve_window(),
        )
        core = words_behind(steps, leading + count)  # core steps follow those from row to row
        for k in range(count):
            operand_steps[k] = core[k] if k < arrays else 0
        for k in range(inputs, count):
            operand_steps[k] = core[k - inputs + arrays]
        is_plain = is_contiguous(operand_steps)
        for row in range(dimensions[0]):
            for k in range(count):
                operand_args[k] = args[leading + k] + row * steps[leading + k]
            base = addresses(operand_args)
            constants = broadcast(base)
            random = begin_random((window, args, steps, row))
            head = elements_to_alignment(base) if is_plain and address_of(data) else -1
            streams, begin = head >= 0, 0
            while begin < n:
                # All whole blocks that are contiguous, or one by way of the scratch buffers.
                length = min(n - begin, head if begin == 0 and head > 0 else width)
                in_place = is_plain and length == width
                if in_place:
                    length = n - begin - (n - begin) % width
                    start = pointers_at(base, begin)
                else:
                    copy_in(base, operand_steps, scratch, begin, length)
                    start = scratch
                done = 0
                while done < length:
                    # All loads of a block precede its stores, so that an output may alias its input.
                    pointers = pointers_at(start, done)
                    if prefetches and streams:
                        prefetch(pointers)
                    outputs = compute(
                        *(random_at(random, begin + done, n) + load_arrays(pointers) + constants)
                    )
                    if in_place and streams:
                        stream(pointers, outputs)
                    else:
                        store(pointers, outputs)
                    done += width
                if not in_place:
                    copy_out(base, operand_steps, scratch, begin, length)
                begin += length
            if streams:
                finish_streaming()

    return loop
