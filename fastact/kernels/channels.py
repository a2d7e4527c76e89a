"""The elementwise loop with per-channel sums of one more result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastact.kernels.random_operands import NoRandomOperands, RandomOperands
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
    is_random: bool = False,
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc with per-channel sums.

    Its signature is ``(),(),(),(),(n,c,s),...,(c),(),...->(n,c,s),...,(c)``: key, index of the first element,
    threshold, and the distance between the indices of adjacent channels, which exceeds ``s`` in a part of a longer
    array (these four only if it is random); arrays, a parameter with one value per channel, other parameters, results
    of the arrays' shape, and float64 sums of the operation's last result over ``n`` and ``s``. Arrays are copied block
    by block unless the last dimension, or with ``s`` equal to 1 the channels, are contiguous.

    Parameters
    ----------
    operation : callable
        Takes random words and the threshold (only if it is random), and one vector for each input; returns the
        results, the one to be summed last.
    operands : Operands
        The memory layout of all operands but the random ones and the sums.
    has_sums : bool, default True
        Whether the last result is summed; otherwise all results are stored.
    is_random : bool, default False
        Whether the operation takes random numbers.
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
                if has_sums:
                    total += to_double(results[-1])
            for i in range(whole, length, lanes):
                mask = first_lanes(length - i)
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load(base, steps, i, mask)))
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
        """Run rows of adjacent channels, with one sum in memory for each."""
        steps = reserve()
        for k in range(count):
            steps[k] = itemsize if k < weight or k >= inputs else 0
        steps[weight] = weight_itemsize
        whole = channels - channels % lanes
        random, index, end = begin_random(source), 0, rows * channels
        for _ in range(rows):
            base = addresses(start)
            others = broadcast_others(base)
            for i in range(0, whole, lanes):
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load_with_weight(base, i) + others))
                store_whole(base, i, stored(results))
                if has_sums:
                    address = total + double * i
                    so_far = load_sums(address, double, first_lanes(lanes))
                    store_sums(address, double, first_lanes(lanes), so_far + to_double(results[-1]))
            for i in range(whole, channels, lanes):
                mask = first_lanes(channels - i)
                random_words = random_at(random, index + i, end)
                results = compute(*(random_words + load(base, steps, i, mask)))
                store(base, steps, i, mask, stored(results))
                if has_sums:
                    core_index = total + double * i
                    so_far = load_sums(core_index, double, mask)
                    store_sums(core_index, double, mask, so_far + to_double(results[-1]))
            for k in range(count):
                start[k] += row_steps[k]
            index += channels

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        rows, channels, length = dimensions[1], dimensions[2], dimensions[3]
        start, window = reserve(), reserve_window()
        row_steps, channel_steps, inner_steps = reserve(), reserve(), reserve()
        core = words_behind(steps, leading + (count + 1 if has_sums else count))
        core_index = 0
        for k in range(count):
            row_steps[k] = channel_steps[k] = inner_steps[k] = 0
            if k < weight or k >= inputs:
                row_steps[k], channel_steps[k] = core[core_index], core[core_index + 1]
                inner_steps[k] = core[core_index + 2]
                core_index += 3
            elif k == weight:
                channel_steps[k] = core[core_index]
                core_index += 1
        sum_step = core[core_index] if has_sums else double
        are_neighbours = length == 1 and sum_step == double
        for k in range(count):
            step = itemsize if k < weight or k >= inputs else weight_itemsize if k == weight else 0
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
            total = args[leading + count] + loop_step * steps[leading + count] if has_sums else 0
            if are_neighbours and channel_stride == 1:
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
                if has_sums:
                    answer = sum_lanes(lanes_total) + zeros()
                    store_sums(total + c * sum_step, double, first_lanes(1), answer)

    return loop
