"""A process for each contender, which does what it is told and sleeps in between."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

#: A contender that takes longer to answer has hung.
LONGEST_ANSWER = 600.0

# A fork would inherit threads and locks of this process.
_SPAWN = multiprocessing.get_context("spawn")


class WorkerError(Exception):
    """What a worker was told ended in an error, or ended its process."""


class Worker:
    """An object in a process of its own.

    The process starts at the first call, and again after one that ended it. Its end of the pipe is closed when this
    process ends, however that happens, and it ends then too.

    Parameters
    ----------
    held : object
        The object, pickled to the process.
    """

    def __init__(self, held: object) -> None:
        self._held = held
        self._process: Any = None
        self._pipe: Any = None

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self._process is not None:
            return
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self._held), daemon=True)
        with _interrupts_kept():
            self._process.start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the object returns.

        Raises
        ------
        NotImplementedError
            If the method does.
        WorkerError
            If the method raises something else, the process ends, or there is no answer.
        """
        self.start()
        try:
            self._pipe.send((method, arguments))
            if not self._pipe.poll(LONGEST_ANSWER):
                self.close()
                raise WorkerError(f"no answer after {LONGEST_ANSWER:g} s")
            error, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self.close()
            raise WorkerError(_end(code)) from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the process at once: it holds nothing that would have to be saved."""
        process, self._process = (
            self._process,
            None,
        )  # a thread that waits for an answer closes it, too
        if process is not None:
            process.kill()
            process.join()
            process.close()
            self._pipe.close()


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Let Ctrl-C wait while a process starts, which would fail half-way, and be blocked in it.

    It reaches all processes of a terminal: this one tells the others. As it may reach any thread of this one, to block it
    in the main thread is not enough here.
    """
    resource_tracker.ensure_running()  # which leaves it unblocked: it would start with the first process
    kept: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    if is_main and handler is not None:
        signal.signal(signal.SIGINT, lambda number, frame: kept.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if is_main and handler is not None:
            signal.signal(signal.SIGINT, handler)
        if kept:
            signal.raise_signal(signal.SIGINT)


def _end(code: int) -> str:
    """Say how a process ended."""
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _serve(pipe: Connection, held: object) -> None:
    """Call methods of an object, as told, until nobody is there to tell."""
    while True:
        try:
            method, arguments = pipe.recv()
            pipe.send(_answer(held, method, arguments))
        except (EOFError, ConnectionError):
            return


def _answer(held: object, method: str, arguments: tuple[Any, ...]) -> tuple[Exception | None, Any]:
    """Return an error that can be pickled, or None, and the result."""
    try:
        return None, getattr(held, method)(*arguments)
    except NotImplementedError as error:
        return NotImplementedError(str(error)), None
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        return WorkerError(f"{type(error).__name__}: {first_line}"), None
