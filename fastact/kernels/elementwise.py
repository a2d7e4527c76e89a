"""The elementwise loop over broadcast operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.block_loop import block_loop
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import address_of
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
    reserve, fill_broadcast = blocks.reserve, blocks.fill_broadcast
    load_arrays, load_inputs = blocks.load_arrays, blocks.load_inputs
    have_one_value, broadcast = blocks.are_broadcast, blocks.broadcast
    has_parameters, apply = operands.parameters > 0, internal(operation)

    def compute(pointers: Any, position: Any, n: Any, parameters: Any) -> Any:
        are_constant, constants = parameters
        if has_parameters and not are_constant:
            return apply(*load_inputs(pointers))
        return apply(*(load_arrays(pointers) + constants))

    run = block_loop(blocks, compute, blocks.copy_in, is_memory_bound)

    def loop(args: Any, dimensions: Any, steps: Any, data: Any) -> None:
        base, scratch, n = addresses(args), reserve(), dimensions[0]
        fill_broadcast(base, steps, scratch)
        # Parameters that vary are loaded like arrays instead.
        parameters = (have_one_value(steps), broadcast(base))
        is_large = address_of(data) != 0
        run(base, steps, n, scratch, is_contiguous(steps), is_large, parameters)

    return loop
