"""How numbers lie in memory, and the LLVM instructions that bring vectors there and back.

What lies in memory may be narrower than what is computed: float16 and bfloat16 are widened to float32 on
the way in and rounded to nearest, once, on the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastact.simd.lowering import Vector, call_llvm, constant, lanes_of, places, splat
from fastact.system.target import TARGET

BYTE = ir.IntType(8)
INDEX = ir.IntType(64)
_HALF_WIDTH = ir.IntType(16)
_HALF_BYTES = 2
_UPPER_HALF = -1 << 16


@dataclass(frozen=True)
class Storage:
    """How numbers lie in memory, and the vector that kernels see of them.

    Attributes
    ----------
    name : str
        ``"float32"``, ``"float64"``, ``"float16"``, ``"bfloat16"``, or ``"intp"`` for whole numbers that
        are computed as floats.
    """

    name: str

    @property
    def computed_in(self) -> types.Float:
        """The type that arithmetic is done in."""
        return types.float64 if self.name == "float64" else types.float32

    @property
    def vector(self) -> Vector:
        """The vector that one load gives."""
        return Vector(self.computed_in, lanes_of(self.computed_in))

    @property
    def itemsize(self) -> int:
        """Bytes of one number in memory."""
        return {"float64": 8, "intp": 8, "float32": 4}.get(self.name, 2)

    def in_memory(self, vector: Vector) -> ir.VectorType:
        """Return the LLVM type that is loaded and stored."""
        element = {2: _HALF_WIDTH, 8: INDEX if self.name == "intp" else ir.DoubleType()}
        return ir.VectorType(element.get(self.itemsize, ir.FloatType()), vector.lanes)

    def widen(self, builder: Any, value: Any, vector: Vector) -> Any:
        """Turn what was loaded into what is computed with."""
        if self.name == "float16":
            half = ir.VectorType(ir.HalfType(), vector.lanes)
            return builder.fpext(builder.bitcast(value, half), vector.llvm)
        if self.name == "bfloat16":
            wide = ir.VectorType(ir.IntType(32), vector.lanes)
            sixteen = ir.Constant(wide, [16] * vector.lanes)
            return builder.bitcast(builder.shl(builder.zext(value, wide), sixteen), vector.llvm)
        return builder.sitofp(value, vector.llvm) if self.name == "intp" else value

    def narrow(self, builder: Any, value: Any, vector: Vector) -> Any:
        """Turn what was computed into what is stored, rounded to nearest, ties to even."""
        memory = self.in_memory(vector)
        if self.name == "float16":
            half = ir.VectorType(ir.HalfType(), vector.lanes)
            return builder.bitcast(builder.fptrunc(value, half), memory)
        if self.name == "bfloat16":
            words = ir.VectorType(ir.IntType(32), vector.lanes)
            rounded = _rounded_to_upper_half(builder, value, words)
            # Rounding up could make a NaN infinite.
            quiet = builder.or_(builder.bitcast(value, words), constant(words, 0x400000))
            is_nan = builder.fcmp_unordered("uno", value, value)
            word = builder.select(is_nan, quiet, rounded)
            return builder.trunc(builder.lshr(word, constant(words, 16)), memory)
        return builder.fptosi(value, memory) if self.name == "intp" else value


# bfloat16 numbers at even places and those at odd ones are the lower and the upper halves of 32-bit words.
# Taken apart and put together so, a number costs a third of the instructions that widening and narrowing
# of neighbours cost; what they compute is the same.


def emit_load_apart(builder: Any, vector: Vector, pointer: Any) -> Any:
    """Load bfloat16 numbers: first those at even places, then those at odd ones."""
    words = ir.VectorType(ir.IntType(32), vector.lanes // 2)
    word = builder.load(builder.bitcast(pointer, words.as_pointer()))
    word.align = _HALF_BYTES
    even = builder.shl(word, constant(words, 16))
    odd = builder.and_(word, constant(words, _UPPER_HALF))
    both = builder.shuffle_vector(even, odd, places(range(vector.lanes)))
    return builder.bitcast(both, vector.llvm)


def emit_store_together(
    builder: Any, vector: Vector, pointer: Any, value: Any, streaming: bool
) -> None:
    """Store what `emit_load_apart` loads, rounded to nearest, ties to even.

    No NaN may have bits in the lower half: rounding up could carry them out of the exponent. NaNs of
    bfloat16 arrays, and those that arithmetic makes, have none.
    """
    half = vector.lanes // 2
    rounded = _rounded_to_upper_half(builder, value, ir.VectorType(ir.IntType(32), vector.lanes))
    even, odd = (
        builder.shuffle_vector(rounded, rounded, places(range(start, start + half)))
        for start in (0, half)
    )
    lower = builder.lshr(even, constant(even.type, 16))
    word = builder.or_(lower, builder.and_(odd, constant(odd.type, _UPPER_HALF)))
    size = TARGET.vector_bytes if streaming else _HALF_BYTES
    store = builder.store(word, builder.bitcast(pointer, word.type.as_pointer()), align=size)
    if streaming:
        _make_streaming(builder, store)


def _rounded_to_upper_half(builder: Any, value: Any, words: ir.VectorType) -> Any:
    """Return the bits of floats with half a unit of the upper half added, as rounding to it needs."""
    word = builder.bitcast(value, words)
    is_odd = builder.and_(builder.lshr(word, constant(words, 16)), constant(words, 1))
    return builder.add(word, builder.add(is_odd, constant(words, 0x7FFF)))


def number(value: int) -> Any:
    """Return a constant index."""
    return ir.Constant(INDEX, value)


def _addresses(builder: Any, pointer: Any, step: Any, lanes: int) -> Any:
    """Return the vector of addresses pointer, pointer + step, pointer + 2 step, ..."""
    index = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
    offsets = builder.mul(splat(builder, step, lanes), index)
    base = splat(builder, builder.ptrtoint(pointer, INDEX), lanes)
    return builder.inttoptr(builder.add(base, offsets), ir.VectorType(BYTE.as_pointer(), lanes))


def emit_load(
    builder: Any, storage: Storage, vector: Vector, pointer: Any, mask: Any = None
) -> Any:
    """Load neighbours; lanes that `mask` leaves out are zero, and their memory is not touched."""
    memory = storage.in_memory(vector)
    pointer = builder.bitcast(pointer, memory.as_pointer())
    if mask is None:
        value = builder.load(pointer)
        value.align = storage.itemsize
    else:
        suffix = f"v{vector.lanes}{_letter(memory)}.p0"
        align = ir.Constant(ir.IntType(32), storage.itemsize)
        nothing = ir.Constant(memory, None)
        value = call_llvm(
            builder, f"llvm.masked.load.{suffix}", memory, [pointer, align, mask, nothing]
        )
    return storage.widen(builder, value, vector)


def emit_gather(
    builder: Any, storage: Storage, vector: Vector, pointer: Any, step: Any, mask: Any
) -> Any:
    """Load numbers that lie `step` bytes apart; lanes that `mask` leaves out are zero."""
    memory = storage.in_memory(vector)
    suffix = f"v{vector.lanes}{_letter(memory)}.v{vector.lanes}p0"
    align = ir.Constant(ir.IntType(32), storage.itemsize)
    addresses = _addresses(builder, pointer, step, vector.lanes)
    value = call_llvm(
        builder,
        f"llvm.masked.gather.{suffix}",
        memory,
        [addresses, align, mask, ir.Constant(memory, None)],
    )
    return storage.widen(builder, value, vector)


def emit_broadcast(builder: Any, storage: Storage, vector: Vector, pointer: Any) -> Any:
    """Load one number into every lane."""
    memory = storage.in_memory(vector)
    value = builder.load(builder.bitcast(pointer, memory.element.as_pointer()))
    value.align = storage.itemsize
    return storage.widen(builder, splat(builder, value, vector.lanes), vector)


def emit_store(
    builder: Any,
    storage: Storage,
    vector: Vector,
    pointer: Any,
    value: Any,
    mask: Any = None,
    streaming: bool = False,
) -> None:
    """Store neighbours; the memory of lanes that `mask` leaves out is not touched.

    A streaming store goes past the caches, and needs an address that is a multiple of a register's size.
    """
    value = storage.narrow(builder, value, vector)
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    if streaming:
        store = builder.store(value, pointer, align=TARGET.vector_bytes)
        _make_streaming(builder, store)
    elif mask is None:
        builder.store(value, pointer, align=storage.itemsize)
    else:
        suffix = f"v{vector.lanes}{_letter(value.type)}.p0"
        align = ir.Constant(ir.IntType(32), storage.itemsize)
        call_llvm(
            builder, f"llvm.masked.store.{suffix}", ir.VoidType(), [value, pointer, align, mask]
        )


def _make_streaming(builder: Any, store: Any) -> None:
    one = ir.Constant(ir.IntType(32), 1)
    store.set_metadata("nontemporal", builder.module.add_metadata([one]))


def emit_scatter(
    builder: Any,
    storage: Storage,
    vector: Vector,
    pointer: Any,
    step: Any,
    value: Any,
    mask: Any,
) -> None:
    """Store numbers `step` bytes apart."""
    value = storage.narrow(builder, value, vector)
    suffix = f"v{vector.lanes}{_letter(value.type)}.v{vector.lanes}p0"
    align = ir.Constant(ir.IntType(32), storage.itemsize)
    addresses = _addresses(builder, pointer, step, vector.lanes)
    call_llvm(
        builder, f"llvm.masked.scatter.{suffix}", ir.VoidType(), [value, addresses, align, mask]
    )


def _letter(memory: ir.VectorType) -> str:
    return {"half": "f16", "float": "f32", "double": "f64"}.get(
        str(memory.element), str(memory.element)
    )


def emit_load_at_any_stride(
    builder: Any, storage: Storage, vector: Vector, pointer: Any, step: Any, mask: Any
) -> Any:
    """Load by the cheapest of neighbours, one number repeated, and a gather."""
    result = cgutils.alloca_once(builder, vector.llvm)
    with builder.if_else(
        builder.icmp_signed("==", step, number(storage.itemsize)), likely=True
    ) as (
        side_by_side,
        apart,
    ):
        with side_by_side:
            builder.store(emit_load(builder, storage, vector, pointer, mask), result)
        with apart, builder.if_else(builder.icmp_signed("==", step, number(0))) as (one, many):
            with one:
                builder.store(emit_broadcast(builder, storage, vector, pointer), result)
            with many:
                value = emit_gather(builder, storage, vector, pointer, step, mask)
                builder.store(value, result)
    return builder.load(result)


def emit_store_at_any_stride(
    builder: Any,
    storage: Storage,
    vector: Vector,
    pointer: Any,
    step: Any,
    value: Any,
    mask: Any,
) -> None:
    """Store to neighbours or, further apart, by a scatter."""
    with builder.if_else(
        builder.icmp_signed("==", step, number(storage.itemsize)), likely=True
    ) as (
        side_by_side,
        apart,
    ):
        with side_by_side:
            emit_store(builder, storage, vector, pointer, value, mask)
        with apart:
            emit_scatter(builder, storage, vector, pointer, step, value, mask)


def emit_copy(
    builder: Any,
    itemsize: int,
    source: Any,
    source_step: Any,
    target: Any,
    target_step: Any,
    count: Any,
    fills_target: bool,
) -> None:
    """Copy numbers from one place to another, whatever their distances: neighbours a register at a time.

    Parameters
    ----------
    fills_target : bool
        Whether all of the target's last register may be written: what follows is then written as it is.
    """
    ends = [
        builder.ptrtoint(source, INDEX),
        source_step,
        builder.ptrtoint(target, INDEX),
        target_step,
    ]
    builder.call(_copy_function(builder.module, itemsize, fills_target), [*ends, count])


def _copy_function(module: Any, itemsize: int, fills_target: bool) -> Any:
    """Return the function behind `emit_copy`: a loop has many copies, each of which would take time to compile."""
    name = f"fastact.copy.{itemsize}.{fills_target}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INDEX] * 5), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    source, source_step, target, target_step, count = function.args
    lanes = TARGET.vector_bytes // itemsize
    one = ir.IntType(8 * itemsize)
    register = ir.VectorType(one, lanes)

    def pointers(first: Any, kind: ir.Type) -> list[Any]:
        # Not by `gep`: LLVM would make gathers of it, which are longer and no faster.
        return [
            builder.inttoptr(builder.add(start, builder.mul(first, step)), kind.as_pointer())
            for start, step in ((source, source_step), (target, target_step))
        ]

    def move(first: Any, kind: ir.Type) -> None:
        place, destination = pointers(first, kind)
        value = builder.load(place)
        value.align = itemsize
        builder.store(value, destination, align=itemsize)

    def move_rest(first: Any, rest: Any) -> None:
        """Move less than a register. What is read soon is written whole: a processor forwards whole stores only."""
        place, destination = pointers(first, register)
        numbers = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
        mask = builder.icmp_signed("<", numbers, splat(builder, rest, lanes))
        suffix = f"v{lanes}{one}.p0"
        align = ir.Constant(ir.IntType(32), itemsize)
        if fills_target:
            others = builder.load(destination)
            others.align = itemsize
            operands = [place, align, mask, others]
            value = call_llvm(builder, f"llvm.masked.load.{suffix}", register, operands)
            builder.store(value, destination, align=itemsize)
        else:
            value = builder.load(place)
            value.align = itemsize
            operands = [value, destination, align, mask]
            call_llvm(builder, f"llvm.masked.store.{suffix}", ir.VoidType(), operands)

    done = cgutils.alloca_once_value(builder, number(0))
    side_by_side = [
        builder.icmp_signed("==", step, number(itemsize)) for step in (source_step, target_step)
    ]
    with builder.if_then(builder.and_(*side_by_side)):
        whole = builder.and_(count, number(-lanes))
        with cgutils.for_range_slice(builder, number(0), whole, number(lanes), INDEX) as (i, _):
            move(i, register)
        builder.store(whole, done)
        if TARGET.has_masked_moves(itemsize):
            with builder.if_then(builder.icmp_signed("<", whole, count)):
                move_rest(whole, builder.sub(count, whole))
            builder.store(count, done)
    with cgutils.for_range_slice(builder, builder.load(done), count, number(1), INDEX) as (i, _):
        move(i, one)
    builder.ret_void()
    return function
