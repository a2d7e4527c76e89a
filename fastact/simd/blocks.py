"""The operands of an elementwise loop in blocks: the loop unrolled by several registers.

A kernel is one long chain of dependent instructions, and the out-of-order window of a processor is limited:
at one register per iteration it covers about four chains, which leaves half of the arithmetic units idle. A
block is one vector as wide as several registers; LLVM splits each operation into one instruction per
register. It takes a third off the time of sigmoid, tanh and the like (AMD Zen 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastact.simd.interned import Interned
from fastact.simd.lowering import Vector, call_llvm, constant, shuffle_mask, splat
from fastact.simd.operands import Operands
from fastact.simd.storage import (
    BYTE,
    INDEX,
    emit_broadcast,
    emit_copy,
    emit_load,
    emit_load_deinterleaved,
    emit_store,
    emit_store_interleaved,
    number,
)
from fastact.system.target import TARGET

# With 32 registers, blocks of 8 are as fast (Emerald Rapids: 1.00 of the time in geometric mean of 16 activations), spill twice
# as often, and take half as long again to compile.
UNROLL_FACTOR = 4
# Memory-bound kernels have few instructions. In wide blocks they run out of mask registers: relu takes 8.4 cycles a
# register instead of 6.0 (in the second-level cache).
MEMORY_BOUND_UNROLL_FACTOR = 2
# Prefetch distance of compute-bound kernels, in bytes: a block's instructions fill the out-of-order window, which
# would reach the next block's loads too late. It takes a fifth off the time of tanh and a sixth off that of silu
# (2 * 10**7 elements); relu would gain nothing.
_PREFETCH_DISTANCE = 2048
_LINE = 64


class Blocks(metaclass=Interned):
    """Access to blocks of the operands of one ufunc loop, as functions for Numba-compiled code.

    A block is loaded from the operands in place; where they are not contiguous or do not fill the block, they
    are first copied to scratch buffers.

    Parameters
    ----------
    operands : Operands
        The layout of the operands in memory.
    unroll_factor : int
        The number of registers in one operand's block.
    """

    def __init__(self, operands: Operands, unroll_factor: int) -> None:
        self._operands = operands
        self._storages = operands.storages
        self._inputs = range(operands.inputs)
        self._outputs = range(operands.inputs, operands.count)
        self._is_parameter = range(operands.arrays, operands.inputs)
        self._pointers = types.UniTuple(types.voidptr, operands.count)
        #: Elements per block.
        self.width = operands.lanes * unroll_factor
        self.vector = Vector(operands.vector.dtype, self.width)
        #: Whether blocks hold the elements at even indices, then those at odd ones, as `emit_load_deinterleaved`
        #: loads bfloat16.
        self.is_deinterleaved = self._storages[0].name == "bfloat16"

        self.reserve = self._reserve()
        self.fill_broadcast = self._fill_broadcast()
        self.pointers_at = self._pointers_at()
        self.prefetch = self._prefetch()
        self.prefetch_further = self._prefetch_further()
        self.copy_in = self.copy(self._inputs, inward=True)
        self.copy_out = self.copy(self._outputs, inward=False)
        self.load_arrays = self.load(range(operands.arrays))
        self.load_inputs = self.load(self._inputs)
        self.element_indices = self._element_indices()
        self.are_broadcast, self.broadcast = (
            self._are_broadcast(),
            self.broadcast_of(self._is_parameter),
        )
        self.store = self._store(streaming=False)
        self.stream = self._store(streaming=True)
        self.store_some = self._store_some()
        self.elements_to_alignment = self._elements_to_alignment()

    def _reserve(self) -> Any:
        @intrinsic
        def reserve(context: Any) -> Any:
            """Return a scratch buffer for a block of each operand."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                pointers = []
                for storage in self._storages:
                    # Copies to scratch buffers store whole registers; see `emit_copy`.
                    registers = -(-self.width * storage.itemsize // TARGET.vector_bytes)
                    size = ir.ArrayType(BYTE, registers * TARGET.vector_bytes)
                    memory = cgutils.alloca_once(builder, size)
                    memory.align = TARGET.vector_bytes
                    pointers.append(builder.bitcast(memory, BYTE.as_pointer()))
                return context.make_tuple(builder, self._pointers, pointers)

            return self._pointers(), emit

        return reserve

    def _fill_broadcast(self) -> Any:
        @intrinsic
        def fill_broadcast(context: Any, base: Any, steps: Any, scratch: Any) -> Any:
            """Fill the scratch buffers of the broadcast inputs, whose step is 0."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, steps, scratch = values
                for k in self._inputs:
                    step = builder.load(builder.gep(steps, [number(k)]))
                    with builder.if_then(builder.icmp_signed("==", step, number(0))):
                        bits = ir.IntType(8 * self._storages[k].itemsize)
                        source = builder.extract_value(base, k)
                        one = builder.load(builder.bitcast(source, bits.as_pointer()))
                        block = splat(builder, one, self.width)
                        target = builder.extract_value(scratch, k)
                        builder.store(block, builder.bitcast(target, block.type.as_pointer()))
                return context.get_dummy_value()

            return types.void(base, steps, scratch), emit

        return fill_broadcast

    def fill(self, numbers: Sequence[float]) -> Any:
        """Return a function that fills each operand's scratch buffer with one of these numbers."""

        @intrinsic
        def fill(context: Any, scratch: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for k, each in enumerate(numbers):
                    block = constant(self.vector.llvm, each)
                    self._emit_store(builder, k, builder.extract_value(values[0], k), block, False)
                return context.get_dummy_value()

            return types.void(scratch), emit

        return fill

    def _pointers_at(self) -> Any:
        @intrinsic
        def pointers_at(context: Any, base: Any, begin: Any) -> Any:
            """Return pointers to the block from an element on, in contiguous operands."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, begin = values
                return self._emit_pointers(context, builder, base, [begin] * len(self._storages))

            return self._pointers(base, types.intp), emit

        return pointers_at

    def pointers_of(self, parameters: range) -> Any:
        """Return a function that returns pointers as `pointers_at` does, at another element of these parameters."""

        @intrinsic
        def pointers_of(context: Any, base: Any, begin: Any, other: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, begin, other = values
                operands = range(len(self._storages))
                begins = [other if k in parameters else begin for k in operands]
                return self._emit_pointers(context, builder, base, begins)

            return self._pointers(base, types.intp, types.intp), emit

        return pointers_of

    def _emit_pointers(self, context: Any, builder: Any, base: Any, begins: Sequence[Any]) -> Any:
        pointers = [
            _element(builder, base, k, begin, number(storage.itemsize))
            for k, (storage, begin) in enumerate(zip(self._storages, begins, strict=True))
        ]
        return context.make_tuple(builder, self._pointers, pointers)

    def _prefetch(self) -> Any:
        @intrinsic
        def prefetch(context: Any, pointers: Any) -> Any:
            """Prefetch the blocks of the arrays some blocks ahead."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for k in range(self._operands.arrays):
                    self._emit_prefetch(builder, values[0], k, number(_PREFETCH_DISTANCE))
                return context.get_dummy_value()

            return types.void(pointers), emit

        return prefetch

    def _prefetch_further(self) -> Any:
        @intrinsic
        def prefetch_further(context: Any, pointers: Any, distances: Any) -> Any:
            """Prefetch the blocks of the arrays at given distances, in bytes."""

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

    def copy(self, operands: range, inward: bool, skips_broadcast: bool = True) -> Any:
        """Return a function that copies blocks of these operands to scratch buffers, or back.

        With `skips_broadcast`, inputs that `fill_broadcast` has filled are skipped.
        """

        @intrinsic
        def copy(context: Any, base: Any, steps: Any, scratch: Any, begin: Any, count: Any) -> Any:
            """Copy `count` elements to scratch buffers, or back."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, steps, scratch, begin, count = values
                for k in operands:
                    itemsize = self._storages[k].itemsize
                    step = builder.load(builder.gep(steps, [number(k)]))
                    outside = _element(builder, base, k, begin, step), step
                    inside = builder.extract_value(scratch, k), number(itemsize)
                    source, target = (outside, inside) if inward else (inside, outside)
                    if not inward or not skips_broadcast:
                        emit_copy(builder, itemsize, *source, *target, count, inward)
                        continue
                    with builder.if_then(builder.icmp_signed("!=", step, number(0))):
                        emit_copy(builder, itemsize, *source, *target, count, inward)
                return context.get_dummy_value()

            return types.void(base, steps, scratch, types.intp, types.intp), emit

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

    def constants(self, numbers: Sequence[float | None]) -> Any:
        """Return a function that returns a block of each of these numbers, or of zeros for None."""
        result = types.UniTuple(self.vector, len(numbers))

        @intrinsic
        def constants(context: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                blocks = [constant(self.vector.llvm, number or 0.0) for number in numbers]
                return context.make_tuple(builder, result, blocks)

            return result(), emit

        return constants

    def replace(self, numbers: Sequence[float | None]) -> Any:
        """Return a function that puts numbers where a mask, loaded as a block, is 0: ``replace(blocks, mask)``.

        A block whose number is None stays as it is.
        """
        result = types.UniTuple(self.vector, len(numbers))

        @intrinsic
        def replace(context: Any, blocks: Any, mask: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                is_out = builder.fcmp_ordered("==", values[1], constant(self.vector.llvm, 0.0))
                replaced = [
                    block
                    if number is None
                    else builder.select(is_out, constant(self.vector.llvm, number), block)
                    for block, number in zip(
                        cgutils.unpack_tuple(builder, values[0]), numbers, strict=True
                    )
                ]
                return context.make_tuple(builder, result, replaced)

            return result(blocks, mask), emit

        return replace

    @property
    def has_masked_moves(self) -> bool:
        """Whether the processor has masked loads and stores for these operands."""
        fits = all(TARGET.has_masked_moves(storage.itemsize) for storage in self._storages)
        return fits and not self.is_deinterleaved

    def load_some(self, operands: range, padding: Sequence[float]) -> Any:
        """Return a function that loads the first elements of a block of each operand, and pads it."""
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
            """Store the first elements of a block of each output."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                mask = self._emit_mask(builder, values[2])
                for position, k in enumerate(self._outputs):
                    pointer = builder.extract_value(values[0], k)
                    value = builder.extract_value(values[1], position)
                    emit_store(builder, self._storages[k], self.vector, pointer, value, mask)
                return context.get_dummy_value()

            return types.void(pointers, outputs, types.intp), emit

        return store_some

    def _emit_mask(self, builder: Any, count: Any) -> Any:
        """Return the mask of the first elements of a block."""
        small = ir.IntType(32)
        order = ir.Constant(ir.VectorType(small, self.width), list(range(self.width)))
        return builder.icmp_signed(
            "<", order, splat(builder, builder.trunc(count, small), self.width)
        )

    def _emit_load(self, builder: Any, k: int, pointer: Any) -> Any:
        if not self.is_deinterleaved:
            return emit_load(builder, self._storages[k], self.vector, pointer)
        if self._storages[k].name == "bfloat16":
            return emit_load_deinterleaved(builder, self.vector, pointer)
        value = emit_load(builder, self._storages[k], self.vector, pointer)
        order = shuffle_mask([*range(0, self.width, 2), *range(1, self.width, 2)])
        return builder.shuffle_vector(_plain_nan(builder, value), value, order)

    def _element_indices(self) -> Any:
        @intrinsic
        def element_indices(context: Any) -> Any:
            """Return the index in the block of each lane's element, as a float."""
            order = [*range(self.width)]
            if self.is_deinterleaved:
                order = [*order[::2], *order[1::2]]
            return self.vector(), lambda *_: ir.Constant(self.vector.llvm, order)

        return element_indices

    def _are_broadcast(self) -> Any:
        @intrinsic
        def are_broadcast(context: Any, steps: Any) -> Any:
            """Return whether every parameter is one number for all elements."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                answer = cgutils.true_bit
                for k in self._is_parameter:
                    step = builder.load(builder.gep(values[0], [number(k)]))
                    answer = builder.and_(answer, builder.icmp_signed("==", step, number(0)))
                return answer

            return types.boolean(steps), emit

        return are_broadcast

    def broadcast_of(self, operands: range) -> Any:
        """Return a function that returns a block of each of these operands, which are one number for all elements."""
        result = types.BaseTuple.from_types((self.vector,) * len(operands))

        @intrinsic
        def broadcast(context: Any, base: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = []
                for k in operands:
                    pointer = builder.extract_value(values[0], k)
                    value = emit_broadcast(builder, self._storages[k], self.vector, pointer)
                    loaded.append(_plain_nan(builder, value) if self.is_deinterleaved else value)
                return context.make_tuple(builder, result, loaded)

            return result(base), emit

        return broadcast

    def _store(self, streaming: bool) -> Any:
        @intrinsic
        def store(context: Any, pointers: Any, outputs: Any) -> Any:
            """Store a block of each output."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                for position, k in enumerate(self._outputs):
                    pointer = builder.extract_value(values[0], k)
                    value = builder.extract_value(values[1], position)
                    self._emit_store(builder, k, pointer, value, streaming)
                return context.get_dummy_value()

            return types.void(pointers, outputs), emit

        return store

    def _emit_store(self, builder: Any, k: int, pointer: Any, value: Any, streaming: bool) -> None:
        storage = self._storages[k]
        if storage.name == "bfloat16":
            emit_store_interleaved(builder, self.vector, pointer, value, streaming)
        else:
            emit_store(builder, storage, self.vector, pointer, value, streaming=streaming)

    def _elements_to_alignment(self) -> Any:
        @intrinsic
        def elements_to_alignment(context: Any, base: Any) -> Any:
            """Return the number of elements before all outputs are aligned for streaming, or -1 for never."""

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
    """Clear the lower half of NaNs, as `emit_store_interleaved` requires."""
    nan = constant(value.type, math.nan)
    return builder.select(builder.fcmp_unordered("uno", value, value), nan, value)


def _element(builder: Any, base: Any, k: int, index: Any, step: Any) -> Any:
    """Return the address of element `index` of operand `k`."""
    return builder.gep(builder.extract_value(base, k), [builder.mul(index, step)])
