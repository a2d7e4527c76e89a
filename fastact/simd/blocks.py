"""The operands of an elementwise loop in blocks: several registers of each at a time.

A kernel is one long chain of dependent instructions, and a processor looks ahead only so far: with one
register at a time it finds about four chains to work on at once, which leaves half of its arithmetic
units idle. A block is one vector that is as wide as several registers, and each of its operations is an
instruction for each of them, side by side. It takes a third off the time of sigmoid, tanh and their like
(AMD Zen 5, 8 registers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastact.simd.lowering import Vector, call_llvm, constant, places, splat
from fastact.simd.operands import Operands
from fastact.simd.storage import (
    BYTE,
    INDEX,
    emit_broadcast,
    emit_copy,
    emit_load,
    emit_load_apart,
    emit_store,
    emit_store_together,
    number,
)
from fastact.system.target import TARGET

# A kernel needs about four registers for each chain, next to its constants.
REGISTERS = TARGET.vector_registers // 4
# One of few instructions waits for memory only. In wide blocks it runs out of registers for masks: relu takes
# 8.4 cycles a register instead of 6.0 (in the second-level cache).
REGISTERS_OF_SHORT_ONES = 2
# How far ahead long kernels ask for their inputs where these come from memory, in bytes: a block's instructions
# fill all that the processor looks ahead over, and it would not see the next block's loads in time. It takes a
# fifth off the time of tanh and a sixth off that of silu (2 * 10**7 elements); relu would gain nothing.
_PREFETCH_DISTANCE = 2048
_LINE = 64


class Blocks:
    """Access to blocks of the operands of one ufunc loop, as functions for Numba-compiled code.

    A block is loaded from where its operands lie, or, where they do not lie side by side or are fewer
    than a block holds, from memory of the loop's own, to which they are copied.

    Parameters
    ----------
    operands : Operands
        How the operands lie in memory.
    registers : int
        How many registers a block of one operand has.
    """

    def __init__(self, operands: Operands, registers: int) -> None:
        self._operands = operands
        self._storages = operands.storages
        self._inputs = range(operands.inputs)
        self._outputs = range(operands.inputs, operands.count)
        self._is_parameter = range(operands.arrays, operands.inputs)
        self._pointers = types.UniTuple(types.voidptr, operands.count)
        #: How many elements a block has.
        self.width = operands.lanes * registers
        self.vector = Vector(operands.vector.dtype, self.width)
        # Copies to own memory write whole registers; see `emit_copy`.
        sizes = [self.width * storage.itemsize for storage in self._storages]
        assert all(size % TARGET.vector_bytes == 0 for size in sizes), sizes
        #: Whether blocks hold those at even places, then those at odd ones: bfloat16 is taken in pairs, in the
        #: order of what `emit_load_apart` gives.
        self.is_apart = self._storages[0].name == "bfloat16"

        self.reserve = self._reserve()
        self.spread = self._spread()
        self.place = self._place()
        self.prefetch = self._prefetch()
        self.prefetch_further = self._prefetch_further()
        self.copy_in = self.copy(self._inputs, inward=True)
        self.copy_out = self.copy(self._outputs, inward=False)
        self.load_arrays = self.load(range(operands.arrays))
        self.load_inputs = self.load(self._inputs)
        self.places = self._places()
        self.have_one_value, self.broadcast = self._have_one_value(), self._broadcast()
        self.store = self._store(streaming=False)
        self.stream = self._store(streaming=True)
        self.store_some = self._store_some()
        self.elements_to_alignment = self._elements_to_alignment()

    def _reserve(self) -> Any:
        @intrinsic
        def reserve(context: Any) -> Any:
            """Return the addresses of memory for a block of each operand."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                pointers = []
                for storage in self._storages:
                    size = ir.ArrayType(BYTE, self.width * storage.itemsize)
                    memory = cgutils.alloca_once(builder, size)
                    memory.align = TARGET.vector_bytes
                    pointers.append(builder.bitcast(memory, BYTE.as_pointer()))
                return context.make_tuple(builder, self._pointers, pointers)

            return self._pointers(), emit

        return reserve

    def _spread(self) -> Any:
        @intrinsic
        def spread(context: Any, base: Any, steps: Any, own: Any) -> Any:
            """Fill the own memory of the inputs that are one number for all elements."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, steps, own = values
                for k in self._inputs:
                    step = builder.load(builder.gep(steps, [number(k)]))
                    with builder.if_then(builder.icmp_signed("==", step, number(0))):
                        bits = ir.IntType(8 * self._storages[k].itemsize)
                        source = builder.extract_value(base, k)
                        one = builder.load(builder.bitcast(source, bits.as_pointer()))
                        block = splat(builder, one, self.width)
                        target = builder.extract_value(own, k)
                        builder.store(block, builder.bitcast(target, block.type.as_pointer()))
                return context.get_dummy_value()

            return types.void(base, steps, own), emit

        return spread

    def fill(self, numbers: Sequence[float]) -> Any:
        """Return a function that fills own memory: with one of these numbers for each operand."""

        @intrinsic
        def fill(context: Any, own: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for k, each in enumerate(numbers):
                    block = constant(self.vector.llvm, each)
                    self._emit_store(builder, k, builder.extract_value(values[0], k), block, False)
                return context.get_dummy_value()

            return types.void(own), emit

        return fill

    def _place(self) -> Any:
        @intrinsic
        def place(context: Any, base: Any, begin: Any) -> Any:
            """Return where the block that begins at an element lies, where elements are neighbours."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, begin = values
                pointers = [
                    _element(builder, base, k, begin, number(storage.itemsize))
                    for k, storage in enumerate(self._storages)
                ]
                return context.make_tuple(builder, self._pointers, pointers)

            return self._pointers(base, types.intp), emit

        return place

    def _prefetch(self) -> Any:
        @intrinsic
        def prefetch(context: Any, pointers: Any) -> Any:
            """Ask for the blocks of the arrays that come some blocks later."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for k in range(self._operands.arrays):
                    self._emit_prefetch(builder, values[0], k, number(_PREFETCH_DISTANCE))
                return context.get_dummy_value()

            return types.void(pointers), emit

        return prefetch

    def _prefetch_further(self) -> Any:
        @intrinsic
        def prefetch_further(context: Any, pointers: Any, distances: Any) -> Any:
            """Ask for the blocks of the arrays that lie so many bytes further."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for k in range(self._operands.arrays):
                    distance = builder.load(builder.gep(values[1], [number(k)]))
                    self._emit_prefetch(builder, values[0], k, distance)
                return context.get_dummy_value()

            return types.void(pointers, distances), emit

        return prefetch_further

    def _emit_prefetch(self, builder: Any, pointers: Any, k: int, distance: Any) -> None:
        kind = ir.IntType(32)
        read, keep, data = kind(0), kind(3), kind(1)
        start = builder.gep(builder.extract_value(pointers, k), [distance])
        for line in range(0, self.width * self._storages[k].itemsize, _LINE):
            operands = [builder.gep(start, [number(line)]), read, keep, data]
            call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), operands)

    def copy(self, operands: range, inward: bool, is_spread: bool = True) -> Any:
        """Return a function that copies blocks of these operands to own memory, or from there.

        Where `is_spread` is set, inputs that `spread` has filled are left as they are.
        """

        @intrinsic
        def copy(context: Any, base: Any, steps: Any, own: Any, begin: Any, count: Any) -> Any:
            """Copy some elements to own memory, or from there."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, steps, own, begin, count = values
                for k in operands:
                    itemsize = self._storages[k].itemsize
                    step = builder.load(builder.gep(steps, [number(k)]))
                    outside = _element(builder, base, k, begin, step), step
                    inside = builder.extract_value(own, k), number(itemsize)
                    source, target = (outside, inside) if inward else (inside, outside)
                    if not inward or not is_spread:
                        emit_copy(builder, itemsize, *source, *target, count, inward)
                        continue
                    with builder.if_then(builder.icmp_signed("!=", step, number(0))):
                        emit_copy(builder, itemsize, *source, *target, count, inward)
                return context.get_dummy_value()

            return types.void(base, steps, own, types.intp, types.intp), emit

        return copy

    def load(self, operands: range) -> Any:
        """Return a function that loads a block of each of these operands."""
        result = types.UniTuple(self.vector, len(operands))

        @intrinsic
        def load(context: Any, pointers: Any) -> Any:
            """Return a block of each operand."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = [
                    self._emit_load(builder, k, builder.extract_value(values[0], k))
                    for k in operands
                ]
                return context.make_tuple(builder, result, loaded)

            return result(pointers), emit

        return load

    @property
    def has_masked_moves(self) -> bool:
        """Whether there are instructions for parts of blocks."""
        fits = all(TARGET.has_masked_moves(storage.itemsize) for storage in self._storages)
        return fits and not self.is_apart

    def load_some(self, operands: range, padding: Sequence[float]) -> Any:
        """Return a function that loads the first numbers of a block of each operand, and fills it up with these."""
        result = types.UniTuple(self.vector, len(operands))

        @intrinsic
        def load_some(context: Any, pointers: Any, count: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                mask = self._emit_mask(builder, values[1])
                loaded = []
                for k in operands:
                    pointer = builder.extract_value(values[0], k)
                    value = emit_load(builder, self._storages[k], self.vector, pointer, mask)
                    filling = constant(self.vector.llvm, padding[k])
                    loaded.append(builder.select(mask, value, filling))
                return context.make_tuple(builder, result, loaded)

            return result(pointers, types.intp), emit

        return load_some

    def _store_some(self) -> Any:
        @intrinsic
        def store_some(context: Any, pointers: Any, outputs: Any, count: Any) -> Any:
            """Store the first numbers of a block of each output."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                mask = self._emit_mask(builder, values[2])
                for place, k in enumerate(self._outputs):
                    pointer = builder.extract_value(values[0], k)
                    value = builder.extract_value(values[1], place)
                    emit_store(builder, self._storages[k], self.vector, pointer, value, mask)
                return context.get_dummy_value()

            return types.void(pointers, outputs, types.intp), emit

        return store_some

    def _emit_mask(self, builder: Any, count: Any) -> Any:
        """Return the mask of the first numbers of a block."""
        small = ir.IntType(32)
        order = ir.Constant(ir.VectorType(small, self.width), list(range(self.width)))
        return builder.icmp_signed(
            "<", order, splat(builder, builder.trunc(count, small), self.width)
        )

    def _emit_load(self, builder: Any, k: int, pointer: Any) -> Any:
        if not self.is_apart:
            return emit_load(builder, self._storages[k], self.vector, pointer)
        if k not in self._is_parameter:
            return emit_load_apart(builder, self.vector, pointer)
        value = emit_load(builder, self._storages[k], self.vector, pointer)
        order = places([*range(0, self.width, 2), *range(1, self.width, 2)])
        return builder.shuffle_vector(_plain_nan(builder, value), value, order)

    def _places(self) -> Any:
        @intrinsic
        def places(context: Any) -> Any:
            """Return the place in the block of each number, as a float."""
            order = [*range(self.width)]
            if self.is_apart:
                order = [*order[::2], *order[1::2]]
            return self.vector(), lambda *_: ir.Constant(self.vector.llvm, order)

        return places

    def _have_one_value(self) -> Any:
        @intrinsic
        def have_one_value(context: Any, steps: Any) -> Any:
            """Return whether each parameter is one number for all elements."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                answer = cgutils.true_bit
                for k in self._is_parameter:
                    step = builder.load(builder.gep(values[0], [number(k)]))
                    answer = builder.and_(answer, builder.icmp_signed("==", step, number(0)))
                return answer

            return types.boolean(steps), emit

        return have_one_value

    def _broadcast(self) -> Any:
        result = types.UniTuple(self.vector, len(self._is_parameter))

        @intrinsic
        def broadcast(context: Any, base: Any) -> Any:
            """Return a block of each parameter, all of one number."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = []
                for k in self._is_parameter:
                    pointer = builder.extract_value(values[0], k)
                    value = emit_broadcast(builder, self._storages[k], self.vector, pointer)
                    loaded.append(_plain_nan(builder, value) if self.is_apart else value)
                return context.make_tuple(builder, result, loaded)

            return result(base), emit

        return broadcast

    def _store(self, streaming: bool) -> Any:
        @intrinsic
        def store(context: Any, pointers: Any, outputs: Any) -> Any:
            """Store a block of each output."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for place, k in enumerate(self._outputs):
                    pointer = builder.extract_value(values[0], k)
                    value = builder.extract_value(values[1], place)
                    self._emit_store(builder, k, pointer, value, streaming)
                return context.get_dummy_value()

            return types.void(pointers, outputs), emit

        return store

    def _emit_store(self, builder: Any, k: int, pointer: Any, value: Any, streaming: bool) -> None:
        if self.is_apart:
            emit_store_together(builder, self.vector, pointer, value, streaming)
        else:
            storage = self._storages[k]
            emit_store(builder, storage, self.vector, pointer, value, streaming=streaming)

    def _elements_to_alignment(self) -> Any:
        @intrinsic
        def elements_to_alignment(context: Any, base: Any) -> Any:
            """Return how many elements come before all outputs are aligned for streaming, or -1."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                size = number(TARGET.vector_bytes)
                missing = [
                    builder.urem(
                        builder.neg(builder.ptrtoint(builder.extract_value(values[0], k), INDEX)),
                        size,
                    )
                    for k in self._outputs
                ]
                answer = builder.udiv(missing[0], number(self._operands.itemsize))
                for other in missing[1:]:
                    same = builder.icmp_signed("==", missing[0], other)
                    answer = builder.select(same, answer, number(-1))
                return answer

            return types.intp(base), emit

        return elements_to_alignment


def _plain_nan(builder: Any, value: Any) -> Any:
    """Take the bits in the lower half out of NaNs, as `emit_store_together` wants it."""
    nan = constant(value.type, math.nan)
    return builder.select(builder.fcmp_unordered("uno", value, value), nan, value)


def _element(builder: Any, base: Any, k: int, index: Any, step: Any) -> Any:
    """Return the address of element `index` of operand `k`."""
    return builder.gep(builder.extract_value(base, k), [builder.mul(index, step)])
