"""The loops over rows: functions of each number and of sums over its row.

A row is gone through three times while it is in the processor's cache: for its largest number, for the sums, and
for the results. Each row is one thread's, and its sums are taken in float64 in an order that depends on its
length alone, so that results depend neither on threads nor on strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from fastact.simd import halves_to_double, isnan, largest_lane, select, sum_lanes
from fastact.simd.blocks import Blocks
from fastact.simd.lowering import Vector, internal
from fastact.simd.memory import all_of, number_at, stack, words, words_behind, zeros_of
from fastact.simd.operands import Operands
from fastact.simd.storage import Storage
from fastact.vecmath.logarithm import log1p
from fastact.vecmath.products import difference_and_exp

# Three sums in float64 are kept beside a block.
_REGISTERS = 4


class Row(NamedTuple):
    """What is known of a row, when its results are computed.

    Attributes
    ----------
    total : float
        The sum of ``exp((x - top) / temperature)``, where `top` is the largest number.
    log_total : float
        Its logarithm, in which nothing cancels where it is small.
    weighted : float
        The sum of the exponentials times ``dy``.
    dy_sum : float
        The sum of ``dy``.
    """

    total: Any
    log_total: Any
    weighted: Any
    dy_sum: Any


class _Access:
    """How the arrays of a loop are read and written: x or dy first, the temperature after the inputs."""

    def __init__(self, dtype: str, inputs: int, outputs: int) -> None:
        storage = Storage(dtype)
        self.operands = Operands((storage,) * (inputs + outputs), inputs, 0)
        self.blocks = Blocks(self.operands, _REGISTERS)
        self.itemsize = storage.itemsize
        #: Whether outputs keep what is computed in as it is.
        self.keeps = storage.itemsize * 8 == storage.computed_in.bitwidth
        self.temperature = number_at(storage)
        self.doubles = zeros_of(Vector(types.float64, self.blocks.width // 2))
        self.one_lane = all_of(Vector(storage.computed_in, 1), 1.0)

    def of_a_row(self) -> tuple[Any, Any]:
        """Return what fills in the addresses of a row, and what tells whether rows are contiguous."""
        inputs, count, itemsize = self.operands.inputs, self.operands.count, self.itemsize

        @internal
        def start(args: Any, steps: Any, row: int, begin: Any) -> None:
            for k in range(count):
                place = k if k < inputs else k + 1
                begin[k] = args[place] + row * steps[place]

        @internal
        def is_plain(core: Any) -> Any:
            plain = True
            for k in range(count):
                plain = plain and core[k] == itemsize
            return plain

        return start, is_plain


def rows(definition: Any, operation: str, dtype: str) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that computes whole rows.

    Parameters
    ----------
    definition : RowDefinition
        What is computed of each number.
    operation : str
        ``"forward"``, ``(n),()->(n)``, from ``x`` and the temperature to ``y``; ``"forward_backward"``,
        ``(n),(n),()->(n),(n)``, from ``x``, ``dy`` and the temperature to ``y`` and ``dx``; ``"backward"``,
        ``(n),(n),()->(n)``, from ``dy``, ``y`` and the temperature to ``dx``.
    dtype : str
        Of all operands.
    """
    if operation == "backward":
        return _from_output(definition.from_output, _Access(dtype, 2, 1), definition.of_minus_x)
    has_gradient = operation == "forward_backward"
    access = _Access(dtype, 1 + has_gradient, 1 + has_gradient)
    return _from_input(definition.function, access, has_gradient, definition.of_minus_x)


def _from_input(
    function: Any, access: _Access, has_gradient: bool, of_minus_x: bool
) -> Callable[..., None]:
    operands, blocks, one_lane = access.operands, access.blocks, access.one_lane
    count, inputs, width = operands.count, operands.inputs, blocks.width
    addresses, reserve, place = operands.addresses, blocks.reserve, blocks.place
    copy_in = blocks.copy(range(inputs), inward=True, is_spread=False)
    load, store, copy_out = blocks.load_arrays, blocks.store, blocks.copy_out
    # Padding: exponentials of 0, and no gradient.
    sign = -1 if of_minus_x else 1
    fill = blocks.fill([-math.inf * sign, 0.0][:inputs])
    lowest, doubles, temperature_at = (
        all_of(blocks.vector, -math.inf),
        access.doubles,
        access.temperature,
    )
    start, is_plain_row = access.of_a_row()
    words_for_all = stack(count)
    compute = internal(function)

    @internal
    def block_at(base: Any, core: Any, own: Any, begin: int, n: int, is_plain: Any) -> Any:
        if is_plain and begin + width <= n:
            return place(base, begin)
        fill(own)
        copy_in(base, core, own, begin, min(width, n - begin))
        return own

    @internal
    def one_row(base: Any, core: Any, own: Any, n: int, is_plain: Any, temperature: Any) -> None:
        highest = lowest()
        for begin in range(0, n, width):
            x = sign * load(block_at(base, core, own, begin, n, is_plain))[0]
            highest = select((x > highest) | isnan(x), x, highest)
        top = largest_lane(highest)

        # The largest number's own exponential is 1; without it, the others may be small.
        others, weighted, dy_sum, equal = doubles(), doubles(), doubles(), doubles()
        for begin in range(0, n, width):
            arrays = load(block_at(base, core, own, begin, n, is_plain))
            x = sign * arrays[0]
            _, e = difference_and_exp(x, top, temperature)
            is_top = x == top
            others += halves_to_double(select(is_top, 0, e))
            equal += halves_to_double(select(is_top, e, 0))
            if has_gradient:
                weighted += halves_to_double(e * arrays[-1])
                dy_sum += halves_to_double(arrays[-1])
        rest = sum_lanes(others) + (sum_lanes(equal) - 1)
        log_total = sum_lanes(log1p(rest * one_lane()))
        row = Row(1 + rest, log_total, sum_lanes(weighted), sum_lanes(dy_sum))

        for begin in range(0, n, width):
            pointers = block_at(base, core, own, begin, n, is_plain)
            arrays = load(pointers)
            difference, e = difference_and_exp(sign * arrays[0], top, temperature)
            y, dx = compute(e, difference, arrays[-1], row)
            if has_gradient:
                dx = sign * dx
                store(pointers, (y, dx / temperature if temperature != 1 else dx))
            else:
                store(pointers, (y,))
            if not (is_plain and begin + width <= n):
                copy_out(base, core, own, begin, min(width, n - begin))

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args, n, own, begin = words(arguments), dimensions[1], reserve(), words_for_all()
        core = words_behind(steps, count + 1)
        is_plain = is_plain_row(core)
        for row in range(dimensions[0]):
            start(args, steps, row, begin)
            temperature = temperature_at(args[inputs] + row * steps[inputs])
            one_row(addresses(begin), core, own, n, is_plain, temperature)

    return loop


def _from_output(function: Any, access: _Access, of_minus_x: bool) -> Callable[..., None]:
    operands, blocks = access.operands, access.blocks
    count, inputs, width = operands.count, operands.inputs, blocks.width
    addresses, reserve, place = operands.addresses, blocks.reserve, blocks.place
    copy_in = blocks.copy(range(inputs), inward=True, is_spread=False)
    load, store, copy_out = blocks.load_arrays, blocks.store, blocks.copy_out
    fill, sign = blocks.fill([0.0, 0.0]), -1 if of_minus_x else 1
    doubles, temperature_at = access.doubles, access.temperature
    start, is_plain_row = access.of_a_row()
    words_for_all = stack(count)
    compute = internal(function)

    @internal
    def block_at(base: Any, core: Any, own: Any, begin: int, n: int, is_plain: Any) -> Any:
        if is_plain and begin + width <= n:
            return place(base, begin)
        fill(own)
        copy_in(base, core, own, begin, min(width, n - begin))
        return own

    @internal
    def one_row(base: Any, core: Any, own: Any, n: int, is_plain: Any, temperature: Any) -> None:
        weighted, dy_sum = doubles(), doubles()
        for begin in range(0, n, width):
            dy, y = load(block_at(base, core, own, begin, n, is_plain))
            weighted += halves_to_double(dy * y)
            dy_sum += halves_to_double(dy)
        row = Row(1.0, 0.0, sum_lanes(weighted), sum_lanes(dy_sum))
        for begin in range(0, n, width):
            pointers = block_at(base, core, own, begin, n, is_plain)
            dy, y = load(pointers)
            dx = sign * compute(dy, y, row)
            store(pointers, (dx / temperature if temperature != 1 else dx,))
            if not (is_plain and begin + width <= n):
                copy_out(base, core, own, begin, min(width, n - begin))

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args, n, own, begin = words(arguments), dimensions[1], reserve(), words_for_all()
        core = words_behind(steps, count + 1)
        is_plain = is_plain_row(core)
        for row in range(dimensions[0]):
            start(args, steps, row, begin)
            temperature = temperature_at(args[inputs] + row * steps[inputs])
            one_row(addresses(begin), core, own, n, is_plain, temperature)

    return loop
