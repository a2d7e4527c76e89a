"""How loops over rows read and write: for functions of each number and of sums over its row.

A row is gone through several times while it is in the processor's cache. Each row is one thread's, and its sums
are taken in an order that depends on its length alone, so that results depend neither on threads nor on strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numba import types

from fastact.kernels.kernel import Kernel
from fastact.simd import any_lane, isnan, largest_lane, select
from fastact.simd.blocks import Blocks
from fastact.simd.compilable import internal
from fastact.simd.lowering import Vector, lanes_of
from fastact.simd.memory import (
    Scratch,
    address_of,
    all_of,
    finish_streaming,
    number_at,
    set_number_at,
    stack,
    words,
    words_behind,
    zeros_of,
)
from fastact.simd.operands import Operands
from fastact.simd.storage import Storage

#: A register of sums.
DOUBLES = Vector(types.float64, lanes_of(types.float64))
# Sums are kept beside a block. Short rows would leave most of a wide one empty, and have one narrow one.
_WIDE, _NARROW = 4, 2
# What is computed for each number, and needed again, stays in the second cache: 256 KiB. On 64 rows of 32,000 or
# 50,257 the cross-entropy with its gradient takes a fifth less than with 64 KiB, where it computes exponentials
# twice, the softmax with its gradient a tenth less (Zen 4); 512 KiB gain nothing on rows of 100,000.
_KEPT_BYTES = 2**18


class Place(NamedTuple):
    """Where a row is.

    Attributes
    ----------
    base : tuple of addresses
        Where each operand that is a row begins.
    core : words
        The distances of its numbers, in bytes.
    own : tuple of addresses
        Memory for one block of each.
    kept : pointer
        Memory for a number of each place.
    numbers : words
        The addresses of the operands that are numbers.
    n : int
        How long the row is.
    is_plain : bool
        Whether all numbers are neighbours.
    is_streaming : bool
        Whether results should go past the caches.
    to_next : words
        The distances to the next row, in bytes.
    """

    base: Any
    core: Any
    own: Any
    kept: Any
    numbers: Any
    n: Any
    is_plain: Any
    is_streaming: Any
    to_next: Any


class Rows:
    """Access to the operands of one loop over rows, as functions for Numba-compiled code.

    Parameters
    ----------
    kernel : Kernel
        Its operands of core dimension ``(n)`` are rows; the others are scalars beside them.
    dtype : str
        The kernel's.
    registers : int
        How many registers a block has.
    are_short : bool
        Whether no row is longer than a block, nor empty: there are no loops then, and the processor works on several
        rows at once.

    Attributes
    ----------
    inputs : int
        How many rows are read.
    width : int
        How many numbers a block has.
    vector : Vector
        A block.
    kept : Scratch
        Memory for a number of each place of a row, but of a long one.
    places_in_block : callable
        Gives the place in a block of each of its numbers.
    is_double : bool
        Whether the rows are computed in float64.
    internal : callable
        Compiles a function that the algorithm calls.
    zeros, doubles : callable
        Give a block of zeros, and one register of float64 zeros for sums.
    one_double : callable
        Gives a vector of one lane of float64 that holds 1.
    element_at, address_of : callable
        Read an element at an address, and turn a pointer into an address.
    """

    def __init__(
        self,
        kernel: Kernel,
        dtype: str,
        registers: int,
        are_short: bool,
    ) -> None:
        self._are_short = are_short
        self._dtype = dtype
        operands = kernel.operands
        self._rows = [each for each in operands if each.core]
        self._numbers = [each for each in operands if not each.core]
        self._count = len(operands)
        self._places = tuple(k for k, each in enumerate(operands) if each.core)
        self._number_places = tuple(k for k, each in enumerate(operands) if not each.core)
        self.inputs = sum(bool(each.core) for each in kernel.inputs)
        self.storage = Storage(dtype)
        self._operands = Operands((self.storage,) * len(self._rows), self.inputs, 0)
        self._blocks = Blocks(self._operands, registers)
        self.width = self._blocks.width
        self.vector = self._blocks.vector
        self.places_in_block = self._blocks.element_indices
        self.is_double = self.storage.computed_in == types.float64
        self.internal = internal
        self.zeros, self.doubles = zeros_of(self.vector), zeros_of(DOUBLES)
        self.one_double = all_of(Vector(types.float64, 1), 1.0)
        self.element_at, self.address_of = number_at(self.storage), address_of
        self.kept = Scratch(self.vector, 8 * _KEPT_BYTES // int(self.vector.dtype.bitwidth))

    def index(self, name: str) -> int:
        """Return the place of a row among those that are read, or the last if it is not there."""
        names = [each.name for each in self._rows[: self.inputs]]
        return names.index(name) if name in names else -1

    def has(self, name: str) -> bool:
        """Return whether there is an operand of this name."""
        return any(each.name == name for each in (*self._rows, *self._numbers))

    def one_lane(self, number: float) -> Any:
        """Return a function that gives a vector of one lane, of the type that is computed in."""
        return all_of(Vector(self.storage.computed_in, 1), number)

    def padding(self, name: str, number: float) -> list[float]:
        """Return what rows are filled up with: this number for one of them, 0 for the others."""
        return [number if k == self.index(name) else 0.0 for k in range(self.inputs)]

    def number(self, name: str) -> Any:
        """Return a function that reads a number beside the row."""
        k = [each.name for each in self._numbers].index(name)
        read = number_at(Storage(self._numbers[k].dtype(self._dtype)))
        return internal(lambda row: read(row.numbers[k]))

    def integer(self, name: str) -> Any:
        """Return a function that reads a number beside the row that is of type intp."""
        k = [each.name for each in self._numbers].index(name)
        return internal(lambda row: words(row.numbers[k])[0])

    def set_number(self, name: str) -> Any:
        """Return a function that writes a number beside the row."""
        k = [each.name for each in self._numbers].index(name)
        write = set_number_at(Storage(self._numbers[k].dtype(self._dtype)))
        return internal(lambda row, value: write(row.numbers[k], value))

    def prepare(self, padding: Sequence[float]) -> Any:
        """Return a function to call once for each row, before `fold`, with the same padding."""
        width, (fill, copy_in) = self.width, self._padded(padding)
        are_short, has_masked_moves = self._are_short, self._blocks.has_masked_moves

        @internal
        def prepare(row: Any) -> None:
            """Copy what is less than a block, for all the times that the row is gone through."""
            if are_short:
                if not (row.is_plain and (has_masked_moves or row.n == width)):
                    fill(row.own)
                    copy_in(row.base, row.core, row.own, 0, row.n)
            elif row.is_plain and row.n % width:
                fill(row.own)
                copy_in(row.base, row.core, row.own, row.n - row.n % width, row.n % width)

        return prepare

    def _padded(self, padding: Sequence[float]) -> tuple[Any, Any]:
        copy_in = self._blocks.copy(range(self.inputs), inward=True, skips_broadcast=False)
        return self._blocks.fill(padding[: self.inputs]), copy_in

    def _load_short(self, padding: Sequence[float]) -> Any:
        """Return a function that loads a row that is no longer than a block, padded: ``load(row)``."""
        width, place, load = self.width, self._blocks.pointers_at, self._blocks.load_arrays
        load_some = self._blocks.load_some(range(self.inputs), padding)
        has_masked_moves = self._blocks.has_masked_moves

        @internal
        def load_short(row: Any) -> Any:
            if row.is_plain and row.n == width:
                return load(place(row.base, 0))
            if row.is_plain and has_masked_moves:
                return load_some(place(row.base, 0), row.n)
            return load(row.own)

        return load_short

    def fold(
        self, step: Callable[..., Any], padding: Sequence[float], prefetches: bool = False
    ) -> Any:
        """Return a function that goes through a row, block by block: ``fold(row, start, state)``.

        Parameters
        ----------
        step : callable
            Takes a block of each row that is read, its place, what has come of the blocks before, and the
            state, and returns what comes of it.
        padding : sequence of float
            What each row that is read is filled up with to whole blocks.
        """
        width, place, load = self.width, self._blocks.pointers_at, self._blocks.load_arrays
        fill, copy_in = self._padded(padding)
        one_step, prefetch_further = internal(step), self._blocks.prefetch_further

        load_row = self._load_short(padding)

        @internal
        def of_short(row: Any, start: Any, state: Any) -> Any:
            return one_step(load_row(row), 0, start, state)

        @internal
        def fold(row: Any, start: Any, state: Any) -> Any:
            result = start
            for begin in range(0, row.n, width):
                if row.is_plain:
                    pointers = place(row.base, begin) if begin + width <= row.n else row.own
                    if prefetches and row.is_streaming:
                        prefetch_further(place(row.base, begin), row.to_next)
                else:
                    fill(row.own)
                    copy_in(row.base, row.core, row.own, begin, min(width, row.n - begin))
                    pointers = row.own
                result = one_step(load(pointers), begin, result, state)
            return result

        return of_short if self._are_short else fold

    def largest(self, name: str, sign: int, padding: Sequence[float]) -> Any:
        """Return a function that finds a row's largest number, or that of its negative: ``largest(row)``."""
        k, lowest = self.index(name), all_of(self.vector, -math.inf)

        def step(arrays: Any, begin: Any, highest: Any, state: Any) -> Any:
            x = sign * arrays[k]
            return select(x > highest, x, highest)  # as if there were no NaN

        fold = self.fold(step, padding)
        return internal(lambda row: largest_lane(fold(row, lowest(), 0)))

    def has_nan(self, name: str, padding: Sequence[float]) -> Any:
        """Return a function that says whether any number of a row is NaN: ``has_nan(row)``."""
        k = self.index(name)

        def step(arrays: Any, begin: Any, found: Any, state: Any) -> Any:
            return found or any_lane(isnan(arrays[k]))

        fold = self.fold(step, padding)
        return internal(lambda row: fold(row, False, 0))

    def write(self, compute: Callable[..., Any]) -> Any:
        """Return a function that writes a row's results, block by block: ``write(row, state)``.

        Parameters
        ----------
        compute : callable
            Takes a block of each row that is read, its place, and the state, and returns a block of each row
            that is written.
        """
        width, blocks = self.width, self._blocks
        place, load, store, stream = (
            blocks.pointers_at,
            blocks.load_arrays,
            blocks.store,
            blocks.stream,
        )
        copy_in = blocks.copy(range(self.inputs), inward=True, skips_broadcast=False)
        copy_out, elements_to_alignment = blocks.copy_out, blocks.elements_to_alignment
        results, keeps_order = internal(compute), self.storage.name != "bfloat16"

        load_row, store_some = self._load_short([0.0] * self.inputs), blocks.store_some
        has_masked_moves = blocks.has_masked_moves

        @internal
        def write_short(row: Any, state: Any) -> None:
            outputs = results(load_row(row), 0, state)
            if row.is_plain and row.n == width:
                store(place(row.base, 0), outputs)
            elif row.is_plain and has_masked_moves:
                store_some(place(row.base, 0), outputs, row.n)
            else:
                store(row.own, outputs)
                copy_out(row.base, row.core, row.own, 0, row.n)

        @internal
        def write(row: Any, state: Any) -> None:
            head = -1
            if row.is_plain and row.is_streaming:
                head = elements_to_alignment(row.base)
                if head > 0:
                    # A block of float16 may be half a register. Those of bfloat16 have an order of their own,
                    # in which `kept` has them where the row begins.
                    head = head % width if keeps_order else -1
            has_tail = row.is_plain and head <= 0  # `prepare` has copied it
            begin, end = 0, min(row.n, head if head > 0 else width)
            while begin < row.n:
                if row.is_plain and end - begin == width:
                    pointers = place(row.base, begin)
                    outputs = results(load(pointers), begin, state)
                    if head >= 0:
                        stream(pointers, outputs)
                    else:
                        store(pointers, outputs)
                else:
                    if not has_tail:
                        copy_in(row.base, row.core, row.own, begin, end - begin)
                    store(row.own, results(load(row.own), begin, state))
                    copy_out(row.base, row.core, row.own, begin, end - begin)
                begin, end = end, min(row.n, end + width)

        return write_short if self._are_short else write

    def loop(self, one_row: Any) -> Callable[..., None]:
        """Return the loop of the ufunc: it runs this function for the `Place` of every row."""
        count, inputs, itemsize = len(self._rows), self.inputs, self.storage.itemsize
        operands, places, number_places = self._count, self._places, self._number_places
        numbers_count = len(number_places)
        reserve, reserve_kept, addresses = (
            self._blocks.reserve,
            self.kept.reserve,
            self._operands.addresses,
        )
        reserve_begin, reserve_numbers = stack(count), stack(numbers_count)
        reserve_next = stack(count)

        def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
            args, n, own, kept = words(arguments), dimensions[1], reserve(), reserve_kept()
            begin, numbers, to_next = reserve_begin(), reserve_numbers(), reserve_next()
            core = words_behind(steps, operands)  # core steps follow those from row to row
            is_plain = True
            for k in range(count):
                is_plain = is_plain and core[k] == itemsize
                to_next[k] = steps[places[k]]
            # Where results replace inputs, the caches have their lines anyway.
            is_streaming = address_of(data) != 0
            for i in range(inputs):
                for o in range(inputs, count):
                    is_streaming = is_streaming and args[places[i]] != args[places[o]]
            for i in range(dimensions[0]):
                for k in range(count):
                    begin[k] = args[places[k]] + i * steps[places[k]]
                for k in range(numbers_count):
                    numbers[k] = args[number_places[k]] + i * steps[number_places[k]]
                base = addresses(begin)
                one_row(Place(base, core, own, kept, numbers, n, is_plain, is_streaming, to_next))
            if is_streaming:
                finish_streaming()

        return loop


def rows(
    algorithm: Callable[[Rows], Callable[..., None]], kernel: Kernel, dtype: str
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc over rows, which has wide blocks for long rows, narrow ones for short.

    Parameters
    ----------
    algorithm : callable
        Returns for a `Rows` the function that computes one row.
    kernel : Kernel
        Its operands.
    dtype : str
        The dtype of its rows.
    """
    wide = Rows(kernel, dtype, _WIDE, are_short=False)
    narrow = Rows(kernel, dtype, _NARROW, are_short=True)
    of_long, of_short = (internal(each.loop(internal(algorithm(each)))) for each in (wide, narrow))
    most = narrow.width

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        if 0 < dimensions[1] <= most:
            of_short(arguments, dimensions, steps, data)
        else:
            of_long(arguments, dimensions, steps, data)

    return loop
