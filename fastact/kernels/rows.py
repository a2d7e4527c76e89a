"""Loops over rows, for functions of each element and of sums over its row.

Every pass over a row finds it in the processor's cache. A row belongs to one thread, and the order of its sums depends
only on its length, so results depend neither on threads nor on strides. Very long rows of exponentials come in chunks, as
rows of kernels of their own (`fastact.arrays.long_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numba import types

from fastact.kernels.kernel import Kernel, Operand, Rows
from fastact.simd import any_lane, fold_to_double, isnan, largest_lane, select, sum_lanes
from fastact.simd.blocks import Blocks
from fastact.simd.compilable import internal
from fastact.simd.lowering import Vector, lanes_of_sums
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
from fastact.simd.sums import Sums

#: Accumulators in float64.
DOUBLES = Vector(types.float64, lanes_of_sums(types.float64))
# Blocks in vectors of `BYTES_OF_SUMS`: where that is one register, accumulators need some as well. Short rows would leave
# most of a wide block empty, so they are one narrow block each. A block is as long on every processor, and its halves are
# summed, so that neither the processor nor the padding changes a sum.
_WIDE, _NARROW, _NARROWEST = 4, 2, 1
# Per-element results needed in a later pass are cached in up to 256 KiB, which fits L2. On 64 rows of 32,000 or 50,257,
# the cross-entropy with its gradient takes a fifth less time than with 64 KiB, where it computes exponentials twice, and
# the softmax with its gradient a tenth less (Zen 4); 512 KiB gain nothing on rows of 100,000.
_CACHED_BYTES = 2**18


class Row(NamedTuple):
    """The location of one row.

    Attributes
    ----------
    base : tuple of addresses
        The start of each operand with a row.
    core : words
        The strides within a row, in bytes.
    scratch : tuple of addresses
        Scratch buffers, one block for each operand with a row.
    cache : pointer
        The buffer of `RowAccess.cached`.
    scalars : words
        The addresses of the scalar operands.
    n : int
        The length of the row.
    end : int
        The number of elements to write, of which those from `n` on are absent.
    is_plain : bool
        Whether all operands are contiguous along the row.
    is_streaming : bool
        Whether results are written with non-temporal stores.
    to_next : words
        The strides from row to row, in bytes.
    sums : words
        The addresses of the sums over rows.
    """

    base: Any
    core: Any
    scratch: Any
    cache: Any
    scalars: Any
    n: Any
    end: Any
    is_plain: Any
    is_streaming: Any
    to_next: Any
    sums: Any


class RowAccess:
    """Access to the operands of a loop over rows, as functions for compiled code.

    Parameters
    ----------
    kernel : Kernel
        Operands with the core dimension ``n`` are rows, among them parameters after arrays, and the others scalars.
        With ``(r,n)``, one call has ``r`` rows, whose sums go to the outputs ``(n)`` of float64.
    dtype : str
        The dtype of the kernel's arrays.
    vectors : int
        The length of a block, in vectors of `lanes_of_sums`.
    are_short : bool
        Whether no row is empty or longer than a block: without loops over blocks, the processor overlaps several
        rows.

    Attributes
    ----------
    are_short : bool
        Whether a row is at most a block.
    inputs : int
        The number of rows that are read, the mask among them.
    width : int
        The number of elements of a block.
    vector : Vector
        The type of a block.
    cached : Scratch
        A buffer for one value of each element, unless the row is too long.
    positions_in_block : callable
        Returns the position of each element in its block.
    is_double : bool
        Whether rows are computed in float64.
    internal : callable
        Compiles a function for the algorithm to call.
    zeros, doubles : callable
        Return a block of zeros, and one register of float64 zeros for sums.
    one_double : callable
        Returns a float64 vector of one lane that holds 1.
    element_at, address_of : callable
        Read an element at an address, and turn a pointer into an address.
    """

    def __init__(
        self,
        kernel: Kernel,
        dtype: str,
        vectors: int,
        are_short: bool,
    ) -> None:
        assert isinstance(kernel.schedule, Rows)
        self.are_short = are_short
        self._dtype = dtype
        self._all = operands = kernel.operands
        self._sums = [each for each in kernel.outputs if each.core and each.kind == "float64"]
        self._rows = [each for each in operands if each.core and each not in self._sums]
        self._scalars = [each for each in operands if not each.core]
        self.inputs = sum(bool(each.core) for each in kernel.inputs)
        parameters = sum(each.kind == "parameter" for each in self._rows)
        self.storage = Storage(dtype)
        storages = tuple(Storage(each.dtype(dtype)) for each in self._rows)
        self._operands = Operands(storages, self.inputs - parameters, parameters)
        lanes = lanes_of_sums(self.storage.computed_in)
        self._blocks = Blocks(self._operands, vectors * lanes // self._operands.lanes)
        self.width = width = self._blocks.width
        order = tuple(k // 2 + width // 2 * (k % 2) for k in range(width))
        is_in_order = not self._blocks.is_deinterleaved
        self._totals = Sums(width, len(self._sums), None if is_in_order else order)
        self.vector = self._blocks.vector
        self.positions_in_block = self._blocks.element_indices
        self.is_double = self.storage.computed_in == types.float64
        self.internal = internal
        self.zeros, self.doubles = zeros_of(self.vector), zeros_of(DOUBLES)
        self.one_double = all_of(Vector(types.float64, 1), 1.0)
        self.element_at, self.address_of = number_at(self.storage), address_of
        self._has_mask = self.has("mask")
        self._absent = kernel.schedule.absent
        self.cached = Scratch(self.vector, 8 * _CACHED_BYTES // int(self.vector.dtype.bitwidth))

    def index(self, name: str) -> int:
        """Return the position of a row among the inputs, or -1, so that an unused row stands in for it."""
        names = [each.name for each in self._rows[: self.inputs]]
        return names.index(name) if name in names else -1

    def has(self, name: str) -> bool:
        """Return whether the kernel has an operand of this name."""
        return any(each.name == name for each in self._all)

    def one_lane(self, number: float) -> Any:
        """Return a function that returns `number` as a one-lane vector of the type that rows are computed in."""
        return all_of(Vector(self.storage.computed_in, 1), number)

    def padding(self, name: str, number: float) -> list[float]:
        """Return the padding of the input rows: `number` for the named one, 0 for the others."""
        return [number if k == self.index(name) else 0.0 for k in range(self.inputs)]

    def scalar(self, name: str) -> Any:
        """Return a function that reads a scalar operand."""
        k = [each.name for each in self._scalars].index(name)
        read = number_at(Storage(self._scalars[k].dtype(self._dtype)))
        return internal(lambda row: read(row.scalars[k]))

    def integer(self, name: str) -> Any:
        """Return a function that reads a scalar operand of type intp."""
        k = [each.name for each in self._scalars].index(name)
        return internal(lambda row: words(row.scalars[k])[0])

    def set_scalar(self, name: str) -> Any:
        """Return a function that writes a scalar operand."""
        k = [each.name for each in self._scalars].index(name)
        write = set_number_at(Storage(self._scalars[k].dtype(self._dtype)))
        return internal(lambda row, value: write(row.scalars[k], value))

    def prepare(self, padding: Sequence[float]) -> Any:
        """Return a function to be called once for each row before `fold`, with the same padding."""
        width, (fill, copy_in) = self.width, self._padded(padding)
        are_short, has_masked_moves = self.are_short, self._blocks.has_masked_moves

        @internal
        def prepare(row: Any) -> None:
            """Copy the tail to scratch once; every pass over the row reuses it."""
            if are_short:
                if not (row.is_plain and (has_masked_moves or row.n == width)):
                    fill(row.scratch)
                    copy_in(row.base, row.core, row.scratch, 0, row.n)
            elif row.is_plain and row.n % width:
                fill(row.scratch)
                copy_in(row.base, row.core, row.scratch, row.n - row.n % width, row.n % width)

        return prepare

    def _padded(self, padding: Sequence[float]) -> tuple[Any, Any]:
        copy_in = self._blocks.copy(range(self.inputs), inward=True, skips_broadcast=False)
        return self._blocks.fill(padding[: self.inputs]), copy_in

    def _load_short(self, padding: Sequence[float]) -> Any:
        """Return a function that loads a row of at most one block, padded: ``load(row)``."""
        width, pointers_at, load = self.width, self._blocks.pointers_at, self._blocks.load_inputs
        load_some = self._blocks.load_some(range(self.inputs), padding)
        has_masked_moves = self._blocks.has_masked_moves

        @internal
        def load_short(row: Any) -> Any:
            if row.is_plain and row.n == width:
                return load(pointers_at(row.base, 0))
            if row.is_plain and has_masked_moves:
                return load_some(pointers_at(row.base, 0), row.n)
            return load(row.scratch)

        return load_short

    def _numbers(self, rows: Sequence[Operand]) -> list[float | None]:
        return [self._absent.get(each.name) for each in rows]

    def _included(self) -> Any:
        """Return a function that replaces what the mask, the last of the loaded blocks, excludes."""
        replace = self._blocks.replace(self._numbers(self._rows[: self.inputs - 1]))
        return internal(lambda arrays: replace(arrays[:-1], arrays[-1]))

    def count(self) -> Any:
        """Return a function that returns the number of elements of a row that take part."""
        if not self._has_mask:
            return internal(lambda row: row.n)
        zeros, doubles = self.zeros, self.doubles

        def step(arrays: Any, begin: Any, number: Any, state: Any) -> Any:
            return number + fold_to_double(select(arrays[-1] == zeros(), 0, 1 + zeros()))

        fold = self._fold(step, [0.0] * self.inputs, False)
        return internal(lambda row: sum_lanes(fold(row, doubles(), 0)))

    def fold(
        self, step: Callable[..., Any], padding: Sequence[float], prefetches: bool = False
    ) -> Any:
        """Return a function that reduces a row block by block: ``fold(row, start, state)``.

        Parameters
        ----------
        step : callable
            Takes a block of each input row, the block's start, the result so far and the state, and returns the
            next result.
        padding : sequence of float
            The values that pad each input row to whole blocks.
        """
        if not self._has_mask:
            return self._fold(step, padding, prefetches)
        of_included, included = internal(step), self._included()
        return self._fold(
            lambda arrays, begin, result, state: of_included(
                included(arrays), begin, result, state
            ),
            padding,
            prefetches,
        )

    def _fold(self, step: Callable[..., Any], padding: Sequence[float], prefetches: bool) -> Any:
        width, pointers_at, load = self.width, self._blocks.pointers_at, self._blocks.load_inputs
        fill, copy_in = self._padded(padding)
        one_step, has_mask = internal(step), self._has_mask
        prefetch_further = self._blocks.prefetch_further

        load_row = self._load_short(padding)

        @internal
        def of_short(row: Any, start: Any, state: Any) -> Any:
            return one_step(load_row(row), 0, start, state)

        @internal
        def fold(row: Any, start: Any, state: Any) -> Any:
            result = start
            for begin in range(0, row.n, width):
                if row.is_plain:
                    pointers = (
                        pointers_at(row.base, begin) if begin + width <= row.n else row.scratch
                    )
                    # Rows that are cut short leave gaps, across which the processor does not prefetch.
                    if prefetches and (row.is_streaming or (has_mask and row.n < row.end)):
                        prefetch_further(pointers_at(row.base, begin), row.to_next)
                else:
                    fill(row.scratch)
                    copy_in(row.base, row.core, row.scratch, begin, min(width, row.n - begin))
                    pointers = row.scratch
                result = one_step(load(pointers), begin, result, state)
            return result

        return of_short if self.are_short else fold

    def largest(self, name: str, sign: int, padding: Sequence[float]) -> Any:
        """Return a function that finds the maximum of a row times `sign`, ignoring NaN: ``largest(row)``."""
        k, lowest = self.index(name), all_of(self.vector, -math.inf)

        def step(arrays: Any, begin: Any, highest: Any, state: Any) -> Any:
            x = sign * arrays[k]
            return select(x > highest, x, highest)  # ignores NaN

        fold = self.fold(step, padding)
        return internal(lambda row: largest_lane(fold(row, lowest(), 0)))

    def has_nan(self, name: str, padding: Sequence[float]) -> Any:
        """Return a function that tells whether any element of a row is NaN: ``has_nan(row)``."""
        k = self.index(name)

        def step(arrays: Any, begin: Any, found: Any, state: Any) -> Any:
            return found or any_lane(isnan(arrays[k]))

        fold = self.fold(step, padding)
        return internal(lambda row: fold(row, False, 0))

    def write(self, compute: Callable[..., Any], reads: bool = True) -> Any:
        """Return a function that writes the results of a row block by block: ``write(row, state)``.

        Parameters
        ----------
        compute : callable
            Takes a block of each input row, the block's start and the state, and returns a block of each output
            row, then of the terms of each sum over rows.
        reads : bool, default True
            Whether it takes blocks of the input rows; otherwise they are not read, and it takes ``()``.
        """
        width, blocks = self.width, self._blocks
        if self._has_mask:
            compute = self._with_absent(compute)
        pointers_at, load, store, stream = (
            blocks.pointers_at,
            blocks.load_inputs,
            blocks.store,
            blocks.stream,
        )
        copy_in = blocks.copy(range(self.inputs), inward=True, skips_broadcast=False)
        copy_out, elements_to_alignment = blocks.copy_out, blocks.elements_to_alignment
        results, keeps_order = internal(compute), self.storage.name != "bfloat16"
        has_sums, size = bool(self._sums), self._totals.size
        add_to_sums = self._totals.add_to_memory

        load_row, store_some = self._load_short([0.0] * self.inputs), blocks.store_some
        if not reads:
            load = load_row = internal(lambda place: ())
            copy_in = internal(lambda base, core, scratch, begin, count: None)
        has_masked_moves, has_mask = blocks.has_masked_moves, self._has_mask
        absent = blocks.constants(self._numbers((*self._rows[self.inputs :], *self._sums)))
        fill_mask = blocks.fill([0.0] * self.inputs)

        @internal
        def write_short(row: Any, state: Any) -> None:
            outputs = results(load_row(row), 0, state)
            if has_sums:
                add_to_sums(row.sums, 0, row.n, outputs)
            if row.is_plain and row.end == width:
                store(pointers_at(row.base, 0), outputs)
            elif row.is_plain and has_masked_moves:
                store_some(pointers_at(row.base, 0), outputs, row.end)
            else:
                store(row.scratch, outputs)
                copy_out(row.base, row.core, row.scratch, 0, row.end)

        @internal
        def write(row: Any, state: Any) -> None:
            head = -1
            if row.is_plain and row.is_streaming:
                head = elements_to_alignment(row.base)
                if head > 0:
                    # A block of float16 may be half a register. Blocks of bfloat16 are deinterleaved, and so are
                    # those in `cached`, which begin where the row does.
                    head = head % width if keeps_order else -1
            has_tail = row.is_plain and head <= 0  # `prepare` has copied it
            begin, end = 0, min(row.end, head if head > 0 else width)
            while begin < row.end:
                is_whole = row.is_plain and end - begin == width
                if is_whole and (end <= row.n or not has_mask):
                    outputs = results(load(pointers_at(row.base, begin)), begin, state)
                elif has_mask and begin >= row.n:
                    outputs = absent()
                else:
                    if not has_tail:
                        if has_mask:
                            fill_mask(row.scratch)
                        copy_in(row.base, row.core, row.scratch, begin, min(end, row.n) - begin)
                    outputs = results(load(row.scratch), begin, state)
                if is_whole and head >= 0:
                    stream(pointers_at(row.base, begin), outputs)
                elif is_whole:
                    store(pointers_at(row.base, begin), outputs)
                else:
                    store(row.scratch, outputs)
                    copy_out(row.base, row.core, row.scratch, begin, end - begin)
                if has_sums:
                    add_to_sums(row.sums, size * begin, end - begin, outputs)
                begin, end = end, min(row.end, end + width)

        return write_short if self.are_short else write

    def _with_absent(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function of all loaded blocks that writes what absent elements are.

        Those beyond the length are absent too: masks are padded with 0.
        """
        of_included, included = internal(compute), self._included()
        replace = self._blocks.replace(self._numbers(self._rows[self.inputs :]))
        return lambda arrays, begin, state: replace(
            of_included(included(arrays), begin, state), arrays[-1]
        )

    def loop(self, one_row: Any) -> Callable[..., None]:
        """Return the loop of the ufunc, which calls `one_row` with the `Row` of each row."""
        count, inputs = len(self._rows), self.inputs
        positions, scalar_positions, sum_positions = (
            tuple(map(self._all.index, some)) or (0,)  # Numba does not index an empty tuple
            for some in (self._rows, self._scalars, self._sums)
        )
        # Where each row's strides are among the core strides: from element to element, and from row to row of a call.
        before = [sum(len(each.core) for each in self._all[:k]) for k in positions]
        core_at = tuple(
            at + len(each.core) - 1 for at, each in zip(before, self._rows, strict=True)
        )
        row_at = tuple(
            at if len(each.core) == 2 else -1 for at, each in zip(before, self._rows, strict=True)
        )
        last = max(len(each.core) for each in self._rows)
        has_blocks = last == 2
        itemsizes = tuple(storage.itemsize for storage in self._operands.storages)
        operands, scalars_count, sums_count = (
            len(self._all),
            len(self._scalars),
            len(self._sums),
        )
        reserve, reserve_cache, addresses = (
            self._blocks.reserve,
            self.cached.reserve,
            self._operands.addresses,
        )
        reserve_row, reserve_scalars, reserve_sums = (
            stack(count),
            stack(scalars_count),
            stack(sums_count),
        )
        clear, size, width = self._totals.clear, self._totals.size, self.width
        length_of = self._length()

        def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
            args, n, scratch, cache = words(arguments), dimensions[last], reserve(), reserve_cache()
            rows = dimensions[1] if has_blocks else 1
            begin, core, to_next = reserve_row(), reserve_row(), reserve_row()
            scalars, sums = reserve_scalars(), reserve_sums()
            all_core = words_behind(steps, operands)  # core steps follow those from row to row
            is_plain = True
            for k in range(count):
                core[k] = all_core[core_at[k]]
                is_plain = is_plain and core[k] == itemsizes[k]
                to_next[k] = 0 if has_blocks else steps[positions[k]]
                if has_blocks and row_at[k] >= 0:
                    to_next[k] = all_core[row_at[k]]
            # In place, the cache lines are loaded anyway.
            is_streaming = address_of(data) != 0
            for i in range(inputs):
                for o in range(inputs, count):
                    is_streaming = is_streaming and args[positions[i]] != args[positions[o]]
            for i in range(dimensions[0] * rows):
                block, row = (i // rows, i % rows) if has_blocks else (i, 0)
                for k in range(count):
                    begin[k] = args[positions[k]] + block * steps[positions[k]] + row * to_next[k]
                for k in range(scalars_count):
                    scalars[k] = args[scalar_positions[k]] + block * steps[scalar_positions[k]]
                if has_blocks and row == 0:
                    for k in range(sums_count):
                        sums[k] = args[sum_positions[k]] + block * steps[sum_positions[k]]
                    for column in range(0, n, width):
                        clear(sums, size * column, n - column)
                base, length = addresses(begin), length_of(scalars, n)
                one_row(
                    Row(
                        base,
                        core,
                        scratch,
                        cache,
                        scalars,
                        length,
                        n,
                        is_plain,
                        is_streaming,
                        to_next,
                        sums,
                    )
                )
            if is_streaming:
                finish_streaming()

        return loop

    def _length(self) -> Any:
        """Return a function that returns the length of a row within its bounds."""
        names = [each.name for each in self._scalars]
        if "length" not in names:
            return internal(lambda scalars, n: n)
        k = names.index("length")
        return internal(lambda scalars, n: max(0, min(n, words(scalars[k])[0])))


def rows(
    algorithm: Callable[[RowAccess], Callable[..., None]], kernel: Kernel, dtype: str
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc over rows, with wide blocks for long rows and narrow ones for short.

    Parameters
    ----------
    algorithm : callable
        Takes a `RowAccess` and returns the function that computes one row.
    kernel : Kernel
        The kernel, for its operands.
    dtype : str
        The dtype of its rows.
    """
    wide = RowAccess(kernel, dtype, _WIDE, are_short=False)
    narrow = RowAccess(kernel, dtype, _NARROW, are_short=True)
    narrowest = RowAccess(kernel, dtype, _NARROWEST, are_short=True)
    of_long, of_short, of_shortest = (
        internal(each.loop(internal(algorithm(each)))) for each in (wide, narrow, narrowest)
    )
    most, few, last = (
        narrow.width,
        narrowest.width,
        max(len(each.core) for each in kernel.operands),
    )

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        n = dimensions[last]
        if 0 < n <= few:
            of_shortest(arguments, dimensions, steps, data)
        elif 0 < n <= most:
            of_short(arguments, dimensions, steps, data)
        else:
            of_long(arguments, dimensions, steps, data)

    return loop
