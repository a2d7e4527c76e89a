"""The loop over blocks of neighbours, whose elements may draw random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.loops.draws import Draws, NoDraws
from fastact.loops.elementwise import blocks_of, over_blocks
from fastact.simd.lowering import internal
from fastact.simd.memory import stack, words
from fastact.simd.operands import Operands


def neighbours(
    operation: Callable[..., Any], operands: Operands, has_draws: bool, is_short: bool = False
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that applies `operation` to every element of blocks.

    Its signature is ``(),(),(),(n),...,(),...->(n),...``: the key, the index of the block's first element and
    the threshold, if it draws; arrays; parameters; results. Where its ``data`` is set, outputs are stored past
    the caches if their addresses allow it.

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
    blocks = blocks_of(operands, is_short)
    draws = Draws(blocks.vector, blocks.is_apart) if has_draws else NoDraws()
    reserve_window, numbers, draw = draws.reserve, draws.numbers, draws.draw
    leading, count = draws.count, operands.count
    arrays, inputs = operands.arrays, operands.inputs
    compute = internal(operation)

    @internal
    def compute_block(known: Any, begin: int, end: int, inputs: Any) -> Any:
        window, drawn_from, n = known
        return compute(*(draw(window, drawn_from, begin, n) + inputs))

    run = over_blocks(compute_block, operands, blocks, prefetches=not is_short)
    reserve = stack(count)

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args, own_args, own_steps, window = words(arguments), reserve(), reserve(), reserve_window()
        n, core = dimensions[1], leading + count  # core steps follow those of the operands
        for k in range(count):
            own_steps[k] = 0
            if k < arrays or k >= inputs:
                own_steps[k] = steps[core]
                core += 1
        for block in range(dimensions[0]):
            for k in range(count):
                own_args[k] = args[leading + k] + block * steps[leading + k]
            run(own_args, n, own_steps, data, (window, numbers(args, steps, block), n))

    return loop
