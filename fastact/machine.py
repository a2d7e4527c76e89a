"""What the machine gives this process: CPUs and caches."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_USUAL_CACHE = 2**25


def affine_cpus() -> int:
    """Count the CPUs that this process may run on by its affinity alone, as Numba does."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cpus() -> int:
    """Count the CPUs that this process may run on: its affinity, and the quota of its container."""
    # A part of a CPU does not count: who uses up the quota is stopped until the next period.
    return max(1, math.floor(min(affine_cpus(), cpu_quota())))


def cpu_quota(process: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float:
    """Return how many CPUs' time the control groups of this process leave it; infinite without a quota.

    Parameters
    ----------
    process : str
        The file that lists the process's groups.
    root : str
        Where the groups' hierarchies are mounted, those of version 1 each in a folder of its own.
    """
    try:
        lines = Path(process).read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    found = [math.inf]
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2
            found += map(_quota, _and_parents(Path(root), path))
        elif "cpu" in controllers.split(","):
            found += map(_old_quota, _and_parents(Path(root, controllers), path))
            found += map(_old_quota, _and_parents(Path(root, "cpu"), path))
    return min(found)


def _and_parents(root: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a group and those of the groups around it: the narrowest limit holds.

    In a container the path may be that of the host, of which only the root is there.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts) + 1):
        yield root.joinpath(*parts[:length])


def _quota(group: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return float(quota) / float(period)  # "max" is no number
    return math.inf


def _old_quota(group: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        quota = int((group / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            return quota / int((group / "cpu.cfs_period_us").read_text())
    return math.inf


def has_room(size: int) -> bool:
    """Whether this process may have so many bytes more, at least 2**26; none of them is touched.

    LLVM, TBB and OpenMP end the process where memory fails them: so who needs it asks before.
    """
    try:
        np.empty(size, np.uint8)  # from 32 MiB on, the C library gives it back to the system
    except MemoryError:
        return False
    return True


def require_room(size: int, purpose: str) -> None:
    """Raise a MemoryError unless there is room for so many bytes."""
    if not has_room(size):
        raise MemoryError(f"fastact needs {size >> 20} MiB of address space to {purpose}")


def last_cache(folder: str = "/sys/devices/system/cpu/cpu0/cache") -> int:
    """Return the size of the last cache before the memory, in bytes; 32 MiB where that is unknown."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = []
    for file in Path(folder).glob("index*/size"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            text = file.read_text().strip()
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes, default=_USUAL_CACHE)
