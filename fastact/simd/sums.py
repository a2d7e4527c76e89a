"""Sums in float64 of the last results of an operation, one for each lane: in registers, or in memory."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastact.simd.interned import Interned
from fastact.simd.lowering import Vector, constant, emit_sum_lanes, shuffle_mask, splat
from fastact.simd.storage import BYTE, INDEX, Storage, emit_load, emit_store


class Sums(metaclass=Interned):
    """Functions for compiled code on `count` sums, whose terms are the last results of an operation.

    In memory, the addresses of the sums are words.

    Parameters
    ----------
    lanes : int
        The number of lanes of a result.
    count : int
        The number of sums.
    order : tuple of int, optional
        The lane of each element in the order of memory, if that differs.

    Attributes
    ----------
    size : int
        Bytes of one sum.
    zeros : callable
        Returns sums of nothing, in registers.
    add : callable
        ``add(sums, results, number)`` returns sums in registers with the first `number` lanes of the terms added, one
        register after the other if the terms have several.
    clear : callable
        ``clear(addresses, offset, number)`` sets `number` sums in memory to zero.
    add_to_memory : callable
        ``add_to_memory(addresses, offset, number, results)`` adds the first `number` lanes of the terms to them.
    store_totals : callable
        ``store_totals(addresses, sums)`` stores the sums over all lanes.
    """

    def __init__(self, lanes: int, count: int, order: tuple[int, ...] | None = None) -> None:
        storage, vector = Storage("float64"), Vector(types.float64, lanes)
        kind = types.BaseTuple.from_types((vector,) * count)
        zero = constant(vector.llvm, 0.0)

        def terms(builder: Any, results: Any) -> list[list[Any]]:
            """Return the terms of each sum as vectors of its lanes, in the order of elements."""
            found = cgutils.unpack_tuple(builder, results)
            found = found[len(found) - count :]
            if order is not None:
                mask = shuffle_mask(order)
                found = [builder.shuffle_vector(each, each, mask) for each in found]
            return [[wide(builder, part) for part in split(builder, each)] for each in found]

        def split(builder: Any, term: Any) -> list[Any]:
            if term.type.count == lanes:
                return [term]
            masks = (range(k, k + lanes) for k in range(0, term.type.count, lanes))
            return [builder.shuffle_vector(term, term, shuffle_mask([*each])) for each in masks]

        def wide(builder: Any, term: Any) -> Any:
            return term if term.type == vector.llvm else builder.fpext(term, vector.llvm)

        def first(builder: Any, number: Any) -> Any:
            positions = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
            return builder.icmp_signed("<", positions, splat(builder, number, lanes))

        def pointers(builder: Any, addresses: Any, offset: Any) -> list[Any]:
            words = [builder.gep(addresses, [ir.Constant(INDEX, k)]) for k in range(count)]
            found = [builder.add(builder.load(word), offset) for word in words]
            return [builder.inttoptr(each, BYTE.as_pointer()) for each in found]

        @intrinsic
        def zeros(context: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                return context.make_tuple(builder, kind, [zero] * count)

            return kind(), emit

        @intrinsic
        def add(context: Any, sums: Any, results: Any, number: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                found = cgutils.unpack_tuple(builder, values[0])
                for k, parts in enumerate(terms(builder, values[1])):
                    for position, part in enumerate(parts):
                        left = builder.sub(values[2], ir.Constant(INDEX, position * lanes))
                        added = builder.select(first(builder, left), part, zero)
                        found[k] = builder.fadd(found[k], added)
                return context.make_tuple(builder, kind, found)

            return kind(kind, results, types.intp), emit

        @intrinsic
        def clear(context: Any, addresses: Any, offset: Any, number: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                mask = first(builder, values[2])
                for pointer in pointers(builder, *values[:2]):
                    emit_store(builder, storage, vector, pointer, zero, mask)
                return context.get_dummy_value()

            return types.void(addresses, types.intp, types.intp), emit

        @intrinsic
        def add_to_memory(
            context: Any, addresses: Any, offset: Any, number: Any, results: Any
        ) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                mask, added = first(builder, values[2]), terms(builder, values[3])
                for pointer, (term,) in zip(pointers(builder, *values[:2]), added, strict=True):
                    so_far = emit_load(builder, storage, vector, pointer, mask)
                    total = builder.fadd(so_far, term)
                    emit_store(builder, storage, vector, pointer, total, mask)
                return context.get_dummy_value()

            return types.void(addresses, types.intp, types.intp, results), emit

        @intrinsic
        def store_totals(context: Any, addresses: Any, sums: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                found = cgutils.unpack_tuple(builder, values[1])
                places = pointers(builder, values[0], ir.Constant(INDEX, 0))
                for pointer, each in zip(places, found, strict=True):
                    total = emit_sum_lanes(builder, each)
                    builder.store(total, builder.bitcast(pointer, total.type.as_pointer()))
                return context.get_dummy_value()

            return types.void(addresses, kind), emit

        self.size = storage.itemsize
        self.zeros, self.add, self.clear = zeros, add, clear
        self.add_to_memory, self.store_totals = add_to_memory, store_totals
