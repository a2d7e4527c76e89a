"""How many threads a call uses, and from which size on.

Compiled code reads these settings in each call; the threads themselves come from `fastact.runtime.pool`.
"""

from __future__ import annotations

import ctypes
import operator
import os
import sys
from collections.abc import Callable
from functools import cache

from fastact.runtime.pool import POOL, driver_kernel
from fastact.system.first_use import first_use
from fastact.system.machine import available_cpus, last_cache
from fastact.system.memory_layout import SETTING, SETTINGS, address_of, keep

# Sharing a call costs some 3 us while the threads are awake (TBB, two cores), which the second core wins back from
# 10,000 elements of gelu, 33,000 of sigmoid and 65,000 to 100,000 of relu. But a thread that sleeps takes longer to
# wake than such a call takes, and may then hold it up: at 50,000 elements of sigmoid 16 us in place of 10 (an idle
# virtual machine). From this number on, sharing wins with threads that are awake, whatever is computed, and costs at
# most a fifth with threads that are not. benchmarks/thread_threshold.py measures it anew.
_DEFAULT_THRESHOLD = 98_304
_SMALLEST_CHUNK = 8_192
# Ordinary stores first read what they overwrite. Past the caches that is a third of the traffic: at 2 * 10**7
# float32 elements relu.forward_backward takes 0.28 ns an element with streaming stores, 0.36 without. While
# an output still fits into the last cache, they are slower, up to twice: they win from 1.5 times its size on
# (2 cores, 32 MiB of cache, forward alone as well as fused).
_STREAMING_CACHES = 1.5


def get_num_threads() -> int:
    """Return the largest number of threads that one call uses."""
    return int(SETTINGS[SETTING.threads])


def set_num_threads(n: int) -> None:
    """Set the largest number of threads that one call uses.

    The environment variable ``FASTACT_NUM_THREADS`` does the same from outside. Results never depend
    on this number.

    Parameters
    ----------
    n : int
        From 1 to the number of CPUs that this process may run on, by its affinity and the quota of its
        container.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.
    """
    number = _integer("n", n)
    most = available_cpus()
    if not 1 <= number <= most:
        raise ValueError(f"n must be from 1 to {most}, the CPUs of this process; got {number}")
    SETTINGS[SETTING.threads] = number


def get_parallel_threshold() -> int:
    """Return the number of elements from which a call is shared among threads."""
    return int(SETTINGS[SETTING.threshold])


def set_parallel_threshold(elements: int) -> None:
    """Set the number of elements from which a call is shared among threads.

    The environment variable ``FASTACT_PARALLEL_THRESHOLD`` does the same from outside.

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
    """Return the number that an environment variable holds."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= sys.maxsize:
        raise ValueError(
            f"the environment variable {name} must be an integer from {least} on; got {text!r}"
        )
    return int(text)


def raised_by_driver(function: Callable[[], None]) -> Callable[[], type[BaseException] | None]:
    """Let a function that the driver calls return its error, as a class: Python takes one there.

    What is raised outside, in the function's first or last instruction, the driver raises as well, but
    knows the class alone.
    """

    def call() -> type[BaseException] | None:
        try:
            function()
        except BaseException as error:
            return _class_that_makes(error)
        return None

    return call


def _class_that_makes(error: BaseException) -> type[BaseException]:
    """Return a class whose only instance is this error."""
    return type(type(error).__name__, (BaseException,), {"__new__": lambda *_: error})


def _do_nothing() -> None:
    pass


class _TrialError(BaseException):
    """What the driver raises in `_do_nothing` to see whether it can."""


_start_pool = raised_by_driver(POOL.start)
_form_team = raised_by_driver(POOL.form_team)


@cache
@first_use()
def prepare() -> int:
    """Load the driver and return its address: the inner loop of every ufunc."""
    python = ctypes.pythonapi
    for setting, function in (
        (SETTING.gil_ensure, python.PyGILState_Ensure),
        (SETTING.gil_release, python.PyGILState_Release),
        (SETTING.call, python.PyObject_CallNoArgs),
        (SETTING.keep, python.Py_IncRef),
        (SETTING.release, python.Py_DecRef),
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
        (SETTING.trial, _do_nothing),
        (SETTING.trial_error, _TrialError),
    ):
        SETTINGS[setting] = id(keep(value))
    SETTINGS[SETTING.run_chunk] = driver_kernel("run_chunk")
    return driver_kernel("drive")


SETTINGS[SETTING.threads] = min(
    from_environment("FASTACT_NUM_THREADS", available_cpus()), available_cpus()
)
SETTINGS[SETTING.threshold] = from_environment("FASTACT_PARALLEL_THRESHOLD", _DEFAULT_THRESHOLD)
SETTINGS[SETTING.chunk] = _SMALLEST_CHUNK
SETTINGS[SETTING.streaming] = int(_STREAMING_CACHES * last_cache())
