"""The allocator of the output pool, as NumPy calls it: compiled code that runs without Python.

NumPy calls it when arrays are created and destroyed, with the GIL held, possibly during interpreter
shutdown.
"""

from __future__ import annotations

import time
from typing import Any

from numba import types

from fastact.simd.compilable import internal
from fastact.simd.memory import call_at, stack, words
from fastact.system.memory_layout import BLOCK, OUTPUT_POOL, OUTPUT_POOL_BLOCKS

_call_1 = call_at(types.intp, 1)
_call_2 = call_at(types.intp, 2)
_call_3 = call_at(types.intp, 3)
_timespec = stack(2)

# Page-aligned outputs are aligned for non-temporal stores. They also never alias, modulo 4 KiB, an
# input that NumPy allocated, which starts 16 bytes into a page: loads just behind such stores
# stall, and without them relu takes half the time in cache. Huge pages must be aligned to their own
# size.
_PAGE, _HUGE_PAGE = 2**12, 2**21
_MIN_HUGE_BLOCK = 2**22
_MADV_HUGEPAGE = 14
_MADV_DONTNEED = 4
# Windows has no such clock, but no output pool either.
_MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 0)
_SECOND = 10**9


@internal
def _now(state: Any) -> Any:
    """Return the time in nanoseconds."""
    timespec = _timespec()
    _call_2(state[OUTPUT_POOL.clock], (_MONOTONIC, timespec))
    return timespec[0] * _SECOND + timespec[1]


@internal
def _remove(state: Any, block: int) -> Any:
    """Remove the entry of a block, move the younger ones down, and return the block's address."""
    address = state[block + BLOCK.address]
    state[OUTPUT_POOL.cached_bytes] -= state[block + BLOCK.size]
    state[OUTPUT_POOL.cached_blocks] -= 1
    for i in range(block, OUTPUT_POOL.first_block + len(BLOCK) * state[OUTPUT_POOL.cached_blocks]):
        state[i] = state[i + len(BLOCK)]
    return address


@internal
def _free_oldest(state: Any) -> bool:
    """Free the oldest cached block; return whether there was one."""
    if state[OUTPUT_POOL.cached_blocks] == 0:
        return False
    _call_1(state[OUTPUT_POOL.free], (_remove(state, OUTPUT_POOL.first_block),))
    return True


@internal
def _return_oldest(state: Any) -> None:
    """Free the oldest cached block and return its pages to the system.

    ``free`` alone may not return them: once a block of up to 32 MiB has been freed, glibc serves
    that size from its heap.
    """
    address = state[OUTPUT_POOL.first_block + BLOCK.address]
    size = state[OUTPUT_POOL.first_block + BLOCK.size]
    if state[OUTPUT_POOL.advise] != 0:
        begin = -(-address // _PAGE) * _PAGE
        end = (address + size) // _PAGE * _PAGE
        _call_3(state[OUTPUT_POOL.advise], (begin, end - begin, _MADV_DONTNEED))
    _free_oldest(state)


@internal
def _return_idle(state: Any, now: int) -> None:
    """Return the blocks that have been idle for too long to the system."""
    released_at = OUTPUT_POOL.first_block + BLOCK.released_at
    while (
        state[OUTPUT_POOL.cached_blocks] > 0
        and now - state[released_at] >= state[OUTPUT_POOL.idle_nanoseconds]
    ):
        _return_oldest(state)


def _retrying(call: Any) -> Any:
    """Return a function that retries an allocation until it succeeds or the pool is empty."""

    @internal
    def allocate(state: Any, allocator: int, arguments: Any) -> Any:
        address = call(allocator, arguments)
        while address == 0 and _free_oldest(state):
            address = call(allocator, arguments)
        return address

    return allocate


_allocate_1 = _retrying(_call_1)
_allocate_2 = _retrying(_call_2)


@internal
def _new(state: Any, size: int) -> Any:
    """Return the address of a new large block, or 0."""
    if size >= _MIN_HUGE_BLOCK:
        whole = -(-size // _HUGE_PAGE) * _HUGE_PAGE
        address = _call_2(state[OUTPUT_POOL.aligned_alloc], (_HUGE_PAGE, whole))
        if address != 0:
            if state[OUTPUT_POOL.advise] != 0:
                _call_3(state[OUTPUT_POOL.advise], (address, whole, _MADV_HUGEPAGE))
            return address
    # Huge alignment can cost a huge page more: under memory pressure this may still fit.
    whole = -(-size // _PAGE) * _PAGE
    return _allocate_2(state, state[OUTPUT_POOL.aligned_alloc], (_PAGE, whole))


def allocate(pool: int, size: int) -> Any:
    """Return the address of a block of this size, cached or new, or 0."""
    state = words(pool)
    if size < state[OUTPUT_POOL.min_bytes]:
        return _allocate_1(state, state[OUTPUT_POOL.malloc], (size,))
    # The youngest first: it may still be in the CPU's caches.
    for i in range(state[OUTPUT_POOL.cached_blocks] - 1, -1, -1):
        block = OUTPUT_POOL.first_block + len(BLOCK) * i
        if state[block + BLOCK.size] == size:
            state[OUTPUT_POOL.hits] += 1
            return _remove(state, block)
    if state[OUTPUT_POOL.cached_blocks] > 0:
        _return_idle(state, _now(state))
    address = _new(state, size)
    if address != 0:
        state[OUTPUT_POOL.misses] += 1
    return address


def release(pool: int, address: int, size: int) -> Any:
    """Cache a released block, evicting the oldest ones if needed, or free it."""
    state = words(pool)
    if size < state[OUTPUT_POOL.min_bytes] or size > state[OUTPUT_POOL.max_bytes]:
        _call_1(state[OUTPUT_POOL.free], (address,))
        return 0
    now = _now(state)
    _return_idle(state, now)
    while (
        state[OUTPUT_POOL.cached_bytes] + size > state[OUTPUT_POOL.max_bytes]
        or state[OUTPUT_POOL.cached_blocks] == OUTPUT_POOL_BLOCKS
    ):
        _free_oldest(state)
    block = OUTPUT_POOL.first_block + len(BLOCK) * state[OUTPUT_POOL.cached_blocks]
    state[block + BLOCK.address] = address
    state[block + BLOCK.size] = size
    state[block + BLOCK.released_at] = now
    state[OUTPUT_POOL.cached_blocks] += 1
    state[OUTPUT_POOL.cached_bytes] += size
    return 0


def trim(pool: int, max_bytes: int) -> Any:
    """Return idle blocks to the system, then the oldest until at most `max_bytes` are cached."""
    state = words(pool)
    if state[OUTPUT_POOL.cached_blocks] > 0:
        _return_idle(state, _now(state))
    while state[OUTPUT_POOL.cached_bytes] > max_bytes:
        _return_oldest(state)
    return 0


def allocate_zeros(pool: int, count: int, size: int) -> Any:
    """Return the address of a new zeroed block, or 0."""
    state = words(pool)
    return _allocate_2(state, state[OUTPUT_POOL.calloc], (count, size))


def reallocate(pool: int, address: int, size: int) -> Any:
    """Return the address of a resized block with the same content, or 0."""
    state = words(pool)
    # realloc to 0 bytes would free the block and return 0; the retry would then free it again.
    nonzero = 1 if size == 0 else size
    return _allocate_2(state, state[OUTPUT_POOL.realloc], (address, nonzero))
