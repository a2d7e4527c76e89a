"""One-time work in a process: imports, compilation, starting threads.

All of it runs under one lock. Forks wait for that lock: a child would inherit half-finished state,
and locks, Python's and Numba's among them, whose owner does not exist in the child. Signal handlers
are deferred too: one that raises, as Ctrl-C does, would leave Numba half imported for good, and one
that forks or calls fastact would see the half-finished state.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading

# Not from `signal`: its enums make each call ten times slower.
from _signal import getsignal, signal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from signal import valid_signals
from typing import Any

PROCESS = os.getpid()  # the one that imported fastact: a forked child has another
_lock = threading.RLock()  # reentrant: a signal handler may fork on the thread that holds it


@contextmanager
def first_use() -> Iterator[None]:
    """Run one-time work with forks and signal handlers held off.

    Also a decorator. Inside a Numba compilation it does nothing: forks wait for Numba's compiler
    lock as well, and threads that took the two locks in different orders would deadlock.
    """
    if _is_compiling():
        yield
        return
    _register_fork_handlers()
    handlers = _DeferredHandlers()
    try:
        with _lock, handlers:
            yield
    finally:
        handlers.deliver()


class _DeferredHandlers:
    """The signal handlers of this process, deferred while this context is active."""

    def __init__(self) -> None:
        self._deferred: dict[int, Callable[[int, Any], Any]] = {}
        self.pending: list[int] = []

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return  # Python runs handlers on the main thread only
        try:
            for number in _SIGNALS:
                handler = getsignal(number)
                if callable(handler) and not isinstance(
                    getattr(handler, "__self__", None), _DeferredHandlers
                ):
                    self._deferred[number] = handler
                    signal(number, self._record)
        except BaseException:  # raised by a handler that ran before it was replaced
            self.restore()
            raise

    def __exit__(self, *error: object) -> None:
        self.restore()

    def _record(self, number: int, frame: Any) -> None:
        self.pending.append(number)

    def restore(self) -> None:
        """Restore all handlers, even if one that is already restored raises meanwhile."""
        left, errors = dict(self._deferred), []
        while left:
            try:
                while left:
                    number = next(iter(left))
                    signal(number, left[number])
                    del left[number]
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def deliver(self) -> None:
        """Call the handlers of all signals that arrived meanwhile, even if one of them raises."""
        with ExitStack() as calls:
            for number in reversed(self.pending):
                calls.callback(self._deferred[number], number, sys._getframe())


_SIGNALS = sorted(map(int, valid_signals()))


def _is_compiling() -> bool:
    """Whether this thread is inside a Numba compilation."""
    lock = _compiler_lock()
    return lock is not None and bool(lock.is_locked())


def _compiler_lock() -> Any:
    """Return the lock that Numba holds while it compiles, or None if Numba is not imported."""
    module = sys.modules.get("numba.core.compiler_lock")
    return getattr(module, "global_compiler_lock", None)


class _Fork:
    """A fork in progress: it waits until no other thread does one-time work or compiles."""

    def __init__(self) -> None:
        self._handlers = _DeferredHandlers()
        self._compiler_lock = _compiler_lock()
        self._handlers.__enter__()
        _lock.acquire()
        if self._compiler_lock is not None:
            self._compiler_lock.acquire()

    def end(self) -> list[int]:
        """Release the locks, restore the handlers, and return the signals that arrived meanwhile."""
        if self._compiler_lock is not None:
            self._compiler_lock.release()
        _lock.release()
        self._handlers.restore()
        return self._handlers.pending


_fork: _Fork | None = None  # in progress
_pending: list[int] = []  # signals that arrived during the fork
_is_registered = False
_in_child: list[Callable[[], None]] = []


def call_in_children(function: Callable[[], None]) -> None:
    """Register a function to be called in the child after each fork."""
    _register_fork_handlers()
    _in_child.append(function)


def _before_fork() -> None:
    global _fork
    _fork = _Fork()


def _after_fork_in_child() -> None:
    for function in _in_child:
        function()
    _after_fork()
    _pending.clear()  # they were meant for the parent


def _after_fork() -> None:
    global _fork
    fork, _fork = _fork, None
    # None if another thread registered these functions during the fork.
    _pending[:] = [] if fork is None else fork.end()


def _register_fork_handlers() -> None:
    """Make forks wait from now on; not on import, which Numba does in every compiling process."""
    global _is_registered
    if _is_registered or not hasattr(os, "register_at_fork"):
        return
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
    # Python prints and drops what a handler raises inside these functions, so pending signals are
    # raised again and handled once `os.fork` has returned. `max` with a key is a C function that
    # calls another C function for each signal: no Python frame in between could run a handler.
    set_again = ctypes.pythonapi.PyErr_SetInterruptEx
    os.register_at_fork(after_in_parent=partial(max, _pending, key=set_again, default=None))
    _is_registered = True  # last: two threads may register twice, and a fork then waits twice
