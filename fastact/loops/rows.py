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

from fastact.simd import halves_to_double, largest_lane, select, sum_lanes
from fastact.simd.blocks import Blocks
from fastact.simd.lowering import Vector, internal
from fastact.simd.memory import all_of, number_at, stack, words, words_behind, zeros_of
from fastact.simd.operands import Operands
from fastact.simd.storage import Storage
from fastact.vecmath.logarithm import log1p
from fastact.vecmath.products import difference_and_exp

# Three sums in float64 are kept beside a block. Short rows would leave most of a wide one empty.
_WIDE, _NARROW = 4, 1
_NARROW_BLOCKS = 2


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

    def __init__(self, dtype: str, inputs: int, outputs: int, registers: int) -> None:
        storage = Storage(dtype)
        self.operands = Operands((storage,) * (inputs + outputs), inputs, 0)
        self.blocks = Blocks(self.operands, registers)
        self.itemsize = storage.itemsize
        #: Whether outputs keep what is computed in as it is.
        self.keeps = storage.itemsize * 8 == storage.computed_in.bitwidth
        self.temperature = number_at(Storage(str(storage.computed_in)))
        self.doubles = zeros_of(Vector(types.float64, self.blocks.width // 2))
        self.one_lane = all_of(Vector(storage.computed_in, 1), 1.0)

    def block_at(self, padding: list[float]) -> _BlocksOfRow:
        """Return how the blocks of a row are found, with this padding behind the last number."""
        blocks, width, inputs = self.blocks, self.blocks.width, self.operands.inputs
        fill, place, copy_out = blocks.fill(padding), blocks.place, blocks.copy_out
        copy_in = blocks.copy(range(inputs), inward=True, is_spread=False)

        @internal
        def prepare_tail(base: Any, core: Any, own: Any, n: int, is_plain: Any) -> None:
            """Copy what is less than a block, for all the times that the row is gone through."""
            if is_plain and n % width:
                fill(own)
                copy_in(base, core, own, n - n % width, n % width)

        @internal
        def block_at(base: Any, core: Any, own: Any, begin: int, n: int, is_plain: Any) -> Any:
            if is_plain:
                return place(base, begin) if begin + width <= n else own
            fill(own)
            copy_in(base, core, own, begin, min(width, n - begin))
            return own

        @internal
        def give_back(base: Any, core: Any, own: Any, begin: int, n: int, is_plain: Any) -> None:
            """Copy results to where they belong."""
            if not (is_plain and begin + width <= n):
                copy_out(base, core, own, begin, min(width, n - begin))

        return _BlocksOfRow(prepare_tail, block_at, give_back)

    def over_rows(self, one_row: Any) -> Callable[..., None]:
        """Return the loop of the ufunc: it runs this function for every row."""
        count, inputs, itemsize = self.operands.count, self.operands.inputs, self.itemsize
        reserve, words_for_all, addresses = (
            self.blocks.reserve,
            stack(count),
            self.operands.addresses,
        )
        temperature_at = self.temperature

        def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
            args, n, own, begin = words(arguments), dimensions[1], reserve(), words_for_all()
            core = words_behind(steps, count + 1)  # core steps follow those from row to row
            is_plain = True
            for k in range(count):
                is_plain = is_plain and core[k] == itemsize
            for row in range(dimensions[0]):
                for k in range(count):
                    place = k if k < inputs else k + 1
                    begin[k] = args[place] + row * steps[place]
                temperature = temperature_at(args[inputs] + row * steps[inputs])
                one_row(addresses(begin), core, own, n, is_plain, temperature)

        return loop


class _BlocksOfRow(NamedTuple):
    """How the blocks of a row are found, as functions for compiled code."""

    prepare_tail: Any
    block_at: Any
    give_back: Any


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
    make = _from_output if operation == "backward" else _from_input
    arrays = {"forward": (1, 1), "backward": (2, 1), "forward_backward": (2, 2)}[operation]
    of_long, of_short = (
        internal(make(definition, _Access(dtype, *arrays, registers)))
        for registers in (_WIDE, _NARROW)
    )
    short = _NARROW_BLOCKS * Storage(dtype).vector.lanes

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        if dimensions[1] <= short:
            of_short(arguments, dimensions, steps, data)
        else:
            of_long(arguments, dimensions, steps, data)

    return loop


def _from_input(definition: Any, access: _Access) -> Callable[..., None]:
    has_gradient = access.operands.inputs > 1
    operands, blocks, one_lane = access.operands, access.blocks, access.one_lane
    inputs, width = operands.inputs, blocks.width
    takes_logarithm = definition.takes_logarithm
    # Exponentials stay in y, which may be x itself, where x is not asked for again.
    keeps = access.keeps and not takes_logarithm
    sign = -1 if definition.of_minus_x else 1
    # Padding: exponentials of 0, and no gradient.
    at = access.block_at([-math.inf * sign, 0.0][:inputs])
    prepare_tail, block_at, give_back = at.prepare_tail, at.block_at, at.give_back
    load, store = blocks.load_arrays, blocks.store
    load_kept, keep = blocks.load(range(inputs, inputs + 1)), blocks.store_first
    lowest, zeros = all_of(blocks.vector, -math.inf), zeros_of(blocks.vector)
    doubles = access.doubles
    compute = internal(definition.function)

    @internal
    def one_row(base: Any, core: Any, own: Any, n: int, is_plain: Any, temperature: Any) -> None:
        prepare_tail(base, core, own, n, is_plain)
        highest = lowest()
        for begin in range(0, n, width):
            x = sign * load(block_at(base, core, own, begin, n, is_plain))[0]
            highest = select(x > highest, x, highest)  # a NaN comes into the sums
        top = largest_lane(highest)

        others, weighted, dy_sum, equal = doubles(), doubles(), doubles(), zeros()
        for begin in range(0, n, width):
            pointers = block_at(base, core, own, begin, n, is_plain)
            arrays = load(pointers)
            x = sign * arrays[0]
            _, e = difference_and_exp(x, top, temperature)
            if keeps and is_plain:
                keep(pointers, e)
            if has_gradient:
                weighted += halves_to_double(e * arrays[-1])
                dy_sum += halves_to_double(arrays[-1])
            if takes_logarithm:
                # The largest number's own exponential is 1; the sum of the others may be small.
                equal += select(x == top, e, 0)
                e = select(x == top, 0, e)
            others += halves_to_double(e)
        if takes_logarithm:
            rest = sum_lanes(others) + (sum_lanes(halves_to_double(equal)) - 1)
            log_total = sum_lanes(log1p(rest * one_lane()))
        else:
            rest, log_total = sum_lanes(others) - 1, 0.0
        row = Row(1 + rest, log_total, sum_lanes(weighted), sum_lanes(dy_sum))

        for begin in range(0, n, width):
            pointers = block_at(base, core, own, begin, n, is_plain)
            arrays = load(pointers)
            difference, e = difference_and_exp(sign * arrays[0], top, temperature)
            if keeps and is_plain:
                e = load_kept(pointers)[0]
            y, dx = compute(e, difference, arrays[-1], row)
            if has_gradient:
                dx = sign * dx
                store(pointers, (y, dx / temperature if temperature != 1 else dx))
            else:
                store(pointers, (y,))
            give_back(base, core, own, begin, n, is_plain)

    return access.over_rows(one_row)


def _from_output(definition: Any, access: _Access) -> Callable[..., None]:
    blocks, width = access.blocks, access.blocks.width
    at, sign = access.block_at([0.0, 0.0]), -1 if definition.of_minus_x else 1
    prepare_tail, block_at, give_back = at.prepare_tail, at.block_at, at.give_back
    load, store, doubles = blocks.load_arrays, blocks.store, access.doubles
    compute = internal(definition.from_output)

    @internal
    def one_row(base: Any, core: Any, own: Any, n: int, is_plain: Any, temperature: Any) -> None:
        prepare_tail(base, core, own, n, is_plain)
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
            give_back(base, core, own, begin, n, is_plain)

    return access.over_rows(one_row)
