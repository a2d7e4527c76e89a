"""The loop that computes elementwise and sums one more result over all but the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastact.kernels.random_operands import Draws, NoDraws
from fastact.simd import select, sum_lanes, to_double
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.lowering import Vector
from fastact.simd.memory import Access, set_addresses, stack, words, words_behind, zeros_of
from fastact.simd.operands import Operands
from fastact.simd.storage import Storage


def channel_sums(
    operation: Callable[..., Any],
    operands: Operands,
    has_sums: bool = True,
    has_draws: bool = False,
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc with sums for each channel.

    Its signature is ``(),(),(),(),(n,c,s),...,(c),(),...->(n,c,s),...,(c)``: the key, the index of the first
    element, the threshold, and how far the indices of two neighbouring channels are apart (more than ``s`` in a
    part of a longer array), if it draws random numbers; arrays, a parameter that has a value for each channel,
    other parameters, results of the arrays' shape, and the float64 sums of the operation's last result over
    ``n`` and ``s``. What has neither a contiguous last dimension nor, where ``s`` is 1, contiguous channels is copied
    block by block.

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
    reserve_window, numbers, draw = draws.reserve, draws.numbers, draws.draw
    leading = draws.count + 1 if has_draws else 0
    count = operands.count
    weight, inputs = operands.arrays, operands.inputs
    itemsize, weight_itemsize = operands.itemsize, operands.parameter_itemsize
    addresses, load, store = operands.addresses, operands.load_any, operands.store_any
    is_contiguous = operands.is_contiguous
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR)
    reserve_blocks, width, copy_out = blocks.reserve, blocks.width, blocks.copy_out
    copy_in = blocks.copy(range(weight), inward=True, skips_broadcast=False)
    load_whole, load_with_weight = operands.load, operands.load_with_parameter
    broadcast, broadcast_others = operands.broadcast, operands.broadcast_others
    store_whole = operands.store
    first_lanes, lanes = operands.first_lanes, operands.lanes
    reserve = stack(count)
    sums = Access(Storage("float64"), Vector(types.float64, lanes))
    load_sums, store_sums = sums.load, sums.store
    zeros = zeros_of(Vector(types.float64, lanes))
    double = sums.storage.itemsize
    compute = internal(operation)
    stored = internal((lambda results: results[:-1]) if has_sums else (lambda results: results))

    @internal
    def one_channel(
        start: Any,
        rows: int,
        row_steps: Any,
        row_elements: int,
        length: int,
        index: int,
        source: Any,
        total: Any,
    ) -> Any:
        """Run rows of one channel, the first from an index on, and return the sums with theirs."""
        steps = reserve()
        for k in range(count):
            steps[k] = itemsize if k < weight or k >= inputs else 0
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
                start[k] += row_steps[k]
            index += row_elements
        return total

    @internal
    def all_channels(
        start: Any,
        rows: int,
        row_steps: Any,
        channels: int,
        total: int,
        source: Any,
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
                    place = total + double * i
                    so_far = load_sums(place, double, first_lanes(lanes))
                    store_sums(place, double, first_lanes(lanes), so_far + to_double(results[-1]))
            for i in range(whole, channels, lanes):
                mask = first_lanes(channels - i)
                drawn_words = draw(drawn, index + i, end)
                results = compute(*(drawn_words + load(base, steps, i, mask)))
                store(base, steps, i, mask, stored(results))
                if has_sums:
                    place = total + double * i
                    so_far = load_sums(place, double, mask)
                    store_sums(place, double, mask, so_far + to_double(results[-1]))
            for k in range(count):
                start[k] += row_steps[k]
            index += channels

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        rows, channels, length = dimensions[1], dimensions[2], dimensions[3]
        start, window = reserve(), reserve_window()
        row_steps, channel_steps, inner_steps = reserve(), reserve(), reserve()
        core = words_behind(steps, leading + (count + 1 if has_sums else count))
        place = 0
        for k in range(count):
            row_steps[k] = channel_steps[k] = inner_steps[k] = 0
            if k < weight or k >= inputs:
                row_steps[k], channel_steps[k] = core[place], core[place + 1]
                inner_steps[k] = core[place + 2]
                place += 3
            elif k == weight:
                channel_steps[k] = core[place]
                place += 1
        sum_step = core[place] if has_sums else double
        are_neighbours = length == 1 and sum_step == double
        for k in range(count):
            step = itemsize if k < weight or k >= inputs else weight_itemsize if k == weight else 0
            are_neighbours = are_neighbours and channel_steps[k] == step
        # Rows are run all at once, or else a block at a time, from where they are copied to.
        is_plain, own, own_addresses = is_contiguous(inner_steps), reserve_blocks(), reserve()
        set_addresses(own_addresses, own)
        at_once = rows if is_plain else 1
        for loop_step in range(dimensions[0]):
            # What is drawn from is read where it is used: a call here makes LLVM clone the loops of them all.
            source = window, args, steps, loop_step
            apart = words(args[leading - 1] + loop_step * steps[leading - 1])[0] if has_draws else 1
            total = args[leading + count] + loop_step * steps[leading + count] if has_sums else 0
            if are_neighbours and apart == 1:
                if has_sums:
                    for i in range(0, channels, lanes):
                        mask = first_lanes(channels - i)
                        store_sums(total + double * i, double, mask, zeros())
                for k in range(count):
                    start[k] = args[leading + k] + loop_step * steps[leading + k]
                all_channels(start, rows, row_steps, channels, total, source)
                continue
            for c in range(channels):
                lanes_total, row, begin = zeros(), 0, 0
                while row < rows:
                    index, n = c * apart, length
                    for k in range(count):
                        start[k] = args[leading + k] + loop_step * steps[leading + k]
                        start[k] += c * channel_steps[k]
                    base = addresses(start)
                    if not is_plain:
                        index += row * channels * apart + begin
                        n = min(width, length - begin)
                        for k in range(count):
                            start[k] += row * row_steps[k]
                        base = addresses(start)
                        copy_in(base, inner_steps, own, begin, n)
                        for k in range(count):
                            if k < weight or k >= inputs:
                                start[k] = own_addresses[k]
                    lanes_total = one_channel(
                        start, at_once, row_steps, channels * apart, n, index, source, lanes_total
                    )
                    if not is_plain:
                        copy_out(base, inner_steps, own, begin, n)
                        begin += width
                        if begin < length:
                            continue
                        begin = 0
                    row += at_once
                if has_sums:
                    answer = sum_lanes(lanes_total) + zeros()
                    store_sums(total + c * sum_step, double, first_lanes(1), answer)

    return loop
