"""What this installation can do, and what to do about each thing that is not as good as it could be: ``fastact doctor``.

A check is a generator of remarks. Each imports what it needs itself, so that the others work where one cannot: a broken
installation is when one needs them.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

#: Takes what is being done, for whoever waits.
Tell = Callable[[str], object]

_PIP = "python -m pip install"
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ELEMENTS = 2**24  # of the measurement: 64 MiB an array, in no cache
_LITTLE_MEMORY, _LITTLE_DISK = 2**30, 2**26
_ENOUGH_OF_LIMIT, _TOO_MUCH_OF_LIMIT = 0.7, 1.15


class State(IntEnum):
    """How good something is."""

    GOOD = 0
    BETTER = 1
    WRONG = 2

    def __str__(self) -> str:
        return ("good", "could be better", "wrong")[self]


class Remark(NamedTuple):
    """What was found about one thing, and what to do about it."""

    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """What came of a check."""

    title: str
    remarks: tuple[Remark, ...]

    @property
    def state(self) -> State:
        """The worst of its remarks."""
        return max((each.state for each in self.remarks), default=State.GOOD)

    def as_json(self) -> dict[str, object]:
        """Return it as JSON has it."""
        remarks = [
            {"state": str(each.state), "found": each.found, "advice": each.advice or None}
            for each in self.remarks
        ]
        return {"title": self.title, "state": str(self.state), "remarks": remarks}


class Check(NamedTuple):
    """A check: its title, what it does, and whether that takes seconds."""

    title: str
    remarks: Callable[[Tell], Iterator[Remark]]
    is_slow: bool = False


def good(found: str) -> Remark:
    """Return a remark on what is as it should be."""
    return Remark(State.GOOD, found)


def better(found: str, advice: str = "") -> Remark:
    """Return a remark on what works, but could be better."""
    return Remark(State.BETTER, found, advice)


def wrong(found: str, advice: str = "") -> Remark:
    """Return a remark on what does not work."""
    return Remark(State.WRONG, found, advice)


def examine(checks: Sequence[Check], tell: Tell) -> Iterator[Finding]:
    """Yield what comes of checks; one that fails is a finding itself."""
    seen: set[str] = set()
    for check in checks:
        tell(check.title)
        remarks: list[Remark] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they are about, a check says
            try:
                remarks.extend(check.remarks(tell))
            except Exception as error:
                remarks.append(_failure(error, seen))
        yield Finding(check.title, tuple(remarks))


def _failure(error: Exception, seen: set[str]) -> Remark:
    """Return what to say of a check that failed: the same error only once."""
    said = f"{type(error).__name__}: {error}"
    if said in seen:
        return wrong("the same error")
    seen.add(said)
    advice = "python -m pip check, then install anew" if isinstance(error, ImportError) else ""
    return wrong(f"this failed with {said}", advice)


# Versions ---------------------------------------------------------------------------------------


def versions(tell: Tell) -> Iterator[Remark]:
    """Compare the packages with what the installed metadata asks for."""
    import fastact

    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield good(f"{python} on {platform.platform(terse=True)}")
    found = [f"fastact {fastact.__version__}"]
    faults = []
    for name, least in (*_required(), ("llvmlite", "")):
        number = _version(name)
        found.append(f"{name} {number or 'missing'}")
        # Without TBB, OpenMP serves: the check of threads says so.
        is_old = number and _as_numbers(number) < _as_numbers(least)
        if is_old or not (number or name == "tbb"):
            faults.append(
                wrong(f"fastact needs {name}>={least}", f'{_PIP} --upgrade "{name}>={least}"')
            )
    yield good(", ".join(found))
    yield from faults
    missing = [name for name, _ in _required("cli") if not _version(name)]
    if missing:
        yield better(
            f"some commands need {', '.join(missing)}, which is not installed",
            f'{_PIP} "fastact[cli]"',
        )


def _required(extra: str = "") -> list[tuple[str, str]]:
    """Return the packages that fastact, or an extra, asks for on this machine, with their lower bounds."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        found = []
        for line in metadata.requires("fastact") or ():
            what, _, marker = line.partition(";")
            of = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
            name, _, least = what.strip().partition(">=")
            is_here = "platform_machine" not in marker or platform.machine() in marker
            if is_here and (of[1] if of else "") == extra:
                found.append((name, least.partition(",")[0].strip()))
        return found
    return [(name, "") for name in ("numpy", "numba", "tbb")] if not extra else []


def _version(name: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return ""


def _as_numbers(version: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", version)[:3]]


# The machine ------------------------------------------------------------------------------------


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
    if not TARGET.converts_float16:
        yield better("no float16, which the processor cannot convert")


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
    from fastact.runtime.pool import POOL, why_not_tbb
    from fastact.runtime.settings import THREADS

    if THREADS.number <= 1:
        yield good("none: calls stay on one thread")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        POOL.start()
    if POOL.layer == "tbb":
        yield good("TBB: Numba's thread pool, which any number of Python threads share")
        return
    reason = why_not_tbb()
    install = f'{_PIP} "tbb>=2022"'
    if POOL.layer == "omp":
        said = f"OpenMP instead of TBB: {reason}"
        if not any(name == "tbb" for name, _ in _required()):
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
    said = f"{_size(available)} may be allocated; up to {_size(float(pool.value or 0))} of released outputs are kept for reuse"
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


# What fastact keeps -------------------------------------------------------------------------------


def kernel_cache(tell: Tell) -> Iterator[Remark]:
    """Say where compiled kernels are kept, and why not if they are not."""
    from fastact.runtime import cache_folder, kernel_cache

    folder, reason = cache_folder.directory(), cache_folder.why_unusable()
    if folder is None:
        state = better if os.environ.get("FASTACT_CACHE") == "0" else wrong
        yield state(
            f"none: {reason}. Each process compiles anew, a second for each kernel",
            "unset FASTACT_CACHE, or set it to a folder of your own",
        )
        return
    found = kernel_cache.entries()
    if reason and not found.own:
        yield wrong(
            f"not used: {reason}. Each process compiles anew, a second for each kernel",
            "make that folder writable by you alone (chown, chmod go-w), or set FASTACT_CACHE to one that is",
        )
        return
    yield good(f"{folder}, trusted: {_kernels(found.own)} of this installation")
    if reason:
        yield better(
            f"new kernels are not kept: {reason}", "fill it as its owner: fastact cache warm"
        )
        return
    if found.others:
        yield better(
            f"{_kernels(found.others)} of other versions, environments or machines",
            "fastact cache clear --others, unless they are in use",
        )
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_DISK:
        yield better(f"its disk is full: {_size(free)} are left", "make room, or set FASTACT_CACHE")


def _kernels(files: Sequence[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    return f"{len(files)} kernel{'s' * (len(files) != 1)} ({_size(size)})"


def settings(tell: Tell) -> Iterator[Remark]:
    """Say what each setting is, and where it comes from."""
    from fastact.runtime import settings

    known = {each.variable for each in settings.TABLE} | {"FASTACT_CACHE"}
    for name, each in settings.info().items():
        number = f"{each.value:,}" if isinstance(each.value, int) else each.value
        if name != "kernel_cache":
            yield good(f"{name}: {number} {each.unit} ({each.source}: {each.reason})")
    for name in sorted(os.environ.keys() - known):
        if name.startswith("FASTACT_"):
            others = ", ".join(sorted(filter(None, known)))
            yield better(f"{name} is set, which means nothing here", f"there are {others}")
    if settings.measured() is None:
        yield better(
            "the thresholds are defaults, measured on other machines",
            "fastact tune measures them here, in a minute",
        )


# Results and speed --------------------------------------------------------------------------------


def self_test(tell: Tell) -> Iterator[Remark]:
    """Compare a few functions of each family with NumPy in a wider type."""
    import numpy as np

    from fastact.bench import verification

    cases = [(name, dtype) for name in _representatives() for dtype in verification.DTYPES]
    compared = differing = 0
    for number, (name, dtype) in enumerate(cases):
        tell(f"self-test {number + 1} of {len(cases)}")
        verdict = verification.beside_baseline(name, dtype)
        compared += bool(verdict.errors)
        differing += verdict.is_wrong
        for each in filter(attrgetter("is_exceeded"), verdict.errors):
            yield wrong(
                f"{name} in {dtype}: the {each.what} is off by {each.found:.3g} units in the last place, "
                f"{each.bound:g} are allowed",
                "fastact cache clear, then fastact verify; if that finds the same, please report it",
            )
    yield good(
        f"{compared - differing} of {compared} comparisons agree with NumPy in a wider type; fastact verify makes more"
    )
    with np.errstate(all="ignore"):
        if not np.float32(1e-40) * np.ones(1, np.float32).any():
            yield better(
                "subnormal numbers are flushed to zero in this process, though not by fastact",
                "find the library that was built with -ffast-math",
            )


def _representatives() -> list[str]:
    """Return the activations with a baseline that takes any number, and one function of each other family."""
    import fastact as fa
    from fastact import baseline

    others = {
        definition.family: definition.name
        for definition in (fa.get(name)._definition for name in reversed(fa.names()))
        if definition.kind not in ("activation", "dropout")
    }
    return [*baseline.names(), *reversed(others.values())]


def streaming(tell: Tell) -> Iterator[Remark]:
    """Measure how fast memory can be read and written, and which part of that relu reaches."""
    from functools import partial

    import numpy as np

    import fastact as fa
    from fastact.bench import limit, timing
    from fastact.bench.workloads import Workload
    from fastact.system.machine import available_memory

    tell("streaming limit: measuring")
    needed = 8 * 4 * _ELEMENTS
    if available_memory() < needed:
        yield good(f"not measured: it takes {_size(needed)} of memory")
        return
    work = Workload.of("relu", (_ELEMENTS,))
    moved = limit.Moved.by(work, "forward")
    relu: Callable[..., object] = partial(fa.get("relu"), work.x, out=np.empty_like(work.x))
    loops = limit.loops()
    calls = {**dict(loops.calls(moved, fa.get_num_threads())), "relu": relu}
    times = timing.measure_in_turn(
        {name: timing.Contender(call) for name, call in calls.items()}, samples=5
    )
    seconds = {name: each.lower for name, each in times.items()}
    ours = seconds.pop("relu")
    fastest = min(seconds, key=lambda name: seconds[name])
    nbytes = moved.nbytes * (moved.inputs + moved.outputs)
    by = f"{loops.title}, {fastest}".rstrip(", ")
    yield good(f"memory: {nbytes / seconds[fastest] / 1e9:.3g} GB/s ({by})")
    share = seconds[fastest] / ours
    said = f"relu, which computes next to nothing, reaches {100 * share:.0f} % of that"
    if share < _ENOUGH_OF_LIMIT:
        yield better(said, "repeat it on a quiet machine; then fastact tune")
    elif share > _TOO_MUCH_OF_LIMIT:
        yield better(
            f"{said}: other processes disturbed the measurement", "repeat it on a quiet machine"
        )
    else:
        yield good(said)


def _size(number: float) -> str:
    """Return a number of bytes as text."""
    if math.isinf(number):
        return "any amount"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"


#: All checks, in the order in which one reads them.
CHECKS = (
    Check("versions", versions),
    Check("processor", processor),
    Check("cores", cores),
    Check("threading layer", threading_layer),
    Check("memory", memory),
    Check("load", load),
    Check("kernel cache", kernel_cache),
    Check("settings", settings),
    Check("self-test", self_test, is_slow=True),
    Check("streaming limit", streaming, is_slow=True),
)
