"""The memory that Python writes and compiled code reads: settings of the process, and one record a loop.

Both are arrays of ``intp``, and so is the state of the output cache. They are never freed, not even when
Python shuts down, because NumPy keeps pointers to them.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")


class SettingPlaces(NamedTuple):
    """Places in the settings."""

    threads: int = 0  # how many threads a call may use
    threshold: int = 1  # number of elements from which a call is shared among threads
    chunk: int = 2  # fewest elements that are worth a task of their own
    start_pool: int = 3  # address of the Python function that fills in the next four
    parallel_for: int = 4  # address of Numba's numba_parallel_for, or 0 before the pool has started
    get_num_threads: int = 5  # addresses of Numba's thread mask, which a parallel call overwrites
    set_num_threads: int = 6
    teams: int = 7  # address of the teams of Python's threads, or 0 where all share one
    form_team: int = 8  # address of the Python function that fills in one of them
    run_chunk: int = 9  # address of `fastact.runtime.inner_loop.run_chunk`
    streaming: int = 10  # bytes moved by a call from which its outputs go past the caches
    # Addresses of Python's own functions.
    gil_ensure: int = 11
    gil_release: int = 12
    call: int = 13
    release: int = 14
    error_occurred: int = 15
    clear_error: int = 16
    thread_ident: int = 17
    set_async_exc: int = 18
    this_thread: int = 19
    thread_id: int = 20
    keep: int = 21
    set_error: int = 22
    # Addresses of None, of a function that does nothing, and of an error to raise in it.
    none: int = 23
    trial: int = 24
    trial_error: int = 25


class RecordPlaces(NamedTuple):
    """Places in the record of one loop."""

    loop: int = 0  # address of the serial loop, or 0 before it is compiled
    compile: int = 1  # address of the Python function that fills in the first or the last of these
    settings: int = 2  # address of the settings
    inputs: int = 3
    operands: int = 4  # inputs and outputs
    core_dimensions: int = 5  # of a generalized ufunc, else 0
    error: int = 6  # address of the class of the error to raise instead of running, or 0


class CachePlaces(NamedTuple):
    """Places in the state of the output cache."""

    malloc: int = 0  # addresses of the C library's functions
    calloc: int = 1
    realloc: int = 2
    free: int = 3
    aligned_alloc: int = 4
    clock: int = 5
    advise: int = 6  # and of madvise, or 0 where the system has none
    least: int = 7  # bytes of the smallest block to keep
    most: int = 8  # bytes that all kept blocks may have together
    idle: int = 9  # nanoseconds for which a block is kept
    held: int = 10  # bytes that the kept blocks have
    kept: int = 11  # how many they are
    hits: int = 12  # how many allocations they have served
    misses: int = 13
    first: int = 14  # here the blocks begin, oldest first


class BlockPlaces(NamedTuple):
    """Places in what is known of a block that the output cache keeps."""

    address: int = 0
    size: int = 1
    since: int = 2  # when it was let go, in nanoseconds


class MeetingPlaces(NamedTuple):
    """Places in what threads that wait for each other know; behind them one word for each that has come."""

    expected: int = 0  # how many there are
    sleep: int = 1  # address of the C library's usleep
    microseconds: int = 2  # of sleep between two looks
    turns: int = 3  # most looks


SETTING = SettingPlaces()
MEETING = MeetingPlaces()
RECORD = RecordPlaces()
CACHE = CachePlaces()
BLOCK = BlockPlaces()
CACHE_BLOCKS = 64
# What is known of the team of a thread of Python's: one word, ``(the thread's number * TEAM_SIZES + threads
# wanted) * TEAM_SIZES + threads granted``, at the remainder of that number by TEAMS.
TEAMS = 64
TEAM_SIZES = 2**12


def keep(thing: _T) -> _T:
    """Keep for ever what NumPy or compiled code knows by its address alone, and return it.

    A list in a module would not do: it ends with the module, which may be loaded anew or forgotten while
    arrays, ufuncs and threads are still there.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


def address_of(function: Any) -> int:
    """Return the address of a C function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def allocate(places: int) -> NDArray[np.intp]:
    """Return zeroed memory of so many words, kept for ever."""
    return keep(np.zeros(places, np.intp))


# If this module is loaded anew, its settings stay those that other modules and compiled code have.
SETTINGS: NDArray[np.intp] = globals().get("SETTINGS", allocate(len(SETTING)))
