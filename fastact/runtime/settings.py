"""The settings of a process: one table, from which the rest derives.

A value comes, in this order, from a call of the setter, from an environment variable, from what
``fastact tune`` has measured on this machine (`fastact.runtime.tuned`), or from a default. Compiled
code finds them in words of memory (`fastact.system.memory_layout`). Results never depend on them.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.runtime import cache_folder, tuned
from fastact.system.caches import streaming_threshold
from fastact.system.machine import available_cpus, available_memory
from fastact.system.memory_layout import OUTPUT_POOL, OUTPUT_POOL_STATE, SETTING, SETTINGS

# A parallel call on TBB costs about 3 us while the threads are awake (two cores), which the second
# core earns back from 10,000 elements of gelu, 33,000 of sigmoid and 65,000 to 100,000 of relu. But
# waking a sleeping thread takes longer than such a call, and may delay it: 16 us instead of 10 at
# 50,000 elements of sigmoid (idle virtual machine). From this number on, parallel calls win with
# threads that are awake, whatever the function, and lose at most a fifth with sleeping ones. One number
# for all functions: after a pause of 2 ms on a busy machine one thread wins up to half a million
# elements, of gelu too, so that starting earlier for it would trade one loss for another.
PARALLEL_ELEMENTS = 98_304
# With many cores, it keeps a task of relu at about a microsecond. On two cores 1,024 to 32,768 are
# within 1 % of each other at 131,072 and 524,288 elements (Zen 4).
_CHUNK_ELEMENTS = 8_192
_MAX_CACHED, _MEMORY_FRACTION = 2**29, 8
# The C library keeps smaller blocks. Of larger ones glibc may return the pages with each call: two
# outputs of 224 KiB then take relu.forward_backward 145 us instead of 11. A block of the pool's takes
# 0.1 us longer than one of glibc's in calls that repeat, 1 to 2 us in others.
_MIN_CACHED = 2**17
# Getting 512 MiB again takes 0.1 s of page faults: less than a hundredth of half a minute.
_IDLE_SECONDS = 30
_UNDECIDED = -1
# The GIL is the output pool's only lock; Windows cannot release aligned memory with free().
_HAS_POOL = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.platform != "win32"


class Value(NamedTuple):
    """The value of a setting, and where it comes from.

    Attributes
    ----------
    value : int, float or str
        The value.
    unit : str
        Its unit.
    source : str
        ``"call"``, ``"environment"``, ``"tuned"`` or ``"default"``.
    reason : str
        The function, the variable, the file or the rule.
    """

    value: int | float | str | None
    unit: str
    source: str
    reason: str


class Info(dict[str, Value]):
    """The settings by name; printed as a table."""

    def __repr__(self) -> str:
        lines = [
            (name, _as_text(each.value), each.unit, f"{each.source}: {each.reason}")
            for name, each in self.items()
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            f"{name:{widths[0]}}  {value:>{widths[1]}} {unit:{widths[2]}}  {origin}"
            for name, value, unit, origin in lines
        )


def _as_text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


class Setting:
    """One setting.

    Attributes
    ----------
    name : str
        Its name in `info` and in the file of ``fastact tune``.
    call : str
        The call that sets it, as in docs/settings.md.
    variable : str or None
        The environment variable that sets it.
    unit, meaning : str
        What the number counts, and what it decides.
    default_is : str
        The rule of the default, in the words of docs/settings.md.
    least : int
        The smallest value allowed.
    is_tuned : bool
        Whether ``fastact tune`` measures it.
    """

    def __init__(
        self,
        name: str,
        call: str,
        variable: str | None,
        unit: str,
        meaning: str,
        default_is: str,
        default: Callable[[], tuple[int, str]],
        word: NDArray[np.intp],
        *,
        least: int = 1,
        most: Callable[[], int] = lambda: sys.maxsize,
        is_tuned: bool = False,
        is_late: bool = False,
        scale: int = 1,
        cap: int = sys.maxsize,
    ) -> None:
        self.name, self.call, self.variable = name, call, variable
        self.unit, self.meaning, self.default_is = unit, meaning, default_is
        self.least, self.is_tuned = least, is_tuned
        self._default, self._most, self._word = default, most, word
        self._is_late, self._scale, self._cap = is_late, scale, cap
        self._source, self._reason, self._stored = "default", default_is, 0

    def read(self, measured: tuned.Tuned | None) -> None:
        """Take the value from the environment, from what was measured, or from the default."""
        given = self._from_environment()
        if given is not None:
            self._store(min(given, self._most()), "environment", str(self.variable))
        elif measured and self.is_tuned and self.name in measured.values:
            reason = f"{tuned.file()} of {measured.when}"
            self._store(measured.values[self.name], "tuned", reason)
        elif self._is_late:
            self._word[0] = _UNDECIDED
        else:
            self.take_default()

    def _from_environment(self) -> int | None:
        text = os.environ.get(self.variable or "", "").strip()
        if not text:
            return None
        if not text.isdecimal() or not self.least <= int(text) <= sys.maxsize:
            raise ValueError(
                f"the environment variable {self.variable} must be an integer from {self.least} on; got {text!r}"
            )
        return int(text)

    def take_default(self) -> None:
        """Take the default, whatever the environment says."""
        value, reason = self._default()
        self._store(value, "default", reason)

    def decide(self) -> None:
        """Find the default of a setting for which that takes time, unless it has a value."""
        if self._word[0] == _UNDECIDED:
            self.take_default()

    def check(self, argument: str, value: Any) -> int:
        """Return a value that is to be set as an integer, or raise an error that names the argument."""
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{argument} must be an integer; got {value!r}") from None
        if not self.least <= number <= self._most():
            raise ValueError(
                f"{argument} must be from {self.least} to {self._most()}; got {number}"
            )
        return number

    def set(self, value: int) -> None:
        """Set a value that was checked."""
        self._store(value, "call", f"fa.{self.call}")

    def _store(self, value: int, source: str, reason: str) -> None:
        self._word[0] = self._stored = min(value, self._cap)
        self._source, self._reason = source, reason

    @property
    def state(self) -> tuple[int, str, str]:
        """What to assign later, to take back all changes."""
        return self.number, self._source, self._reason

    @state.setter
    def state(self, before: tuple[int, str, str]) -> None:
        self._store(*before)

    @property
    def number(self) -> int:
        """The value as compiled code has it."""
        return int(self._word[0])

    @property
    def value(self) -> Value:
        """The value and where it comes from."""
        self.decide()
        number = self.number
        source, reason = self._source, self._reason
        if number != self._stored:  # only the thread pool changes one by itself
            source, reason = "default", "no threads here: a forked process, or none can be started"
        value: int | float = number
        if self._scale > 1:
            value = math.inf if number == sys.maxsize else number / self._scale
        return Value(value, self.unit, source, reason)


def _threads() -> tuple[int, str]:
    return available_cpus(), "the CPUs of this process, by its affinity and its container's quota"


def _streaming() -> tuple[int, str]:
    machine = tuned.this_machine()
    size, reason = streaming_threshold(
        machine.processor, machine.caches, machine.cpus, THREADS.number
    )
    return size, f"{machine.processor}: {reason}"


def _max_cached() -> tuple[int, str]:
    if not _HAS_POOL:
        return 0, "no memory is reused on Windows and without the GIL"
    available = available_memory() // _MEMORY_FRACTION
    if available < _MAX_CACHED:
        return int(available), "an eighth of the memory available"
    return _MAX_CACHED, "512 MiB"


THREADS = Setting(
    "num_threads",
    "set_num_threads(n)",
    "FASTACT_NUM_THREADS",
    "threads",
    "the most threads that a call uses",
    "the CPUs of the process, by its affinity and its container's quota",
    _threads,
    SETTINGS[SETTING.threads :],
    most=available_cpus,
)
PARALLEL_THRESHOLD = Setting(
    "parallel_threshold",
    "set_parallel_threshold(n)",
    "FASTACT_PARALLEL_THRESHOLD",
    "elements",
    "the number of elements from which a call uses several threads",
    f"{PARALLEL_ELEMENTS:,}",
    lambda: (PARALLEL_ELEMENTS, "from here on two threads pay, whatever the function"),
    SETTINGS[SETTING.threshold :],
    is_tuned=True,
)
CHUNK_SIZE = Setting(
    "chunk_size",
    "set_chunk_size(n)",
    "FASTACT_CHUNK_SIZE",
    "elements",
    "the fewest elements that a thread takes at a time",
    f"{_CHUNK_ELEMENTS:,}",
    lambda: (_CHUNK_ELEMENTS, "about a microsecond of the cheapest function"),
    SETTINGS[SETTING.chunk :],
    is_tuned=True,
)
STREAMING_THRESHOLD = Setting(
    "streaming_threshold",
    "set_streaming_threshold(n)",
    "FASTACT_STREAMING_THRESHOLD",
    "bytes",
    "the size of all arrays of a call from which its outputs go past the caches",
    "1.5 times the last-level cache, or the L2 caches of the cores in use where that one is slow",
    _streaming,
    SETTINGS[SETTING.streaming :],
    least=0,
    is_tuned=True,
)
OUTPUT_CACHE = Setting(
    "output_cache",
    "set_output_cache(max_bytes=n)",
    "FASTACT_OUTPUT_CACHE",
    "bytes",
    "the most memory of released outputs held for reuse; 0: none",
    "512 MiB, or an eighth of what the machine, the container or the process's limits leave, if that is less",
    _max_cached,
    OUTPUT_POOL_STATE[OUTPUT_POOL.max_bytes :],
    least=0,
    cap=sys.maxsize if _HAS_POOL else 0,
    is_late=True,  # reading the files of control groups takes time
)
OUTPUT_CACHE_MIN_BYTES = Setting(
    "output_cache_min_bytes",
    "set_output_cache(min_bytes=n)",
    "FASTACT_OUTPUT_CACHE_MIN_BYTES",
    "bytes",
    "the smallest output whose memory is reused",
    "128 KiB",
    lambda: (_MIN_CACHED, "the C library reuses smaller blocks by itself"),
    OUTPUT_POOL_STATE[OUTPUT_POOL.min_bytes :],
    is_tuned=True,
)
OUTPUT_CACHE_IDLE = Setting(
    "output_cache_idle",
    "set_output_cache(idle_seconds=s)",
    None,
    "seconds",
    "the idle time after which it returns to the system; `math.inf`: never",
    f"{_IDLE_SECONDS}",
    lambda: (_IDLE_SECONDS * 10**9, "getting it anew costs less than a hundredth"),
    OUTPUT_POOL_STATE[OUTPUT_POOL.idle_nanoseconds :],
    least=0,
    scale=10**9,
)
TABLE = (
    THREADS,
    PARALLEL_THRESHOLD,
    CHUNK_SIZE,
    STREAMING_THRESHOLD,
    OUTPUT_CACHE,
    OUTPUT_CACHE_MIN_BYTES,
    OUTPUT_CACHE_IDLE,
)


def info() -> Info:
    """Return all settings, and where each value comes from.

    The same as ``fastact info`` on the command line.

    Returns
    -------
    dict
        By the name of the setting, a named tuple: `value`, `unit`, `source` (``"call"``,
        ``"environment"``, ``"tuned"`` by ``fastact tune``, or ``"default"``) and `reason`, which
        says more: the function, the variable, the file or the rule. It prints as a table.

    Examples
    --------
    >>> before = fa.get_chunk_size()
    >>> fa.set_chunk_size(4096)
    >>> fa.info()["chunk_size"]
    Value(value=4096, unit='elements', source='call', reason='fa.set_chunk_size(n)')
    >>> fa.set_chunk_size(before)
    """
    found = Info({each.name: each.value for each in TABLE})
    chosen = bool(os.environ.get("FASTACT_CACHE"))
    folder = cache_folder.directory()
    found["kernel_cache"] = Value(
        str(folder) if folder else None,
        "folder",
        "environment" if chosen else "default",
        "FASTACT_CACHE" if chosen else "the user's folder for caches",
    )
    return found


def measured() -> tuned.Tuned | None:
    """Return what ``fastact tune`` has measured on this machine, or None."""
    return tuned.read({each.name: (each.least, sys.maxsize) for each in TABLE if each.is_tuned})


def read() -> None:
    """Read the environment and what ``fastact tune`` has measured."""
    found = measured()
    for each in TABLE:
        each.read(found)


read()
