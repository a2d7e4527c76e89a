"""The output pool: memory of released outputs, reused by the next call of the same size.

The system hands out zeroed pages, with one fault for each: for large outputs that takes longer than
the arithmetic. The pool gets a block back when NumPy frees the array's memory, through a memory
handler (https://numpy.org/doc/stable/reference/c-api/data_memory.html) that every array carries
with it: the memory is never reused while a view, a memoryview or a tensor still refers to it.

The pool must not starve others:

- It caches at most 512 MiB, and at most an eighth of the memory available at the first large call
  (`fastact.system.machine.available_memory`).
- A failed allocation is retried as long as there is a block to free, oldest first. This covers
  everything that NumPy allocates during a large call. Other allocations, by NumPy outside such
  calls or by other libraries, fail without the pool noticing.
- A block that has been idle for 30 seconds is returned to the system. There is no thread or timer
  for this, which forks would have to deal with: the pool looks for idle blocks when a large output
  is released or allocated, and after Python's garbage collections, which take 1 us longer for it. A
  sleeping process keeps its memory. Getting 240 MiB anew takes 30 ms (Zen 4, huge pages).
"""

from __future__ import annotations

import ctypes
import gc
import math
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.runtime.settings import OUTPUT_CACHE, OUTPUT_CACHE_IDLE, OUTPUT_CACHE_MIN_BYTES
from fastact.system import numpy_api
from fastact.system.first_use import first_use
from fastact.system.memory_layout import OUTPUT_POOL, SETTING, SETTINGS, address_of, keep_alive
from fastact.system.memory_layout import OUTPUT_POOL_STATE as _STATE


class _Limit:
    """The smallest output from the pool, where Python finds it faster than in a word of memory."""

    __slots__ = ("min_bytes",)
    min_bytes: int


POOLED = _Limit()
POOLED.min_bytes = OUTPUT_CACHE_MIN_BYTES.number


class OutputCacheInfo(NamedTuple):
    """Statistics of the output cache.

    Attributes
    ----------
    hits, misses : int
        The numbers of large outputs served from the cache, and newly allocated.
    blocks : int
        The number of cached blocks of memory.
    bytes : int
        Their total size.
    max_bytes : int
        The limit on their total size.
    min_bytes : int
        The size from which outputs come from the cache.
    """

    hits: int
    misses: int
    blocks: int
    bytes: int
    max_bytes: int
    min_bytes: int


def output_cache_info() -> OutputCacheInfo:
    """Return statistics of the output cache.

    Returns
    -------
    OutputCacheInfo
        A named tuple: `hits`, `misses`, `blocks`, `bytes`, `max_bytes` and `min_bytes`.

    Examples
    --------
    >>> info = fa.output_cache_info()
    >>> info.bytes <= info.max_bytes
    True
    """
    OUTPUT_CACHE.decide()
    return OutputCacheInfo(
        hits=int(_STATE[OUTPUT_POOL.hits]),
        misses=int(_STATE[OUTPUT_POOL.misses]),
        blocks=int(_STATE[OUTPUT_POOL.cached_blocks]),
        bytes=int(_STATE[OUTPUT_POOL.cached_bytes]),
        max_bytes=OUTPUT_CACHE.number,
        min_bytes=OUTPUT_CACHE_MIN_BYTES.number,
    )


def set_output_cache(
    *,
    max_bytes: int | None = None,
    idle_seconds: float | None = None,
    min_bytes: int | None = None,
) -> None:
    """Set how much memory of released outputs is cached for reuse, and for how long.

    The memory of large outputs is reused once they are released, because new memory from the system
    takes longer to get than to fill. Memory that anything still refers to is never reused. An
    argument that is not given leaves its setting unchanged.

    Parameters
    ----------
    max_bytes : int, optional
        The most to cache. The default is 2**29 (512 MiB), or an eighth of the memory that the
        machine, a container's limit or the process's own (``ulimit -v``) leaves available, if that
        is less. 0 disables the cache and frees its memory. The environment variable
        ``FASTACT_OUTPUT_CACHE`` sets the same.
    idle_seconds : float, optional
        How long unused memory stays cached before it is returned to the system; 30 seconds by
        default, `math.inf` for ever. Idle memory is looked for in calls with large outputs and in
        Python's garbage collections.
    min_bytes : int, optional
        The smallest output whose memory is reused; by default 2**17 (128 KiB), or what ``fastact
        tune`` has found. The C library reuses smaller blocks by itself. The environment variable
        ``FASTACT_OUTPUT_CACHE_MIN_BYTES`` sets the same.

    Raises
    ------
    TypeError
        If `max_bytes` or `min_bytes` is not an integer, or `idle_seconds` not a number.
    ValueError
        If one of them is negative, or `min_bytes` 0.

    Notes
    -----
    An allocation that fails in a large call is retried with the cache emptied. If others run short
    of memory, lower the limit.

    Examples
    --------
    >>> before = fa.output_cache_info().max_bytes
    >>> fa.set_output_cache(max_bytes=2**26)
    >>> fa.output_cache_info().max_bytes
    67108864
    >>> fa.set_output_cache(max_bytes=before)
    """
    chosen = [
        (setting, setting.check(name, value))
        for setting, name, value in (
            (OUTPUT_CACHE, "max_bytes", max_bytes),
            (OUTPUT_CACHE_MIN_BYTES, "min_bytes", min_bytes),
        )
        if value is not None
    ]
    if idle_seconds is not None:
        try:
            is_duration = idle_seconds >= 0
        except TypeError:
            raise TypeError(f"idle_seconds must be a number; got {idle_seconds!r}") from None
        if not is_duration:
            raise ValueError(f"idle_seconds must not be negative; got {idle_seconds!r}")
        chosen.append((OUTPUT_CACHE_IDLE, int(min(idle_seconds * 10**9, sys.maxsize))))
    for setting, number in chosen:
        setting.set(number)
    _trim(OUTPUT_CACHE.number)
    if min_bytes is not None:
        follow_min_bytes()


def follow_min_bytes() -> None:
    """Let Python's side know that the setting `min_bytes` has changed."""
    POOLED.min_bytes = OUTPUT_CACHE_MIN_BYTES.number


def with_output_pool(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function whose large new arrays may come from the pool.

    Its allocations fail only once the pool is empty; after a MemoryError the pool is emptied.
    """
    if not _STATE[OUTPUT_POOL.max_bytes]:
        return function(*args, **options)
    set_handler, own, default = _handlers()
    before = set_handler(own)
    try:
        if before is not default:  # another library's: leave it in charge
            set_handler(before)
        return function(*args, **options)
    except MemoryError:
        _trim(0)  # outputs that the function released when it failed
        raise
    finally:
        set_handler(before)


def retry_without_pool(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function; on a MemoryError empty the pool and call it again.

    For functions that take no blocks from the pool, or whose outputs are mostly too small to pay
    for setting the handler. The function must have no effect before it has all its memory, which
    holds for ufuncs. Small calls catch the first MemoryError themselves, which is free.
    """
    try:
        return function(*args, **options)
    except MemoryError:
        if not _STATE[OUTPUT_POOL.cached_blocks]:
            raise
    _trim(0)
    return function(*args, **options)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array, possibly from the pool."""
    array: NDArray[Any]
    if dtype.itemsize * math.prod(shape) >= POOLED.min_bytes:
        array = with_output_pool(np.empty, shape, dtype)
    else:
        try:
            array = np.empty(shape, dtype)
        except MemoryError:
            array = retry_without_pool(np.empty, shape, dtype)
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


def _trim(max_bytes: int) -> None:
    """Return idle blocks to the system, then the oldest until at most `max_bytes` are cached."""
    if _STATE[OUTPUT_POOL.cached_blocks]:
        _trim_function()(_STATE.ctypes.data, max_bytes)


@cache
def _trim_function() -> Callable[[int, int], int]:
    function = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, *[ctypes.c_ssize_t] * 2)
    return function(_kernel("trim", 2))


def _gc_callback() -> Callable[[str, Any], None]:
    """Return a callback for the garbage collector, a closure because it may outlive its module."""
    trim, state, most = _trim_function(), _STATE.ctypes.data, sys.maxsize
    cached_blocks = ctypes.c_ssize_t.from_address(_STATE[OUTPUT_POOL.cached_blocks :].ctypes.data)

    def return_idle(phase: str, info: Any) -> None:
        if phase == "stop" and cached_blocks.value:
            trim(state, most)

    return return_idle


@cache
@first_use()
def _handlers() -> tuple[Callable[[Any], Any], Any, Any]:
    """Return NumPy's function to set the memory handler, the pool's handler, and the default one."""
    OUTPUT_CACHE.decide()
    library = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc", "free", "aligned_alloc"):
        _STATE[getattr(OUTPUT_POOL, name)] = address_of(getattr(library, name))
    _STATE[OUTPUT_POOL.clock] = address_of(library.clock_gettime)
    if sys.platform == "linux":
        _STATE[OUTPUT_POOL.advise] = address_of(library.madvise)
    default = ctypes.py_object.from_address(
        numpy_api.array_function(numpy_api.DEFAULT_HANDLER)
    ).value
    own = keep_alive(
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
    gc.callbacks.append(_gc_callback())
    capsule = keep_alive(new_capsule(ctypes.addressof(own), _CAPSULE, None))
    SETTINGS[SETTING.default_handler] = id(default)
    SETTINGS[SETTING.pool_handler] = id(capsule)
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
    return (
        set_handler(numpy_api.array_function(numpy_api.SET_HANDLER)),
        capsule,
        default,
    )


def _kernel(name: str, arguments: int) -> int:
    from fastact.runtime import loading

    def build() -> Callable[..., Any]:
        from fastact.runtime import allocator

        return getattr(allocator, name)  # type: ignore[no-any-return]

    signature = partial(loading.word_signature, arguments)
    try:
        return loading.load(f"output_pool.{name}", build, signature)
    except MemoryError:
        raise
    except Exception as error:  # not one that callers take for an error in arguments
        raise RuntimeError(f"fastact could not compile a kernel: {error!r}") from error
