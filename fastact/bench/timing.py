"""Timing of calls."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fastact as fa
from fastact.system.target import TARGET

#: A sample repeats the call for this long.
SECONDS_PER_SAMPLE = 0.005
#: Idle time before each sample: threads that spin after a call go to sleep, and do not occupy a
#: core that the next contender needs.
PAUSE = 0.005
#: For so long threads may spin.
LONGEST_SPIN = 2.0
#: Time for which a contender then runs before its sample: after sleeping, threads take up to 20 ms
#: until all cores work again (measured on a virtual machine).
WARM_UP = 0.02

#: Packages whose versions are reported.
PACKAGES = ("numpy", "numba", "tbb", "torch", "jax", "numexpr", "scipy", "thinc", "onnxruntime")


@dataclass(frozen=True)
class Times:
    """Statistics of several samples, in seconds a call.

    Attributes
    ----------
    median : float
        The median.
    lower, upper : float
        The quartiles.
    """

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, samples: list[float]) -> Times:
        """Return the statistics of samples."""
        if len(samples) == 1:
            return cls(*samples * 3)
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, lower, upper)

    def _in_units(self) -> tuple[str, float, int]:
        """Return the unit, its number in a second, and the digits after the decimal point."""
        unit, scale = ("ms", 1e3) if self.median >= 1e-3 else ("µs", 1e6)
        return unit, scale, max(0, 2 - math.floor(math.log10(self.median * scale)))

    def __str__(self) -> str:
        unit, scale, digits = self._in_units()
        spread = (self.upper - self.lower) / 2
        return f"{self.median * scale:.{digits}f} ± {spread * scale:.{digits}f} {unit}"

    @property
    def short(self) -> str:
        """The median alone."""
        unit, scale, digits = self._in_units()
        return f"{self.median * scale:.{digits}f} {unit}"


class Stopwatch:
    """Takes samples of a call: each repeats it for a few milliseconds."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.once = min(_sample(call, 1) for _ in range(3))
        self._count = max(1, math.ceil(SECONDS_PER_SAMPLE / self.once))

    def sample(self, warm_up: float = WARM_UP) -> float:
        """Return the mean seconds a call, after some seconds of calls that are not measured."""
        start = time.perf_counter()
        self._call()
        while time.perf_counter() - start < warm_up:
            self._call()
        return _sample(self._call, self._count)


def wait_until_idle() -> None:
    """Wait until no thread of this process runs: those of some libraries spin for a while after a call.

    Raises
    ------
    RuntimeError
        If they do not stop.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < LONGEST_SPIN:
        used = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - used < PAUSE / 10:
            return
    raise RuntimeError(f"its threads are still busy {LONGEST_SPIN:g} s after a call")


@dataclass(frozen=True)
class Contender:
    """A call, and what prepares for it before each measurement."""

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def measure_in_turn(
    contenders: Mapping[str, Contender], samples: int, warm_up: float = WARM_UP
) -> dict[str, Times]:
    """Measure all contenders in turn in this process, so that a slow moment of the machine affects all.

    Parameters
    ----------
    contenders : mapping of str to Contender
        The calls, warmed up.
    samples : int
        The number of samples of each.
    warm_up : float, optional
        Seconds for which a contender runs before each of its samples.
    """
    watches = {}
    for name, contender in contenders.items():
        contender.prepare()
        watches[name] = Stopwatch(contender.call)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(samples):
        for name, contender in contenders.items():
            contender.prepare()
            time.sleep(PAUSE)
            taken[name].append(watches[name].sample(warm_up))
    return {name: Times.of(each) for name, each in taken.items()}


def _sample(call: Callable[[], object], count: int) -> float:
    """Return the mean seconds a call."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def machine() -> dict[str, Any]:
    """Describe the machine, system and versions that results depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": fa.get_num_threads(),
        "system": platform.platform(terse=True),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version()} | _versions(),
    }


def describe(machine: Mapping[str, Any]) -> str:
    """Return the description of a machine as text, with a warning if it was busy."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = machine["load"] or 0.0
    busy = f" Other processes were running: the load was {load} before." if load > 0.5 else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"{machine['system']}; {versions}.{busy}"
    )


def _processor() -> str:
    """Return the processor's model and LLVM name: virtual machines hide part of the former."""
    return f"{_model_name()} ({TARGET.cpu})"


def _model_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"fastact": fa.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
