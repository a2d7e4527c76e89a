"""The hardware vector as a Numba type, and the lowering of each operation on it to LLVM.

Importing this module imports Numba and registers the types; nothing else needs to be called. To add an
operation, add one `_operation` below: the stub in `fastact.simd`, the result type, the LLVM instruction.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_constant
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    lower_builtin,
    models,
    overload,
    register_jitable,
    register_model,
    typeof_impl,
)

from fastact import simd
from fastact.simd.formats import (
    BITS_OF_ONE,
    BITS_OF_ROUNDING_SHIFT,
    MANTISSA_BITS,
    ROUNDING_SHIFT,
    SHIFT_TO_POWER,
)
from fastact.simd.front_end import FrontEnd
from fastact.simd.multiply_add import emit_fma
from fastact.system.target import TARGET

# Compiler options of functions that only kernels call. The wrappers for calls from Python would take a fifth of the
# compile time. In users' own loops, a call that is not inlined keeps LLVM from vectorizing. An index out of bounds is
# an error, which no kernel can raise: code whose indices LLVM cannot prove in bounds is rejected.
JIT_OPTIONS = {
    "error_model": "numpy",
    "boundscheck": True,
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": FrontEnd,
}

_LLVM = {
    types.float16: ir.HalfType(),
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int32: ir.IntType(32),
    types.int64: ir.IntType(64),
}
_INTEGER = {types.float32: types.int32, types.float64: types.int64}
_FLOAT = {integer: real for real, integer in _INTEGER.items()}


def _llvm_type(element: ir.Type, lanes: int) -> ir.Type:
    return ir.VectorType(element, lanes) if lanes else element


class Vector(types.Type):
    """A register of `lanes` numbers of one type.

    With 0 lanes it is a scalar outside any vector: LLVM can vectorize a user's loop over such scalars, but
    not one over vectors of one lane.
    """

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(f"Vector({dtype}, {lanes})")

    @property
    def llvm(self) -> ir.Type:
        """The LLVM type."""
        return _llvm_type(_LLVM[self.dtype], self.lanes)

    @property
    def suffix(self) -> str:
        """The suffix of LLVM's intrinsics for this type."""
        kind = "f" if isinstance(self.dtype, types.Float) else "i"
        return f"{f'v{self.lanes}' if self.lanes else ''}{kind}{self.dtype.bitwidth}"


class Mask(types.Type):
    """One truth value per lane of a vector of this type."""

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(f"Mask({dtype}, {lanes})")

    @property
    def llvm(self) -> ir.Type:
        """The LLVM type."""
        return _llvm_type(ir.IntType(1), self.lanes)


class PerDtypeType(types.Type):
    """The type of one `PerDtype`; it carries the values, which exist at compile time only."""

    def __init__(self, value: simd.PerDtype[Any]) -> None:
        self.value = value
        super().__init__(f"PerDtype({value.float32}, {value.float64})")


class _PrimitiveVector(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.llvm)


register_model(Vector)(_PrimitiveVector)
register_model(Mask)(_PrimitiveVector)
register_model(PerDtypeType)(models.OpaqueModel)


@typeof_impl.register(simd.PerDtype)
def _(value: simd.PerDtype[Any], context: Any) -> PerDtypeType:
    return PerDtypeType(value)


@lower_constant(PerDtypeType)
def _(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.get_dummy_value()


def lanes_of(dtype: types.Type) -> int:
    """Return the lanes of one hardware vector of this type."""
    return TARGET.vector_bytes * 8 // int(dtype.bitwidth)


#: The bytes that sums take in at once: those of the widest vectors. The order of a sum depends on nothing but the
#: number of its terms, so that narrower processors, on which this is several registers, give the same bits.
BYTES_OF_SUMS = 64


def lanes_of_sums(dtype: types.Type) -> int:
    """Return the lanes of a vector of terms to be summed, which is as wide on every processor."""
    return BYTES_OF_SUMS * 8 // int(dtype.bitwidth)


def shuffle_mask(lanes: Iterable[int]) -> Any:
    """Return the constant operand of a shuffle: the source lane of each lane of the result."""
    return _shuffle_mask(tuple(lanes))


# llvmlite keeps a constant's text, which is long for wide vectors: a third of the time that a kernel takes to lower.
@cache
def _shuffle_mask(lanes: tuple[int, ...]) -> Any:
    kind = ir.IntType(32)
    return ir.Constant(ir.VectorType(kind, len(lanes)), [kind(each) for each in lanes])


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """Repeat one LLVM value in every lane."""
    if not lanes:
        return value
    kind = ir.VectorType(value.type, lanes)
    if isinstance(value, ir.Constant):
        return _repeated(value, lanes)
    first = builder.insert_element(
        ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), shuffle_mask([0] * lanes))


@cache  # equal constants have equal texts
def _repeated(value: ir.Constant, lanes: int) -> Any:
    return ir.Constant(ir.VectorType(value.type, lanes), [value] * lanes)


def constant(kind: ir.Type, number: Any) -> Any:
    """Return a constant of an LLVM type with one number in every lane."""
    if isinstance(kind, ir.VectorType):
        return _repeated(ir.Constant(kind.element, number), kind.count)
    return ir.Constant(kind, number)


def coerce(context: Any, builder: Any, kind: types.Type, value: Any, to: Vector) -> Any:
    """Convert an operand to the vector type `to`: Python numbers are weak, `PerDtype` constants follow the dtype."""
    if isinstance(kind, PerDtypeType):
        return constant(to.llvm, _value_for(kind, to))
    if isinstance(kind, types.Number | types.Boolean):
        return splat(builder, context.cast(builder, value, kind, to.dtype), to.lanes)
    return value


def _value_for(constant: PerDtypeType, vector: Vector) -> Any:
    """Return the constant's value for this type; integers take that of the float of their width."""
    return getattr(constant.value, str(_FLOAT.get(vector.dtype, vector.dtype)))


def _common_vector(kinds: tuple[types.Type, ...]) -> Vector | None:
    """Return the one vector type among the operands, or None where they are incompatible."""
    vectors = {kind for kind in kinds if isinstance(kind, Vector)}
    scalars = types.Number | types.Boolean | PerDtypeType
    others = all(isinstance(kind, Vector | scalars) for kind in kinds)
    return vectors.pop() if len(vectors) == 1 and others else None


#: What operations mean, for compilers other than Numba: for each stub, functions that take the types of operands and
#: return a signature or None, and emitters as Numba's.
OPERATIONS: dict[Any, list[tuple[Callable[..., Any], Callable[..., Any]]]] = {}
#: Likewise for stubs whose meaning is a Python function: functions that take the types and return it or None, and whether
#: these are literal types.
OVERLOADS: dict[Any, list[tuple[Callable[..., Any], bool]]] = {}


def _teach(stub: Any, kinds: Sequence[Any], typed: Any, lower: Any) -> None:
    """Teach an operation: the types that its lowering is for, the signature for given types, and the lowering."""

    class Template(AbstractTemplate):
        key = stub

        def generic(self, args: tuple[types.Type, ...], kwargs: Any) -> Any:
            return None if kwargs or len(args) != len(kinds) else typed(args)

    infer_global(stub)(Template)
    lower_builtin(stub, *kinds)(lower)
    OPERATIONS.setdefault(stub, []).append(
        (lambda args: typed(args) if len(args) == len(kinds) else None, lower)
    )


def taught(stub: Any, prefer_literal: bool = False) -> Callable[[Any], Any]:
    """Teach a stub by overloads: the decorated function takes types, and returns a Python function or None."""

    def register(choose: Callable[..., Any]) -> Callable[..., Any]:
        options = {"strict": False, "prefer_literal": prefer_literal, "jit_options": JIT_OPTIONS}
        overload(stub, **options)(choose)
        OVERLOADS.setdefault(stub, []).append((choose, prefer_literal))
        return choose

    return register


def _operation(
    stub: Any,
    arity: int,
    emit: Callable[[Any, Vector, list[Any]], Any],
    result: Callable[[Vector], types.Type] = lambda vector: vector,
) -> None:
    """Teach `stub` on `arity` operands of one vector type; Python numbers among them are weak."""

    def typed(args: tuple[types.Type, ...]) -> Any:
        vector = _common_vector(args)
        return vector and signature(result(vector), *args)

    def lower(context: Any, builder: Any, call: Any, values: Any) -> Any:
        vector = _common_vector(call.args)
        assert vector is not None
        pairs = zip(call.args, values, strict=True)
        operands = [coerce(context, builder, kind, value, vector) for kind, value in pairs]
        return emit(builder, vector, operands)

    _teach(stub, (types.Any,) * arity, typed, lower)


def _mask_of(vector: Vector) -> Mask:
    return Mask(vector.dtype, vector.lanes)


def _is_float(vector: Vector) -> bool:
    return isinstance(vector.dtype, types.Float)


def _by_kind(real: str, integer: str) -> Callable[[Any, Vector, list[Any]], Any]:
    """Return the emitter of an instruction that has one name for floats, one for integers."""
    return lambda builder, vector, operands: getattr(
        builder, real if _is_float(vector) else integer
    )(*operands)


def _comparison(symbol: str) -> Callable[[Any, Vector, list[Any]], Any]:
    """Return the emitter of a lane-wise comparison; with a NaN, all but ``!=`` are false."""

    def emit(builder: Any, vector: Vector, operands: list[Any]) -> Any:
        if not _is_float(vector):
            return builder.icmp_signed(symbol, *operands)
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return compare(symbol, *operands)

    return emit


def _llvm_intrinsic(name: str) -> Callable[[Any, Vector, list[Any]], Any]:
    def emit(builder: Any, vector: Vector, operands: list[Any]) -> Any:
        return call_llvm(builder, f"llvm.{name}.{vector.suffix}", vector.llvm, operands)

    return emit


def call_llvm(builder: Any, name: str, returns: Any, operands: list[Any]) -> Any:
    """Call an LLVM intrinsic by its full name."""
    kind = ir.FunctionType(returns, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


for stub, real, integer in (
    (operator.add, "fadd", "add"),
    (operator.sub, "fsub", "sub"),
    (operator.mul, "fmul", "mul"),
    (operator.truediv, "fdiv", "sdiv"),
    (operator.iadd, "fadd", "add"),
    (operator.isub, "fsub", "sub"),
    (operator.imul, "fmul", "mul"),
    (operator.itruediv, "fdiv", "sdiv"),
):
    _operation(stub, 2, _by_kind(real, integer))

for stub, symbol in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _operation(stub, 2, _comparison(symbol), _mask_of)

for stub, instruction in (
    (operator.lshift, "shl"),
    (operator.rshift, "ashr"),
    (operator.and_, "and_"),
    (operator.or_, "or_"),
    (operator.xor, "xor"),
):
    _operation(stub, 2, _by_kind(instruction, instruction))

_operation(operator.pos, 1, lambda builder, vector, operands: operands[0])
_operation(operator.neg, 1, _by_kind("fneg", "neg"))
_operation(abs, 1, _llvm_intrinsic("fabs"))
_operation(simd.sqrt, 1, _llvm_intrinsic("sqrt"))


def _multiply_add(builder: Any, vector: Vector, operands: list[Any]) -> Any:
    # A scalar of a user's loop goes to the C library where the CPU lacks the instruction: LLVM may vectorize others.
    if TARGET.has_fma or not vector.lanes:
        return _llvm_intrinsic("fma")(builder, vector, operands)
    return emit_fma(builder, *operands)


_operation(simd.fma, 3, _multiply_add)
_operation(simd.copysign, 2, _llvm_intrinsic("copysign"))
_operation(simd.round_to_integer, 1, _llvm_intrinsic("roundeven"))
_operation(
    simd.isnan,
    1,
    lambda builder, vector, operands: builder.fcmp_unordered("uno", operands[0], operands[0]),
    _mask_of,
)


def _as_double(vector: Vector) -> Vector:
    return Vector(types.float64, vector.lanes)


def _to_double(builder: Any, vector: Vector, operands: list[Any]) -> Any:
    already = vector.dtype == types.float64
    return operands[0] if already else builder.fpext(operands[0], _as_double(vector).llvm)


def _product_in_double(builder: Any, vector: Vector, operands: list[Any]) -> Any:
    if vector.dtype == types.float64:
        return builder.fmul(*operands)
    wide = _as_double(vector).llvm
    return builder.fptrunc(
        builder.fmul(*(builder.fpext(each, wide) for each in operands)), vector.llvm
    )


_operation(simd.product_in_double, 2, _product_in_double)


def _halves(builder: Any, value: Any) -> tuple[Any, Any]:
    lanes = value.type.count
    lower, upper = (
        builder.shuffle_vector(value, value, shuffle_mask(part))
        for part in (range(lanes // 2), range(lanes // 2, lanes))
    )
    return lower, upper


def emit_sum_lanes(builder: Any, value: Any) -> Any:
    """Sum the lanes of a vector pairwise."""
    while value.type.count > 1:
        value = builder.fadd(*_halves(builder, value))
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def _largest_lane(builder: Any, vector: Vector, operands: list[Any]) -> Any:
    # Not LLVM's vector.reduce.fmax, which goes lane by lane: 30 ns instead of 4 (AVX-512).
    (value,) = operands
    while value.type.count > 1:
        lower, upper = _halves(builder, value)
        value = builder.select(builder.fcmp_ordered(">", lower, upper), lower, upper)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def _fold_to_double(builder: Any, vector: Vector, operands: list[Any]) -> Any:
    """Sum halves of a block in their own type, with at most two roundings, then the halves of the result in float64.

    Conversions are slower than sums: converting each register first takes three times as long.
    """
    (value,) = operands
    while value.type.count > lanes_of_sums(vector.dtype):
        value = builder.fadd(*_halves(builder, value))
    if vector.dtype == types.float64:
        return value
    wide = ir.VectorType(ir.DoubleType(), lanes_of_sums(types.float64))
    return builder.fadd(*(builder.fpext(half, wide) for half in _halves(builder, value)))


_operation(simd.to_double, 1, _to_double, _as_double)
_operation(
    simd.sum_lanes,
    1,
    lambda builder, vector, operands: emit_sum_lanes(builder, *operands),
    lambda vector: vector.dtype,
)
_operation(simd.largest_lane, 1, _largest_lane, lambda vector: vector.dtype)
_operation(
    simd.fold_to_double,
    1,
    _fold_to_double,
    lambda vector: Vector(types.float64, lanes_of_sums(types.float64)),
)


def _as_integer(vector: Vector) -> Vector:
    return Vector(_INTEGER[vector.dtype], vector.lanes)


def _as_float(vector: Vector) -> Vector:
    return Vector(_FLOAT[vector.dtype], vector.lanes)


_operation(
    simd.bits,
    1,
    lambda builder, vector, operands: builder.bitcast(operands[0], _as_integer(vector).llvm),
    _as_integer,
)
_operation(
    simd.from_bits,
    1,
    lambda builder, vector, operands: builder.bitcast(operands[0], _as_float(vector).llvm),
    _as_float,
)


# Not LLVM's sitofp: AVX2 has no instruction for it on 64-bit integers.


@taught(simd.to_float)
def _(x: Any) -> Any:
    def to_float(x: Any) -> Any:
        return simd.from_bits(x + BITS_OF_ROUNDING_SHIFT) - ROUNDING_SHIFT

    return to_float if isinstance(x, Vector) and not _is_float(x) else None


# Random mantissa bits give a number in [1, 2); half a unit of their last place is added.
_ONE_LESS_HALF = simd.PerDtype(float32=1 - 2.0**-24, float64=1 - 2.0**-33)


@taught(simd.uniform)
def _(words: Any) -> Any:
    def to_float32(words: Any) -> Any:
        return simd.from_bits((words >> 9) & 0x7FFFFF | BITS_OF_ONE) - _ONE_LESS_HALF

    def to_float64(words: Any) -> Any:
        return simd.from_bits(words << 20 | BITS_OF_ONE) - _ONE_LESS_HALF

    if not isinstance(words, Vector):
        return None
    return {types.int32: to_float32, types.int64: to_float64}.get(words.dtype)


def _type_of_at_least(args: tuple[types.Type, ...]) -> Any:
    words, threshold = args
    if not isinstance(words, Vector) or not isinstance(threshold, types.Integer):
        return None
    return signature(Mask(_FLOAT[words.dtype], words.lanes), words, types.int64)


def _at_least(context: Any, builder: Any, call: Any, values: Any) -> Any:
    words, threshold = values
    vector = call.args[0]
    if vector.dtype == types.int64:
        return builder.icmp_signed(">=", words, splat(builder, threshold, vector.lanes))
    narrow = builder.trunc(threshold, ir.IntType(32))
    reached = builder.icmp_unsigned(">=", words, splat(builder, narrow, vector.lanes))
    fits = builder.icmp_signed("<", threshold, ir.Constant(threshold.type, 2**32))
    return builder.and_(reached, splat(builder, fits, vector.lanes))


_teach(simd.at_least, (Vector, types.int64), _type_of_at_least, _at_least)


def _scale_by_instruction(builder: Any, vector: Vector, operands: list[Any]) -> Any:
    """Emit AVX-512's ``x * 2**n``: one instruction instead of the portable eight."""
    letter = {types.float32: "s", types.float64: "d"}[vector.dtype]
    x, n = operands
    if not vector.lanes:  # LLVM selects the same instruction, and can vectorize it
        name = f"llvm.ldexp.{vector.suffix}.i32"
        shifted = builder.fadd(n, constant(vector.llvm, getattr(ROUNDING_SHIFT, str(vector.dtype))))
        whole = builder.bitcast(shifted, _as_integer(vector).llvm)  # not fptosi: n may be NaN
        start = constant(whole.type, getattr(BITS_OF_ROUNDING_SHIFT, str(vector.dtype)))
        exponent = builder.sub(whole, start)
        if vector.dtype == types.float64:
            exponent = builder.trunc(exponent, ir.IntType(32))
        return call_llvm(builder, name, vector.llvm, [x, exponent])
    lanes = lanes_of(vector.dtype)
    every_lane = ir.Constant(ir.IntType(lanes), -1)
    to_nearest = ir.Constant(ir.IntType(32), 4)  # _MM_FROUND_CUR_DIRECTION
    name = f"llvm.x86.avx512.mask.scalef.p{letter}.512"

    def scale_register(x: Any, n: Any) -> Any:
        return call_llvm(builder, name, x.type, [x, n, x, every_lane, to_nearest])

    return _register_by_register(builder, lanes, scale_register, operands)


def _register_by_register(
    builder: Any, lanes: int, function: Callable[..., Any], operands: list[Any]
) -> Any:
    """Apply a function on vectors of `lanes` lanes to vectors of a multiple of them."""
    width = operands[0].type.count
    parts = []
    for begin in range(0, width, lanes):
        mask = shuffle_mask(range(begin, begin + lanes))
        parts.append(function(*(builder.shuffle_vector(each, each, mask) for each in operands)))
    while len(parts) > 1:
        mask = shuffle_mask(range(2 * parts[0].type.count))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(*pair, mask) for pair in pairs]
    return parts[0]


_LEAST_POWER = simd.PerDtype(float32=-252.0, float64=-2044.0)


@register_jitable(**JIT_OPTIONS)
def _power_of_two(n: Any) -> Any:
    return simd.from_bits(simd.bits(n + SHIFT_TO_POWER) << MANTISSA_BITS)


@taught(simd.scale)
def _(x: Any, n: Any) -> Any:
    def by_instruction(x: Any, n: Any) -> Any:
        return _scale_instruction(x, n)

    def portable(x: Any, n: Any) -> Any:
        # Two factors, because 2**n alone may lie outside the normal numbers; the first product is
        # exact, so that a subnormal result is rounded once.
        least = simd.select(n < _LEAST_POWER, _LEAST_POWER, n)
        half = simd.round_to_integer(least * 0.5)
        return (x * _power_of_two(half)) * _power_of_two(least - half)

    if not isinstance(n, Vector):
        return None
    fits = n.lanes % lanes_of(n.dtype) == 0
    return by_instruction if TARGET.has_avx512 and fits else portable


def _scale_instruction(x: Any, n: Any) -> Any:
    """Stub of the AVX-512 instruction."""


_operation(_scale_instruction, 2, _scale_by_instruction)


# float64 is lifted by a power of two. In the binade of the smallest normal number, the last place is the smallest
# subnormal number: the bits of its sum with a smaller number, less its own, are those of the subnormal number.
_LIFT, _DROP = 2.0**850, 2.0**-850
_LIFTED_NORMAL, _BITS_OF_LIFTED_NORMAL = 2.0 ** (850 - 1022), (1023 + 850 - 1022) << 52


@taught(simd.scale_down)
def _(x: Any, power: Any) -> Any:
    def in_double(x: Any, power: Any) -> Any:
        return simd.product_in_double(x, power)

    def in_integers(x: Any, power: Any) -> Any:
        lifted = x * (power * _LIFT)
        is_subnormal = abs(lifted) < _LIFTED_NORMAL
        total = lifted + simd.copysign(_LIFTED_NORMAL, lifted)
        normal = simd.select(is_subnormal, 0, lifted) * _DROP
        subnormal = simd.from_bits(simd.bits(total) - _BITS_OF_LIFTED_NORMAL)
        return simd.select(is_subnormal, subnormal, normal)

    if not isinstance(x, Vector):
        return None
    return {types.float32: in_double, types.float64: in_integers}.get(x.dtype)


def _type_of_polynomial(args: tuple[types.Type, ...]) -> Any:
    fits = isinstance(args[0], Vector) and isinstance(args[1], PerDtypeType)
    return signature(args[0], *args) if fits else None


def _polynomial(context: Any, builder: Any, call: Any, values: Any) -> Any:
    vector, coefficients = call.args
    *lower, result = (
        constant(vector.llvm, coefficient) for coefficient in _value_for(coefficients, vector)
    )
    for coefficient in reversed(lower):
        result = _multiply_add(builder, vector, [result, values[0], coefficient])
    return result


_teach(simd.polynomial, (Vector, PerDtypeType), _type_of_polynomial, _polynomial)


def _looked_up(table: PerDtypeType, index: Vector) -> Vector:
    is_integer = all(isinstance(element, int) for element in _value_for(table, index))
    return index if is_integer else _as_float(index)


def _type_of_lookup(args: tuple[types.Type, ...]) -> Any:
    table, index = args
    fits = isinstance(table, PerDtypeType) and isinstance(index, Vector)
    return signature(_looked_up(table, index), *args) if fits else None


def _lookup(context: Any, builder: Any, call: Any, values: Any) -> Any:
    table, index = call.args
    result = call.return_type
    elements = _value_for(table, index)
    kind = ir.ArrayType(_LLVM[result.dtype], len(elements))
    variable = cgutils.global_constant(builder, "lookup", ir.Constant(kind, list(elements)))
    zero = ir.Constant(_LLVM[index.dtype], 0)

    def element(position: Any) -> Any:
        return builder.load(builder.gep(variable, [zero, position], inbounds=True))

    if not index.lanes:
        return element(values[1])
    # Through memory, in a loop: it compiles fast, and the cases are rare.
    found = cgutils.alloca_once(builder, result.llvm)
    each_found = builder.bitcast(found, _LLVM[result.dtype].as_pointer())
    indices = cgutils.alloca_once_value(builder, values[1])
    each_index = builder.bitcast(indices, _LLVM[index.dtype].as_pointer())
    with cgutils.for_range(builder, ir.Constant(ir.IntType(64), index.lanes)) as loop:
        position = builder.load(builder.gep(each_index, [loop.index]))
        builder.store(element(position), builder.gep(each_found, [loop.index]))
    return builder.load(found)


_teach(simd.lookup, (PerDtypeType, Vector), _type_of_lookup, _lookup)


def _type_of_select(args: tuple[types.Type, ...]) -> Any:
    if not isinstance(args[0], Mask):
        return None
    masked = Vector(args[0].dtype, args[0].lanes)
    vector = _common_vector((masked, *args[1:]))
    return vector and signature(vector, *args)


def _select(context: Any, builder: Any, call: Any, values: Any) -> Any:
    mask, *operands = values
    if_true, if_false = (
        coerce(context, builder, kind, value, call.return_type)
        for kind, value in zip(call.args[1:], operands, strict=True)
    )
    return builder.select(mask, if_true, if_false)


_teach(simd.select, (Mask, types.Any, types.Any), _type_of_select, _select)


def _mask_operation(stub: Any, arity: int, emit: Callable[..., Any]) -> None:
    def typed(args: tuple[types.Type, ...]) -> Any:
        fits = len(set(args)) == 1 and isinstance(args[0], Mask)
        return signature(args[0], *args) if fits else None

    def lower(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return emit(builder, *values)

    _teach(stub, (Mask,) * arity, typed, lower)


_mask_operation(operator.and_, 2, lambda builder, x, y: builder.and_(x, y))
_mask_operation(operator.or_, 2, lambda builder, x, y: builder.or_(x, y))
_mask_operation(operator.xor, 2, lambda builder, x, y: builder.xor(x, y))
_mask_operation(operator.invert, 1, lambda builder, x: builder.not_(x))


def _type_of_any_lane(args: tuple[types.Type, ...]) -> Any:
    return signature(types.boolean, *args) if isinstance(args[0], Mask) else None


def _type_of_any_above(args: tuple[types.Type, ...]) -> Any:
    fits = isinstance(args[0], Vector) and args[0].dtype in _FLOAT
    return signature(types.boolean, *args) if fits else None


def _any_above(context: Any, builder: Any, call: Any, values: Any) -> Any:
    vector, threshold = call.args
    (words, _), lanes = values, lanes_of(vector.dtype)
    while vector.lanes and words.type.count > lanes:
        lower, upper = _halves(builder, words)
        words = builder.select(builder.icmp_unsigned(">", lower, upper), lower, upper)
    bits = int(vector.dtype.bitwidth)
    limit = constant(words.type, _value_for(threshold, vector) % 2**bits)
    is_above = builder.icmp_unsigned(">", words, limit)
    if vector.lanes:
        name = f"llvm.vector.reduce.or.v{words.type.count}i1"
        is_above = call_llvm(builder, name, ir.IntType(1), [is_above])
    # Otherwise LLVM computes what the branch guards in any case, as it is short.
    expected = ir.Constant(ir.IntType(1), 0)
    return call_llvm(builder, "llvm.expect.i1", ir.IntType(1), [is_above, expected])


def _any_lane(context: Any, builder: Any, call: Any, values: Any) -> Any:
    lanes = call.args[0].lanes
    if not lanes:
        return values[0]
    return call_llvm(builder, f"llvm.vector.reduce.or.v{lanes}i1", ir.IntType(1), values)


_teach(simd.any_above, (Vector, PerDtypeType), _type_of_any_above, _any_above)
_teach(simd.any_lane, (Mask,), _type_of_any_lane, _any_lane)
