"""The allocator of the output cache, as NumPy calls it: compiled code, which needs no Python to run.

Arrays call it when they are created and when they end, with the GIL held, perhaps while Python shuts down.
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastact.records import CACHE, CACHE_BLOCKS
from fastact.simd.lowering import internal
from fastact.simd.memory import call_at, words

_call_with_one = call_at(types.intp, 1)
_call_with_two = call_at(types.intp, 2)
_call_with_three = call_at(types.intp, 3)

# Outputs that begin with a page are aligned for streaming stores, and an input of NumPy's own, 16 bytes
# into a page, is then never loaded right behind a store that looks like one to its address: in cache, that
# halves the time of relu. Where the system can give huge pages, it does so for whole ones only.
_PAGE, _HUGE_PAGE = 2**12, 2**21
_HUGE_FROM = 2**22
_ADVISE_HUGE_PAGES = 14  # MADV_HUGEPAGE


@internal
def _remove(state: Any, block: int) -> None:
    """Take a block out, and let the younger ones follow."""
    state[CACHE.held] -= state[block + 1]
    state[CACHE.kept] -= 1
    for place in range(block, CACHE.first + 2 * state[CACHE.kept]):
        state[place] = state[place + 2]


@internal
def _make_room(state: Any, size: int) -> None:
    """Free the oldest blocks until there is room for one more of this size."""
    first = CACHE.first
    while state[CACHE.kept] > 0 and (
        state[CACHE.held] + size > state[CACHE.most] or state[CACHE.kept] == CACHE_BLOCKS
    ):
        address = state[first]
        _remove(state, first)
        _call_with_one(state[CACHE.free], (address,))


@internal
def _new(state: Any, size: int) -> Any:
    """Return the address of a new block."""
    alignment = _HUGE_PAGE if size >= _HUGE_FROM else _PAGE
    whole = -(-size // alignment) * alignment
    address = _call_with_two(state[CACHE.aligned_alloc], (alignment, whole))
    if address != 0 and size >= _HUGE_FROM and state[CACHE.advise] != 0:
        _call_with_three(state[CACHE.advise], (address, whole, _ADVISE_HUGE_PAGES))
    return address


def allocate(cache: int, size: int) -> Any:
    """Return the address of a block of this size: one that is kept, or a new one."""
    state = words(cache)
    if size < state[CACHE.least]:
        return _call_with_one(state[CACHE.malloc], (size,))
    # The youngest first: it may still be in the processor's cache.
    for i in range(state[CACHE.kept] - 1, -1, -1):
        block = CACHE.first + 2 * i
        if state[block + 1] == size:
            address = state[block]
            _remove(state, block)
            state[CACHE.hits] += 1
            return address
    state[CACHE.misses] += 1
    return _new(state, size)


def release(cache: int, address: int, size: int) -> Any:
    """Keep a block that nothing refers to any more, in place of the oldest ones, or free it."""
    state = words(cache)
    if size < state[CACHE.least] or size > state[CACHE.most]:
        _call_with_one(state[CACHE.free], (address,))
        return 0
    _make_room(state, size)
    block = CACHE.first + 2 * state[CACHE.kept]
    state[block] = address
    state[block + 1] = size
    state[CACHE.kept] += 1
    state[CACHE.held] += size
    return 0


def make_room(cache: int, size: int) -> Any:
    """Free the oldest blocks until there is room for one more of this size."""
    _make_room(words(cache), size)
    return 0


def allocate_zeros(cache: int, count: int, size: int) -> Any:
    """Return the address of a new block of zeros."""
    return _call_with_two(words(cache)[CACHE.calloc], (count, size))


def reallocate(cache: int, address: int, size: int) -> Any:
    """Return the address of a block with the same content and another size."""
    return _call_with_two(words(cache)[CACHE.realloc], (address, size))
