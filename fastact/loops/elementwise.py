"""The loop over the elements of broadcast operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.simd.lowering import internal
from fastact.simd.memory import address_of, finish_streaming
from fastact.simd.operands import Operands


def elementwise(operation: Callable[..., Any], operands: Operands) -> Callable[..., None]:
    """Return the loop that applies `operation` to every element.

    Where its ``data`` is set, outputs are stored past the caches if their addresses allow it.

    Parameters
    ----------
    operation : callable
        Takes one vector for each input and returns the tuple of outputs.
    operands : Operands
        How the operands lie in memory.
    """
    addresses, is_contiguous = operands.addresses, operands.is_contiguous
    load, broadcast = operands.load, operands.broadcast
    store, stream = operands.store, operands.stream
    load_any, store_any = operands.load_any, operands.store_any
    elements_to_alignment = operands.elements_to_alignment
    first_lanes, lanes, width = operands.first_lanes, operands.lanes, operands.width
    compute = internal(operation)

    @internal
    def run_at_any_stride(base: Any, steps: Any, begin: int, end: int) -> None:
        # All loads of a vector come before its stores, so that an output may be its own input.
        for i in range(begin, end, lanes):
            mask = first_lanes(end - i)
            store_any(base, steps, i, mask, compute(*load_any(base, steps, i, mask)))

    if operands.in_pairs:

        @internal
        def apply(base: Any, parameters: Any, i: int) -> Any:
            even, odd = load(base, i)
            return compute(*(even + parameters)), compute(*(odd + parameters))

    else:

        @internal
        def apply(base: Any, parameters: Any, i: int) -> Any:
            return (compute(*(load(base, i) + parameters)),)

    def loop(args: Any, dimensions: Any, steps: Any, data: Any) -> None:
        n = dimensions[0]
        base = addresses(args)
        done = 0
        if is_contiguous(steps):
            parameters = broadcast(base)
            head = elements_to_alignment(base) if address_of(data) else -1
            if 0 <= head < n:
                run_at_any_stride(base, steps, 0, head)
                done = n - (n - head) % width
                for i in range(head, done, width):
                    stream(base, i, *apply(base, parameters, i))
                finish_streaming()
            else:
                done = n - n % width
                for i in range(0, done, width):
                    store(base, i, *apply(base, parameters, i))
        run_at_any_stride(base, steps, done, n)

    return loop
