"""Compile kernels in several processes: what ``fastact cache warm`` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import NamedTuple

from fastact.bench.workers import Worker, WorkerError
from fastact.functions.registry import get
from fastact.functions.registry import names as all_names
from fastact.runtime import kernel_cache, loading
from fastact.runtime.dtypes import dtypes
from fastact.runtime.output_pool import with_output_pool
from fastact.runtime.pool import HAS_CREW, crew_member_function
from fastact.runtime.ufunc import LOOPS, Loop
from fastact.system.machine import available_cpus, available_memory

#: What the compiler takes in a process, at most.
BYTES_OF_PROCESS = 2**30


class Missing(NamedTuple):
    """What the cache lacks.

    Attributes
    ----------
    kernels : dict of str to list of str
        Names of kernels by function.
    found : int
        How many others it has.
    """

    kernels: Mapping[str, Sequence[str]]
    found: int

    @property
    def total(self) -> int:
        """The number of kernels that it lacks."""
        return sum(map(len, self.kernels.values()))


def compile_shared() -> None:
    """Compile what all kernels need: the inner loop, what starts the threads, and the output pool."""
    if HAS_CREW:
        crew_member_function()
    with_output_pool(int)


def missing(names: Sequence[str], types: Sequence[str]) -> Missing:
    """Return the kernels that the cache lacks.

    Parameters
    ----------
    names : sequence of str
        Names or aliases of functions; all if empty.
    types : sequence of str
        Names of dtypes.

    Raises
    ------
    ValueError
        If there is no such function or type.
    """
    for name in types:
        if name not in dtypes():
            raise ValueError(f"there is no type {name!r}; there are {', '.join(dtypes())}")
    functions = [get(name).name for name in names] or all_names()
    found: set[str] = set()
    lacking: dict[str, str] = {}
    for function in dict.fromkeys(functions):
        for name in _loops(function):
            if name.rpartition(".")[2] in types and name not in lacking:
                if kernel_cache.read(name) is None:
                    lacking[name] = function
                else:
                    found.add(name)
    kernels: dict[str, list[str]] = {}
    for name, function in lacking.items():
        kernels.setdefault(function, []).append(name)
    return Missing(kernels, len(found))


def _loops(function: str) -> dict[str, Loop]:
    """Return the loops of a function's ufuncs by the names of their kernels, which end with the dtype."""
    loops = [loop for ufunc in get(function).ufuncs.values() for loop in LOOPS[ufunc]]
    return {loop.name: loop for loop in loops if loop.name is not None}


def default_jobs() -> int:
    """Return how many processes this machine has CPUs and memory for."""
    return max(1, min(available_cpus(), int(min(available_memory() / BYTES_OF_PROCESS, 2**16))))


class Compiler:
    """What a worker holds."""

    def compile(self, function: str, kernel: str) -> None:
        """Compile a kernel into the cache."""
        loop = _loops(function)[kernel]
        loading.load(loop.name, loop.build)


class Result(NamedTuple):
    """How the compilation of a kernel ended.

    Attributes
    ----------
    kernel : str
        Its name.
    error : str
        What went wrong; empty if nothing did.
    """

    kernel: str
    error: str


def compile_in_processes(kernels: Mapping[str, Sequence[str]], jobs: int) -> Iterator[Result]:
    """Compile kernels, and yield the result of each as it ends.

    Those of a function are compiled by one process, as they share much of their code, and functions with many of them
    come first, lest one process end long after the others. A generator that is closed early ends the processes.

    Parameters
    ----------
    kernels : mapping of str to sequence of str
        As in `Missing`.
    jobs : int
        The number of processes.
    """
    todo: SimpleQueue[tuple[str, Sequence[str]]] = SimpleQueue()
    for item in sorted(kernels.items(), key=lambda item: len(item[1]), reverse=True):
        todo.put(item)
    ended: SimpleQueue[Result] = SimpleQueue()
    is_over = Event()
    workers = [Worker(Compiler()) for _ in range(min(jobs, len(kernels)))]

    def work(worker: Worker) -> None:
        while not is_over.is_set():
            try:
                function, names = todo.get_nowait()
            except Empty:
                return
            for name in names:
                ended.put(Result(name, _compile(worker, function, name)))

    def _compile(worker: Worker, function: str, name: str) -> str:
        if is_over.is_set():
            return "interrupted"
        try:
            worker.call("compile", function, name)
        except WorkerError as error:
            return str(error)
        except Exception as error:  # of a worker that is closed meanwhile
            return repr(error)
        return ""

    try:
        for worker in workers:
            worker.start()
            Thread(target=work, args=(worker,), daemon=True).start()
        for _ in range(sum(map(len, kernels.values()))):
            yield ended.get()
    finally:
        is_over.set()
        for worker in workers:
            worker.close()
