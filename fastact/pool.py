"""The threads that calls are shared among.

The pool is Numba's: on TBB where it is installed, else on OpenMP. Numba's own fallback, ``workqueue``,
aborts the process when two threads use it at once, even when one of them is somebody else's: where it is
all there is, calls stay on one thread. The pool starts with the first call that is large enough for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from pathlib import Path
from typing import Any

from fastact.machine import affine_cpus
from fastact.records import SETTING, SETTINGS, keep

_TBB_MODULE = "numba.np.ufunc.tbbpool"


class Pool:
    """Numba's thread pool, as far as this process has it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._is_forbidden = False  # in a forked child, which may have lost it
        self._module: Any = None  # what runs the pool, where Numba has not started it

    def start(self) -> None:
        """Start the pool and tell the settings where it is; leave calls serial where that fails."""
        with self.lock:
            if SETTINGS[SETTING.parallel_for]:
                return
            found = None if self._is_forbidden else self._start_tbb() or _start_by_numba()
            if found is None:
                SETTINGS[SETTING.threads] = 1
                return
            parallel_for, get_num_threads, set_num_threads = found
            SETTINGS[SETTING.get_num_threads] = get_num_threads
            SETTINGS[SETTING.set_num_threads] = set_num_threads
            SETTINGS[SETTING.parallel_for] = parallel_for  # last: it says that all is ready

    def _start_tbb(self) -> tuple[int, int, int] | None:
        """Start Numba's pool on TBB as Numba would, without importing it, which takes up to half a second.

        Should Numba be imported later, it finds the pool running, in the same library.
        """
        if "numba" in sys.modules or _is_chosen() or not _preload_tbb():
            return None
        import importlib.machinery
        import importlib.util

        found = importlib.util.find_spec("numba")
        if found is None or found.origin is None:
            return None
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        file = Path(found.origin).parent / "np" / "ufunc" / f"tbbpool{suffix}"
        spec = importlib.util.spec_from_file_location(_TBB_MODULE, file)
        if spec is None or spec.loader is None or not file.exists():
            return None
        try:
            module: Any = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            addresses = module.parallel_for, module.get_num_threads, module.set_num_threads
            launch = ctypes.CFUNCTYPE(None, ctypes.c_int)(module.launch_threads)
        except (ImportError, AttributeError):  # another Numba, which starts it otherwise
            return None
        launch(_numba_num_threads())
        self._module = module
        return addresses

    def after_fork_in_child(self) -> None:
        """Stay on one thread in a child of a process that has a pool, whoever had started it.

        OpenMP ends a forked child that uses its threads; TBB restarts its own only if the thread that
        forked had started them, and else hangs.
        """
        self.lock.release()
        if self._module is None and _running_layer() is None:
            return
        self._is_forbidden = True
        SETTINGS[SETTING.threads] = 1
        SETTINGS[SETTING.parallel_for] = 0
        # At its exit the child would wait for ever for TBB's threads, which it may not have: the module
        # that would wait, once nobody refers to it, is referred to for ever.
        for module in (self._module, sys.modules.get(_TBB_MODULE)):
            if module is not None:
                keep(module)


def _start_by_numba() -> tuple[int, int, int] | None:
    """Let Numba start its pool, on the layer that it chooses; return the addresses of its functions."""
    _preload_tbb()
    import llvmlite.binding as llvm
    import numba

    try:
        numba.get_num_threads()  # starts the pool
    except (ImportError, ValueError):  # a layer that NUMBA_THREADING_LAYER asks for is missing
        return None
    if _running_layer() in (None, "workqueue"):
        return None
    parallel_for, get_num_threads, set_num_threads = (
        llvm.address_of_symbol(symbol)
        for symbol in ("numba_parallel_for", "get_num_threads", "set_num_threads")
    )
    return parallel_for, get_num_threads, set_num_threads


def _is_chosen() -> bool:
    """Whether somebody has told Numba which layer to take."""
    layer = os.environ.get("NUMBA_THREADING_LAYER", "default")
    order = os.environ.get("NUMBA_THREADING_LAYER_PRIORITY", "tbb")
    return layer != "default" or not order.startswith("tbb") or Path(".numba_config.yaml").exists()


def _numba_num_threads() -> int:
    """Return how many threads Numba would start; fewer may be used."""
    text = os.environ.get("NUMBA_NUM_THREADS", "")
    if text.isdecimal() and int(text) > 0:
        return int(text)
    return affine_cpus()


def _running_layer() -> str | None:
    """Return the layer of Numba's pool, where Numba has started it."""
    numba = sys.modules.get("numba")
    if numba is None:
        return None
    try:
        return str(numba.threading_layer())
    except (AttributeError, ValueError):  # half imported; not started
        return None


def _preload_tbb() -> bool:
    """Load the TBB library that pip has installed; return whether it is there.

    The wheel puts it into the environment's ``lib`` folder, where the loader does not look, and so
    Numba calls TBB unavailable (https://github.com/numba/numba/issues/6108). Once loaded, it is found
    by its name.
    """
    import importlib.metadata  # not when fastact is imported: it takes 10 ms

    names = {"libtbb.so.12", "libtbb.12.dylib", "tbb12.dll"}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        for file in importlib.metadata.files("tbb") or ():
            if file.name in names:
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
                return True
    return False


POOL = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(  # a fork waits while another thread starts the pool
        before=POOL.lock.acquire,
        after_in_parent=POOL.lock.release,
        after_in_child=POOL.after_fork_in_child,
    )
