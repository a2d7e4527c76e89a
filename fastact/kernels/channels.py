"""The elementwise loop with parameters per channel, and per-channel sums of further results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.random_operands import NoRandomOperands, RandomOperands
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.memory import set_addresses, stack, words, words_behind
from fastact.simd.operands import Operands
from fastact.simd.sums import Sums


def channel_sums(
    operation: Callable[..., Any],
    operands: Operands,
    sums: int = 1,
    is_random: bool = False,
    per_channel: int = 1,
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc with per-channel sums.

    Its signature is ``(),(),(),(),(n,c,s),...,(c),(),...->(n,c,s),...,(c)``: key, index of the first element,
    threshold, and the distance between the indices of adjacent channels, which exceeds ``s`` in a part of a longer
    array (these four only if it is random); arrays, parameters with one value per channel, other parameters, results
    of the arrays' shape, and float64 sums of the operation's last results over ``n`` and ``s``. Arrays are copied block
    by block unless the last dimension, or with ``s`` equal to 1 the channels, are contiguous.

    Parameters
    ----------
    operation : callable
        Takes random words and the threshold (only if it is random), and one vector for each input; returns the
        results, those to be summed last.
    operands : Operands
        The memory layout of all operands but the random ones and the sums.
    sums : int, default 1
        How many of the last results are summed; the others are stored.
    is_random : bool, default False
        Whether the operation takes random numbers.
    per_channel : int, default 1
        How many parameters have one value per channel.
    """
    random_operands = RandomOperands(operands.vector) if is_random else NoRandomOperands()
    reserve_window, begin_random, random_at = (
        random_operands.reserve,
        random_operands.begin,
        random_operands.at,
    )
    leading = random_operands.count + 1 if is_random else 0
    count = operands.count
    weight, inputs = operands.arrays, operands.inputs
    itemsize, weight_itemsize = operands.itemsize, operands.parameter_itemsize
    addresses, load, store = operands.addresses, operands.load_any, operands.store_any
    is_contiguous = operands.is_contiguous
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR)
    reserve_blocks, width, copy_out = blocks.reserve, blocks.width, blocks.copy_out
    copy_in = blocks.copy(range(weight), inward=True, skips_broadcast=False)
    others = weight + per_channel
    load_whole, load_with_weights = operands.load, operands.load_of(range(others))
    broadcast, broadcast_others = operands.broadcast, operands.broadcast_of(range(others, inputs))
    store_whole = operands.store
    first_lanes, lanes = operands.first_lanes, operands.lanes
    reserve = stack(count)
    totals_of = Sums(lanes, sums)
    double, reserve_totals, no_totals = totals_of.size, stack(sums), totals_of.zeros
    add_to_totals, clear, add_to_memory, store_totals = (
        totals_of.add,
        totals_of.clear,
        totals_of.add_to_memory,
        totals_of.store_totals,
    )
    compute, stored_count = internal(operation), count - inputs
    stored = internal(lambda results: results[:stored_count])

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
        """Run rows of one channel, starting at `index`, and return `total` with their sums added."""
        steps = reserve()
        for k in range(count):
            steps[k] = itemsize if k < weight or k >= inputs else 0
        random = begin_random(source)
        for _ in range(rows):
            base = addresses(start)
            parameters = broadcast(base)
            end = index + length
            whole = length - length % lanes
            for i in range(0, whole, lanes):
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load_whole(base, i) + parameters))
                store_whole(base, i, stored(results))
                total = add_to_totals(total, results, lanes)
            for i in range(whole, length, lanes):
                mask = first_lanes(length - i)
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load(base, steps, i, mask)))
                store(base, steps, i, mask, stored(results))
                total = add_to_totals(total, results, length - i)
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
        totals: Any,
        source: Any,
    ) -> None:
        """Run rows of adjacent channels, with one sum in memory for each."""
        steps = reserve()
        for k in range(count):
            steps[k] = itemsize if k < weight or k >= inputs else 0
        for k in range(weight, others):
            steps[k] = weight_itemsize
        whole = channels - channels % lanes
        random, index, end = begin_random(source), 0, rows * channels
        for _ in range(rows):
            base = addresses(start)
            numbers = broadcast_others(base)
            for i in range(0, whole, lanes):
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load_with_weights(base, i) + numbers))
                store_whole(base, i, stored(results))
                add_to_memory(totals, double * i, lanes, results)
            for i in range(whole, channels, lanes):
                mask = first_lanes(channels - i)
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load(base, steps, i, mask)))
                store(base, steps, i, mask, stored(results))
                add_to_memory(totals, double * i, channels - i, results)
            for k in range(count):
                start[k] += row_steps[k]
            index += channels

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        rows, channels, length = dimensions[1], dimensions[2], dimensions[3]
        start, window, totals = reserve(), reserve_window(), reserve_totals()
        row_steps, channel_steps, inner_steps = reserve(), reserve(), reserve()
        core = words_behind(steps, leading + count + sums)
        core_index = 0
        for k in range(count):
            row_steps[k] = channel_steps[k] = inner_steps[k] = 0
            if k < weight or k >= inputs:
                row_steps[k], channel_steps[k] = core[core_index], core[core_index + 1]
                inner_steps[k] = core[core_index + 2]
                core_index += 3
            elif k < others:
                channel_steps[k] = core[core_index]
                core_index += 1
        sum_steps = words_behind(core, core_index)
        are_neighbours = length == 1
        for k in range(sums):
            are_neighbours = are_neighbours and sum_steps[k] == double
        for k in range(count):
            step = itemsize if k < weight or k >= inputs else weight_itemsize if k < others else 0
            are_neighbours = are_neighbours and channel_steps[k] == step
        # Contiguous rows run all at once, others block by block from a copy.
        is_plain, scratch, scratch_addresses = (
            is_contiguous(inner_steps),
            reserve_blocks(),
            reserve(),
        )
        set_addresses(scratch_addresses, scratch)
        at_once = rows if is_plain else 1
        for loop_step in range(dimensions[0]):
            # Random operands are read where they are used: a call here makes LLVM clone all the loops.
            source = window, args, steps, loop_step
            channel_stride = (
                words(args[leading - 1] + loop_step * steps[leading - 1])[0] if is_random else 1
            )
            for k in range(sums):
                totals[k] = args[leading + count + k] + loop_step * steps[leading + count + k]
            if are_neighbours and channel_stride == 1:
                for i in range(0, channels, lanes):
                    clear(totals, double * i, channels - i)
                for k in range(count):
                    start[k] = args[leading + k] + loop_step * steps[leading + k]
                all_channels(start, rows, row_steps, channels, totals, source)
                continue
            for c in range(channels):
                lanes_total, row, begin = no_totals(), 0, 0
                while row < rows:
                    index, n = c * channel_stride, length
                    for k in range(count):
                        start[k] = args[leading + k] + loop_step * steps[leading + k]
                        start[k] += c * channel_steps[k]
                    base = addresses(start)
                    if not is_plain:
                        index += row * channels * channel_stride + begin
                        n = min(width, length - begin)
                        for k in range(count):
                            start[k] += row * row_steps[k]
                        base = addresses(start)
                        copy_in(base, inner_steps, scratch, begin, n)
                        for k in range(count):
                            if k < weight or k >= inputs:
                                start[k] = scratch_addresses[k]
                    lanes_total = one_channel(
                        start,
                        at_once,
                        row_steps,
                        channels * channel_stride,
                        n,
                        index,
                        source,
                        lanes_total,
                    )
                    if not is_plain:
                        copy_out(base, inner_steps, scratch, begin, n)
                        begin += width
                        if begin < length:
                            continue
                        begin = 0
                    row += at_once
                for k in range(sums):
                    totals[k] += c * sum_steps[k]
                store_totals(totals, lanes_total)
                for k in range(sums):
                    totals[k] -= c * sum_steps[k]

    return loop
