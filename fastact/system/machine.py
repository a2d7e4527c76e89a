"""What the machine gives this process: CPUs, memory and caches."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

_USUAL_CACHE = 2**25
_GROUPS, _HIERARCHIES = "/proc/self/cgroup", "/sys/fs/cgroup"


def affine_cpus() -> int:
    """Count the CPUs that this process may run on by its affinity alone, as Numba does."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cpus() -> int:
    """Count the CPUs that this process may run on: its affinity, and the quota of its container."""
    # A part of a CPU does not count: who uses up the quota is stopped until the next period.
    return max(1, math.floor(min(affine_cpus(), cpu_quota())))


def cpu_quota(process: str = _GROUPS, root: str = _HIERARCHIES) -> float:
    """Return how many CPUs' time the control groups of this process leave it; infinite without a quota.

    Parameters
    ----------
    process : str
        The file that lists the process's groups.
    root : str
        Where the groups' hierarchies are mounted, those of version 1 each in a folder of its own.
    """
    return min(map(_quota, _groups("cpu", process, root)), default=math.inf)


def memory_left(process: str = _GROUPS, root: str = _HIERARCHIES) -> float:
    """Return how many bytes more this process may have; infinite where nothing limits it.

    Limits are the memory of the machine, those of the process's control groups, and its own
    (``RLIMIT_AS`` and ``RLIMIT_DATA``).

    Parameters
    ----------
    process, root : str
        As for `cpu_quota`.
    """
    of_groups = map(_memory_left, _groups("memory", process, root))
    return min(_memory(), *of_groups, *_limits_left())


def _groups(controller: str, process: str, root: str) -> Iterator[Path]:
    """Yield the folders of the process's control groups: all of version 2, one controller's of version 1."""
    try:
        lines = Path(process).read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2
            yield from _and_parents(Path(root), path)
        elif controller in controllers.split(","):
            for name in {controllers, controller}:
                yield from _and_parents(Path(root, name), path)


def _and_parents(root: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a group and those of the groups around it: the narrowest limit holds.

    In a container the path may be that of the host, of which only the root is there.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts) + 1):
        yield root.joinpath(*parts[:length])


def _quota(group: Path) -> float:
    """Return how many CPUs' time a control group has."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return float(quota) / float(period)  # "max" is no number
    old_quota = _number_in(group / "cpu.cfs_quota_us", -1)  # version 1: -1 where there is none
    return (
        old_quota / _number_in(group / "cpu.cfs_period_us", math.nan) if old_quota > 0 else math.inf
    )


def _memory_left(group: Path) -> float:
    """Return how many bytes more a control group may have."""
    # Version 1 has the last of each, and as its limit a number past all memory where there is none.
    limits = "memory.max", "memory.high", "memory.limit_in_bytes"
    limit = min(_number_in(group / name, math.inf) for name in limits)
    if limit >= _memory():
        return math.inf
    used = max(_number_in(group / f"memory.{name}", 0) for name in ("current", "usage_in_bytes"))
    # Copies of files count as used, but give way.
    with contextlib.suppress(OSError, ValueError):
        lines = (group / "memory.stat").read_text().splitlines()
        found = {name: int(number) for name, number in map(str.split, lines)}
        for name in ("active_file", "inactive_file"):
            used -= found.get(f"total_{name}", found.get(name, 0))  # in version 1 with its children
    return max(0, limit - used)


def _memory() -> float:
    """Return how many bytes of memory the machine has, or infinity where that is unknown."""
    with contextlib.suppress(AttributeError, ValueError):  # Windows
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.inf


def _limits_left() -> Iterator[float]:
    """Yield how many bytes more the process's own limits leave it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    # Of the numbers of pages there, the first is the address space, the sixth what is private and writable.
    for limit, used in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        left, _ = resource.getrlimit(limit)
        if left != resource.RLIM_INFINITY:
            with contextlib.suppress(OSError):  # not Linux
                pages = int(Path("/proc/self/statm").read_text().split()[used])
                left = max(0, left - pages * resource.getpagesize())
            yield left


def _number_in(file: Path, otherwise: float) -> float:
    """Return the number that a file holds, or another one where it holds none."""
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return otherwise


def has_room(size: int) -> bool:
    """Whether this process may have so many bytes more; none of them is touched.

    LLVM, TBB and OpenMP end the process where memory fails them: so who needs it asks before.
    """
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return True
    try:
        # Not by NumPy, whose memory the output cache may keep.
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
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
