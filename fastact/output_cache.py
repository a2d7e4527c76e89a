"""Outputs that nobody refers to any more come back for the next call of that size.

The system gives a process zeroed pages, one fault for each: for large outputs that takes longer than the
arithmetic. The memory comes back where NumPy frees an array's memory, through a memory handler
(https://numpy.org/doc/stable/reference/c-api/data_memory.html), which every array carries with it: so
as long as anything refers to an array, a view, a memoryview or a tensor, its memory stays.
"""

from __future__ import annotations

import ctypes
import math
import operator
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact import numpy_api, threads
from fastact.first_use import first_use
from fastact.records import CACHE, CACHE_BLOCKS, allocate

_DEFAULT_BYTES = 2**29
# Smaller blocks come from the C library's own free lists, mostly; setting the handler costs 1.5 us.
LEAST_BYTES = 2**19

_STATE = allocate(len(CACHE) + 2 * CACHE_BLOCKS)
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
    places = CACHE.hits, CACHE.misses, CACHE.kept, CACHE.held, CACHE.most
    return OutputCacheInfo(*(int(_STATE[place]) for place in places))


def set_output_cache(*, max_bytes: int) -> None:
    """Set how much memory of past outputs is kept for outputs to come.

    Outputs of at least 512 KiB that are let go are used again, in place of new memory from the system, which
    costs more time than computing them. Memory that anything still refers to never is. The environment
    variable ``FASTACT_OUTPUT_CACHE`` does the same from outside.

    Parameters
    ----------
    max_bytes : int
        The most to keep, at first 2**29 (512 MiB). 0 keeps nothing, and frees what was kept.

    Raises
    ------
    TypeError
        If `max_bytes` is not an integer.
    ValueError
        If it is negative.
    """
    try:
        most = operator.index(max_bytes)
    except TypeError:
        raise TypeError(f"max_bytes must be an integer; got {max_bytes!r}") from None
    if not 0 <= most <= sys.maxsize:
        raise ValueError(f"max_bytes must be from 0 to {sys.maxsize}; got {most}")
    _STATE[CACHE.most] = most
    if _STATE[CACHE.kept]:
        function = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, *[ctypes.c_ssize_t] * 2)
        make_room = function(_kernel("make_room", 2))
        make_room(_STATE.ctypes.data, 0)


def with_output_cache(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function whose large new arrays may come from the cache."""
    if not _STATE[CACHE.most]:
        return function(*args, **options)
    set_handler, own, default = _handlers()
    before = set_handler(own)
    try:
        if before is not default:  # somebody else's, who has reasons
            set_handler(before)
        return function(*args, **options)
    finally:
        set_handler(before)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array, which may come from the cache."""
    if dtype.itemsize * math.prod(shape) < LEAST_BYTES:
        return np.empty(shape, dtype)
    array: NDArray[Any] = with_output_cache(np.empty, shape, dtype)
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


@cache
@first_use()
def _handlers() -> tuple[Callable[[Any], Any], Any, Any]:
    """Return NumPy's function that sets the handler, the handler of the cache, and NumPy's own."""
    library = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc", "free", "aligned_alloc"):
        _STATE[getattr(CACHE, name)] = _address(getattr(library, name))
    if sys.platform == "linux":
        _STATE[CACHE.advise] = _address(library.madvise)
    default = ctypes.py_object.from_address(numpy_api.of_arrays(numpy_api.DEFAULT_HANDLER)).value
    own = _Handler(
        b"fastact",
        _HANDLER_VERSION,
        _STATE.ctypes.data,
        _kernel("allocate", 2),
        _kernel("allocate_zeros", 3),
        _kernel("reallocate", 3),
        _kernel("release", 3),
    )
    ctypes.pythonapi.Py_IncRef(
        ctypes.py_object(own)
    )  # as long as arrays are, which may be for ever
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
    return (
        set_handler(numpy_api.of_arrays(numpy_api.SET_HANDLER)),
        new_capsule(ctypes.addressof(own), _CAPSULE, None),
        default,
    )


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _kernel(name: str, arguments: int) -> int:
    from fastact import kernels

    def build() -> Callable[..., Any]:
        from fastact import recycler

        return getattr(recycler, name)  # type: ignore[no-any-return]

    return kernels.load(f"output_cache.{name}", build, partial(kernels.of_words, arguments))


# The blocks have no lock but Python's own; Windows cannot free aligned memory as it frees other.
if getattr(sys, "_is_gil_enabled", lambda: True)() and sys.platform != "win32":
    set_output_cache(
        max_bytes=threads.from_environment("FASTACT_OUTPUT_CACHE", _DEFAULT_BYTES, least=0)
    )
