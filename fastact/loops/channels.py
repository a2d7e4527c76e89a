"""The loop that computes elementwise and sums one more result over all but the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastact.loops.draws import Draws, NoDraws
from fastact.simd import select, sum_lanes, to_double
from fastact.simd.lowering import Vector, internal
from fastact.simd.memory import Access, stack, words, zeros_of
from fastact.simd.operands import Operands
from fastact.simd.storage import Storage


def channel_sums(
    operation: Callable[..., Any],
    operands: Operands,
    has_sums: bool = True,
    has_draws: bool = False,
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc with sums for each channel.

    Its signature is ``(),(),(),(n,c,s),...,(c),(),...->(n,c,s),...,(c)``: the key, the index of the first
    element and the threshold, if it draws random numbers; arrays, a parameter that has a value for each channel,
    other parameters, results of the arrays' shape, and the float64 sums of the operation's last result over
    ``n`` and ``s``. The arrays have the same strides, and their last dimension is contiguous; where ``s`` is 1, the
    channels are.

    Parameters
    ----------
    operation : callable
        Takes the words and the threshold, if it draws, and one vector for each input; returns the results,
        the one to sum last.
    operands : Operands
        How all but the sums and what is drawn lie in memory.
    has_sums : bool, default True
        Whether there are sums; without them all the operation's results are stored.
    has_draws : bool, default False
        Whether it draws.
    """
    draws = Draws(operands.vector) if has_draws else NoDraws()
    reserve_window, numbers, draw, leading = draws.reserve, draws.numbers, draws.draw, draws.count
    count = operands.count
    weight, inputs = operands.arrays, operands.inputs
    itemsize, weight_itemsize = operands.itemsize, operands.parameter_itemsize
    addresses, load, store = operands.addresses, operands.load_any, operands.store_any
    load_whole, load_with_weight = operands.load, operands.load_with_parameter
    broadcast, broadcast_others = operands.broadcast, operands.broadcast_others
    store_whole = operands.store
    first_lanes, lanes = operands.first_lanes, operands.lanes
    reserve = stack(count)
    sums = Access(Storage("float64"), Vector(types.float64, lanes))
    load_sums, store_sums = sums.load, sums.store
    zeros = zeros_of(Vector(types.float64, lanes))
    compute = internal(operation)
    stored = internal((lambda results: results[:-1]) if has_sums else (lambda results: results))

    @internal
    def one_channel(
        start: Any,
        rows: int,
        row_step: int,
        row_elements: int,
        length: int,
        index: int,
        source: Any,
    ) -> Any:
        """Run the rows of one channel, the first from an index on, and return its sum."""
        steps = reserve()
        for k in range(count):
            steps[k] = itemsize if k < weight or k >= inputs else 0
        total = zeros()
        drawn = numbers(source)
        for _ in range(rows):
            base = addresses(start)
            parameters = broadcast(base)
            end = index + length
            whole = length - length % lanes
            for i in range(0, whole, lanes):
                drawn_words = draw(drawn, index + i, end)
                results = compute(*(drawn_words + load_whole(base, i) + parameters))
                store_whole(base, i, stored(results))
                if has_sums:
                    total += to_double(results[-1])
            for i in range(whole, length, lanes):
                mask = first_lanes(length - i)
                drawn_words = draw(drawn, index + i, end)
                results = compute(*(drawn_words + load(base, steps, i, mask)))
                store(base, steps, i, mask, stored(results))
                if has_sums:
                    total += to_double(select(mask, results[-1], 0))
            for k in range(count):
                if k < weight or k >= inputs:
                    start[k] += row_step
            index += row_elements
        return sum_lanes(total)

    @internal
    def all_channels(
        start: Any, rows: int, row_step: int, channels: int, total: int, source: Any
    ) -> None:
        """Run rows of neighbouring channels, with a sum in memory for each."""
        steps = reserve()
        for k in range(count):
            steps[k] = itemsize if k < weight or k >= inputs else 0
        steps[weight] = weight_itemsize
        whole = channels - channels % lanes
        drawn, index, end = numbers(source), 0, rows * channels
        for _ in range(rows):
            base = addresses(start)
            others = broadcast_others(base)
            for i in range(0, whole, lanes):
                drawn_words = draw(drawn, index + i, end)
                results = compute(*(drawn_words + load_with_weight(base, i) + others))
                store_whole(base, i, stored(results))
                if has_sums:
                    place = total + 8 * i
                    so_far = load_sums(place, 8, first_lanes(lanes))
                    store_sums(place, 8, first_lanes(lanes), so_far + to_double(results[-1]))
            for i in range(whole, channels, lanes):
                mask = first_lanes(channels - i)
                drawn_words = draw(drawn, index + i, end)
                results = compute(*(drawn_words + load(base, steps, i, mask)))
                store(base, steps, i, mask, stored(results))
                if has_sums:
                    place = total + 8 * i
                    so_far = load_sums(place, 8, mask)
                    store_sums(place, 8, mask, so_far + to_double(results[-1]))
            for k in range(count):
                if k < weight or k >= inputs:
                    start[k] += row_step
            index += channels

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        blocks, rows, channels, length = dimensions[0], dimensions[1], dimensions[2], dimensions[3]
        # Core steps follow those of the operands and of the sums.
        core = leading + (count + 1 if has_sums else count)
        row_step, channel_step = steps[core], steps[core + 1]
        row_elements, channel_elements = row_step // itemsize, channel_step // itemsize
        weight_step = steps[core + 3 * weight]
        start, window = reserve(), reserve_window()
        for block in range(blocks):
            # What is drawn from is read where it is used: a call here makes LLVM clone the loops of them all.
            source = window, args, steps, block
            total = args[leading + count] + block * steps[leading + count] if has_sums else 0
            if length == 1 and channel_step == itemsize:
                if has_sums:
                    for i in range(0, channels, lanes):
                        mask = first_lanes(channels - i)
                        store_sums(total + 8 * i, 8, mask, zeros())
                for k in range(count):
                    start[k] = args[leading + k] + block * steps[leading + k]
                all_channels(start, rows, row_step, channels, total, source)
            else:
                for c in range(channels):
                    for k in range(count):
                        start[k] = args[leading + k] + block * steps[leading + k]
                        if k < weight or k >= inputs:
                            start[k] += c * channel_step
                    start[weight] += c * weight_step
                    index = c * channel_elements
                    answer = one_channel(start, rows, row_step, row_elements, length, index, source)
                    if has_sums:
                        store_sums(total + 8 * c, 8, first_lanes(1), answer + zeros())

    return loop
