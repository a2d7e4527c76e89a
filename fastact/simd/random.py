"""Random words on vectors: Philox4x32-10, as `fastact.arrays.random_numbers` describes it.

Sixteen counters run in parallel on every CPU, because the order of the words is part of a seed's meaning. Each 32-bit
word has a 64-bit lane, which hardware multiplies in one instruction.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastact.simd.compilable import Internal, internal
from fastact.simd.interned import Interned
from fastact.simd.lowering import Vector, shuffle_mask
from fastact.simd.memory import is_likely
from fastact.simd.storage import INDEX, number
from fastact.system.target import TARGET

#: Elements per call of `words_of_group`.
GROUP = 64
_GROUPS = 2**64 // GROUP
_COUNTERS = 16
_LANES = Vector(types.int64, _COUNTERS)
_WORD = ir.IntType(32)
_WORD_BYTES = 4

_ROUNDS = 10
_LOWER = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
# The Weyl sequence of the key: both halves advance in each round, by the golden ratio and the square root of 3 less 1.
_WEYL = 0x9E3779B9, 0xBB67AE85
_FIRST_MULTIPLIER, _SECOND_MULTIPLIER = _MULTIPLIERS
_FIRST_WEYL, _SECOND_WEYL = _WEYL


@internal
def philox(c0: Any, c1: Any, c2: Any, c3: Any, key: int) -> Any:
    """Return the four words of each counter, like the counters in the lower halves of 64-bit lanes."""
    k0, k1 = key & _LOWER, (key >> 32) & _LOWER
    for _ in range(_ROUNDS):
        first = (c0 & _LOWER) * _FIRST_MULTIPLIER
        second = (c2 & _LOWER) * _SECOND_MULTIPLIER
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second, (first >> 32) ^ c3 ^ k1, first
        k0, k1 = k0 + _FIRST_WEYL, k1 + _SECOND_WEYL
    return c0, c1, c2, c3


@intrinsic
def _lane_indices(context: Any) -> Any:
    """Return 0, 1, 2, ... in the lanes."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return ir.Constant(_LANES.llvm, list(range(_COUNTERS)))

    return _LANES(), emit


@internal
def words_of_group(key: int, group: int) -> Any:
    """Return the words of elements ``64 * group`` to ``64 * group + 63``: sixteen in each of four vectors.

    The words are the lower halves of 64-bit lanes.
    """
    counter = _lane_indices() + group * _COUNTERS
    zero = counter ^ counter
    return philox(counter, counter >> 32, zero, zero, key)


@intrinsic
def _store_words(context: Any, window: Any, position: Any, vectors: Any) -> Any:
    """Store the lower halves of the lanes of several vectors, one after the other."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        window, position, vectors = values
        kind = ir.VectorType(_WORD, _COUNTERS)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, vectors)):
            pointer = _word(builder, window, builder.add(position, number(k * _COUNTERS)))
            store = builder.store(
                builder.trunc(vector, kind), builder.bitcast(pointer, kind.as_pointer())
            )
            store.align = _WORD_BYTES
        return context.get_dummy_value()

    return types.void(window, types.intp, vectors), emit


def _word(builder: Any, window: Any, position: Any) -> Any:
    """Return a pointer to a word of a window."""
    first = builder.bitcast(builder.gep(window, [number(_HEAD)]), _WORD.as_pointer())
    return builder.gep(first, [position])


# A window caches the words of consecutive elements, after a header of the first one's index, their number, and their
# key. It is short because nothing is loaded from memory while it is filled.
_HEAD = max(4, TARGET.vector_bytes // 8)
_WINDOW = 4 * GROUP


def _fill(window: Any, key: int, index: int, end: int) -> None:
    """Fill a window with the words from an element on: as many as fit, or up to `end`."""
    first, position = index // GROUP * GROUP, 0
    while position < min(_WINDOW, end - first):
        group = (first + position) // GROUP & _GROUPS - 1  # of the index as an unsigned number
        _store_words(window, position, words_of_group(key, group))
        position += GROUP
    window[0], window[1] = first, position


# Not inlined: a loop may use words at several points.
_fill_outside: Any = Internal(_fill, is_outlined=True)


class RandomWords(metaclass=Interned):
    """Random words of the elements from any index on, as functions for Numba-compiled code.

    ``window = reserve()`` allocates a window, ``take(window, key)`` sets its key, and
    ``words_at(window, key, index, end)`` returns words, computing those not cached: cheapest in the order of
    the indices. Any 64 bits are a valid index, and a valid key.

    Parameters
    ----------
    vector : Vector
        The vector that kernels compute with. Its words are a vector of integers of the same width and lanes, each
        from 0 to ``2**32 - 1`` as an unsigned number; see `fastact.simd.uniform` and `fastact.simd.at_least`.
    is_deinterleaved : bool, default False
        Whether elements at even indices come before those at odd ones, as in blocks of bfloat16.
    """

    def __init__(self, vector: Vector, is_deinterleaved: bool = False) -> None:
        lanes = vector.lanes
        assert lanes <= _WINDOW - GROUP  # a window begins with a group
        integer = types.int32 if vector.dtype == types.float32 else types.int64
        result = Vector(integer, lanes)

        @intrinsic
        def reserve(context: Any) -> Any:
            """Return an empty window."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                size = _HEAD + (_WINDOW + lanes) * _WORD_BYTES // 8
                window = cgutils.alloca_once(builder, INDEX, size=size)
                for k in range(3):
                    builder.store(number(0), builder.gep(window, [number(k)]))
                return window

            return types.CPointer(types.intp)(), emit

        @intrinsic
        def load(context: Any, window: Any, position: Any) -> Any:
            """Load the words from a position in a window on."""

            def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
                kind = ir.VectorType(_WORD, lanes)
                pointer = _word(builder, values[0], values[1])
                found = builder.load(builder.bitcast(pointer, kind.as_pointer()))
                found.align = _WORD_BYTES
                if is_deinterleaved:
                    order = shuffle_mask([*range(0, lanes, 2), *range(1, lanes, 2)])
                    found = builder.shuffle_vector(found, found, order)
                return found if integer == types.int32 else builder.zext(found, result.llvm)

            return result(window, types.intp), emit

        @internal
        def take(window: Any, key: int) -> None:
            """Empty the window if it belongs to another key."""
            if window[2] != key:
                window[1], window[2] = 0, key

        @internal
        def words_at(window: Any, key: int, index: int, end: int) -> Any:
            """Return the words of the elements from an index on; those from `end` on are arbitrary."""
            # Differences of indices are small even where the indices themselves overflow.
            position, wanted = index - window[0], min(lanes, end - index)
            # Spill registers for the call when it happens, not in every iteration of the caller's loop.
            if not is_likely((position >= 0) & (position <= window[1] - wanted)):
                _fill_outside(window, key, index, end)
            return load(window, index - window[0])

        self.reserve = reserve
        self.take = take
        self.words_at = words_at
