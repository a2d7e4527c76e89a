"""The loop over blocks of neighbours, whose elements may draw random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.random_operands import Draws, NoDraws
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import address_of, finish_streaming, stack, words, words_behind
from fastact.simd.operands import Operands


def contiguous(
    operation: Callable[..., Any], operands: Operands, has_draws: bool, is_short: bool = False
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that applies `operation` to every element of some rows.

    Its signature is ``(),(),(),(n),...,(),...->(n),...``: the key, the index of the row's first element and
    the threshold, if it draws; arrays; parameters; results. Where its ``data`` is set, outputs are stored past
    the caches if their addresses allow it. Rows whose elements are no neighbours in memory are copied block by
    block.

    Parameters
    ----------
    operation : callable
        Takes the words and the threshold, if it draws, and one vector for each input; returns the tuple of
        outputs.
    operands : Operands
        How arrays, parameters and outputs lie in memory.
    has_draws : bool
        Whether it draws.
    is_short : bool, optional
        Whether the operation has few instructions.
    """
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR if is_short else UNROLL_FACTOR)
    own_blocks, place, prefetch = blocks.reserve, blocks.pointers_at, blocks.prefetch
    copy_in = blocks.copy(range(operands.arrays), inward=True, skips_broadcast=False)
    copy_out = blocks.copy_out
    load_arrays, broadcast = blocks.load_arrays, blocks.broadcast
    store, stream, width = blocks.store, blocks.stream, blocks.width
    elements_to_alignment = blocks.elements_to_alignment
    draws = Draws(blocks.vector, blocks.is_deinterleaved) if has_draws else NoDraws()
    reserve_window, numbers, draw, leading = draws.reserve, draws.numbers, draws.draw, draws.count
    addresses, reserve = operands.addresses, stack(operands.count)
    is_contiguous, prefetches = operands.is_contiguous, not is_short
    count, arrays, inputs = operands.count, operands.arrays, operands.inputs
    compute = internal(operation)

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args, n = words(arguments), dimensions[1]
        own, own_args, own_steps, window = own_blocks(), reserve(), reserve(), reserve_window()
        core = words_behind(steps, leading + count)  # those of arrays and outputs follow the others
        for k in range(count):
            own_steps[k] = core[k] if k < arrays else 0
        for k in range(inputs, count):
            own_steps[k] = core[k - inputs + arrays]
        is_plain = is_contiguous(own_steps)
        for row in range(dimensions[0]):
            for k in range(count):
                own_args[k] = args[leading + k] + row * steps[leading + k]
            base = addresses(own_args)
            constants = broadcast(base)
            drawn = numbers((window, args, steps, row))
            head = elements_to_alignment(base) if is_plain and address_of(data) else -1
            begin, end = 0, min(n, head if head > 0 else width)
            while begin < n:
                # All loads of a block come before its stores, so that an output may be its own input.
                in_place = is_plain and end - begin == width
                if in_place:
                    pointers = place(base, begin)
                    if prefetches and head >= 0:
                        prefetch(pointers)
                else:
                    copy_in(base, own_steps, own, begin, end - begin)
                    pointers = own
                outputs = compute(*(draw(drawn, begin, n) + load_arrays(pointers) + constants))
                if in_place and head >= 0:
                    stream(pointers, outputs)
                else:
                    store(pointers, outputs)
                if not in_place:
                    copy_out(base, own_steps, own, begin, end - begin)
                begin, end = end, min(n, end + width)
            if head >= 0:
                finish_streaming()

    return loop
