"""How many instructions does an element cost? It is the same in every run, whatever else the machine does.

Value and gradient of float32 in cache, on one thread. A process is stepped through a call instruction by instruction
(``ptrace``), since virtual machines often have no counters. Those in memory that belongs to no file are the kernel's.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .pairs import aligned, declare, deviates, in_fresh_processes, reported

FUNCTIONS = ("sigmoid", "tanh", "relu", "elu", "gelu_tanh", "mish")
ELEMENTS = 2048

# Requests of ptrace, and where it keeps the instruction pointer: user_regs_struct.rip of x86-64.
_TRACEME, _PEEKUSER, _SINGLESTEP = 0, 3, 9
_INSTRUCTION_POINTER = 16 * 8


def setup_cache() -> dict[str, float]:
    """Count for all functions."""
    found = in_fresh_processes(count, count=1)
    return found[0] if found else {}


def count() -> dict[str, float]:
    """Return the instructions an element."""
    import fastact

    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # steps are shorter on one core
    found = {}
    for name in FUNCTIONS:
        with reported(name):
            ufunc = getattr(fastact, name).ufuncs["forward_backward"]
            found[name] = round(instructions(call_of(ufunc)) / ELEMENTS, 3)
    return found


def call_of(ufunc: np.ufunc) -> Callable[[], object]:
    """Return a call into given arrays that begin where vectors do; parameters are 1."""
    x = aligned(deviates((ELEMENTS,)))
    parameters = [np.float32(1)] * (ufunc.nin - 2)
    out = tuple(aligned(x) for _ in range(ufunc.nout))
    return partial(ufunc, x, aligned(x), *parameters, out=out)


def instructions(call: Callable[[], object]) -> int:
    """Return how many instructions of a kernel a call takes, in a fork of this process.

    Raises
    ------
    NotImplementedError
        If this is not Linux on x86-64.
    OSError
        If a process may not be traced here.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise NotImplementedError("only on Linux and x86-64")
    for _ in range(3):
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
    kernels = [range(*each) for each in _code_of_no_file(child)]
    steps = 0
    while ptrace(_SINGLESTEP, child, None, None) == 0:
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return steps
        pointer = ptrace(_PEEKUSER, child, _INSTRUCTION_POINTER, None)
        steps += any(pointer in each for each in kernels)
    error = ctypes.get_errno()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise OSError(error, os.strerror(error))


def _code_of_no_file(process: int) -> list[tuple[int, int]]:
    """Return the executable memory of a process that is mapped from no file."""
    found = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        addresses, permissions, _, _, inode, *name = line.split()
        if "x" in permissions and inode == "0" and not name:
            first, last = addresses.split("-")
            found.append((int(first, 16), int(last, 16)))
    return found


def track_instructions(found: dict[str, float], function: str) -> float:
    """Return the instructions an element."""
    return found.get(function, float("nan"))


declare(track_instructions, "instructions an element", "instructions", function=FUNCTIONS)
