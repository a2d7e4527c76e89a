"""What ``fastact tune`` has measured: a file beside the kernel cache, for each kind of machine.

The file's name is a digest of the processor, its caches, and the CPUs and the quota of the process: a
folder that several machines share has one for each. It is trusted as kernels are
(`fastact.runtime.cache_folder`), though it holds numbers only, and those are checked: the worst that
they could do is to make calls slow. A file that is broken is ignored, and one line in the log says so.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from fastact.runtime import cache_folder
from fastact.system.caches import Cache, Processor, cpus_of_process, data_caches, processor
from fastact.system.machine import cpu_quota

_MAX_BYTES = 2**16
_WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


class Machine(NamedTuple):
    """What a measurement depends on.

    Attributes
    ----------
    processor : Processor
        Its model.
    caches : dict of int to Cache
        See `fastact.system.caches.data_caches`.
    cpus : int
        The CPUs that this process may run on.
    quota : float
        How many of them it may use at a time; infinity for all.
    """

    processor: Processor
    caches: dict[int, Cache]
    cpus: int
    quota: float

    @property
    def key(self) -> str:
        """A digest of all this."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        quota = "" if math.isinf(self.quota) else f", a quota of {self.quota:g}"
        return f"{self.processor}, {self.cpus} CPUs{quota}"


@cache
def this_machine() -> Machine:
    """Describe the machine of this process."""
    cpus = cpus_of_process()
    return Machine(processor(), data_caches(cpus), len(cpus), cpu_quota())


class Tuned(NamedTuple):
    """The result of a measurement.

    Attributes
    ----------
    values : mapping of str to int
        The settings.
    when : str
        Date and time.
    """

    values: Mapping[str, int]
    when: str


def file() -> Path | None:
    """Return the path of this machine's file, whether or not it exists; None without a cache."""
    folder = cache_folder.directory()
    return None if folder is None else folder / _name()


def _name() -> str:
    return f"tuned-{this_machine().key}.json"


def read(ranges: Mapping[str, tuple[int, int]]) -> Tuned | None:
    """Return what was measured on this machine, or None.

    Parameters
    ----------
    ranges : mapping of str to tuple of int
        The settings, and their least and greatest values.
    """
    try:
        content = cache_folder.read(_name())
        return None if content is None else _checked(content, ranges)
    except (cache_folder.UnsafeFileError, ValueError) as error:
        import logging  # takes 3 ms

        logging.getLogger("fastact").warning("ignored %s: it %s", file(), error)
        return None


def _checked(content: bytes, ranges: Mapping[str, tuple[int, int]]) -> Tuned:
    """Return what a file says; raise a ValueError that says what is wrong with it."""
    import json

    if len(content) > _MAX_BYTES:
        raise ValueError(f"has {len(content)} bytes")
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise ValueError("has no settings")
    if found.get("key") != this_machine().key:
        raise ValueError("is of another machine")
    when = found.get("when")
    if not isinstance(when, str) or not _WHEN.fullmatch(when):
        raise ValueError("has no date")
    values = {name: value for name, value in found["settings"].items() if name in ranges}
    for name, value in values.items():
        least, most = ranges[name]
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"says {name} is no integer from {least} to {most}")
    return Tuned(values, when)


def write(values: Mapping[str, int]) -> Tuned:
    """Keep the result of a measurement for later processes.

    Raises
    ------
    OSError
        If there is no folder that can be trusted and written to.
    """
    import json
    import time

    when = time.strftime("%Y-%m-%d %H:%M")
    machine = this_machine()
    content = {
        "machine": str(machine),
        "key": machine.key,
        "when": when,
        "settings": {name: int(value) for name, value in values.items()},
    }
    cache_folder.write(_name(), (json.dumps(content, indent=2) + "\n").encode())
    return Tuned(values, when)


def forget() -> bool:
    """Delete this machine's file; return whether there was one."""
    path = file()
    if path is None or not path.exists():
        return False
    path.unlink()
    return True
