"""The allocator of the output cache, as NumPy calls it: compiled code, which needs no Python to run.

Arrays call it when they are created and when they end, with the GIL held, perhaps while Python shuts down.
"""

from __future__ import annotations

import time
from typing import Any

from numba import types

from fastact.simd.compilable import internal
from fastact.simd.memory import call_at, stack, words
from fastact.system.memory_layout import BLOCK, CACHE, CACHE_BLOCKS

_call_with_one = call_at(types.intp, 1)
_call_with_two = call_at(types.intp, 2)
_call_with_three = call_at(types.intp, 3)
_seconds_and_nanoseconds = stack(2)

# Outputs that begin with a page are aligned for streaming stores, and an input of NumPy's own, 16 bytes
# into a page, is then never loaded right behind a store that looks like one to its address: in cache, that
# halves the time of relu. Where the system can give huge pages, it does so for whole ones only.
_PAGE, _HUGE_PAGE = 2**12, 2**21
_HUGE_FROM = 2**22
_ADVISE_HUGE_PAGES = 14  # MADV_HUGEPAGE
_ADVISE_UNUSED = 4  # MADV_DONTNEED
_MONOTONIC = getattr(
    time, "CLOCK_MONOTONIC", 0
)  # Windows, where nothing is kept, has no such clock
_SECOND = 10**9


@internal
def _now(state: Any) -> Any:
    """Return the time in nanoseconds."""
    passed = _seconds_and_nanoseconds()
    _call_with_two(state[CACHE.clock], (_MONOTONIC, passed))
    return passed[0] * _SECOND + passed[1]


@internal
def _remove(state: Any, block: int) -> Any:
    """Take a block out, let the younger ones follow, and return its address."""
    address = state[block + BLOCK.address]
    state[CACHE.held] -= state[block + BLOCK.size]
    state[CACHE.kept] -= 1
    for place in range(block, CACHE.first + len(BLOCK) * state[CACHE.kept]):
        state[place] = state[place + len(BLOCK)]
    return address


@internal
def _free_oldest(state: Any) -> bool:
    """Free the block that has been kept for longest; return whether there was one."""
    if state[CACHE.kept] == 0:
        return False
    _call_with_one(state[CACHE.free], (_remove(state, CACHE.first),))
    return True


@internal
def _return_oldest(state: Any) -> None:
    """Free the block that has been kept for longest, and give its pages back to the system.

    The C library alone may keep them: it takes blocks of up to 32 MiB from its heap, once one of that size has
    been freed.
    """
    address, size = state[CACHE.first + BLOCK.address], state[CACHE.first + BLOCK.size]
    if state[CACHE.advise] != 0:
        begin = -(-address // _PAGE) * _PAGE
        end = (address + size) // _PAGE * _PAGE
        _call_with_three(state[CACHE.advise], (begin, end - begin, _ADVISE_UNUSED))
    _free_oldest(state)


@internal
def _return_idle(state: Any, now: int) -> None:
    """Give back the blocks that have been kept for too long."""
    while state[CACHE.kept] > 0 and now - state[CACHE.first + BLOCK.since] >= state[CACHE.idle]:
        _return_oldest(state)


def _persistent(call: Any) -> Any:
    """Return a function that calls an allocator until it succeeds or nothing is kept any more."""

    @internal
    def allocate(state: Any, allocator: int, arguments: Any) -> Any:
        address = call(allocator, arguments)
        while address == 0 and _free_oldest(state):
            address = call(allocator, arguments)
        return address

    return allocate


_allocate_by_one = _persistent(_call_with_one)
_allocate_by_two = _persistent(_call_with_two)


@internal
def _new(state: Any, size: int) -> Any:
    """Return the address of a new large block, or 0."""
    if size >= _HUGE_FROM:
        whole = -(-size // _HUGE_PAGE) * _HUGE_PAGE
        address = _call_with_two(state[CACHE.aligned_alloc], (_HUGE_PAGE, whole))
        if address != 0:
            if state[CACHE.advise] != 0:
                _call_with_three(state[CACHE.advise], (address, whole, _ADVISE_HUGE_PAGES))
            return address
    # The C library takes up to a huge page more to align one: where memory is short, this may still fit.
    whole = -(-size // _PAGE) * _PAGE
    return _allocate_by_two(state, state[CACHE.aligned_alloc], (_PAGE, whole))


def allocate(cache: int, size: int) -> Any:
    """Return the address of a block of this size, one that is kept or a new one, or 0."""
    state = words(cache)
    if size < state[CACHE.least]:
        return _allocate_by_one(state, state[CACHE.malloc], (size,))
    # The youngest first: it may still be in the processor's cache.
    for i in range(state[CACHE.kept] - 1, -1, -1):
        block = CACHE.first + len(BLOCK) * i
        if state[block + BLOCK.size] == size:
            state[CACHE.hits] += 1
            return _remove(state, block)
    if state[CACHE.kept] > 0:
        _return_idle(state, _now(state))
    address = _new(state, size)
    if address != 0:
        state[CACHE.misses] += 1
    return address


def release(cache: int, address: int, size: int) -> Any:
    """Keep a block that nothing refers to any more, in place of the oldest ones, or free it."""
    state = words(cache)
    if size < state[CACHE.least] or size > state[CACHE.most]:
        _call_with_one(state[CACHE.free], (address,))
        return 0
    now = _now(state)
    _return_idle(state, now)
    while state[CACHE.held] + size > state[CACHE.most] or state[CACHE.kept] == CACHE_BLOCKS:
        _free_oldest(state)
    block = CACHE.first + len(BLOCK) * state[CACHE.kept]
    state[block + BLOCK.address] = address
    state[block + BLOCK.size] = size
    state[block + BLOCK.since] = now
    state[CACHE.kept] += 1
    state[CACHE.held] += size
    return 0


def trim(cache: int, most: int) -> Any:
    """Give back the blocks that have been kept for too long, and the oldest while they are more than so many bytes."""
    state = words(cache)
    if state[CACHE.kept] > 0:
        _return_idle(state, _now(state))
    while state[CACHE.held] > most:
        _return_oldest(state)
    return 0


def allocate_zeros(cache: int, count: int, size: int) -> Any:
    """Return the address of a new block of zeros, or 0."""
    state = words(cache)
    return _allocate_by_two(state, state[CACHE.calloc], (count, size))


def reallocate(cache: int, address: int, size: int) -> Any:
    """Return the address of a block with the same content and another size, or 0."""
    state = words(cache)
    # Of no bytes, the C library would free the block and return 0, and a second call would free it again.
    whole = 1 if size == 0 else size
    return _allocate_by_two(state, state[CACHE.realloc], (address, whole))
