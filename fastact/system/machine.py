"""The CPUs and memory available to this process."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _CGROUP_ROOT = "/proc/self/cgroup", "/sys/fs/cgroup"


def cpus_by_affinity() -> int:
    """Count the CPUs in this process's affinity mask, as Numba does."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cpus() -> int:
    """Count the CPUs that this process may use, by its affinity mask and its container's quota."""
    # Rounded down: a process that exceeds its quota is stopped until the next period.
    return max(1, math.floor(min(cpus_by_affinity(), cpu_quota())))


def cpu_quota(process: str = _CGROUPS, root: str = _CGROUP_ROOT) -> float:
    """Return the CPU quota of this process's control groups, in CPUs; infinity if there is none.

    Parameters
    ----------
    process : str
        The file that lists the process's control groups.
    root : str
        The mount point of the hierarchies; in version 1 each has a folder of its own below.
    """
    return min(map(_quota, _groups("cpu", process, root)), default=math.inf)


def available_memory(process: str = _CGROUPS, root: str = _CGROUP_ROOT) -> float:
    """Return how many more bytes this process may allocate; infinity if nothing limits it.

    The limits are the machine's memory, those of the process's control groups, and the process's
    own (``RLIMIT_AS`` and ``RLIMIT_DATA``).

    Parameters
    ----------
    process, root : str
        As for `cpu_quota`.
    """
    in_groups = map(_available_in_group, _groups("memory", process, root))
    return min(_memory(), *in_groups, *_available_within_limits())


def _groups(controller: str, process: str, root: str) -> Iterator[Path]:
    """Yield the folders of the process's control groups: version 2, and one controller of version 1."""
    try:
        lines = Path(process).read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2
            yield from _with_parents(Path(root), path)
        elif controller in controllers.split(","):
            for name in {controllers, controller}:
                yield from _with_parents(Path(root, name), path)


def _with_parents(root: Path, path: str) -> Iterator[Path]:
    """Yield the folders of a group and its ancestors: the tightest limit applies.

    In a container the path may be the host's, of which only the root is mounted.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts) + 1):
        yield root.joinpath(*parts[:length])


def _quota(group: Path) -> float:
    """Return the CPU quota of a control group, in CPUs."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return float(quota) / float(period)  # a quota of "max" raises
    old_quota = _number_in(group / "cpu.cfs_quota_us", -1)  # version 1: -1 for no quota
    return (
        old_quota / _number_in(group / "cpu.cfs_period_us", math.nan) if old_quota > 0 else math.inf
    )


def _available_in_group(group: Path) -> float:
    """Return how many more bytes a control group may allocate."""
    # The last name of each is version 1's, which has no limit if the number exceeds the machine's
    # memory.
    limits = "memory.max", "memory.high", "memory.limit_in_bytes"
    limit = min(_number_in(group / name, math.inf) for name in limits)
    if limit >= _memory():
        return math.inf
    used = max(_number_in(group / f"memory.{name}", 0) for name in ("current", "usage_in_bytes"))
    # The page cache counts as used, but is reclaimed on demand.
    with contextlib.suppress(OSError, ValueError):
        lines = (group / "memory.stat").read_text().splitlines()
        found = {name: int(number) for name, number in map(str.split, lines)}
        for name in ("active_file", "inactive_file"):
            used -= found.get(
                f"total_{name}", found.get(name, 0)
            )  # "total": with children, version 1
    return max(0, limit - used)


def _memory() -> float:
    """Return the size of the machine's memory in bytes; infinity if unknown."""
    with contextlib.suppress(AttributeError, ValueError):  # Windows
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.inf


def _available_within_limits() -> Iterator[float]:
    """Yield how many more bytes each of the process's own limits allows."""
    try:
        import resource
    except ImportError:  # Windows
        return
    # Indices into statm: the first number of pages is the address space, the sixth data and stack.
    for limit, used in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        left, _ = resource.getrlimit(limit)
        if left != resource.RLIM_INFINITY:
            with contextlib.suppress(OSError):  # not Linux
                pages = int(Path("/proc/self/statm").read_text().split()[used])
                left = max(0, left - pages * resource.getpagesize())
            yield left


def _number_in(file: Path, default: float) -> float:
    """Return the integer in a file, or a default if there is none."""
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return default


def can_reserve(size: int) -> bool:
    """Whether this process can reserve this many more bytes of address space, without touching them.

    LLVM, TBB and OpenMP abort the process when they run out of memory, so their callers check
    first.
    """
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return True
    try:
        # Not through NumPy: the output pool might cache the memory.
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True


def require_address_space(size: int, purpose: str) -> None:
    """Raise a MemoryError unless this many bytes of address space can be reserved."""
    if not can_reserve(size):
        raise MemoryError(f"fastact needs {size >> 20} MiB of address space to {purpose}")
