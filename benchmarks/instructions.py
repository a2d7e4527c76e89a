"""How many instructions does an element cost? It is the same in every run, whatever else the machine does.

Value and gradient of float32 in cache, on one thread: the instructions of a call on a large array less those on a small
one. A process is stepped through them one by one (``ptrace``), since virtual machines often have no counters.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

from benchmarks import losses, pointwise, rows
from benchmarks.pairs import declare, in_fresh_processes, reported

CALLS = {
    **dict.fromkeys(("sigmoid", "tanh", "relu", "gelu_tanh", "elu", "silu"), pointwise.calls),
    **dict.fromkeys(("softmax", "swiglu"), rows.calls),
    "softmax_cross_entropy": losses.calls,
}
#: Rows of 128 elements.
FEW, MANY, COLUMNS = 8, 24, 128

_TRACEME, _SINGLESTEP = 0, 9


def setup_cache() -> dict[str, float]:
    """Count for all functions."""
    found = in_fresh_processes(count, count=1)
    return found[0] if found else {}


def count() -> dict[str, float]:
    """Return the instructions an element."""
    found = {}
    for name, calls in CALLS.items():
        with reported(name):
            few, many = (instructions(calls(name, (size, COLUMNS))[0]) for size in (FEW, MANY))
            found[name] = (many - few) / ((MANY - FEW) * COLUMNS)
    return found


def instructions(call: Callable[[], object]) -> int:
    """Return how many instructions a call takes, in a fork of this process.

    Raises
    ------
    OSError
        If a process may not be traced here.
    """
    for _ in range(30):  # calls that repeat become shorter
        call()
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.restype = ctypes.c_long
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    child = os.fork()
    if child == 0:
        ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        call()
        os._exit(0)
    os.waitpid(child, 0)
    steps = 0
    while ptrace(_SINGLESTEP, child, None, None) == 0:
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return steps
        steps += 1
    error = ctypes.get_errno()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise OSError(error, os.strerror(error))


def track_instructions(found: dict[str, float], function: str) -> float:
    """Return the instructions an element."""
    return found.get(function, float("nan"))


declare(track_instructions, "instructions an element", "instructions", function=list(CALLS))
