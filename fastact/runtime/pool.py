"""The threads of parallel calls: on Linux a crew of fastact's own, elsewhere Numba's pool.

The crew (`fastact.runtime.crew`) starts with the first call that is large enough for it. Before, as many threads are started as
a test, and if that fails calls stay on one thread.

Numba's module is loaded in any case, for the limit set with `numba.set_num_threads`: TBB's if it is installed, else OpenMP's.
Numba's own fallback, ``workqueue``, aborts the process when two threads use it at once, even if one
of them is somebody else's: if there is nothing else, calls stay on one thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from fastact.system.first_use import PROCESS, call_in_children, first_use
from fastact.system.machine import available_cpus, can_reserve
from fastact.system.memory_layout import (
    CREW,
    JOB,
    JOBS,
    LINE,
    MEMBER,
    SETTING,
    SETTINGS,
    WORD,
    address_of,
    allocate_words,
    keep_alive,
)

#: Whether threads are fastact's own; elsewhere there are no POSIX threads, or no unnamed semaphores.
HAS_CREW = sys.platform == "linux"
_MIN_TBB = 12_060  # the oldest interface version that Numba accepts
# Address space: of the stack of a thread and the heap that the C library may give it, and of the libraries.
_STACK_BYTES = 2**22  # as many as TBB gives its threads
_BYTES_PER_THREAD, _BYTES_OF_POOL = 2**24, 2**27
_MAX_SEMAPHORE_BYTES, _MAX_ATTRIBUTE_BYTES = 64, 256
_DETACHED = 1
# Sent to a thread by its own instructions: blocked, they would end the process without a word.
_FAULTS = (
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL} if os.name == "posix" else set()
)
_TIMEOUT = 0.1  # seconds, for threads to start or to end


class Pool:
    """The threads of this process.

    Attributes
    ----------
    layer : str or None
        Numba's threading layer, ``"tbb"`` or ``"omp"``; None if calls stay on one thread.
    """

    def __init__(self) -> None:
        # A forked child may have lost the threads. If it forked before this import, a pool of
        # Numba's may be its parent's.
        self._is_forbidden = os.getpid() != PROCESS and _numbas_pool() is not None
        self._has_warned = False
        self.layer: str | None = None

    @first_use()
    def start(self) -> None:
        """Start as many threads as calls may use, and store their addresses in the settings; if that fails, calls stay serial."""
        threads, started = int(SETTINGS[SETTING.threads]), int(SETTINGS[SETTING.started])
        if threads <= max(1, started):
            return
        SETTINGS[SETTING.threads] = max(1, started)
        if self._is_forbidden or not self._can_have(threads - max(1, started)):
            return
        if not SETTINGS[SETTING.parallel_for] and not self._load():
            return
        if HAS_CREW:
            SETTINGS[SETTING.crew] = SETTINGS[SETTING.crew] or _new_crew()
            _start_members(int(SETTINGS[SETTING.crew]), range(max(1, started), threads))
        SETTINGS[SETTING.threads] = threads
        SETTINGS[SETTING.started] = threads if HAS_CREW else sys.maxsize

    def _load(self) -> bool:
        """Load Numba's module and store its addresses in the settings; return whether there is a usable one."""
        own = None if _numbas_pool() else _load_tbb()
        module = own or _numbas_pool() or _start_by_numba()
        if module is None:
            return False
        self.layer = "tbb" if module.__name__ == _module_of("tbb") else "omp"
        SETTINGS[SETTING.get_num_threads] = module.get_num_threads
        SETTINGS[SETTING.set_num_threads] = module.set_num_threads
        SETTINGS[SETTING.has_fixed_team] = self.layer == "omp" and not HAS_CREW
        SETTINGS[SETTING.parallel_for] = module.parallel_for
        return True

    def _can_have(self, more: int) -> bool:
        """Whether so many more threads can run at once; if not, warn the first time."""
        reason = _why_no_more_threads(more)
        if reason and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"fastact runs on one thread: {reason}. FASTACT_NUM_THREADS=1 chooses that, without this "
                "warning.",
                RuntimeWarning,
                stacklevel=_level_of_caller(),
            )
        return not reason

    def after_fork_in_child(self) -> None:
        """Stay on one thread in the child of a process with threads, whoever started them.

        The child has no crew. OpenMP aborts a forked child that uses its threads; TBB restarts its own only if the forking
        thread had started them, and hangs otherwise.
        """
        module = _numbas_pool()
        if module is None and not SETTINGS[SETTING.parallel_for]:
            return
        self._is_forbidden, self.layer = True, None
        SETTINGS[SETTING.threads] = 1
        for setting in SETTING.started, SETTING.crew, SETTING.parallel_for:
            SETTINGS[setting] = 0
        # When the module is destroyed at exit, it would wait for ever for TBB's threads, which the
        # child does not have.
        if module is not None:
            keep_alive(module)


def _module_of(layer: str) -> str:
    """Return the name of Numba's module for a threading layer."""
    return f"numba.np.ufunc.{layer}pool"


def _numbas_pool() -> Any:
    """Return the module of the pool that Numba has started, if it is usable."""
    numba = sys.modules.get("numba")
    try:
        layer = str(numba.threading_layer())  # type: ignore[union-attr]
    except (AttributeError, ValueError):  # not or only half imported; not started
        return None
    return sys.modules.get(_module_of(layer)) if layer in ("tbb", "omp") else None


def _load_tbb() -> Any:
    """Load Numba's TBB pool without importing Numba, if Numba would choose TBB.

    Importing Numba would take up to half a second. The pool works without Numba's own launch, since
    TBB starts its threads by itself; Numba would only make TBB end its threads before each fork, or
    complain on standard error that it cannot. If Numba launches its pool later, it uses the same
    library.
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
    """Let Numba start its pool on the layer of its choice; return its module, if it is usable."""
    _preload_tbb()
    try:
        import numba

        numba.get_num_threads()  # starts the pool
    except (ImportError, ValueError):  # the layer requested by NUMBA_THREADING_LAYER is missing
        return None
    return _numbas_pool()


def why_not_tbb() -> str:
    """Return why the pool does not run on TBB, where it does not."""
    return _why_not_chosen() or _fault_of_tbb() or "Numba's module for TBB cannot be loaded"


def _would_choose_tbb() -> bool:
    """Whether Numba would choose TBB if it is installed."""
    return not _why_not_chosen()


def _why_not_chosen() -> str:
    """Return why Numba would not choose TBB even if it is installed, or an empty string if it would."""
    if sys.modules.get(_module_of("tbb"), 0) is None:
        return "its import is blocked"
    config = getattr(sys.modules.get("numba"), "config", None)
    if config is not None:
        layer, order = config.THREADING_LAYER, config.THREADING_LAYER_PRIORITY
    elif Path(".numba_config.yaml").exists():
        return "there is a .numba_config.yaml here, which is left to Numba"
    else:
        layer = os.environ.get("NUMBA_THREADING_LAYER", "default")
        order = os.environ.get("NUMBA_THREADING_LAYER_PRIORITY", "tbb").split()
    if layer == "tbb":
        return ""
    if layer not in ("default", "safe", "threadsafe", "forksafe"):
        return f"NUMBA_THREADING_LAYER is {layer}"
    return "" if order[:1] == ["tbb"] else "NUMBA_THREADING_LAYER_PRIORITY prefers another"


def _preload_tbb() -> bool:
    """Load the TBB library; return whether it is available."""
    return not _fault_of_tbb()


def _fault_of_tbb() -> str:
    """Load the TBB library; return why that fails, or an empty string.

    The wheel installs it into the environment's ``lib`` folder, where the dynamic loader does not
    look, so Numba reports TBB as unavailable (https://github.com/numba/numba/issues/6108). Once
    loaded, it is found by name.
    """
    import importlib.metadata  # here, because it takes 10 ms

    names = {"libtbb.so.12", "libtbb.12.dylib", "tbb12.dll"}
    try:
        for file in importlib.metadata.files("tbb") or ():
            if file.name in names:
                library = ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
                version = int(library.TBB_runtime_interface_version())
                return "" if version >= _MIN_TBB else f"TBB {version / 1000:g} is too old for Numba"
    except importlib.metadata.PackageNotFoundError:
        return "the package tbb is not installed"
    except OSError as error:
        return f"its library cannot be loaded: {error}"
    return "the package tbb has no library for this system"


def _why_no_more_threads(count: int) -> str:
    """Return why this many more threads cannot run at once, or an empty string if they can.

    The test uses native threads: after failing to start one of its own, Python 3.11 raises
    asynchronous errors, such as those of the inner loop, in the thread that never started.
    """
    if sys.platform != "linux":
        return ""
    system = ctypes.CDLL(None)
    finish = ctypes.create_string_buffer(_MAX_SEMAPHORE_BYTES)
    system.sem_init(finish, 0, 0)
    others = _native_threads()
    started = []
    try:
        for _ in range(count):
            thread = ctypes.c_size_t()
            error = system.pthread_create(ctypes.byref(thread), None, system.sem_wait, finish)
            if error:  # a limit of the user, the container or memory
                return f"a thread cannot be started ({os.strerror(error)})"
            started.append(thread)
        if not can_reserve(_BYTES_OF_POOL + count * _BYTES_PER_THREAD):
            return "there is too little address space for more"
        return ""
    finally:
        own = _native_threads() - others
        for _ in started:
            system.sem_post(finish)
        for thread in started:
            system.pthread_join(thread, None)
        # The system lists them a moment longer.
        deadline = time.monotonic() + _TIMEOUT
        while own & _native_threads() and time.monotonic() < deadline:
            time.sleep(1e-5)


def _native_threads() -> set[str]:
    """Return the system's ids of this process's threads."""
    return set(os.listdir("/proc/self/task"))


def _new_crew() -> int:
    """Return the address of a crew without members."""
    library, members = ctypes.CDLL(None), available_cpus()
    first_job = CREW.first_member + members * MEMBER.size
    memory = allocate_words(first_job + JOBS * (JOB.cursors + LINE * members) + LINE)
    crew = memory[-memory.ctypes.data // WORD % LINE :]  # from a cache line on
    crew[CREW.bell] = 1
    crew[CREW.members] = members
    crew[CREW.jobs] = crew[first_job:].ctypes.data
    for name in ("sem_wait", "sem_post", "sched_yield"):
        crew[getattr(CREW, name)] = address_of(getattr(library, name))
    crew[CREW.clock] = address_of(library.clock_gettime)
    crew[CREW.run_chunk] = SETTINGS[SETTING.run_chunk]
    return crew.ctypes.data


def _start_members(crew: int, indices: range) -> None:
    """Start members of a crew; calls also work without one that could not be started."""
    library = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_MAX_ATTRIBUTE_BYTES)
    library.pthread_attr_init(attributes)
    library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_STACK_BYTES))
    library.pthread_attr_setdetachstate(attributes, _DETACHED)
    function = ctypes.c_void_p(crew_member_function())
    # They inherit the mask: signals are for the threads of Python.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
    try:
        for index in indices:
            address = crew + (CREW.first_member + index * MEMBER.size) * WORD
            member = (ctypes.c_ssize_t * MEMBER.size).from_address(address)
            member[MEMBER.crew], member[MEMBER.seat] = crew, index
            library.sem_init(ctypes.c_void_p(address + MEMBER.semaphore * WORD), 0, 0)
            thread = ctypes.c_size_t()
            error = library.pthread_create(
                ctypes.byref(thread), attributes, function, ctypes.c_void_p(address)
            )
            if not error and hasattr(library, "pthread_setname_np"):
                library.pthread_setname_np(thread, b"fastact")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        library.pthread_attr_destroy(attributes)


def crew_member_function() -> int:
    """Return the address of the function that a member runs."""
    from fastact.runtime import loading

    def build() -> Any:
        from fastact.runtime import crew

        return crew.crew_member

    return loading.load("crew_member", build, lambda: loading.word_signature(1))


def inner_loop_function(name: str) -> int:
    """Return the address of a compiled function of `fastact.runtime.inner_loop`."""
    from fastact.runtime import loading

    def build() -> loading.LoopFunction:
        from fastact.runtime import inner_loop

        return getattr(inner_loop, name)  # type: ignore[no-any-return]

    return loading.load(name, build)


def _level_of_caller() -> int:
    """Return the ``stacklevel`` that makes a warning point to the code that calls fastact."""
    level, frame = 1, sys._getframe(1)
    own = ("fastact.", "contextlib")
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(own):
        level, frame = level + 1, frame.f_back
    return level


POOL = Pool()
call_in_children(POOL.after_fork_in_child)
