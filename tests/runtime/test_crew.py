"""The crew of threads on Linux: every chunk is computed once, whoever is awake, asleep, gone or in the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fresh_process import runner
from representatives import only_long

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a crew on Linux only")

# Chunks have 64 elements, so that calls are many and short; increments show a chunk that was lost or computed twice.
CREW = """
import os, random, threading, time
from concurrent.futures import ThreadPoolExecutor

from fastact.system import machine

THREADS = {threads}
machine.available_cpus = lambda: THREADS  # nobody sets more threads than there are CPUs

import numpy as np
import fastact as fa
from fresh_process import in_fork

MOST = 4_000
RIGHT = np.arange(1, MOST + 1, dtype="f4")
fa.set_parallel_threshold(128)
fa.set_chunk_size(64)
fa.set_num_threads(THREADS)

def members():
    return [task for task in os.listdir("/proc/self/task") if name_of(task) == "fastact"]

def name_of(task):
    try:
        with open(f"/proc/self/task/{{task}}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""  # it has ended

def work(calls, seed=0, most_pause=0.0):
    chance = random.Random(seed)
    y = np.empty(MOST, "f4")
    for _ in range(calls):
        size = chance.randrange(128, MOST)
        y[:size] = RIGHT[:size]
        fa.relu.backward(y[:size], RIGHT[:size], out=y[:size])  # in place
        assert np.array_equal(y[:size], RIGHT[:size])
        y[:size] = -1
        fa.relu(RIGHT[:size], out=y[:size])
        assert np.array_equal(y[:size], RIGHT[:size])
        if most_pause:
            time.sleep(chance.uniform(0, most_pause))
"""

Run = Callable[..., str]


@pytest.fixture(params=[2, 16])
def run(request: pytest.FixtureRequest, filled_by: Callable[[str], Path]) -> Run:
    """Return a function that runs a script in a process with so many threads, whatever CPUs there are."""
    folder = filled_by(CREW.format(threads=2) + "work(1)")
    return runner(CREW.format(threads=request.param), FASTACT_CACHE=str(folder))


@pytest.mark.parametrize("calls", [5_000, *only_long(100_000)])
def test_short_calls(run: Run, calls: int) -> None:
    """Calls that follow each other so closely that members come too late for one and enter the next."""
    run(f"work({calls}); assert len(members()) == THREADS - 1")


def test_members_asleep(run: Run) -> None:
    """Pauses about as long as members stay awake, so that they fall asleep while they are called, and much longer ones."""
    run("work(1_000, most_pause=3e-4); work(20, most_pause=0.02)")


def test_more_callers_than_jobs(run: Run) -> None:
    """Python threads that call all at once, more than the crew serves."""
    run("""
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(work, [200] * 12, range(12)))
    """)


def test_forks_amid_calls(run: Run) -> None:
    """Children of a process whose other threads are in parallel calls: they have no crew, and the parent keeps its own."""
    run("""
        def child():
            assert fa.get_num_threads() == 1 and not members()
            work(20)

        work(1)
        stop = threading.Event()

        def call(seed):
            while not stop.is_set():
                work(10, seed)

        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(call, seed) for seed in range(3)]
            for _ in range(10):
                in_fork(child)
            stop.set()
            for future in futures:
                future.result()
        assert len(members()) == THREADS - 1
        work(20)
    """)


def test_grows(run: Run) -> None:
    """As many members start as calls may use: none for one thread, and more once more are allowed."""
    run("""
        for threads in [1, 2, THREADS, 2]:
            most = max(len(members()), threads - 1)
            fa.set_num_threads(threads)
            work(20)
            assert len(members()) == most, threads
    """)


def test_idle(run: Run) -> None:
    """Members that nobody calls take no time."""
    run("""
        work(20)
        time.sleep(0.2)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.05
    """)


def test_signals(run: Run) -> None:
    """A member takes no signal that is for Python, but those of its own faults."""
    run("""
        import signal

        def blocked(task):
            with open(f"/proc/self/task/{task}/status") as file:
                mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk"))
            return {each for each in signal.Signals if mask >> each - 1 & 1}

        work(1)
        for task in members():
            while signal.SIGSEGV in blocked(task):  # the C library blocks all while a thread starts
                time.sleep(0.01)
            assert {signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD} < blocked(task)
    """)


@pytest.mark.parametrize(
    "end", ["", "sys.exit()", "os.execv(sys.executable, [sys.executable, '-c', ''])"]
)
def test_exit_amid_calls(run: Run, end: str) -> None:
    """The interpreter ends, or another program takes its place, while a daemon thread is in a call."""
    run(f"""
        import subprocess, sys

        def call():
            while True:
                work(10)

        work(1)
        threading.Thread(target=call, daemon=True).start()
        subprocess.run([sys.executable, "-c", ""], check=True)
        {end}
    """)
