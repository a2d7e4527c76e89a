"""Replay a call of a kernel in machine code: the C function of a Python builtin, see `fastact.runtime.replays`.

It compares the arguments with those of earlier calls, allocates the outputs, and calls the inner loop: 0.3 us, while the
way through Python and NumPy takes 3 to 6. Where nothing matches it returns None, and the caller takes that way.

It is written for LLVM directly, and so compiled without Numba, whose import would take longer than many a process runs.
All values are words: numbers and addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from fastact.system.memory_layout import (
    ARGUMENT,
    ARRAY,
    IS_ARRAY,
    IS_OBJECT,
    OBJECT_TYPE,
    OPERAND,
    OUTPUT,
    OUTPUT_POOL,
    RECORD,
    SETTING,
    TUPLE_ITEMS,
    WORD,
)

SYMBOL = "fastact_replay"
_INDEX, _TRUTH = ir.IntType(64), ir.IntType(1)
_INT = 0xFFFFFFFF  # a C int fills half a word


def replay_ir() -> str:
    """Return the code of the builtin in LLVM's language: `PyCFunctionFast` of CPython."""
    module = ir.Module()
    nothing, release = _nothing(module), _release(module)
    find_places, run = _find_places(module), _run(module, nothing, release)
    code = Code(module, SYMBOL, _INDEX, 3)
    itself, given, count = code.arguments
    # The builtin is bound to a tuple, whose first item is an array: the settings, and the records.
    chain = code.load(code.load(itself, TUPLE_ITEMS), ARRAY.data)
    settings, records = code.load(chain, 0), code.load(chain, 1)
    keys, places = code.reserve(count), code.reserve(code.add(count, code.load(chain, 2)))
    with code.loop(records) as k:
        record = code.load(code.add(chain, code.times(k, WORD)), 3)
        with code.when(code.equal(code.load(record, RECORD.arguments), count)):
            found = code.builder.call(find_places, [record, settings, given, places, keys])
            with code.when(found):
                code.give(code.builder.call(run, [record, settings, given, places]))
    code.give(code.builder.call(nothing, [settings]))
    return str(module)


class Code:
    """A function of words in the making."""

    def __init__(self, module: ir.Module, name: str, returns: ir.Type, arguments: int) -> None:
        kind = ir.FunctionType(returns, [_INDEX] * arguments)
        self.function = ir.Function(module, kind, name)
        if name != SYMBOL:
            self.function.linkage = "internal"
        self.arguments = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block())

    def _pointer(self, address: Any, index: Any) -> Any:
        pointer = self.builder.inttoptr(address, _INDEX.as_pointer())
        return self.builder.gep(pointer, [self.word(index)])

    def word(self, value: Any) -> Any:
        """Return a number, or what computes one, as a word."""
        return ir.Constant(_INDEX, value) if isinstance(value, int) else value

    def load(self, address: Any, index: Any) -> Any:
        """Return the word at an index after an address."""
        return self.builder.load(self._pointer(address, index))

    def store(self, value: Any, address: Any, index: Any) -> None:
        """Store a word at an index after an address."""
        self.builder.store(self.word(value), self._pointer(address, index))

    def reserve(self, count: Any) -> Any:
        """Return the address of words on the stack."""
        return self.builder.ptrtoint(self.builder.alloca(_INDEX, self.word(count)), _INDEX)

    def add(self, a: Any, b: Any) -> Any:
        """Return a sum."""
        return self.builder.add(a, self.word(b))

    def times(self, a: Any, b: Any) -> Any:
        """Return a product."""
        return self.builder.mul(a, self.word(b))

    def part(self, a: Any, mask: int) -> Any:
        """Return the bits under a mask."""
        return self.builder.and_(a, self.word(mask))

    def equal(self, a: Any, b: Any) -> Any:
        """Return whether two words are equal."""
        return self.builder.icmp_signed("==", a, self.word(b))

    def differ(self, a: Any, b: Any) -> Any:
        """Return whether two words differ."""
        return self.builder.icmp_signed("!=", a, self.word(b))

    def when(self, condition: Any) -> Any:
        """Open a block that runs if a condition holds."""
        return self.builder.if_then(condition)

    def give(self, value: Any) -> None:
        """Return from the function."""
        self.builder.ret(value)

    @contextmanager
    def loop(self, count: Any) -> Iterator[Any]:
        """Open a block that runs so many times, for the numbers from 0 on."""
        builder, before = self.builder, self.builder.block
        head, body, end = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_INDEX)
        k.add_incoming(self.word(0), before)
        builder.cbranch(builder.icmp_signed("<", k, count), body, end)
        builder.position_at_end(body)
        yield k
        k.add_incoming(self.add(k, 1), builder.block)
        builder.branch(head)
        builder.position_at_end(end)

    def call(self, address: Any, *words: Any) -> Any:
        """Call the C function at an address, which takes words and returns one, or nothing of interest."""
        kind = ir.FunctionType(_INDEX, [_INDEX] * len(words))
        function = self.builder.inttoptr(address, kind.as_pointer())
        return self.builder.call(function, [self.word(each) for each in words])


def _nothing(module: ir.Module) -> ir.Function:
    """Return the function that returns None, given the settings."""
    code = Code(module, "nothing", _INDEX, 1)
    (settings,) = code.arguments
    none = code.load(settings, SETTING.none)
    code.call(code.load(settings, SETTING.inc_ref), none)
    code.give(none)
    return code.function


def _release(module: ir.Module) -> ir.Function:
    """Return the function that releases so many objects at an address."""
    code = Code(module, "release", _INDEX, 3)
    settings, objects, count = code.arguments
    with code.loop(count) as k:
        code.call(code.load(settings, SETTING.dec_ref), code.load(objects, k))
    code.give(code.word(0))
    return code.function


def _find_places(module: ir.Module) -> ir.Function:
    """Return the function that compares arguments with the expected ones, and stores the places of their elements."""
    code = Code(module, "find_places", _TRUTH, 5)
    record, settings, given, places, keys = code.arguments
    no = ir.Constant(_TRUTH, 0)
    with code.loop(code.load(record, RECORD.arguments)) as k:
        expected = code.add(record, code.times(k, WORD * len(ARGUMENT)))
        expected = code.add(expected, WORD * len(RECORD))
        kind, argument = code.load(expected, ARGUMENT.kind), code.load(given, k)
        with code.builder.if_else(code.equal(kind, IS_OBJECT)) as (is_object, is_other):
            with is_object, code.when(code.differ(argument, code.load(expected, ARGUMENT.dtype))):
                code.give(no)
            with (
                is_other,
                code.builder.if_else(code.equal(kind, IS_ARRAY)) as (is_array, is_key),
            ):
                with is_array:
                    _check_array(code, settings, argument, expected)
                    code.store(code.load(argument, ARRAY.data), places, k)
                with is_key:
                    at = code.add(keys, code.times(k, WORD))
                    _take_key(code, settings, argument, at)
                    code.store(at, places, k)
    code.give(ir.Constant(_TRUTH, 1))
    return code.function


def _check_array(code: Code, settings: Any, array: Any, expected: Any) -> None:
    """Return false unless an object is an array of the expected dtype, flags and shape."""
    no, dimensions = ir.Constant(_TRUTH, 0), code.load(expected, ARGUMENT.dimensions)
    with code.when(
        code.differ(code.load(array, OBJECT_TYPE), code.load(settings, SETTING.array_type))
    ):
        code.give(no)
    with code.when(code.differ(code.load(array, ARRAY.dtype), code.load(expected, ARGUMENT.dtype))):
        code.give(no)
    flags = code.part(code.load(array, ARRAY.flags), ARRAY.contiguous)
    with code.when(code.differ(flags, ARRAY.contiguous)):
        code.give(no)
    with code.when(code.differ(code.part(code.load(array, ARRAY.dimensions), _INT), dimensions)):
        code.give(no)
    shape, wanted = code.load(array, ARRAY.shape), code.load(expected, ARGUMENT.shape)
    with (
        code.loop(dimensions) as i,
        code.when(code.differ(code.load(shape, i), code.load(wanted, i))),
    ):
        code.give(no)


def _take_key(code: Code, settings: Any, argument: Any, at: Any) -> None:
    """Store the 64 bits of a Python integer; return false if it is none, or does not fit."""
    no = ir.Constant(_TRUTH, 0)
    with code.when(
        code.differ(code.load(argument, OBJECT_TYPE), code.load(settings, SETTING.int_type))
    ):
        code.give(no)
    key = code.call(code.load(settings, SETTING.as_unsigned), argument)
    code.store(key, at, 0)
    with code.when(code.equal(key, -1)):
        error = code.call(code.load(settings, SETTING.error_occurred))
        with code.when(code.differ(error, 0)):
            code.call(code.load(settings, SETTING.clear_error))
            code.give(no)


def _run(module: ir.Module, nothing: ir.Function, release: ir.Function) -> ir.Function:
    """Return the function that allocates the outputs, calls the inner loop, and returns the results."""
    code = Code(module, "run", _INDEX, 4)
    record, settings, given, places = code.arguments
    count, outputs = code.load(record, RECORD.arguments), code.load(record, RECORD.outputs)
    operand_count = code.load(record, RECORD.operands)
    first_operand = code.add(code.times(count, WORD * len(ARGUMENT)), WORD * len(RECORD))
    first_operand = code.add(record, first_operand)
    first_output = code.add(first_operand, code.times(operand_count, WORD * len(OPERAND)))
    objects, operands = code.reserve(outputs), code.reserve(operand_count)
    scratch = code.reserve(code.load(record, RECORD.scratch))
    new_places = code.add(places, code.times(count, WORD))

    def output_at(k: Any) -> Any:
        return code.add(first_output, code.times(k, WORD * len(OUTPUT)))

    handler = code.reserve(1)
    is_pooled = _enter_output_pool(code, record, settings, handler, nothing)
    with code.loop(outputs) as k:
        output = output_at(k)
        dtype = code.load(output, OUTPUT.dtype)
        code.call(code.load(settings, SETTING.inc_ref), dtype)  # NumPy takes over a reference
        made = code.call(
            code.load(settings, SETTING.new_array),
            code.load(settings, SETTING.array_type),
            dtype,
            code.load(output, OUTPUT.dimensions),
            code.load(output, OUTPUT.shape),
            *(0, 0, 0, 0),
        )
        with code.when(code.equal(made, 0)):  # no memory; the caller can empty the output pool
            _leave_output_pool(code, settings, is_pooled, handler)
            code.builder.call(release, [settings, objects, k])
            code.call(code.load(settings, SETTING.clear_error))
            code.give(code.builder.call(nothing, [settings]))
        code.store(made, objects, k)
        is_narrowed = code.differ(code.load(output, OUTPUT.narrowed), 0)
        own = code.add(scratch, code.load(output, OUTPUT.scratch))
        place = code.builder.select(is_narrowed, own, code.load(made, ARRAY.data))
        code.store(place, new_places, k)
    _leave_output_pool(code, settings, is_pooled, handler)
    with code.loop(operand_count) as k:
        operand = code.add(first_operand, code.times(k, WORD * len(OPERAND)))
        source, offset = code.load(operand, OPERAND.source), code.load(operand, OPERAND.offset)
        code.store(offset, operands, k)
        with code.when(code.builder.icmp_signed(">=", source, code.word(0))):
            code.store(code.add(offset, code.load(places, source)), operands, k)
    _call_inner_loop(code, record, settings, operands, first_operand)
    with code.loop(outputs) as k:
        source, target = code.load(new_places, k), code.load(code.load(objects, k), ARRAY.data)
        _narrow(code, source, target, code.load(output_at(k), OUTPUT.narrowed))
    with code.when(code.differ(code.call(code.load(settings, SETTING.error_occurred)), 0)):
        code.builder.call(release, [settings, objects, outputs])
        code.give(code.word(0))
    _give_results(code, record, settings, given, objects, release)
    return code.function


def _enter_output_pool(
    code: Code, record: Any, settings: Any, handler: Any, nothing: ir.Function
) -> Any:
    """Let large outputs come from the output pool, as `fastact.runtime.output_pool.with_output_pool` does.

    Returns whether they do; NumPy's memory handler of before is then stored at `handler`. Without a
    handler of the pool, which the first large call makes, the function returns None.
    """
    pool = code.load(settings, SETTING.output_pool)
    least = code.load(pool, OUTPUT_POOL.min_bytes)
    is_large = code.builder.icmp_signed(">=", code.load(record, RECORD.bytes), least)
    is_on = code.differ(code.load(pool, OUTPUT_POOL.max_bytes), 0)
    is_pooled = code.builder.and_(is_large, is_on)
    with code.when(is_pooled):
        own = code.load(settings, SETTING.pool_handler)
        with code.when(code.equal(own, 0)):
            code.give(code.builder.call(nothing, [settings]))
        before = code.call(code.load(settings, SETTING.set_handler), own)
        with code.when(code.equal(before, 0)):
            code.call(code.load(settings, SETTING.clear_error))
            code.give(code.builder.call(nothing, [settings]))
        code.store(before, handler, 0)
        # Another library's is left in charge.
        with code.when(code.differ(before, code.load(settings, SETTING.default_handler))):
            _set_handler(code, settings, before)
    return is_pooled


def _leave_output_pool(code: Code, settings: Any, is_pooled: Any, handler: Any) -> None:
    """Give NumPy the memory handler of before back."""
    with code.when(is_pooled):
        before = code.load(handler, 0)
        _set_handler(code, settings, before)
        code.call(code.load(settings, SETTING.dec_ref), before)


def _set_handler(code: Code, settings: Any, handler: Any) -> None:
    replaced = code.call(code.load(settings, SETTING.set_handler), handler)
    code.call(code.load(settings, SETTING.dec_ref), replaced)


def _call_inner_loop(
    code: Code, record: Any, settings: Any, operands: Any, first_operand: Any
) -> None:
    """Call the inner loop as often as it takes, without the GIL if it has much to do."""
    parts = RECORD.inner_loop, RECORD.dimensions, RECORD.steps, RECORD.loop_data
    inner_loop, dimensions, steps, data = (code.load(record, each) for each in parts)
    releases = code.differ(code.load(record, RECORD.releases_gil), 0)
    state = code.reserve(1)
    with code.when(releases):
        code.store(code.call(code.load(settings, SETTING.save_thread)), state, 0)
    with code.loop(code.load(record, RECORD.runs)):
        code.call(inner_loop, operands, dimensions, steps, data)
        with code.loop(code.load(record, RECORD.operands)) as k:
            operand = code.add(first_operand, code.times(k, WORD * len(OPERAND)))
            moved = code.add(code.load(operands, k), code.load(operand, OPERAND.step))
            code.store(moved, operands, k)
    with code.when(releases):
        code.call(code.load(settings, SETTING.restore_thread), code.load(state, 0))


def _narrow(code: Code, source: Any, target: Any, count: Any) -> None:
    """Round so many float64 to float32."""
    wide = code.builder.inttoptr(source, ir.DoubleType().as_pointer())
    narrow = code.builder.inttoptr(target, ir.FloatType().as_pointer())
    with code.loop(count) as i:
        value = code.builder.load(code.builder.gep(wide, [i]))
        rounded = code.builder.fptrunc(value, ir.FloatType())
        code.builder.store(rounded, code.builder.gep(narrow, [i]))


def _give_results(
    code: Code, record: Any, settings: Any, given: Any, objects: Any, release: ir.Function
) -> None:
    """Return the new arrays, one or a tuple, or what a Python function makes of all arguments and them."""
    count, outputs = code.load(record, RECORD.arguments), code.load(record, RECORD.outputs)
    finish, everything = code.load(record, RECORD.finish), code.add(count, outputs)
    with code.when(code.differ(finish, 0)):
        all_of_them = code.reserve(everything)
        with code.loop(count) as k:
            code.store(code.load(given, k), all_of_them, k)
        with code.loop(outputs) as k:
            code.store(code.load(objects, k), all_of_them, code.add(count, k))
        call = code.load(settings, SETTING.call)
        result = code.call(call, finish, all_of_them, everything, 0)
        code.builder.call(release, [settings, objects, outputs])
        code.give(result)
    with code.when(code.equal(outputs, 1)):
        code.give(code.load(objects, 0))
    result = code.call(code.load(settings, SETTING.new_tuple), outputs)
    with code.when(code.equal(result, 0)):
        code.builder.call(release, [settings, objects, outputs])
        code.give(result)
    with code.loop(outputs) as k:  # the tuple takes over the references
        code.call(code.load(settings, SETTING.set_item), result, k, code.load(objects, k))
    code.give(result)
