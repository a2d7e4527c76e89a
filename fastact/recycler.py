"""The allocator of the output cache, as NumPy calls it: compiled code, which needs no Python to run.

Arrays call it when they are created and when they end, with the GIL held, perhaps while Python shuts down.
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastact.records import CACHE, CACHE_BLOCKS
from fastact.simd.lowering import internal
from fastact.simd.memory import call_at, words

_allocate = call_at(types.intp, 2)
_release = call_at(types.void, 3)


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
        address, oldest = state[first], state[first + 1]
        _remove(state, first)
        _release(state[CACHE.release], (state[CACHE.context], address, oldest))


def allocate(cache: int, size: int) -> Any:
    """Return the address of a block of this size: one that is kept, or a new one."""
    state = words(cache)
    if size < state[CACHE.least]:
        return _allocate(state[CACHE.allocate], (state[CACHE.context], size))
    # The youngest first: it may still be in the processor's cache.
    for i in range(state[CACHE.kept] - 1, -1, -1):
        block = CACHE.first + 2 * i
        if state[block + 1] == size:
            address = state[block]
            _remove(state, block)
            state[CACHE.hits] += 1
            return address
    state[CACHE.misses] += 1
    return _allocate(state[CACHE.allocate], (state[CACHE.context], size))


def release(cache: int, address: int, size: int) -> Any:
    """Keep a block that nothing refers to any more, in place of the oldest ones, or free it."""
    state = words(cache)
    if size < state[CACHE.least] or size > state[CACHE.most]:
        _release(state[CACHE.release], (state[CACHE.context], address, size))
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
