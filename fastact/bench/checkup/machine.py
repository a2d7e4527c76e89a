"""Checks of the machine, and of what it leaves to this process."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from fastact.bench.checkup.installation import PIP, required
from fastact.bench.checkup.remarks import Remark, Tell, better, good, size_of, wrong

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SHARED = "which any number of Python threads share"
_CREW = f"fastact's own threads, {_SHARED}"
_LITTLE_MEMORY = 2**30


def processor(tell: Tell) -> Iterator[Remark]:
    """Say what kernels are compiled for."""
    from fastact.bench.timing import machine
    from fastact.system.target import CPU_VARIABLES, TARGET, host

    yield good(str(machine()["processor"]))
    yield good(f"instruction sets: {', '.join(TARGET.instruction_sets) or 'none for vectors'}")
    width, possible = 8 * TARGET.vector_bytes, 8 * host().vector_bytes
    chosen = ", ".join(name for name in CPU_VARIABLES if name in os.environ)
    if width < possible:
        yield better(
            f"vectors of {width} bits, though the processor has {possible}: {chosen} selects another",
            f"unset {chosen}, unless kernels are shared with a narrower machine",
        )
    else:
        yield good(f"vectors of {width} bits, the widest that it has")
    if not host().has_fma:
        yield better(
            "no fused multiply-add: functions with an exponential take many times as long",
            "if this is a virtual machine, give it the processor model of its host",
        )


def cores(tell: Tell) -> Iterator[Remark]:
    """Say how many CPUs this process may use, and how many threads do."""
    from fastact.runtime.settings import THREADS
    from fastact.system.machine import available_cpus, cpu_quota, cpus_by_affinity

    machine, allowed, quota = os.cpu_count() or 1, cpus_by_affinity(), cpu_quota()
    limited = "" if math.isinf(quota) else f", and the container {quota:g} of them at a time"
    yield good(f"the machine has {machine} CPUs; the affinity mask allows {allowed}{limited}")
    if available_cpus() == 1:
        said = "nothing runs in parallel; results are the same"
        if machine == 1:
            yield good(said)
        else:
            by = "its affinity mask" if allowed == 1 else "the container's quota"
            yield better(
                f"{said}: {by} leaves one CPU of {machine}",
                "taskset --cpu-list or the batch system's options allow more"
                if allowed == 1
                else "a larger quota (docker run --cpus) allows more",
            )
    threads = THREADS.value
    yield good(f"threads of a call: {threads.value} ({threads.source}: {threads.reason})")
    for name in ("FASTACT_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if os.environ.get(name):
            yield good(f"{name} is {os.environ[name]}")


def threading_layer(tell: Tell) -> Iterator[Remark]:
    """Start the thread pool, and say on which layer and why."""
    from fastact.runtime.pool import HAS_CREW, POOL, why_not_tbb
    from fastact.runtime.settings import THREADS

    if THREADS.number <= 1:
        yield good("none: calls stay on one thread")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        POOL.start()
    if POOL.layer == "tbb":
        pool = _CREW if HAS_CREW else f"TBB: Numba's thread pool, {_SHARED}"
        yield good(pool)
        return
    reason = why_not_tbb()
    if POOL.layer and HAS_CREW:
        yield good(f"{_CREW}; Numba's pool is on OpenMP instead of TBB: {reason}")
        return
    install = f'{PIP} "tbb>=2022"'
    if POOL.layer == "omp":
        said = f"OpenMP instead of TBB: {reason}"
        if not any(name == "tbb" for name, _ in required()):
            yield good(f"{said}, which has no wheels for this machine")
        else:
            yield better(f"{said}. Each Python thread starts threads of its own", install)
    elif caught:
        yield wrong(str(caught[-1].message), "raise the limits (ulimit -u, ulimit -v, pids.max)")
    else:
        yield wrong(f"calls stay on one thread: neither TBB ({reason}) nor OpenMP works", install)


def memory(tell: Tell) -> Iterator[Remark]:
    """Say what the output pool may hold, and whether it gets huge pages."""
    from fastact.runtime.settings import OUTPUT_CACHE
    from fastact.system.machine import available_memory

    available, pool = available_memory(), OUTPUT_CACHE.value
    said = f"{size_of(available)} may be allocated; up to {size_of(float(pool.value or 0))} of released outputs are kept for reuse"
    if available < _LITTLE_MEMORY:
        yield better(
            said, "a higher limit (ulimit -v, the container's) lets large outputs be reused"
        )
    else:
        yield good(said)
    with contextlib.suppress(OSError):
        if "[never]" in _HUGE_PAGES.read_text():
            yield better(
                "huge pages are off: new memory takes hundreds of times as many page faults",
                f"as root: echo madvise > {_HUGE_PAGES}",
            )


def load(tell: Tell) -> Iterator[Remark]:
    """Say whether others use the CPUs."""
    from fastact.system.machine import available_cpus

    if not hasattr(os, "getloadavg"):
        return
    busy, cpus = os.getloadavg()[0], available_cpus()
    if busy > cpus / 2:
        yield better(
            f"other processes run: the load is {busy:.1f} on {cpus} CPUs",
            "measure on a quiet machine; where it is always busy, fewer threads (FASTACT_NUM_THREADS) may be faster",
        )
    else:
        yield good(f"the load is {busy:.1f} on {cpus} CPUs")
