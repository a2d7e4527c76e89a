"""Access to the operands of an elementwise loop, one register at a time."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from fastact.simd.interned import Interned
from fastact.simd.lowering import Vector
from fastact.simd.memory import first_lanes
from fastact.simd.storage import (
    BYTE,
    Storage,
    emit_broadcast,
    emit_load,
    emit_load_at_any_stride,
    emit_store,
    emit_store_at_any_stride,
    number,
)


class Operands(metaclass=Interned):
    """Access to the operands of one ufunc loop, as functions for compiled code.

    Every function takes the tuple of base pointers that `addresses` returns. Inputs are loaded as a tuple of
    vectors; outputs are stored from one.

    Parameters
    ----------
    storages : tuple of Storage
        One per operand: arrays, then parameters, then outputs, all with one computation type.
    arrays, parameters : int
        The number of array inputs, and of parameters, which are rarely arrays.
    lanes : int, optional
        The lanes of a vector, in place of those of one register.
    """

    def __init__(
        self, storages: tuple[Storage, ...], arrays: int, parameters: int, lanes: int | None = None
    ) -> None:
        self.storages = storages
        self.arrays = arrays
        self.parameters = parameters
        self.inputs = arrays + parameters
        self.count = len(storages)
        self.itemsize = storages[0].itemsize  # of arrays and outputs
        vector = storages[0].vector
        self.vector = vector if lanes is None else Vector(vector.dtype, lanes)
        self.lanes = self.vector.lanes
        is_array = range(arrays)
        is_parameter = range(arrays, self.inputs)
        is_output = range(self.inputs, self.count)

        self.addresses = self._addresses()
        self.is_contiguous = self._is_contiguous(is_array, is_parameter, is_output)
        self.first_lanes = first_lanes(self.vector)
        self.load = self.load_of(is_array)
        self.broadcast = self.broadcast_of(is_parameter)
        self.store = self._store(is_output)
        self.load_any = self._load_any(range(self.inputs))
        self.store_any = self._store_any(is_output)

    @property
    def parameter_itemsize(self) -> int:
        """Bytes of one element of a parameter."""
        return self.storages[self.arrays].itemsize

    def _addresses(self) -> Any:
        count = len(self.storages)
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
        wanted = {k: self.storages[k].itemsize for k in (*arrays, *outputs)}
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
        step = number(self.storages[k].itemsize) if step is None else step
        pointer = builder.extract_value(pointers, k)
        return builder.gep(pointer, [builder.mul(index, step)])

    def load_of(self, operands: range) -> Any:
        """Return a function that loads one vector of each of these operands, which are contiguous."""
        vector = self.vector
        result = types.UniTuple(vector, len(operands))

        @intrinsic
        def load(context: Any, pointers: Any, index: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = [
                    emit_load(
                        builder,
                        self.storages[k],
                        vector,
                        self._element(builder, values[0], k, values[1]),
                    )
                    for k in operands
                ]
                return context.make_tuple(builder, result, loaded)

            return result(pointers, types.intp), emit

        return load

    def broadcast_of(self, operands: range) -> Any:
        """Return a function that broadcasts one number of each of these operands."""
        vector = self.vector
        result = types.UniTuple(vector, len(operands))

        @intrinsic
        def broadcast(context: Any, pointers: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                loaded = [
                    emit_broadcast(
                        builder, self.storages[k], vector, builder.extract_value(values[0], k)
                    )
                    for k in operands
                ]
                return context.make_tuple(builder, result, loaded)

            return result(pointers), emit

        return broadcast

    def _store(self, operands: range) -> Any:
        vector = self.vector

        @intrinsic
        def store(context: Any, pointers: Any, index: Any, outputs: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                base, position, results = values
                for output, k in enumerate(operands):
                    emit_store(
                        builder,
                        self.storages[k],
                        vector,
                        self._element(builder, base, k, position),
                        builder.extract_value(results, output),
                    )
                return context.get_dummy_value()

            return types.void(pointers, types.intp, outputs), emit

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
                            builder, self.storages[k], vector, pointer, step, lanes
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
                for output, k in enumerate(operands):
                    step = builder.load(builder.gep(all_steps, [number(k)]))
                    emit_store_at_any_stride(
                        builder,
                        self.storages[k],
                        vector,
                        self._element(builder, base, k, position, step),
                        step,
                        builder.extract_value(results, output),
                        lanes,
                    )
                return context.get_dummy_value()

            return types.void(pointers, steps, types.intp, mask, outputs), emit

        return store_any
