"""The elementwise loop with parameters per channel, and per-channel sums of further results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.random_operands import NoRandomOperands, RandomOperands
from fastact.simd.blocks import MEMORY_BOUND_UNROLL_FACTOR, UNROLL_FACTOR, Blocks
from fastact.simd.compilable import internal
from fastact.simd.lowering import lanes_of
from fastact.simd.memory import (
    address_of,
    number_at,
    reserve_words,
    set_addresses,
    set_number_at,
    stack,
    words,
    words_behind,
)
from fastact.simd.operands import Operands
from fastact.simd.sums import Sums

# In blocks: longer rows are run one by one, as their ends no longer matter.
_LONGEST_PERIOD = 16
# Registers: terms are widened to float64, which takes some.
_UNROLL_FACTOR_OF_SUMS = UNROLL_FACTOR // 2


def _taking_steps(operands: Operands, per_channel: int) -> Any:
    """Return a function that copies the core steps of all operands, those along rows, channels and lengths.

    It returns their number, and whether channels are adjacent: with a length of 1, and in all operands.
    """
    weight, inputs, count = operands.arrays, operands.inputs, operands.count
    others = weight + per_channel
    itemsize, weight_itemsize = operands.itemsize, operands.parameter_itemsize

    @internal
    def take(core: Any, length: int, along_rows: Any, along_channels: Any, along: Any) -> Any:
        taken, are_neighbours = 0, length == 1
        for k in range(count):
            along_rows[k] = along_channels[k] = along[k] = 0
            if k < weight or k >= inputs:
                along_rows[k], along_channels[k] = core[taken], core[taken + 1]
                along[k] = core[taken + 2]
                taken += 3
                are_neighbours = are_neighbours and along_channels[k] == itemsize
            elif k < others:
                along_channels[k] = core[taken]
                taken += 1
                are_neighbours = are_neighbours and along_channels[k] == weight_itemsize
        return taken, are_neighbours

    return take


def channels_in_blocks(
    operation: Callable[..., Any],
    operands: Operands,
    is_random: bool = False,
    per_channel: int = 1,
    is_memory_bound: bool = False,
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc with parameters per channel.

    Its signature is that of `channel_sums` without sums. Channels that are adjacent are one stretch of memory, along
    which their parameters repeat: row by row, the end of each would fill a part of a block (of 10 channels, sigmoid with a
    bias would take 3 times as long).

    Parameters
    ----------
    operation, operands, is_random, per_channel
        As for `channel_sums`.
    is_memory_bound : bool, default False
        Whether memory bandwidth is the bottleneck.
    """
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR if is_memory_bound else UNROLL_FACTOR)
    random_operands = (
        RandomOperands(blocks.vector, blocks.is_deinterleaved) if is_random else NoRandomOperands()
    )
    reserve_window, begin_random, random_at = (
        random_operands.reserve,
        random_operands.begin,
        random_operands.at,
    )
    leading = random_operands.count + 1 if is_random else 0
    weight, others, inputs = operands.arrays, operands.arrays + per_channel, operands.inputs
    count, reserve, addresses = operands.count, stack(operands.count), operands.addresses
    itemsize, weight_itemsize = operands.itemsize, operands.parameter_itemsize
    is_contiguous, take_steps = operands.is_contiguous, _taking_steps(operands, per_channel)
    width, longest_period = blocks.width, _LONGEST_PERIOD * blocks.width
    copy_in = blocks.copy(range(weight), inward=True, skips_broadcast=False)
    copy_parameters = blocks.copy(range(weight, others), inward=True, skips_broadcast=False)
    load, broadcast = blocks.load(range(others)), blocks.broadcast_of(range(others, inputs))
    reserve_scratch, pointers_of, copy_out, store = (
        blocks.reserve,
        blocks.pointers_of(range(weight, others)),
        blocks.copy_out,
        blocks.store,
    )
    parameter = operands.storages[weight]
    number, set_number, compute = (
        number_at(parameter),
        set_number_at(parameter),
        internal(operation),
    )

    @internal
    def repeat(source: int, channels: int, target: int, elements: int) -> None:
        """Write the parameters of channels again and again."""
        channel = 0
        for i in range(elements):
            set_number(target + weight_itemsize * i, number(source + weight_itemsize * channel))
            channel += 1
            if channel == channels:
                channel = 0

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        rows, channels, length = dimensions[1], dimensions[2], dimensions[3]
        row_steps, channel_steps, block_steps = reserve(), reserve(), reserve()
        first, start, own = reserve(), reserve(), reserve()
        scratch, window = reserve_scratch(), reserve_window()
        core = words_behind(steps, leading + count)
        _, are_neighbours = take_steps(core, length, row_steps, channel_steps, block_steps)
        are_adjacent = rows > 1 and channels < longest_period
        for k in range(count):
            if k < weight or k >= inputs:
                are_adjacent = are_adjacent and row_steps[k] == channels * itemsize
        is_plain = is_contiguous(block_steps)
        for k in range(weight, others):
            block_steps[k] = weight_itemsize
        repeated = reserve_words(per_channel * (min(channels, longest_period) + width))
        for loop_step in range(dimensions[0]):
            for k in range(count):
                first[k] = args[leading + k] + loop_step * steps[leading + k]
            channel_stride = (
                words(args[leading - 1] + loop_step * steps[leading - 1])[0] if is_random else 1
            )
            # The traversal: stretches of memory, and for their parameters a period and the advance along a block.
            outer, inner, stretch, period, advance = channels, rows, length, 1, 0
            repeats, is_in_place = min(width, length), is_plain
            if are_neighbours and channel_stride == 1:
                outer, stretch, period, advance = 1, channels, rows * channels, width
                repeats, is_in_place = 0, True
                if are_adjacent:
                    inner, stretch = 1, rows * channels
                    period, advance, repeats = channels, width % channels, channels + width
                for k in range(count):
                    if k < weight or k >= inputs:
                        block_steps[k] = itemsize
            random = begin_random((window, args, steps, loop_step))
            numbers = broadcast(addresses(first))
            for c in range(outer):
                for k in range(weight, others):
                    own[k] = first[k] + c * channel_steps[k]
                    if repeats > 0:
                        target = address_of(words_behind(repeated, (k - weight) * repeats))
                        repeat(own[k], period, target, repeats)
                        own[k] = target
                for row in range(inner):
                    for k in range(count):
                        start[k] = first[k] + c * channel_steps[k] + row * row_steps[k]
                    for k in range(weight, others):
                        start[k] = own[k]
                    base, index = addresses(start), (row * channels + c) * channel_stride
                    begin, channel = 0, 0
                    while begin < stretch:
                        n = min(width, stretch - begin)
                        pointers = pointers_of(base, begin, channel)
                        is_whole = is_in_place and n == width
                        if not is_whole:
                            copy_in(base, block_steps, scratch, begin, n)
                            copy_parameters(pointers, block_steps, scratch, 0, n)
                            pointers = scratch
                        random_words = random_at(random, index + begin, index + stretch)
                        results = compute(*(random_words + load(pointers) + numbers))
                        store(pointers, results)
                        if not is_whole:
                            copy_out(base, block_steps, scratch, begin, n)
                        begin += width
                        channel += advance
                        if channel >= period:
                            channel -= period

    return loop


def channel_sums(
    operation: Callable[..., Any],
    operands: Operands,
    sums: int = 1,
    is_random: bool = False,
    per_channel: int = 1,
    is_memory_bound: bool = True,
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
        The memory layout of all operands but the random ones and the sums. There is a partial sum for each lane of its
        vectors, which are as wide on every processor.
    sums : int, default 1
        How many of the last results are summed; the others are stored.
    is_random : bool, default False
        Whether the operation takes random numbers.
    per_channel : int, default 1
        How many parameters have one value per channel.
    is_memory_bound : bool, default True
        Whether memory bandwidth is the bottleneck.
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
    is_contiguous, take_steps = operands.is_contiguous, _taking_steps(operands, per_channel)
    blocks = Blocks(operands, MEMORY_BOUND_UNROLL_FACTOR)
    reserve_blocks, width, copy_out = blocks.reserve, blocks.width, blocks.copy_out
    copy_in = blocks.copy(range(weight), inward=True, skips_broadcast=False)
    others, first_lanes, lanes = weight + per_channel, operands.first_lanes, operands.lanes
    # Random words, and bfloat16 in the order of memory, come one register at a time.
    if is_memory_bound or is_random or blocks.is_deinterleaved:
        wide_width, broadcast_wide = lanes, operands.broadcast
        load_wide, store_wide = operands.load, operands.store
    else:
        registers = lanes // lanes_of(operands.vector.dtype)
        wide = Blocks(operands, max(1, _UNROLL_FACTOR_OF_SUMS // registers))
        wide_width, broadcast_wide = wide.width, wide.broadcast
        pointers_at, load_block, store_block = wide.pointers_at, wide.load_arrays, wide.store
        load_wide = internal(lambda base, i: load_block(pointers_at(base, i)))
        store_wide = internal(lambda base, i, outputs: store_block(pointers_at(base, i), outputs))
    load_with_weights = operands.load_of(range(others))
    broadcast_others = operands.broadcast_of(range(others, inputs))
    store_whole = operands.store
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
            parameters = broadcast_wide(base)
            end = index + length
            whole = length - length % wide_width
            for i in range(0, whole, wide_width):
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load_wide(base, i) + parameters))
                store_wide(base, i, stored(results))
                total = add_to_totals(total, results, wide_width)
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
        for i in range(0, channels, lanes):
            clear(totals, double * i, channels - i)
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
        taken, are_neighbours = take_steps(core, length, row_steps, channel_steps, inner_steps)
        sum_steps = words_behind(core, taken)
        for k in range(sums):
            are_neighbours = are_neighbours and sum_steps[k] == double
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
