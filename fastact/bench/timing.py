"""Times of several calls side by side, measured in turn."""

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

#: A sample calls so often that it lasts this long.
SECONDS_PER_SAMPLE = 0.005
#: So long nothing runs before each sample: the threads that wait for work after a call go to sleep, and
#: do not hold a core that the next contender needs.
PAUSE = 0.005
#: So long a contender then runs before its sample begins: threads that have slept take up to 20 ms until
#: all cores take part again (measured on a virtual machine).
WARM_UP = 0.02


#: Whose versions are told.
PACKAGES = ("numpy", "numba", "tbb", "torch", "jax", "numexpr", "scipy", "thinc", "onnxruntime")


@dataclass(frozen=True)
class Times:
    """Seconds a call, of several samples.

    Attributes
    ----------
    median : float
        Half of the samples are faster.
    lower, upper : float
        A quarter of the samples are faster, or slower.
    """

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, samples: list[float]) -> Times:
        """Sum up samples."""
        if len(samples) == 1:
            return cls(*samples * 3)
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, lower, upper)

    def _in_units(self) -> tuple[str, float, int]:
        """Return the unit, how many of it make a second, and the digits after the point."""
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


@dataclass(frozen=True)
class Contender:
    """A call, and what has to be set before it is measured."""

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def measure_in_turn(
    contenders: Mapping[str, Contender], samples: int, warm_up: float = WARM_UP
) -> dict[str, Times]:
    """Measure all contenders alternately, so that a slow moment of the machine strikes all of them.

    Parameters
    ----------
    contenders : mapping of str to Contender
        The calls; each has run before.
    samples : int
        How many to take of each.
    warm_up : float, optional
        How many seconds a contender runs before each of its samples.
    """
    counts = {}
    for name, contender in contenders.items():
        contender.prepare()
        once = min(_sample(contender.call, 1) for _ in range(3))
        counts[name] = max(1, math.ceil(SECONDS_PER_SAMPLE / once))
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(samples):
        for name, contender in contenders.items():
            contender.prepare()
            time.sleep(PAUSE)
            start = time.perf_counter()
            contender.call()
            while time.perf_counter() - start < warm_up:
                contender.call()
            taken[name].append(_sample(contender.call, counts[name]))
    return {name: Times.of(each) for name, each in taken.items()}


def _sample(call: Callable[[], object], count: int) -> float:
    """Return the seconds a call, on the average of some calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def machine() -> dict[str, Any]:
    """Describe what the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": fa.get_num_threads(),
        "system": platform.platform(terse=True),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version()} | _versions(),
    }


def describe(machine: Mapping[str, Any]) -> str:
    """Return the machine as a sentence, and another one if it was busy."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = machine["load"] or 0.0
    disturbed = f" Other processes were running: the load was {load} before." if load > 0.5 else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"{machine['system']}; {versions}.{disturbed}"
    )


def _processor() -> str:
    """Return the name of the processor's model and its kind: virtual machines tell half of the name."""
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
