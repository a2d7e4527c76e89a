"""Settings for parallel calls: the number of threads, and the size from which they are used.

Compiled code reads these settings in each call; the threads come from `fastact.runtime.pool`.
"""

from __future__ import annotations

import ctypes
import operator
import os
import sys
from collections.abc import Callable
from functools import cache

from fastact.runtime.pool import POOL, inner_loop_function
from fastact.system.first_use import first_use
from fastact.system.machine import available_cpus, last_level_cache
from fastact.system.memory_layout import SETTING, SETTINGS, address_of, keep_alive

# A parallel call costs about 3 us while the threads are awake (TBB, two cores), which the second
# core earns back from 10,000 elements of gelu, 33,000 of sigmoid and 65,000 to 100,000 of relu. But
# waking a sleeping thread takes longer than such a call, and may delay it: 16 us instead of 10 at
# 50,000 elements of sigmoid (idle virtual machine). From this number on, parallel calls win with
# threads that are awake, whatever the function, and lose at most a fifth with sleeping ones.
# benchmarks/thread_threshold.py measures it anew.
DEFAULT_THRESHOLD = 98_304
_MIN_CHUNK = 8_192
# Ordinary stores first read the cache lines that they overwrite. For operands larger than the
# caches that is a third of the traffic: at 2 * 10**7 float32 elements relu.forward_backward takes
# 0.28 ns an element with non-temporal stores, 0.36 without. While an output still fits into the
# last-level cache they are slower, up to twice: they win from 1.5 times its size on (2 cores, 32
# MiB of cache, forward alone as well as fused).
_STREAMING_CACHES = 1.5


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
    return int(SETTINGS[SETTING.threads])


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
    number = _integer("n", n)
    most = available_cpus()
    if not 1 <= number <= most:
        raise ValueError(f"n must be from 1 to {most}, the CPUs of this process; got {number}")
    SETTINGS[SETTING.threads] = number


def get_parallel_threshold() -> int:
    """Return the number of elements from which a call runs in parallel.

    Returns
    -------
    int
        What `set_parallel_threshold` has set, or the default.

    Examples
    --------
    >>> fa.get_parallel_threshold() >= 1
    True
    """
    return int(SETTINGS[SETTING.threshold])


def set_parallel_threshold(elements: int) -> None:
    """Set the number of elements from which a call runs in parallel.

    The environment variable ``FASTACT_PARALLEL_THRESHOLD`` sets the same.

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
    number = _integer("elements", elements)
    if not 1 <= number <= sys.maxsize:
        raise ValueError(f"elements must be from 1 to {sys.maxsize}; got {number}")
    SETTINGS[SETTING.threshold] = number


def _integer(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None


def from_environment(name: str, default: int, least: int = 1) -> int:
    """Return the integer value of an environment variable, or a default if it is not set."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= sys.maxsize:
        raise ValueError(
            f"the environment variable {name} must be an integer from {least} on; got {text!r}"
        )
    return int(text)


def returning_error(function: Callable[[], None]) -> Callable[[], type[BaseException] | None]:
    """Wrap a function for the inner loop, which takes its error as a return value.

    The error is returned as a class, which Python expects there.     The inner loop also raises
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
_form_team = returning_error(POOL.form_team)


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
        (SETTING.this_thread, python.PyGILState_GetThisThreadState),
        (SETTING.thread_id, python.PyThreadState_GetID),
    ):
        SETTINGS[setting] = address_of(function)
    for setting, value in (
        (SETTING.start_pool, _start_pool),
        (SETTING.form_team, _form_team),
        (SETTING.none, None),
        (SETTING.probe, _do_nothing),
        (SETTING.probe_error, _ProbeError),
    ):
        SETTINGS[setting] = id(keep_alive(value))
    SETTINGS[SETTING.run_chunk] = inner_loop_function("run_chunk")
    return inner_loop_function("inner_loop")


SETTINGS[SETTING.threads] = min(
    from_environment("FASTACT_NUM_THREADS", available_cpus()), available_cpus()
)
SETTINGS[SETTING.threshold] = from_environment("FASTACT_PARALLEL_THRESHOLD", DEFAULT_THRESHOLD)
SETTINGS[SETTING.chunk] = _MIN_CHUNK
SETTINGS[SETTING.streaming] = int(_STREAMING_CACHES * last_level_cache())
