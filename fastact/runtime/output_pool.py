"""Outputs that nobody refers to any more come back for the next call of that size.

The system gives a process zeroed pages, one fault for each: for large outputs that takes longer than the
arithmetic. The memory comes back where NumPy frees an array's memory, through a memory handler
(https://numpy.org/doc/stable/reference/c-api/data_memory.html), which every array carries with it: so
as long as anything refers to an array, a view, a memoryview or a tensor, its memory stays.

What is kept must not be missed elsewhere:

- At most 512 MiB are kept, and at most an eighth of what the machine, the control groups and the limits of the
  process leave it at the first large call (`fastact.system.machine.memory_left`).
- An allocation that fails is tried again for as long as there is a block to free, the oldest first. That holds
  for whatever NumPy allocates while a large call runs. Other allocations, of NumPy outside such calls or of other
  libraries, fail without being heard of here.
- A block that has been kept for 30 seconds goes back to the system. No thread and no timer sees to that, of which
  a process that forks would have to know: it is looked for when a large output is let go or newly allocated, and
  after the collections of Python's garbage collector, which last 1 us longer for it, in processes that go on with
  other work. One that sleeps keeps what it has. To have 240 MiB anew takes 30 ms (Zen 4, huge pages).
"""

from __future__ import annotations

import ctypes
import gc
import math
import operator
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.runtime import threads
from fastact.system import numpy_api
from fastact.system.first_use import first_use
from fastact.system.machine import memory_left
from fastact.system.memory_layout import BLOCK, CACHE, CACHE_BLOCKS, address_of, allocate, keep

_DEFAULT_BYTES, _SHARE_OF_MEMORY = 2**29, 8
_UNDECIDED = -1  # until it is asked for: the files of control groups take time to read
# To have 512 MiB again takes 0.1 s of page faults: of half a minute, less than a hundredth.
_IDLE_SECONDS = 30
# Smaller blocks come from the C library's own free lists, mostly; setting the handler costs 1.5 us.
LEAST_BYTES = 2**19

_STATE = allocate(len(CACHE) + len(BLOCK) * CACHE_BLOCKS)
_STATE[CACHE.least] = LEAST_BYTES


class OutputCacheInfo(NamedTuple):
    """What the output cache has done, and what it holds.

    Attributes
    ----------
    hits, misses : int
        How many large outputs came from the cache, and how many did not.
    blocks : int
        How many blocks of memory it holds.
    bytes : int
        Their size.
    max_bytes : int
        The largest size that they may have.
    """

    hits: int
    misses: int
    blocks: int
    bytes: int
    max_bytes: int


def output_cache_info() -> OutputCacheInfo:
    """Return what the output cache has done, and what it holds."""
    _decide_size()
    places = CACHE.hits, CACHE.misses, CACHE.kept, CACHE.held, CACHE.most
    return OutputCacheInfo(*(int(_STATE[place]) for place in places))


def _decide_size() -> None:
    """Set how much is kept, unless somebody has."""
    if _STATE[CACHE.most] == _UNDECIDED:
        _STATE[CACHE.most] = int(min(_DEFAULT_BYTES, memory_left() // _SHARE_OF_MEMORY))


def set_output_cache(*, max_bytes: int | None = None, idle_seconds: float | None = None) -> None:
    """Set how much memory of past outputs is kept for outputs to come, and for how long.

    Outputs of at least 512 KiB that are let go are used again, in place of new memory from the system, which
    costs more time than computing them. Memory that anything still refers to never is. What is not given
    stays as it is.

    Parameters
    ----------
    max_bytes : int, optional
        The most to keep. At first 2**29 (512 MiB), or an eighth of what the machine's memory, a container's limit
        or one of the process (``ulimit -v``) leaves it, if that is less. 0 keeps nothing, and frees what was
        kept. The environment variable ``FASTACT_OUTPUT_CACHE`` does the same from outside.
    idle_seconds : float, optional
        Memory that has been kept for so long goes back to the system, at first 30 seconds; `math.inf` keeps
        it. That happens in calls with large outputs and in Python's garbage collections.

    Raises
    ------
    TypeError
        If `max_bytes` is not an integer, or `idle_seconds` not a number.
    ValueError
        If one of them is negative.

    Notes
    -----
    An allocation in a large call that fails frees what is kept and is tried again. Where memory is short for
    others, keep less.
    """
    if max_bytes is not None:
        try:
            most = operator.index(max_bytes)
        except TypeError:
            raise TypeError(f"max_bytes must be an integer; got {max_bytes!r}") from None
        if not 0 <= most <= sys.maxsize:
            raise ValueError(f"max_bytes must be from 0 to {sys.maxsize}; got {most}")
    if idle_seconds is not None:
        try:
            is_duration = idle_seconds >= 0
        except TypeError:
            raise TypeError(f"idle_seconds must be a number; got {idle_seconds!r}") from None
        if not is_duration:
            raise ValueError(f"idle_seconds must not be negative; got {idle_seconds!r}")
        _STATE[CACHE.idle] = int(min(idle_seconds * 10**9, sys.maxsize))
    if max_bytes is not None:
        _STATE[CACHE.most] = most
    _trim(int(_STATE[CACHE.most]))


def with_output_cache(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function whose large new arrays may come from the cache.

    Allocations that fail in it have nothing kept in their way, and where it runs out of memory, nothing is kept.
    """
    if not _STATE[CACHE.most]:
        return function(*args, **options)
    set_handler, own, default = _handlers()
    before = set_handler(own)
    try:
        if before is not default:  # somebody else's, who has reasons
            set_handler(before)
        return function(*args, **options)
    except MemoryError:
        _trim(0)  # of outputs that the function had before it failed
        raise
    finally:
        set_handler(before)


def with_room(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function that may allocate, and where it fails to, do it again with nothing kept.

    For what takes no blocks of the cache, or is mostly too small to pay for the handler; it must change nothing
    before it has all its memory, as ufuncs do not. Small calls try for themselves first, which costs them nothing.
    """
    try:
        return function(*args, **options)
    except MemoryError:
        if not _STATE[CACHE.kept]:
            raise
    _trim(0)
    return function(*args, **options)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array, which may come from the cache."""
    array: NDArray[Any]
    if dtype.itemsize * math.prod(shape) >= LEAST_BYTES:
        array = with_output_cache(np.empty, shape, dtype)
    else:
        try:
            array = np.empty(shape, dtype)
        except MemoryError:
            array = with_room(np.empty, shape, dtype)
    return array


class _Handler(ctypes.Structure):
    """NumPy's ``PyDataMem_Handler``."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("allocate_zeros", ctypes.c_void_p),
        ("reallocate", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
    )


_CAPSULE = b"mem_handler"
_HANDLER_VERSION = 1


def _trim(most: int) -> None:
    """Give back what has been kept for too long, or is more than so many bytes."""
    if _STATE[CACHE.kept]:
        _trimmer()(_STATE.ctypes.data, most)


@cache
def _trimmer() -> Callable[[int, int], int]:
    function = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, *[ctypes.c_ssize_t] * 2)
    return function(_kernel("trim", 2))


def _after_collections() -> Callable[[str, Any], None]:
    """Return what Python's garbage collector calls, even while modules end: all names are its own."""
    trim, state, most = _trimmer(), _STATE.ctypes.data, sys.maxsize
    kept = ctypes.c_ssize_t.from_address(_STATE[CACHE.kept :].ctypes.data)

    def give_back(phase: str, info: Any) -> None:
        if phase == "stop" and kept.value:
            trim(state, most)

    return give_back


@cache
@first_use()
def _handlers() -> tuple[Callable[[Any], Any], Any, Any]:
    """Return NumPy's function that sets the handler, the handler of the cache, and NumPy's own."""
    _decide_size()
    library = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc", "free", "aligned_alloc"):
        _STATE[getattr(CACHE, name)] = address_of(getattr(library, name))
    _STATE[CACHE.clock] = address_of(library.clock_gettime)
    if sys.platform == "linux":
        _STATE[CACHE.advise] = address_of(library.madvise)
    default = ctypes.py_object.from_address(numpy_api.of_arrays(numpy_api.DEFAULT_HANDLER)).value
    own = keep(
        _Handler(
            b"fastact",
            _HANDLER_VERSION,
            _STATE.ctypes.data,
            _kernel("allocate", 2),
            _kernel("allocate_zeros", 3),
            _kernel("reallocate", 3),
            _kernel("release", 3),
        )
    )
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    gc.callbacks.append(_after_collections())
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
    return (
        set_handler(numpy_api.of_arrays(numpy_api.SET_HANDLER)),
        new_capsule(ctypes.addressof(own), _CAPSULE, None),
        default,
    )


def _kernel(name: str, arguments: int) -> int:
    from fastact.runtime import loading

    def build() -> Callable[..., Any]:
        from fastact.runtime import allocator

        return getattr(allocator, name)  # type: ignore[no-any-return]

    return loading.load(f"output_cache.{name}", build, partial(loading.of_words, arguments))


_STATE[CACHE.idle] = _IDLE_SECONDS * 10**9
# The blocks have no lock but Python's own; Windows cannot free aligned memory as it frees other.
if getattr(sys, "_is_gil_enabled", lambda: True)() and sys.platform != "win32":
    _STATE[CACHE.most] = threads.from_environment("FASTACT_OUTPUT_CACHE", _UNDECIDED, least=0)
