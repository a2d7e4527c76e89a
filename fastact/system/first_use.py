"""What happens once in a process: imports, compilation, the start of threads.

All of it happens under one lock, and a fork waits for that: the child would inherit what is half done, and
locks, Python's and Numba's among them, whose owner it does not have. Signal handlers wait as well: one that
raises, as Ctrl-C does, would leave Numba half imported for good, and one that forks or calls fastact itself
would meet what is half done.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading

# Without the enums of `signal`, which take ten times as long.
from _signal import getsignal, signal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from signal import valid_signals
from typing import Any

PROCESS = os.getpid()  # which imported fastact; a forked child is another
_lock = threading.RLock()  # for a handler that forks on the very thread that holds it


@contextmanager
def first_use() -> Iterator[None]:
    """Do what is done once: no fork and no signal handler comes in between.

    Also a decorator. In the midst of a compilation of Numba's it adds nothing: a fork waits for that as
    well, and threads that held the two locks in different orders would wait for each other.
    """
    if _is_compiling():
        yield
        return
    _hear_of_forks()
    handlers = _Handlers()
    try:
        with _lock, handlers:
            yield
    finally:
        handlers.call_those_that_waited()


class _Handlers:
    """The signal handlers of this process, which wait while this context is entered."""

    def __init__(self) -> None:
        self._waiting: dict[int, Callable[[int, Any], Any]] = {}
        self.arrived: list[int] = []

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return  # Python calls them on the main thread alone
        try:
            for number in _SIGNALS:
                handler = getsignal(number)
                if callable(handler) and not isinstance(
                    getattr(handler, "__self__", None), _Handlers
                ):
                    self._waiting[number] = handler
                    signal(number, self._note)
        except BaseException:  # of a handler that was called before it was replaced
            self.put_back()
            raise

    def __exit__(self, *error: object) -> None:
        self.put_back()

    def _note(self, number: int, frame: Any) -> None:
        self.arrived.append(number)

    def put_back(self) -> None:
        """Let handlers be called again; one that is back already may raise before the last one is."""
        left, errors = dict(self._waiting), []
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

    def call_those_that_waited(self) -> None:
        """Call the handlers of the signals that have arrived, all of them, whatever the first one raises."""
        with ExitStack() as calls:
            for number in reversed(self.arrived):
                calls.callback(self._waiting[number], number, sys._getframe())


_SIGNALS = sorted(map(int, valid_signals()))


def _is_compiling() -> bool:
    """Whether this thread is in the midst of a compilation of Numba's."""
    lock = _compiler_lock()
    return lock is not None and bool(lock.is_locked())


def _compiler_lock() -> Any:
    """Return the lock that Numba holds while it compiles, or None where Numba is not imported."""
    module = sys.modules.get("numba.core.compiler_lock")
    return getattr(module, "global_compiler_lock", None)


class _Fork:
    """A fork: it waits until no other thread is in the midst of a first use, or compiles."""

    def __init__(self) -> None:
        self._handlers = _Handlers()
        self._compiler_lock = _compiler_lock()
        self._handlers.__enter__()
        _lock.acquire()
        if self._compiler_lock is not None:
            self._compiler_lock.acquire()

    def end(self) -> list[int]:
        """Let go of all; return the signals that have arrived."""
        if self._compiler_lock is not None:
            self._compiler_lock.release()
        _lock.release()
        self._handlers.put_back()
        return self._handlers.arrived


_fork: _Fork | None = None  # the one that is under way
_arrived: list[int] = []  # while it waited
_hears_of_forks = False
_told_in_parent: list[Callable[[], None]] = []
_told_in_child: list[Callable[[], None]] = []


def tell_of_forks(in_parent: Callable[[], None], in_child: Callable[[], None]) -> None:
    """Let functions be called after each fork."""
    _hear_of_forks()
    _told_in_parent.append(in_parent)
    _told_in_child.append(in_child)


def _before_fork() -> None:
    global _fork
    _fork = _Fork()


def _after_fork_in_parent() -> None:
    _end_fork(_told_in_parent)


def _after_fork_in_child() -> None:
    _end_fork(_told_in_child)
    _arrived.clear()  # they were meant for the parent


def _end_fork(told: list[Callable[[], None]]) -> None:
    global _fork
    for function in told:
        function()
    fork, _fork = _fork, None
    # None where another thread registered these functions amid the fork.
    _arrived[:] = [] if fork is None else fork.end()


def _hear_of_forks() -> None:
    """Let forks wait from now on; not from the import on, which Numba causes in every process that compiles."""
    global _hears_of_forks
    if _hears_of_forks or not hasattr(os, "register_at_fork"):
        return
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
    # What a handler raises in here Python prints and drops. So it is called once `os.fork` has returned:
    # the signals are set again by a function in C that calls one in C for each of them.
    set_again = ctypes.pythonapi.PyErr_SetInterruptEx
    os.register_at_fork(after_in_parent=partial(max, _arrived, key=set_again, default=None))
    _hears_of_forks = True  # last: two threads may register twice, and a fork then waits twice
