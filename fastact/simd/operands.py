"""The operands of an elementwise loop, all at once."""

from __future__ import annotations

import math
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from fastact.simd.lowering import constant
from fastact.simd.memory import first_lanes
from fastact.simd.storage import (
    BYTE,
    INDEX,
    Storage,
    emit_broadcast,
    emit_load,
    emit_load_at_any_stride,
    emit_load_pair,
    emit_store,
    emit_store_at_any_stride,
    emit_store_pair,
    number,
)


class Operands:
    """Access to the operands of one ufunc loop, as functions for Numba-compiled code.

    Every function takes the tuple of base addresses that `addresses` reads. Inputs come as a tuple of
    vectors; outputs are given as one.

    Parameters
    ----------
    storages : tuple of Storage
        One for each operand: arrays, then parameters, then outputs. All are computed in one type.
    arrays, parameters : int
        How many inputs are arrays, and how many are parameters (which seldom vary).
    """

    def __init__(self, storages: tuple[Storage, ...], arrays: int, parameters: int) -> None:
        self._storages = storages
        self.arrays = arrays
        self.count = len(storages)
        self.itemsize = storages[0].itemsize  # of arrays and outputs
        self.parameter_itemsize = storages[arrays].itemsize
        self.vector = storages[0].vector
        self.lanes = self.vector.lanes
        #: Whether `load`, `store` and `stream` take two vectors of each operand at a time.
        self.in_pairs = storages[0].name == "bfloat16"
        self.width = self.lanes * (2 if self.in_pairs else 1)
        self.inputs = inputs = arrays + parameters
        is_array = range(arrays)
        is_parameter = range(arrays, inputs)
        is_output = range(inputs, len(storages))

        self.addresses = self._addresses()
        self.is_contiguous = self._is_contiguous(is_array, is_parameter, is_output)
        self.first_lanes = first_lanes(self.vector)
        load, store = (
            (self._load_pairs, self._store_pairs) if self.in_pairs else (self._load, self._store)
        )
        self.load = load(is_array)
        self.broadcast = self._broadcast(is_parameter)
        self.store = store(is_output, streaming=False)
        # One vector of each operand at a time, also where `load` takes two.
        self.load_one = self._load(is_array)
        self.load_one_with_parameter = self._load(range(arrays + 1))
        self.broadcast_others = self._broadcast(range(arrays + 1, inputs))
        self.store_one = self._store(is_output, streaming=False)
        self.stream = store(is_output, streaming=True)
        self.elements_to_alignment = self._elements_to_alignment(is_output)
        self.load_any = self._load_any(range(inputs))
        self.store_any = self._store_any(is_output)

    def _addresses(self) -> Any:
        count = len(self._storages)
        result = types.UniTuple(types.voidptr, count)

        @intrinsic
        def addresses(context: Any, args: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base = builder.bitcast(values[0], BYTE.as_pointer().as_pointer())
                pointers = [builder.load(builder.gep(base, [number(k)])) for k in range(count)]
                return context.make_tuple(builder, result, pointers)

            return result(args), emit

        return addresses

    def _is_contiguous(self, arrays: range, parameters: range, outputs: range) -> Any:
        wanted = {k: self._storages[k].itemsize for k in (*arrays, *outputs)}
        wanted |= dict.fromkeys(parameters, 0)

        @intrinsic
        def is_contiguous(context: Any, steps: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                answer = cgutils.true_bit
                for k, step in wanted.items():
                    found = builder.load(builder.gep(values[0], [number(k)]))
                    same = builder.icmp_signed("==", found, number(step))
                    answer = builder.and_(answer, same)
                return answer

            return types.boolean(steps), emit

        return is_contiguous

    def _element(self, builder: Any, pointers: Any, k: int, index: Any, step: Any = None) -> Any:
        """Return the address of element `index` of operand `k`."""
        step = number(self._storages[k].itemsize) if step is None else step
        pointer = builder.extract_value(pointers, k)
        return builder.gep(pointer, [builder.mul(index, step)])

    def _load(self, operands: range) -> Any:
        vector = self.vector
        result = types.UniTuple(vector, len(operands))

        @intrinsic
        def load(context: Any, pointers: Any, index: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = [
                    emit_load(
                        builder,
                        self._storages[k],
                        vector,
                        self._element(builder, values[0], k, values[1]),
                    )
                    for k in operands
                ]
                return context.make_tuple(builder, result, loaded)

            return result(pointers, types.intp), emit

        return load

    def _broadcast(self, operands: range) -> Any:
        vector = self.vector
        result = types.UniTuple(vector, len(operands))

        @intrinsic
        def broadcast(context: Any, pointers: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = [
                    emit_broadcast(
                        builder, self._storages[k], vector, builder.extract_value(values[0], k)
                    )
                    for k in operands
                ]
                if self.in_pairs:  # whose stores want NaNs without bits in the lower half
                    nan = constant(vector.llvm, math.nan)
                    loaded = [
                        builder.select(builder.fcmp_unordered("uno", each, each), nan, each)
                        for each in loaded
                    ]
                return context.make_tuple(builder, result, loaded)

            return result(pointers), emit

        return broadcast

    def _elements_to_alignment(self, operands: range) -> Any:
        @intrinsic
        def elements_to_alignment(context: Any, pointers: Any) -> Any:
            """Return how many elements come before all outputs are aligned for streaming, or -1."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                size = number(self.itemsize * self.width)
                missing = [
                    builder.urem(
                        builder.neg(builder.ptrtoint(builder.extract_value(values[0], k), INDEX)),
                        size,
                    )
                    for k in operands
                ]
                answer = builder.udiv(missing[0], number(self.itemsize))
                for other in missing[1:]:
                    same = builder.icmp_signed("==", missing[0], other)
                    answer = builder.select(same, answer, number(-1))
                return answer

            return types.intp(pointers), emit

        return elements_to_alignment

    def _store(self, operands: range, streaming: bool) -> Any:
        vector = self.vector

        @intrinsic
        def store(context: Any, pointers: Any, index: Any, outputs: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, position, results = values
                for place, k in enumerate(operands):
                    emit_store(
                        builder,
                        self._storages[k],
                        vector,
                        self._element(builder, base, k, position),
                        builder.extract_value(results, place),
                        streaming=streaming,
                    )
                return context.get_dummy_value()

            return types.void(pointers, types.intp, outputs), emit

        return store

    def _load_pairs(self, operands: range) -> Any:
        """Return a function that gives all vectors at even places, and all at odd ones."""
        vector = self.vector
        half = types.UniTuple(vector, len(operands))
        result = types.UniTuple(half, 2)

        @intrinsic
        def load(context: Any, pointers: Any, index: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                pairs = [
                    emit_load_pair(builder, vector, self._element(builder, values[0], k, values[1]))
                    for k in operands
                ]
                halves = [
                    context.make_tuple(builder, half, list(each))
                    for each in zip(*pairs, strict=True)
                ]
                return context.make_tuple(builder, result, halves)

            return result(pointers, types.intp), emit

        return load

    def _store_pairs(self, operands: range, streaming: bool) -> Any:
        """Return a function that takes the outputs at even places, and those at odd ones."""
        vector = self.vector

        @intrinsic
        def store(context: Any, pointers: Any, index: Any, even: Any, odd: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, position, *results = values
                for place, k in enumerate(operands):
                    pair = [builder.extract_value(each, place) for each in results]
                    element = self._element(builder, base, k, position)
                    emit_store_pair(builder, vector, element, pair, streaming)
                return context.get_dummy_value()

            return types.void(pointers, types.intp, even, odd), emit

        return store

    def _load_any(self, operands: range) -> Any:
        vector = self.vector
        result = types.UniTuple(vector, len(operands))

        @intrinsic
        def load_any(context: Any, pointers: Any, steps: Any, index: Any, mask: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, all_steps, position, lanes = values
                loaded = []
                for k in operands:
                    step = builder.load(builder.gep(all_steps, [number(k)]))
                    pointer = self._element(builder, base, k, position, step)
                    loaded.append(
                        emit_load_at_any_stride(
                            builder, self._storages[k], vector, pointer, step, lanes
                        )
                    )
                return context.make_tuple(builder, result, loaded)

            return result(pointers, steps, types.intp, mask), emit

        return load_any

    def _store_any(self, operands: range) -> Any:
        vector = self.vector

        @intrinsic
        def store_any(
            context: Any, pointers: Any, steps: Any, index: Any, mask: Any, outputs: Any
        ) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, all_steps, position, lanes, results = values
                for place, k in enumerate(operands):
                    step = builder.load(builder.gep(all_steps, [number(k)]))
                    emit_store_at_any_stride(
                        builder,
                        self._storages[k],
                        vector,
                        self._element(builder, base, k, position, step),
                        step,
                        builder.extract_value(results, place),
                        lanes,
                    )
                return context.get_dummy_value()

            return types.void(pointers, steps, types.intp, mask, outputs), emit

        return store_any
