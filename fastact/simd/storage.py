"""Storage types, and the LLVM instructions that load and store vectors of them.

The storage type may be narrower than the computation type: float16 and bfloat16 are widened to float32 when
loaded, and rounded once, to nearest, when stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastact.simd.half import emit_float_to_half, emit_half_to_float
from fastact.simd.lowering import Vector, call_llvm, constant, lanes_of, shuffle_mask, splat
from fastact.system.target import TARGET

BYTE = ir.IntType(8)
INDEX = ir.IntType(64)
_HALF_WIDTH = ir.IntType(16)
_HALF_BYTES = 2
_UPPER_HALF = -1 << 16


@dataclass(frozen=True)
class Storage:
    """The type of elements in memory, and the vector that kernels compute with.

    Attributes
    ----------
    name : str
        ``"float32"``, ``"float64"``, ``"float16"``, ``"bfloat16"``, or ``"intp"`` and ``"bool"`` for integers and
        masks that kernels see as floats.
    """

    name: str

    @property
    def computed_in(self) -> types.Float:
        """The type of the arithmetic."""
        return types.float64 if self.name == "float64" else types.float32

    @property
    def vector(self) -> Vector:
        """The vector of one load."""
        return Vector(self.computed_in, lanes_of(self.computed_in))

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory."""
        return {"float64": 8, "intp": 8, "float32": 4, "bool": 1}.get(self.name, 2)

    def in_memory(self, vector: Vector) -> ir.VectorType:
        """Return the LLVM type of loads and stores."""
        element = {1: BYTE, 2: _HALF_WIDTH, 8: INDEX if self.name == "intp" else ir.DoubleType()}
        return ir.VectorType(element.get(self.itemsize, ir.FloatType()), vector.lanes)

    def widen(self, builder: Any, value: Any, vector: Vector) -> Any:
        """Convert a loaded vector to the computation type."""
        if self.name == "float16":
            if not TARGET.converts_float16:
                return emit_half_to_float(builder, value, vector)
            half = ir.VectorType(ir.HalfType(), vector.lanes)
            return builder.fpext(builder.bitcast(value, half), vector.llvm)
        if self.name == "bfloat16":
            wide = ir.VectorType(ir.IntType(32), vector.lanes)
            sixteen = ir.Constant(wide, [16] * vector.lanes)
            return builder.bitcast(builder.shl(builder.zext(value, wide), sixteen), vector.llvm)
        if self.name == "bool":
            return builder.uitofp(value, vector.llvm)
        return builder.sitofp(value, vector.llvm) if self.name == "intp" else value

    def narrow(self, builder: Any, value: Any, vector: Vector) -> Any:
        """Convert a computed vector to the storage type: rounds to nearest, ties to even."""
        memory = self.in_memory(vector)
        if self.name == "float16":
            if not TARGET.converts_float16:
                return emit_float_to_half(builder, value, vector)
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
        return builder.fptosi(value, memory) if self.name in ("intp", "bool") else value


# bfloat16 elements at even and odd indices are the lower and upper halves of 32-bit words. Deinterleaved in this way,
# they take a third of the instructions of widening and narrowing contiguous elements, with the same results.


def emit_load_deinterleaved(builder: Any, vector: Vector, pointer: Any) -> Any:
    """Load bfloat16 elements: first those at even indices, then those at odd ones."""
    words = ir.VectorType(ir.IntType(32), vector.lanes // 2)
    word = builder.load(builder.bitcast(pointer, words.as_pointer()))
    word.align = _HALF_BYTES
    even = builder.shl(word, constant(words, 16))
    odd = builder.and_(word, constant(words, _UPPER_HALF))
    both = builder.shuffle_vector(even, odd, shuffle_mask(range(vector.lanes)))
    return builder.bitcast(both, vector.llvm)


def emit_store_interleaved(
    builder: Any, vector: Vector, pointer: Any, value: Any, streaming: bool
) -> None:
    """Store the reverse of `emit_load_deinterleaved`, rounded to nearest, ties to even.

    No NaN may have bits in the lower half: rounding up could carry them out of the mantissa. NaNs of
    bfloat16 arrays, and those that arithmetic creates, have none.
    """
    half = vector.lanes // 2
    rounded = _rounded_to_upper_half(builder, value, ir.VectorType(ir.IntType(32), vector.lanes))
    even, odd = (
        builder.shuffle_vector(rounded, rounded, shuffle_mask(range(start, start + half)))
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
    """Load contiguous elements; masked-off lanes are zero, and their memory is not touched."""
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
    """Load elements `step` bytes apart; masked-off lanes are zero."""
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
    """Load one element into every lane."""
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
    """Store contiguous elements; the memory of masked-off lanes is not touched.

    A streaming store is non-temporal: it bypasses the caches, and needs an address aligned to a register.
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
    """Store elements `step` bytes apart."""
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
    """Load by the cheapest of a contiguous load, a broadcast and a gather."""
    result = cgutils.alloca_once(builder, vector.llvm)
    with builder.if_else(
        builder.icmp_signed("==", step, number(storage.itemsize)), likely=True
    ) as (
        contiguous,
        strided,
    ):
        with contiguous:
            builder.store(emit_load(builder, storage, vector, pointer, mask), result)
        with (
            strided,
            builder.if_else(builder.icmp_signed("==", step, number(0))) as (broadcast, gather),
        ):
            with broadcast:
                builder.store(emit_broadcast(builder, storage, vector, pointer), result)
            with gather:
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
    """Store contiguous elements, or scatter elements at another stride."""
    with builder.if_else(
        builder.icmp_signed("==", step, number(storage.itemsize)), likely=True
    ) as (
        contiguous,
        strided,
    ):
        with contiguous:
            emit_store(builder, storage, vector, pointer, value, mask)
        with strided:
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
    """Copy elements between any strides; contiguous ones a register at a time.

    Parameters
    ----------
    fills_target : bool
        Whether the target's last register may be stored whole; the bytes after the elements are then
        stored unchanged.
    """
    ends = [
        builder.ptrtoint(source, INDEX),
        source_step,
        builder.ptrtoint(target, INDEX),
        target_step,
    ]
    builder.call(_copy_function(builder.module, itemsize, fills_target), [*ends, count])


def _copy_function(module: Any, itemsize: int, fills_target: bool) -> Any:
    """Return the function behind `emit_copy`: shared, because each of a loop's many copies would take time to compile."""
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
        # Not `gep`: LLVM would turn the loop into gathers, which are longer and no faster.
        return [
            builder.inttoptr(builder.add(start, builder.mul(first, step)), kind.as_pointer())
            for start, step in ((source, source_step), (target, target_step))
        ]

    def move(first: Any, kind: ir.Type) -> None:
        origin, destination = pointers(first, kind)
        value = builder.load(origin)
        value.align = itemsize
        builder.store(value, destination, align=itemsize)

    def move_tail(first: Any, length: Any) -> None:
        """Copy the tail with a masked move.

        Scratch memory gets a full-width store: store forwarding needs one store that covers the load.
        """
        origin, destination = pointers(first, register)
        indices = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
        mask = builder.icmp_signed("<", indices, splat(builder, length, lanes))
        suffix = f"v{lanes}{one}.p0"
        align = ir.Constant(ir.IntType(32), itemsize)
        if fills_target:
            others = builder.load(destination)
            others.align = itemsize
            operands = [origin, align, mask, others]
            value = call_llvm(builder, f"llvm.masked.load.{suffix}", register, operands)
            builder.store(value, destination, align=itemsize)
        else:
            value = builder.load(origin)
            value.align = itemsize
            operands = [value, destination, align, mask]
            call_llvm(builder, f"llvm.masked.store.{suffix}", ir.VoidType(), operands)

    done = cgutils.alloca_once_value(builder, number(0))
    are_contiguous = [
        builder.icmp_signed("==", step, number(itemsize)) for step in (source_step, target_step)
    ]
    with builder.if_then(builder.and_(*are_contiguous)):
        whole = builder.and_(count, number(-lanes))
        with cgutils.for_range_slice(builder, number(0), whole, number(lanes), INDEX) as (i, _):
            move(i, register)
        builder.store(whole, done)
        if TARGET.has_masked_moves(itemsize):
            with builder.if_then(builder.icmp_signed("<", whole, count)):
                move_tail(whole, builder.sub(count, whole))
            builder.store(count, done)
    with cgutils.for_range_slice(builder, builder.load(done), count, number(1), INDEX) as (i, _):
        move(i, one)
    builder.ret_void()
    return function
