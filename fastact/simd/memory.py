"""Memory access of compiled code: words, the stack, and vectors at given addresses."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastact.simd.interned import Interned
from fastact.simd.lowering import Mask, Vector, call_llvm, constant, shuffle_mask, splat
from fastact.simd.storage import (
    BYTE,
    INDEX,
    Storage,
    emit_broadcast,
    emit_load,
    emit_load_at_any_stride,
    emit_store,
    emit_store_at_any_stride,
)
from fastact.system.target import TARGET


@intrinsic
def words(context: Any, pointer: Any) -> Any:
    """Cast an address or a pointer to a pointer to words."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        kind = INDEX.as_pointer()
        is_pointer = isinstance(values[0].type, ir.PointerType)
        return (builder.bitcast if is_pointer else builder.inttoptr)(values[0], kind)

    return types.CPointer(types.intp)(pointer), emit


@intrinsic
def words_behind(context: Any, pointer: Any, count: Any) -> Any:
    """Return a pointer to words, advanced by `count` words."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.intp), emit


@intrinsic
def address_of(context: Any, pointer: Any) -> Any:
    """Return a pointer's address."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return builder.ptrtoint(values[0], INDEX)

    return types.intp(pointer), emit


@cache
def number_at(storage: Storage) -> Any:
    """Return a function that loads the scalar at an address, in the computation type."""

    @intrinsic
    def load(context: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], BYTE.as_pointer())
            value = emit_broadcast(builder, storage, Vector(storage.computed_in, 1), pointer)
            return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

        return storage.computed_in(types.intp), emit

    return load


@cache
def set_number_at(storage: Storage) -> Any:
    """Return a function that stores a scalar at an address, rounded to the storage type."""
    vector = Vector(storage.computed_in, 1)

    @intrinsic
    def store(context: Any, address: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], BYTE.as_pointer())
            number = context.cast(builder, values[1], call.args[1], vector.dtype)
            emit_store(builder, storage, vector, pointer, splat(builder, number, 1))
            return context.get_dummy_value()

        return types.void(types.intp, value), emit

    return store


@intrinsic
def is_likely(context: Any, condition: Any) -> Any:
    """Tell LLVM that a condition is likely: registers are then spilled around calls on the unlikely path only."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        always = ir.Constant(values[0].type, 1)
        return call_llvm(builder, "llvm.expect.i1", values[0].type, [values[0], always])

    return types.boolean(condition), emit


@intrinsic
def finish_streaming(context: Any) -> Any:
    """Make streaming (non-temporal) stores visible to other threads."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        if TARGET.is_x86:
            call_llvm(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
        else:
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


@cache
def stack(count: int) -> Any:
    """Return a function that reserves `count` words on the stack."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return cgutils.alloca_once(builder, INDEX, size=count)

    @intrinsic
    def reserve(context: Any) -> Any:
        return types.CPointer(types.intp)(), emit

    return reserve


@cache
def words_of(numbers: tuple[int, ...]) -> Any:
    """Return a function that puts these numbers on the stack, for a loop to index: indexing a tuple could raise."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        at = cgutils.alloca_once(builder, INDEX, size=len(numbers))
        for k, each in enumerate(numbers):
            builder.store(ir.Constant(INDEX, each), builder.gep(at, [ir.Constant(INDEX, k)]))
        return at

    @intrinsic
    def reserve(context: Any) -> Any:
        return types.CPointer(types.intp)(), emit

    return reserve


@intrinsic
def reserve_words(context: Any, count: Any) -> Any:
    """Reserve `count` words on the stack until the function returns: not for use in a loop."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return builder.alloca(INDEX, size=values[0])

    return types.CPointer(types.intp)(types.intp), emit


@intrinsic
def set_addresses(context: Any, at: Any, pointers: Any) -> Any:
    """Store a tuple of pointers as words, for a loop to index: indexing the tuple itself could raise."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        for k, pointer in enumerate(cgutils.unpack_tuple(builder, values[1])):
            target = builder.gep(values[0], [ir.Constant(INDEX, k)])
            builder.store(builder.ptrtoint(pointer, INDEX), target)
        return context.get_dummy_value()

    return types.void(at, pointers), emit


@cache
def call_at(returns: types.Type, arity: int) -> Any:
    """Return a function that calls the C function at an address with `arity` words."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        word = ir.IntType(64)
        result = word if returns is types.intp else ir.VoidType()
        kind = ir.FunctionType(result, [word] * arity)
        pointer = builder.inttoptr(values[0], kind.as_pointer())
        operands = [
            builder.ptrtoint(value, word) if isinstance(value.type, ir.PointerType) else value
            for value in cgutils.unpack_tuple(builder, values[1])
        ]
        answer = builder.call(pointer, operands)
        return answer if returns is types.intp else context.get_dummy_value()

    @intrinsic
    def call(context: Any, address: Any, arguments: Any) -> Any:
        return returns(address, arguments), emit

    return call


class Access(metaclass=Interned):
    """Access to one operand at addresses given as integers, for Numba-compiled code.

    Parameters
    ----------
    storage : Storage
        Its type in memory.
    vector : Vector
        The vector that kernels compute with.
    """

    def __init__(self, storage: Storage, vector: Vector) -> None:
        def pointer(builder: Any, address: Any) -> Any:
            return builder.inttoptr(address, BYTE.as_pointer())

        @intrinsic
        def load(context: Any, address: Any, step: Any, mask: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                address, step, mask = values
                return emit_load_at_any_stride(
                    builder, storage, vector, pointer(builder, address), step, mask
                )

            return vector(types.intp, types.intp, mask), emit

        @intrinsic
        def store(context: Any, address: Any, step: Any, mask: Any, value: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                address, step, mask, value = values
                emit_store_at_any_stride(
                    builder, storage, vector, pointer(builder, address), step, value, mask
                )
                return context.get_dummy_value()

            return types.void(types.intp, types.intp, mask, vector), emit

        self.storage = storage
        self.load = load
        self.store = store


class PackedAccess(metaclass=Interned):
    """Access to interleaved vectors in memory, for Numba-compiled code.

    Lane i of piece j is element ``i * pieces + j``. Contiguous loads and shuffles are several times faster
    than a gather.

    Parameters
    ----------
    storage : Storage
        The type of the elements in memory.
    vector : Vector
        The vector of one piece.
    pieces : int
        The number of interleaved vectors.
    """

    def __init__(self, storage: Storage, vector: Vector, pieces: int) -> None:
        lanes = vector.lanes
        wide = Vector(vector.dtype, lanes * pieces)
        result = types.UniTuple(vector, pieces)

        @intrinsic
        def load(context: Any, address: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                pointer = builder.inttoptr(values[0], BYTE.as_pointer())
                interleaved = emit_load(builder, storage, wide, pointer)
                nothing = ir.Constant(interleaved.type, ir.Undefined)
                deinterleaved = [
                    builder.shuffle_vector(
                        interleaved, nothing, shuffle_mask(range(piece, lanes * pieces, pieces))
                    )
                    for piece in range(pieces)
                ]
                return context.make_tuple(builder, result, deinterleaved)

            return result(types.intp), emit

        @intrinsic
        def store(context: Any, address: Any, deinterleaved: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                vectors = [builder.extract_value(values[1], piece) for piece in range(pieces)]
                width = lanes
                while len(vectors) > 1:  # concatenate, two by two
                    if len(vectors) % 2:
                        vectors.append(ir.Constant(vectors[0].type, ir.Undefined))
                    pairs = zip(vectors[::2], vectors[1::2], strict=True)
                    width *= 2
                    vectors = [
                        builder.shuffle_vector(*pair, shuffle_mask(range(width))) for pair in pairs
                    ]
                order = (piece * lanes + lane for lane in range(lanes) for piece in range(pieces))
                nothing = ir.Constant(vectors[0].type, ir.Undefined)
                interleaved = builder.shuffle_vector(vectors[0], nothing, shuffle_mask(order))
                pointer = builder.inttoptr(values[0], BYTE.as_pointer())
                emit_store(builder, storage, wide, pointer, interleaved)
                return context.get_dummy_value()

            return types.void(types.intp, result), emit

        self.load = load
        self.store = store


class Scratch(metaclass=Interned):
    """A scratch buffer on the stack, for intermediate results.

    Parameters
    ----------
    vector : Vector
        The vector of one load or store.
    count : int
        The number of elements; a vector may start at any of them.
    """

    def __init__(self, vector: Vector, count: int) -> None:
        element = vector.llvm.element
        pointer = types.CPointer(vector.dtype)
        size = int(vector.dtype.bitwidth) // 8

        @intrinsic
        def reserve(context: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                memory = cgutils.alloca_once(builder, element, size=count + vector.lanes)
                memory.align = (
                    TARGET.vector_bytes
                )  # a vector across two cache lines takes twice as long
                return memory

            return pointer(), emit

        def pointer_to(builder: Any, memory: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(memory, [index]), vector.llvm.as_pointer())

        @intrinsic
        def load(context: Any, memory: Any, index: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                value = builder.load(pointer_to(builder, *values))
                value.align = size
                return value

            return vector(memory, types.intp), emit

        @intrinsic
        def store(context: Any, memory: Any, index: Any, value: Any) -> Any:
            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                memory, index, value = values
                builder.store(value, pointer_to(builder, memory, index), align=size)
                return context.get_dummy_value()

            return types.void(memory, types.intp, value), emit

        self.count = count
        self.reserve = reserve
        self.load = load
        self.store = store


def zeros_of(vector: Vector) -> Any:
    """Return a function that returns a vector of zeros."""
    return all_of(vector, 0.0)


@cache
def all_of(vector: Vector, number: float) -> Any:
    """Return a function that returns a vector with one number in all lanes."""

    @intrinsic
    def constants(context: Any) -> Any:
        return vector(), lambda context, builder, call, values: constant(vector.llvm, number)

    return constants


@cache
def first_lanes(vector: Vector) -> Any:
    """Return a function that returns the mask of the first `count` lanes, or of all if there are fewer."""
    result = Mask(vector.dtype, vector.lanes)

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        lanes = ir.Constant(ir.VectorType(INDEX, vector.lanes), list(range(vector.lanes)))
        return builder.icmp_signed("<", lanes, splat(builder, values[0], vector.lanes))

    @intrinsic
    def first_lanes(context: Any, count: Any) -> Any:
        return result(types.intp), emit

    return first_lanes
