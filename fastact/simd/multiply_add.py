"""Fused multiply-add in plain arithmetic, for an x86 without the instruction: before 2013, or hidden by a virtual machine.

The same bits. LLVM would call the C library's instead, for one element at a time, and that has no instruction either.

S. Boldo, G. Melquiond, Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd, IEEE
Transactions on Computers 57 (2008), 462-471.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastact.system.target import TARGET

_DOUBLE, _WORD = ir.DoubleType(), ir.IntType(64)
_SPLITTER = 2.0**27 + 1  # cuts a mantissa of 53 bits in two
# No product of halves is subnormal, nothing overflows.
_LEAST_PRODUCT, _LARGEST, _LARGEST_FACTOR = 2.0**-900, 2.0**1000, 2.0**990


def emit_fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Compute x * y + z, rounded once."""
    return builder.call(_function(builder.module, x.type), [x, y, z])


def _function(module: Any, kind: ir.VectorType) -> Any:
    """Return the function for a type of vector: shared, because each of a kernel's many calls would take time to compile."""
    name = f"fastact.fma.{kind.count}.{kind.element}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _in_double if kind.element == _DOUBLE else _through_double
    builder.ret(emit(builder, kind, *function.args))
    return function


def _through_double(builder: Any, kind: ir.VectorType, x: Any, y: Any, z: Any) -> Any:
    """Compute it in float64, where the product is exact, and a sum rounded to odd tells how to round it to float32."""
    results = []
    for lanes in _registers_of(kind.count):
        a, b, c = (
            builder.fpext(_part(builder, value, lanes), ir.VectorType(_DOUBLE, len(lanes)))
            for value in (x, y, z)
        )
        total = _sum_to_odd(builder, builder.fmul(a, b), c)
        results.append(builder.fptrunc(total, ir.VectorType(ir.FloatType(), len(lanes))))
    return _joined(builder, results)


def _in_double(builder: Any, kind: ir.VectorType, x: Any, y: Any, z: Any) -> Any:
    results, are_safe = [], []
    for lanes in _registers_of(kind.count):
        parts = [_part(builder, value, lanes) for value in (x, y, z)]
        result, is_safe = _double_register(builder, *parts)
        results.append(result)
        are_safe.append(is_safe)
    found = cgutils.alloca_once_value(builder, _joined(builder, results))
    every = _joined(builder, are_safe)
    one_bit = ir.IntType(kind.count)
    is_safe = builder.icmp_unsigned(
        "==", builder.bitcast(every, one_bit), ir.Constant(one_bit, 2**kind.count - 1)
    )
    with builder.if_then(builder.not_(is_safe), likely=False):
        name = f"llvm.fma.v{kind.count}f64"
        called = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        builder.store(builder.call(called, [x, y, z]), found)
    return builder.load(found)


def _double_register(builder: Any, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """Return the results of a register, and for which lanes they are right."""

    def number(value: float) -> Any:
        return ir.Constant(x.type, [value] * x.type.count)

    def halves(value: Any) -> tuple[Any, Any]:
        scaled = builder.fmul(value, number(_SPLITTER))
        upper = builder.fsub(scaled, builder.fsub(scaled, value))
        return upper, builder.fsub(value, upper)

    def is_below(value: Any, limit: float) -> Any:
        name = f"llvm.fabs.v{value.type.count}f64"
        kind = ir.FunctionType(value.type, [value.type])
        magnitude = builder.call(
            cgutils.get_or_insert_function(builder.module, kind, name), [value]
        )
        return builder.fcmp_ordered("<", magnitude, number(limit))

    product = builder.fmul(x, y)
    (x_upper, x_lower), (y_upper, y_lower) = halves(x), halves(y)
    error = builder.fsub(builder.fmul(x_upper, y_upper), product)
    for one, other in ((x_upper, y_lower), (x_lower, y_upper), (x_lower, y_lower)):
        error = builder.fadd(error, builder.fmul(one, other))
    lower_sum, lower_error = _two_sum(builder, z, error)
    upper_sum, upper_error = _two_sum(builder, product, lower_sum)
    rest = _sum_to_odd(builder, lower_error, upper_error)
    result = builder.fadd(upper_sum, rest)

    is_zero = builder.or_(*(builder.fcmp_ordered("==", each, number(0.0)) for each in (x, y)))
    result = builder.select(is_zero, builder.fadd(product, z), result)
    is_tiny = builder.and_(is_below(product, _LEAST_PRODUCT), builder.not_(is_zero))
    is_safe = builder.and_(is_below(product, _LARGEST), is_below(z, _LARGEST))
    for factor in (x, y):
        is_safe = builder.and_(is_safe, is_below(factor, _LARGEST_FACTOR))
    return result, builder.and_(is_safe, builder.not_(is_tiny))


def _two_sum(builder: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Return a rounded sum and its error, which is a number."""
    total = builder.fadd(x, y)
    second = builder.fsub(total, x)
    first = builder.fsub(total, second)
    return total, builder.fadd(builder.fsub(x, first), builder.fsub(y, second))


def _sum_to_odd(builder: Any, x: Any, y: Any) -> Any:
    """Return the sum if it is a number, else that of the two numbers about it whose last bit is 1."""
    total, error = _two_sum(builder, x, y)
    words = ir.VectorType(_WORD, x.type.count)

    def number(value: int) -> Any:
        return ir.Constant(words, [value] * words.count)

    bits = builder.bitcast(total, words)
    zero = ir.Constant(x.type, [0.0] * words.count)
    is_inexact = builder.sext(builder.fcmp_ordered("!=", error, zero), words)
    is_even = builder.sub(builder.and_(bits, number(1)), number(1))
    # One more if the error has the sign of the sum, else one less.
    signs = builder.lshr(builder.xor(bits, builder.bitcast(error, words)), number(62))
    step = builder.sub(number(1), builder.and_(signs, number(2)))
    step = builder.and_(step, builder.and_(is_inexact, is_even))
    return builder.bitcast(builder.add(bits, step), x.type)


def _registers_of(lanes: int) -> list[range]:
    """Return the lanes of each register of float64: one is finished before the next, so that none is spilled."""
    width = min(TARGET.vector_bytes // 8, lanes)
    return [range(start, min(start + width, lanes)) for start in range(0, lanes, width)]


def _part(builder: Any, value: Any, lanes: range) -> Any:
    return builder.shuffle_vector(value, value, _mask(lanes))


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Join vectors two by two; each has as many lanes as the others."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        width = range(2 * parts[0].type.count)
        parts = [builder.shuffle_vector(*pair, _mask(width)) for pair in pairs]
    return parts[0]


def _mask(lanes: range) -> Any:
    kind = ir.IntType(32)
    return ir.Constant(ir.VectorType(kind, len(lanes)), [kind(each) for each in lanes])
