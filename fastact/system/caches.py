"""The processor's caches, and from which size on stores should go past them.

Where it pays
-------------
An ordinary store first reads the cache line that it overwrites: of the six lines that
``relu.forward_backward`` moves for 16 elements, two. Non-temporal stores save them, and with them a
quarter to a third of the time of what comes from memory. In return, the outputs are in no cache when
somebody reads them. So the question is whether they would have stayed in one, and how much faster
than memory that cache is.

- **An L3 of the process's own, on a ring or within a complex of cores** (AMD's Zen, Intel's and
  others' desktops) is several times as fast as memory. On Zen 4 (2 cores, 32 MiB) streaming costs up
  to a factor of two while an output still fits, and wins from operands of 1.5 times the size of L3
  on: at 2 * 10**7 float32 elements ``relu.forward_backward`` takes 0.28 ns an element with it, 0.36
  without. Zen 5 has the same complexes, of 8 cores with 32 MiB, and what no longer fits does not
  depend on how fast it is; nor does it on desktops. Of several complexes one counts: threads are not
  bound to parts of an array, and a line in another complex is as far away as memory.
- **An L3 on a mesh** (Intel's servers from Skylake on) is a victim cache: it holds what L2 has
  evicted, 1.4 to 5 MiB for each core, at a bandwidth near that of memory, and in a virtual machine it
  is shared with strangers, whatever size it is said to have. Emerald Rapids (2 cores of 2 MiB L2, L3
  said to be 300 MiB), outputs given: relu reaches 0.61 of a plain stream's speed at 10**6 elements,
  0.58 at 4 * 10**6 and 0.65 at 2 * 10**7 without streaming, 1.01, 0.92 and 0.99 with it; sigmoid
  0.58, 0.49 and 0.56 against 0.79, 0.79 and 0.93. With a consumer that reads both outputs at once it
  wins too: relu at 5 * 10**5 elements, 8 MB of operands, 596 us -> 478, at 10**6 1109 -> 936, at 4 *
  10**6 4458 -> 3354. At the sum of the L2 caches of the cores in use, there 4 MiB, both are level.
  Sapphire Rapids has the same cores and mesh.

Both rules are within 15 % of the best where their figures were taken: close to a threshold both ways
are nearly level, and the cliffs lie far from it, a factor of two below the size of L3 on the former,
1.3 to 1.7 from twice the L2 caches on for the latter. The worst loss there is gelu's at 10**6
elements, a tenth if nobody reads the outputs; with a consumer it gains 7 %. ``fastact tune`` measures
what no rule knows.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

_FOLDER = "/sys/devices/system/cpu"
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_UNKNOWN_LAST_LEVEL = 2**25
# The largest that one complex of cores or one ring has: Zen's with stacked cache. A larger one is on
# a mesh, or made up by a hypervisor.
_LARGEST_OF_ITS_OWN = 96 * 2**20
_INTEL, _AMD = 0, 2
# Models of Intel's family 6: Skylake, Cascade Lake and Cooper Lake; Ice Lake (2); Sapphire, Emerald and
# Granite (2) Rapids; Sierra Forest, Grand Ridge, Clearwater Forest. Later ones have AMX, as no desktop has.
_MESH = frozenset((0x55, 0x6A, 0x6C, 0x8F, 0xCF, 0xAD, 0xAE, 0xAF, 0xB6, 0xDD))
_AMX_TILE = "0258"
_TIMES_LAST_LEVEL = 1.5


class Processor(NamedTuple):
    """The model of an x86 processor, as CPUID gives it; all are -1 for others.

    Attributes
    ----------
    vendor : int
        As Linux numbers them: 0 for Intel, 2 for AMD.
    family, model : int
        Their numbers.
    has_amx : bool
        Whether it has tiles of matrices.
    """

    vendor: int = -1
    family: int = -1
    model: int = -1
    has_amx: bool = False

    def __str__(self) -> str:
        if self.vendor < 0:
            return "unknown processor"
        vendor = {_INTEL: "Intel", _AMD: "AMD"}.get(self.vendor, f"vendor {self.vendor}")
        return f"{vendor} family {self.family} model {self.model}"

    @property
    def has_mesh(self) -> bool:
        """Whether its last-level cache is on a mesh."""
        is_known = self.family == 6 and self.model in _MESH
        return self.vendor == _INTEL and (is_known or self.has_amx)


class Cache(NamedTuple):
    """A cache.

    Attributes
    ----------
    size : int
        Bytes.
    cpus : int
        How many CPUs of this process share it.
    """

    size: int
    cpus: int


def cpus_of_process() -> set[int]:
    """Return the CPUs in this process's affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def processor(folder: str = _FOLDER) -> Processor:
    """Return the model of the processor.

    Not from ``/proc/cpuinfo``, which takes Linux up to 20 ms: some releases ask each CPU for its clock.
    """
    with contextlib.suppress(OSError):
        text = _text(Path(folder, "modalias"))
        found = re.match(r"cpu:type:x86,ven(\w{4})fam(\w{4})mod(\w{4}):feature:", text)
        if found:
            vendor, family, model = (int(number, 16) for number in found.groups())
            return Processor(vendor, family, model, f",{_AMX_TILE}," in text)
    return Processor()


def data_caches(cpus: set[int], folder: str = _FOLDER) -> dict[int, Cache]:
    """Return the caches for data by level, as the first of some CPUs has them; empty if unknown.

    Parameters
    ----------
    cpus : set of int
        The CPUs of the process. The others are taken to be like the first.
    folder : str
        Where Linux describes its CPUs.
    """
    found = {}
    for index in sorted(Path(folder, f"cpu{min(cpus)}", "cache").glob("index*")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if _text(index / "type") == "Instruction":
                continue
            size = _text(index / "size")
            sharing = cpus & _cpu_list(_text(index / "shared_cpu_list"))
            found[int(_text(index / "level"))] = Cache(
                int(size[:-1]) * _UNITS[size[-1]], max(1, len(sharing))
            )
    return found


def _text(file: Path) -> str:
    return file.read_text().strip()


def _cpu_list(text: str) -> set[int]:
    """Return the CPUs of a list such as ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def streaming_threshold(
    processor: Processor, caches: dict[int, Cache], cpus: int, threads: int
) -> tuple[int, str]:
    """Return the bytes of operands from which a call should use non-temporal stores, and why.

    Parameters
    ----------
    processor : Processor
        Its model.
    caches : dict of int to Cache
        See `data_caches`.
    cpus, threads : int
        How many CPUs and threads this process has.
    """
    last = caches[max(caches)] if caches else Cache(_UNKNOWN_LAST_LEVEL, cpus)
    is_plausible = last.size <= _LARGEST_OF_ITS_OWN
    if 2 in caches and (processor.has_mesh or not (is_plausible or processor.vendor == _AMD)):
        second = caches[2]
        count = min(threads, -(-cpus // second.cpus))
        caches_used = f"the L2 caches of {count} cores, {_mebibytes(second.size)} each"
        return count * second.size, f"{caches_used}, as L3 is slow or shared with strangers"
    if caches and is_plausible:
        size, which = last.size, f"the last-level cache (L{max(caches)}) of"
    else:
        size, which = _UNKNOWN_LAST_LEVEL, "a last-level cache of unknown size, taken for"
    return int(_TIMES_LAST_LEVEL * size), f"{_TIMES_LAST_LEVEL} times {which} {_mebibytes(size)}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:g} MiB"
