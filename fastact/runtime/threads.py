"""Settings for parallel calls and large arrays, and the inner loop that reads them.

Compiled code reads these settings in each call; the threads come from `fastact.runtime.pool`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from fastact.runtime.pool import POOL, inner_loop_function
from fastact.runtime.settings import CHUNK_SIZE, PARALLEL_THRESHOLD, STREAMING_THRESHOLD, THREADS
from fastact.system.first_use import first_use
from fastact.system.memory_layout import SETTING, SETTINGS, address_of, keep_alive


def get_num_threads() -> int:
    """Return the maximum number of threads of a call.

    Returns
    -------
    int
        By default, the number of CPUs available to this process.

    Examples
    --------
    >>> fa.get_num_threads() >= 1
    True
    """
    return THREADS.number


def set_num_threads(n: int) -> None:
    """Set the maximum number of threads of a call.

    The environment variable ``FASTACT_NUM_THREADS`` sets the same. Results never depend on this
    number.

    Parameters
    ----------
    n : int
        From 1 to the number of CPUs available to this process, given its affinity mask and its
        container's quota.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.

    Examples
    --------
    >>> before = fa.get_num_threads()
    >>> fa.set_num_threads(1)
    >>> fa.get_num_threads()
    1
    >>> fa.set_num_threads(before)
    """
    THREADS.set(THREADS.check("n", n))


def get_parallel_threshold() -> int:
    """Return the number of elements from which a call runs in parallel.

    Returns
    -------
    int
        What `set_parallel_threshold` has set, or what `fa.info` says.

    Examples
    --------
    >>> fa.get_parallel_threshold() >= 1
    True
    """
    return PARALLEL_THRESHOLD.number


def set_parallel_threshold(elements: int) -> None:
    """Set the number of elements from which a call runs in parallel.

    As many threads take part as get a sixth of it each, if there are so many. The environment
    variable ``FASTACT_PARALLEL_THRESHOLD`` sets the same.

    Parameters
    ----------
    elements : int
        From 1 to `sys.maxsize`.

    Raises
    ------
    TypeError
        If `elements` is not an integer.
    ValueError
        If `elements` is out of range.

    Examples
    --------
    >>> before = fa.get_parallel_threshold()
    >>> fa.set_parallel_threshold(10**6)
    >>> fa.get_parallel_threshold()
    1000000
    >>> fa.set_parallel_threshold(before)
    """
    PARALLEL_THRESHOLD.set(PARALLEL_THRESHOLD.check("elements", elements))


def get_chunk_size() -> int:
    """Return the fewest elements that a thread takes at a time.

    Returns
    -------
    int
        What `set_chunk_size` has set, or what `fa.info` says.

    Examples
    --------
    >>> fa.get_chunk_size() >= 1
    True
    """
    return CHUNK_SIZE.number


def set_chunk_size(elements: int) -> None:
    """Set the fewest elements that a thread takes at a time.

    A parallel call is divided into chunks, 16 for each thread if they are not smaller than this.
    The environment variable ``FASTACT_CHUNK_SIZE`` sets the same. Results never depend on this
    number.

    Parameters
    ----------
    elements : int
        From 1 to `sys.maxsize`.

    Raises
    ------
    TypeError
        If `elements` is not an integer.
    ValueError
        If `elements` is out of range.

    Examples
    --------
    >>> before = fa.get_chunk_size()
    >>> fa.set_chunk_size(4096)
    >>> fa.get_chunk_size()
    4096
    >>> fa.set_chunk_size(before)
    """
    CHUNK_SIZE.set(CHUNK_SIZE.check("elements", elements))


def get_streaming_threshold() -> int:
    """Return the size of all arrays of a call, in bytes, from which its outputs go past the caches.

    Returns
    -------
    int
        What `set_streaming_threshold` has set, or what `fa.info` says.

    Examples
    --------
    >>> fa.get_streaming_threshold() >= 0
    True
    """
    return STREAMING_THRESHOLD.number


def set_streaming_threshold(size: int) -> None:
    """Set the size of all arrays of a call from which its outputs go past the caches.

    Outputs that do not stay in a cache until somebody reads them are written faster past it. From
    where on depends on the processor; ``fastact tune`` measures it. The environment variable
    ``FASTACT_STREAMING_THRESHOLD`` sets the same. Results never depend on this number.

    Parameters
    ----------
    size : int
        Bytes of inputs and outputs together, from 0 (always) to `sys.maxsize` (never).

    Raises
    ------
    TypeError
        If `size` is not an integer.
    ValueError
        If `size` is out of range.

    Examples
    --------
    >>> before = fa.get_streaming_threshold()
    >>> fa.set_streaming_threshold(2**25)
    >>> fa.get_streaming_threshold()
    33554432
    >>> fa.set_streaming_threshold(before)
    """
    STREAMING_THRESHOLD.set(STREAMING_THRESHOLD.check("size", size))


def returning_error(function: Callable[[], None]) -> Callable[[], type[BaseException] | None]:
    """Wrap a function for the inner loop, which takes its error as a return value.

    The error is returned as a class, which Python expects there. The inner loop also raises
    errors from outside the try block, in the first or last instruction of the wrapper, but then
    knows only their class.
    """

    def call() -> type[BaseException] | None:
        try:
            function()
        except BaseException as error:
            return _class_of(error)
        return None

    return call


def _class_of(error: BaseException) -> type[BaseException]:
    """Return a class whose only instance is this error."""
    return type(type(error).__name__, (BaseException,), {"__new__": lambda *_: error})


def _do_nothing() -> None:
    pass


class _ProbeError(BaseException):
    """Raised in `_do_nothing` by the inner loop, to probe whether asynchronous errors work."""


_start_pool = returning_error(POOL.start)


@cache
@first_use()
def inner_loop_address() -> int:
    """Return the address of the inner loop that all ufuncs share."""
    python = ctypes.pythonapi
    for setting, function in (
        (SETTING.gil_ensure, python.PyGILState_Ensure),
        (SETTING.gil_release, python.PyGILState_Release),
        (SETTING.call_no_args, python.PyObject_CallNoArgs),
        (SETTING.inc_ref, python.Py_IncRef),
        (SETTING.dec_ref, python.Py_DecRef),
        (SETTING.set_error, python.PyErr_SetNone),
        (SETTING.error_occurred, python.PyErr_Occurred),
        (SETTING.clear_error, python.PyErr_Clear),
        (SETTING.thread_ident, python.PyThread_get_thread_ident),
        (SETTING.set_async_exc, python.PyThreadState_SetAsyncExc),
    ):
        SETTINGS[setting] = address_of(function)
    for setting, value in (
        (SETTING.start_pool, _start_pool),
        (SETTING.none, None),
        (SETTING.probe, _do_nothing),
        (SETTING.probe_error, _ProbeError),
    ):
        SETTINGS[setting] = id(keep_alive(value))
    SETTINGS[SETTING.run_chunk] = inner_loop_function("run_chunk")
    return inner_loop_function("inner_loop")


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let calls of this Python thread run on it alone, as within ``numba.set_num_threads(1)``.

    For worker threads of other libraries, whose tasks already occupy all CPUs.
    """
    if THREADS.number > 1:
        POOL.start()
    if not SETTINGS[SETTING.parallel_for]:  # calls stay on one thread anyway
        yield
        return
    get = ctypes.CFUNCTYPE(ctypes.c_int)(int(SETTINGS[SETTING.get_num_threads]))
    limit = ctypes.CFUNCTYPE(None, ctypes.c_int)(int(SETTINGS[SETTING.set_num_threads]))
    before = max(0, get())  # negative if Numba has not started the pool: there is no limit
    limit(1)
    try:
        yield
    finally:
        limit(before)
