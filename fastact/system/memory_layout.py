"""Layout of the memory that Python shares with compiled code: arrays of ``intp``.

There is one array of settings for the process, one array for each inner loop, which NumPy passes to
it as ``data``, and the state of the output pool. None of them is ever freed, not even at
interpreter shutdown, because NumPy holds pointers to them.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")


class SettingLayout(NamedTuple):
    """Indices into `SETTINGS`."""

    threads: int = 0  # the most threads that a call may use
    threshold: int = 1  # number of elements from which a call runs in parallel
    chunk: int = 2  # the fewest elements worth a task
    start_pool: int = 3  # address of the Python function that fills in the next five
    parallel_for: int = 4  # address of Numba's numba_parallel_for; 0 until the pool has started
    get_num_threads: int = 5  # addresses of Numba's thread mask, which a parallel call overwrites
    set_num_threads: int = 6
    crew: int = 7  # address of the crew; 0 where Numba's pool runs the calls
    started: int = 8  # the most threads that a call may use until `start_pool` starts more
    run_chunk: int = 9  # address of `fastact.runtime.inner_loop.run_chunk`
    streaming: int = 10  # bytes of a call's operands from which it uses non-temporal stores
    # Addresses of functions of CPython's C API.
    gil_ensure: int = 11
    gil_release: int = 12
    call_no_args: int = 13
    dec_ref: int = 14
    error_occurred: int = 15
    clear_error: int = 16
    thread_ident: int = 17
    set_async_exc: int = 18
    inc_ref: int = 19
    set_error: int = 20
    # Addresses of None, of a function that does nothing, and of an error to raise in it.
    none: int = 21
    probe: int = 22
    probe_error: int = 23
    # What `fastact.runtime.replay` needs besides: functions of the C APIs of CPython and NumPy, and types.
    new_array: int = 24
    new_tuple: int = 25
    set_item: int = 26
    call: int = 27
    save_thread: int = 28
    restore_thread: int = 29
    as_unsigned: int = 30
    array_type: int = 31
    int_type: int = 32
    set_handler: int = 33
    # The output pool: its state, its memory handler, 0 until the first large call, and NumPy's own.
    output_pool: int = 34
    pool_handler: int = 35
    default_handler: int = 36
    has_fixed_team: int = (
        37  # whether all threads take part in a call or one; see `fastact.runtime.schedule`
    )


class LoopDataLayout(NamedTuple):
    """Indices into the ``data`` of one inner loop."""

    kernel: int = 0  # address of the kernel; 0 until it is compiled
    compile: int = 1  # address of the Python function that fills in `kernel` or `error`
    settings: int = 2  # address of the settings
    inputs: int = 3
    operands: int = 4  # inputs and outputs
    core_dimensions: int = 5  # of a generalized ufunc, else 0
    error: int = 6  # address of the exception class to raise instead of running; 0 for none


class OutputPoolLayout(NamedTuple):
    """Indices into the state of the output pool."""

    malloc: int = 0  # addresses of functions of the C library
    calloc: int = 1
    realloc: int = 2
    free: int = 3
    aligned_alloc: int = 4
    clock: int = 5
    advise: int = 6  # madvise; 0 where the system has none
    min_bytes: int = 7  # the smallest block to cache
    max_bytes: int = 8  # the largest total of all cached blocks
    idle_nanoseconds: int = 9  # how long a block stays cached
    cached_bytes: int = 10
    cached_blocks: int = 11
    hits: int = 12  # allocations served from the pool
    misses: int = 13
    first_block: int = 14  # here the blocks begin, oldest first


class BlockLayout(NamedTuple):
    """Indices into the entry of one cached block."""

    address: int = 0
    size: int = 1
    released_at: int = 2  # nanoseconds of the monotonic clock


class RecordLayout(NamedTuple):
    """Indices into the record of a call that is replayed; its arguments, operands and outputs follow."""

    arguments: int = 0  # their numbers
    operands: int = 1
    outputs: int = 2
    inner_loop: int = 3  # what NumPy would call, and with what
    loop_data: int = 4
    dimensions: int = 5
    steps: int = 6
    releases_gil: int = 7
    scratch: int = 8  # words of sums that are narrowed
    finish: int = 9  # address of a Python function of arguments and outputs; 0 for none
    runs: int = 10  # how often the inner loop is called
    bytes: int = 11  # the size of the largest output


class ArgumentLayout(NamedTuple):
    """Indices into an expected argument: an array, a 64-bit key, or one certain object."""

    kind: int = 0
    dtype: int = 1  # the address of the dtype, or of the object
    dimensions: int = 2
    shape: int = 3  # its address


class OperandLayout(NamedTuple):
    """Indices into an operand of the inner loop."""

    source: int = (
        0  # the index of an argument; from their number on, of an output; -1 for a constant
    )
    offset: int = 1  # bytes from the start of the source, or the address of a constant
    step: int = 2  # bytes from one run of the inner loop to the next


class OutputLayout(NamedTuple):
    """Indices into a new array."""

    dtype: int = 0
    dimensions: int = 1
    shape: int = 2
    narrowed: int = 3  # how many float64 of the kernel are rounded to float32; 0 for none
    scratch: int = 4  # where they are meanwhile: bytes from the start of the scratch memory


class CrewLayout(NamedTuple):
    """Indices into the state of the crew; its members follow, and then its jobs. See `fastact.runtime.crew`."""

    bell: int = 0  # how many jobs there have been; on a cache line of its own, as it changes often
    members: int = 8  # how many there is room for, the callers' place included
    jobs: int = 9  # address of the jobs
    sem_wait: int = 10  # addresses of functions of the C library
    sem_post: int = 11
    sched_yield: int = 12
    clock: int = 13
    run_chunk: int = 14  # as in the settings
    first_member: int = 16


class MemberLayout(NamedTuple):
    """Indices into the state of a member."""

    is_asleep: int = 0
    crew: int = 1  # address of the crew
    seat: int = 2  # from 1 on: seat 0 is the caller's
    semaphore: int = 8  # it sleeps here, on up to 64 bytes
    size: int = 16


class JobLayout(NamedTuple):
    """Indices into a job; the cursors of the members' shares follow, each on a cache line of its own."""

    state: int = 0  # how many members are inside, plus `SEAT` times how many may be
    task: int = 8  # what `run_chunk` gets
    chunks: int = 9
    cursors: int = 16


WORD = 8
LINE = 8  # words of a cache line
# Objects of CPython: the header ends with the type, and the fields follow.
HEADER = object.__basicsize__ // WORD
OBJECT_TYPE = HEADER - 1
TUPLE_ITEMS = tuple.__basicsize__ // WORD


class ArrayLayout(NamedTuple):
    """Indices into the words of an ndarray, the fields of ``PyArrayObject_fields``, and flags that are expected."""

    data: int = HEADER
    dimensions: int = HEADER + 1
    shape: int = HEADER + 2
    dtype: int = HEADER + 5
    flags: int = HEADER + 6
    contiguous: int = 0x1 | 0x100  # NPY_ARRAY_C_CONTIGUOUS and NPY_ARRAY_ALIGNED


ARRAY = ArrayLayout()
SETTING = SettingLayout()
LOOP_DATA = LoopDataLayout()
OUTPUT_POOL = OutputPoolLayout()
BLOCK = BlockLayout()
CREW = CrewLayout()
MEMBER = MemberLayout()
JOB = JobLayout()
RECORD = RecordLayout()
ARGUMENT = ArgumentLayout()
OPERAND = OperandLayout()
OUTPUT = OutputLayout()
IS_ARRAY, IS_KEY, IS_OBJECT = range(3)  # kinds of arguments
OUTPUT_POOL_BLOCKS = 64
JOBS = 8  # how many calls the crew serves at once
SEAT = 2**32


def keep_alive(value: _T) -> _T:
    """Leak a reference to an object that is known by address only, and return the object.

    A module-level list would not do: it dies with its module, which may be reloaded or dropped from
    `sys.modules` while arrays, ufuncs and threads live on.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


def address_of(function: Any) -> int:
    """Return the address of a C function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def allocate_words(count: int) -> NDArray[np.intp]:
    """Return zeroed words that are never freed."""
    return keep_alive(np.zeros(count, np.intp))


# A reload of this module must not replace what other modules and compiled code already hold.
SETTINGS: NDArray[np.intp] = globals().get("SETTINGS", allocate_words(len(SETTING)))
OUTPUT_POOL_STATE: NDArray[np.intp] = globals().get(
    "OUTPUT_POOL_STATE", allocate_words(len(OUTPUT_POOL) + len(BLOCK) * OUTPUT_POOL_BLOCKS)
)
