"""The loop over contiguous rows, with random numbers by element index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.block_loop import block_loop
from fastact.kernels.random_operands import NoRandomOperands, RandomOperands
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import address_of, stack, words, words_behind
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
    reserve_scratch, load_arrays, broadcast = blocks.reserve, blocks.load_arrays, blocks.broadcast
    copy_in = blocks.copy(range(operands.arrays), inward=True, skips_broadcast=False)
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
    is_contiguous, apply = operands.is_contiguous, internal(operation)
    count, arrays, inputs = operands.count, operands.arrays, operands.inputs

    def compute(pointers: Any, position: Any, n: Any, of_row: Any) -> Any:
        random, constants = of_row
        return apply(*(random_at(random, position, n) + load_arrays(pointers) + constants))

    run = block_loop(blocks, compute, copy_in, is_memory_bound)

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
        is_plain, is_large = is_contiguous(operand_steps), address_of(data) != 0
        for row in range(dimensions[0]):
            for k in range(count):
                operand_args[k] = args[leading + k] + row * steps[leading + k]
            base = addresses(operand_args)
            of_row = (begin_random((window, args, steps, row)), broadcast(base))
            run(base, operand_steps, n, scratch, is_plain, is_large, of_row)

    return loop
