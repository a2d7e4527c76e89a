"""How many threads a call uses, and the pool that they come from.

The pool is Numba's: on TBB where it is installed, else on OpenMP. Numba's own fallback, ``workqueue``,
aborts the process when two threads use it at once, even when one of them is somebody else's: where it is
all there is, calls stay on one thread. The pool starts with the first call that is large enough for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import operator
import os
import sys
import threading
from functools import cache

from fastact.machine import available_cpus, last_cache
from fastact.records import SETTING, SETTINGS

# Sharing a call costs some 3 us (TBB, two cores), which the second core wins back from 10,000 elements of
# gelu, 33,000 of sigmoid and 65,000 to 100,000 of relu: kernels of few instructions, which the driver knows, wait
# for twice this number. A call that gains little is not worth another core's time.
# benchmarks/thread_threshold.py measures it anew.
_DEFAULT_THRESHOLD = 49_152
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

    Activations that are computed in few instructions, such as relu, wait for twice as many. The environment
    variable ``FASTACT_PARALLEL_THRESHOLD`` does the same from outside.

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


class _Pool:
    """Numba's thread pool, as far as this process has it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_forbidden = False  # in a forked child, which may have lost it

    def start(self) -> None:
        """Start the pool and tell the settings where it is; leave calls serial where that fails."""
        import llvmlite.binding as llvm

        with self.lock:
            if SETTINGS[SETTING.parallel_for]:
                return
            layer = None if self.is_forbidden else _launch()
            if layer in (None, "workqueue"):
                SETTINGS[SETTING.threads] = 1
                return
            for setting, symbol in (
                (SETTING.get_num_threads, "get_num_threads"),
                (SETTING.set_num_threads, "set_num_threads"),
                (SETTING.parallel_for, "numba_parallel_for"),  # last: it says that all is ready
            ):
                SETTINGS[setting] = llvm.address_of_symbol(symbol)

    def after_fork_in_child(self) -> None:
        """Stay on one thread in a child of a process that has a pool, whoever had started it.

        OpenMP ends a forked child that uses its threads; TBB restarts its own only if the thread that
        forked had started them, and else hangs.
        """
        self.lock.release()
        if _running_layer() is None:
            return
        self.is_forbidden = True
        SETTINGS[SETTING.threads] = 1
        SETTINGS[SETTING.parallel_for] = 0
        # At its exit the child would wait for ever for TBB's threads, which it may not have: the module
        # that would wait, once nobody refers to it, is referred to for ever.
        module = sys.modules.get("numba.np.ufunc.tbbpool")
        if module is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))


def _launch() -> str | None:
    """Start Numba's pool and return the name of its layer, or None if there is none."""
    _preload_tbb()
    import numba

    try:
        numba.get_num_threads()  # starts the pool
    except (ImportError, ValueError):  # a layer that NUMBA_THREADING_LAYER asks for is missing
        return None
    return _running_layer()


def _running_layer() -> str | None:
    """Return the layer of Numba's pool, whoever has started it."""
    numba = sys.modules.get("numba")
    if numba is None:
        return None
    try:
        return str(numba.threading_layer())
    except (AttributeError, ValueError):  # half imported; not started
        return None


def _preload_tbb() -> None:
    """Load the TBB library that pip has installed.

    The wheel puts it into the environment's ``lib`` folder, where the loader does not look, and so
    Numba calls TBB unavailable (https://github.com/numba/numba/issues/6108). Once loaded, it is found
    by its name.
    """
    import importlib.metadata

    names = {"libtbb.so.12", "libtbb.12.dylib", "tbb12.dll"}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        for file in importlib.metadata.files("tbb") or ():
            if file.name in names:
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)


def _driver_kernel(name: str) -> int:
    from fastact import kernels

    def build() -> kernels.LoopFunction:
        from fastact import driver

        return getattr(driver, name)  # type: ignore[no-any-return]

    return kernels.load(name, build)


_pool = _Pool()
_start_pool = ctypes.CFUNCTYPE(None)(_pool.start)  # must outlive every call


@cache
def prepare() -> int:
    """Load the driver and return its address: the inner loop of every ufunc."""
    for setting, function in (
        (SETTING.start_pool, _start_pool),
        (SETTING.gil_ensure, ctypes.pythonapi.PyGILState_Ensure),
        (SETTING.gil_release, ctypes.pythonapi.PyGILState_Release),
        (SETTING.thread_ident, ctypes.pythonapi.PyThread_get_thread_ident),
        (SETTING.set_async_exc, ctypes.pythonapi.PyThreadState_SetAsyncExc),
    ):
        SETTINGS[setting] = ctypes.cast(function, ctypes.c_void_p).value or 0
    SETTINGS[SETTING.run_chunk] = _driver_kernel("run_chunk")
    return _driver_kernel("drive")


SETTINGS[SETTING.threads] = min(
    from_environment("FASTACT_NUM_THREADS", available_cpus()), available_cpus()
)
SETTINGS[SETTING.threshold] = from_environment("FASTACT_PARALLEL_THRESHOLD", _DEFAULT_THRESHOLD)
SETTINGS[SETTING.chunk] = _SMALLEST_CHUNK
SETTINGS[SETTING.streaming] = int(_STREAMING_CACHES * last_cache())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(  # a fork waits while another thread starts the pool
        before=_pool.lock.acquire,
        after_in_parent=_pool.lock.release,
        after_in_child=_pool.after_fork_in_child,
    )
