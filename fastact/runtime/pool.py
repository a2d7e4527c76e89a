"""The threads that calls are shared among.

The pool is Numba's: on TBB where it is installed, else on OpenMP. Numba's own fallback, ``workqueue``,
aborts the process when two threads use it at once, even when one of them is somebody else's: where it is
all there is, calls stay on one thread. The pool starts with the first call that is large enough for it.

TBB and OpenMP end the process where they cannot start a thread. So threads are started beforehand, to see
whether they can be, and calls stay on one thread where not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastact.system.first_use import PROCESS, first_use, tell_of_forks
from fastact.system.machine import has_room
from fastact.system.memory_layout import (
    MEETING,
    SETTING,
    SETTINGS,
    TEAM_SIZES,
    TEAMS,
    address_of,
    allocate,
    keep,
)

_LEAST_TBB = 12_060  # the oldest interface that Numba takes
# What a thread of TBB's or OpenMP's may need beside its stack, and what their library and Numba do.
_BYTES_OF_THREAD, _BYTES_OF_POOL = 2**24, 2**27
_BYTES_OF_SEMAPHORE = 64  # at most
_PATIENCE = 0.1  # seconds, for threads to come or to go


class Pool:
    """Numba's thread pool, as far as this process has it.

    Attributes
    ----------
    layer : str or None
        ``"tbb"`` or ``"omp"``; None where calls stay on one thread.
    """

    def __init__(self) -> None:
        # In a forked child, which may have lost it. Where the fork was before this import, a pool that
        # Numba runs may be that of the parent.
        self._is_forbidden = os.getpid() != PROCESS and _numbas_pool() is not None
        self._has_warned = False
        self.layer: str | None = None
        self._teams = allocate(TEAMS)

    @first_use()
    def start(self) -> None:
        """Start the pool and tell the settings where it is; leave calls serial where that fails."""
        threads = int(SETTINGS[SETTING.threads])
        if SETTINGS[SETTING.parallel_for] or threads <= 1:
            return
        SETTINGS[SETTING.threads] = 1
        if self._is_forbidden or not self._can_have(threads):
            return
        own = None if _numbas_pool() else _load_tbb()
        module = own or _numbas_pool() or _start_by_numba()
        if module is None:
            return
        self.layer = "tbb" if module.__name__ == _module_of("tbb") else "omp"
        SETTINGS[SETTING.get_num_threads] = module.get_num_threads
        SETTINGS[SETTING.set_num_threads] = module.set_num_threads
        # Threads that Numba has started it starts anew: OpenMP in each thread of Python's, TBB after a fork.
        SETTINGS[SETTING.teams] = self._teams.ctypes.data if own is None else 0
        if self.layer == "tbb":
            _meet(module.parallel_for, threads)
        SETTINGS[SETTING.threads] = threads
        SETTINGS[SETTING.parallel_for] = module.parallel_for  # last: it says that all is ready

    @first_use()
    def form_team(self) -> None:
        """Note how many threads the calling thread may use."""
        thread = _thread_id()
        mask = ctypes.CFUNCTYPE(ctypes.c_int)(int(SETTINGS[SETTING.get_num_threads]))()
        wanted = min(int(SETTINGS[SETTING.threads]), mask)
        granted = wanted if self._can_have(wanted) else 1
        if granted > 1 and self.layer == "tbb":
            _meet(int(SETTINGS[SETTING.parallel_for]), granted)
        self._teams[thread % TEAMS] = (thread * TEAM_SIZES + wanted) * TEAM_SIZES + granted

    def _can_have(self, threads: int) -> bool:
        """Whether so many threads can run at once; warn where not, for the first time."""
        reason = _why_no_more_threads(threads - 1)
        if reason and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"fastact runs on one thread: {reason}. FASTACT_NUM_THREADS=1 chooses that, without this "
                "warning.",
                RuntimeWarning,
                stacklevel=_level_of_caller(),
            )
        return not reason

    def after_fork_in_parent(self) -> None:
        """Let threads be started anew, which TBB ends before a fork."""
        self._teams[:] = 0

    def after_fork_in_child(self) -> None:
        """Stay on one thread in a child of a process that has a pool, whoever had started it.

        OpenMP ends a forked child that uses its threads; TBB restarts its own only if the thread that
        forked had started them, and else hangs.
        """
        module = _numbas_pool()
        if module is None and not SETTINGS[SETTING.parallel_for]:
            return
        self._is_forbidden, self.layer = True, None
        SETTINGS[SETTING.threads] = 1
        SETTINGS[SETTING.parallel_for] = 0
        # At its exit the child would wait for ever for TBB's threads, which it may not have: the module
        # that would wait, once nobody refers to it, is referred to for ever.
        if module is not None:
            keep(module)


def _module_of(layer: str) -> str:
    """Return the name of the module in which Numba has a layer."""
    return f"numba.np.ufunc.{layer}pool"


def _numbas_pool() -> Any:
    """Return the module of the pool that Numba has started, if it may be used."""
    numba = sys.modules.get("numba")
    try:
        layer = str(numba.threading_layer())  # type: ignore[union-attr]
    except (AttributeError, ValueError):  # not imported, or half; not started
        return None
    return sys.modules.get(_module_of(layer)) if layer in ("tbb", "omp") else None


def _load_tbb() -> Any:
    """Load Numba's pool on TBB, if Numba would choose it.

    It is not started as Numba starts it: it works without, TBB starts its threads itself; and what Numba
    adds is that TBB ends them before each fork, or says on standard error that it cannot. Nor is Numba
    imported, which takes up to half a second. Should it start its pool later, that is in the same library.
    """
    if not _would_choose_tbb() or not _preload_tbb():
        return None
    import importlib.machinery
    import importlib.util

    found = importlib.util.find_spec("numba")
    if found is None or found.origin is None:
        return None
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    file = Path(found.origin).parent / "np" / "ufunc" / f"tbbpool{suffix}"
    spec = importlib.util.spec_from_file_location(_module_of("tbb"), file)
    if spec is None or spec.loader is None or not file.exists():
        return None
    try:
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    needed = ("parallel_for", "get_num_threads", "set_num_threads")
    return module if all(hasattr(module, name) for name in needed) else None


def _start_by_numba() -> Any:
    """Let Numba start its pool, on the layer that it chooses; return its module, if it may be used."""
    _preload_tbb()
    try:
        import numba

        numba.get_num_threads()  # starts the pool
    except (ImportError, ValueError):  # a layer that NUMBA_THREADING_LAYER asks for is missing
        return None
    return _numbas_pool()


def _would_choose_tbb() -> bool:
    """Whether Numba takes TBB where it is installed."""
    if sys.modules.get(_module_of("tbb"), 0) is None:  # somebody forbids to import it
        return False
    config = getattr(sys.modules.get("numba"), "config", None)
    if config is not None:
        layer, order = config.THREADING_LAYER, config.THREADING_LAYER_PRIORITY
    elif Path(".numba_config.yaml").exists():
        return False
    else:
        layer = os.environ.get("NUMBA_THREADING_LAYER", "default")
        order = os.environ.get("NUMBA_THREADING_LAYER_PRIORITY", "tbb").split()
    return layer == "tbb" or (
        layer in ("default", "safe", "threadsafe", "forksafe") and order[:1] == ["tbb"]
    )


def _preload_tbb() -> bool:
    """Load the TBB library; return whether it is there.

    The wheel puts it into the environment's ``lib`` folder, where the loader does not look, and so
    Numba calls TBB unavailable (https://github.com/numba/numba/issues/6108). Once loaded, it is found
    by its name.
    """
    import importlib.metadata  # not when fastact is imported: it takes 10 ms

    names = {"libtbb.so.12", "libtbb.12.dylib", "tbb12.dll"}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        for file in importlib.metadata.files("tbb") or ():
            if file.name in names:
                library = ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
                return bool(library.TBB_runtime_interface_version() >= _LEAST_TBB)
    return False


def _thread_id() -> int:
    """Return a number that no other thread of this process has, nor will have."""
    python = ctypes.pythonapi
    state = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyGILState_GetThisThreadState", python))
    number = ctypes.PYFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(("PyThreadState_GetID", python))
    return int(number(state()))


def _why_no_more_threads(count: int) -> str:
    """Return why so many threads more cannot run at once; nothing where they can.

    They are threads of the system's: where Python cannot start one of its own, Python 3.11 goes on to raise
    asynchronous errors, those of the driver, in the thread that is not there.
    """
    if sys.platform != "linux":
        return ""
    system = ctypes.CDLL(None)
    leave = ctypes.create_string_buffer(_BYTES_OF_SEMAPHORE)
    system.sem_init(leave, 0, 0)
    others = _tasks()
    started = []
    try:
        for _ in range(count):
            thread = ctypes.c_size_t()
            error = system.pthread_create(ctypes.byref(thread), None, system.sem_wait, leave)
            if error:  # the limits of a user, a container or of memory
                return f"a thread cannot be started ({os.strerror(error)})"
            started.append(thread)
        if not has_room(_BYTES_OF_POOL + count * _BYTES_OF_THREAD):
            return "there is too little address space for more"
        return ""
    finally:
        own = _tasks() - others
        for _ in started:
            system.sem_post(leave)
        for thread in started:
            system.pthread_join(thread, None)
        # The system counts them a moment longer.
        deadline = time.monotonic() + _PATIENCE
        while own & _tasks() and time.monotonic() < deadline:
            time.sleep(1e-5)


def _tasks() -> set[str]:
    """Return the system's numbers of this process's threads."""
    return set(os.listdir("/proc/self/task"))


def _meet(parallel_for: int, threads: int) -> None:
    """Let all threads of a pool meet: a pool starts them when they are needed, and then they might not be.

    Parameters
    ----------
    parallel_for : int
        Address of the pool's function.
    threads : int
        How many there are, with the one that calls.
    """
    if os.name != "posix":
        return
    meeting = np.zeros(len(MEETING) + threads, np.intp)
    meeting[MEETING.expected] = threads
    meeting[MEETING.sleep] = address_of(ctypes.CDLL(None).usleep)
    meeting[MEETING.microseconds] = 20
    meeting[MEETING.turns] = 1e6 * _PATIENCE / 100  # each takes longer than it sleeps
    arguments = np.array([meeting.ctypes.data, threads, 1], np.intp)
    base, count, one = (arguments.ctypes.data + k * arguments.itemsize for k in range(3))
    pointers, numbers = [ctypes.c_void_p] * 5, [ctypes.c_size_t] * 2
    run = ctypes.CFUNCTYPE(None, *pointers, *numbers, ctypes.c_int)(parallel_for)
    run(driver_kernel("meet"), base, count, one, meeting.ctypes.data, 0, 1, threads)


def driver_kernel(name: str) -> int:
    """Return the address of a function of `fastact.runtime.inner_loop`."""
    from fastact.runtime import loading

    def build() -> loading.LoopFunction:
        from fastact.runtime import inner_loop

        return getattr(inner_loop, name)  # type: ignore[no-any-return]

    return loading.load(name, build)


def _level_of_caller() -> int:
    """Return the ``stacklevel`` by which a warning points to the code that calls fastact."""
    level, frame = 1, sys._getframe(1)
    own = ("fastact.", "contextlib")
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(own):
        level, frame = level + 1, frame.f_back
    return level


POOL = Pool()
tell_of_forks(POOL.after_fork_in_parent, POOL.after_fork_in_child)
