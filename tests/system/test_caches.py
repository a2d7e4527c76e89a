"""The processor's caches, from made-up files, and what follows for stores past them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastact.system.caches import (
    Cache,
    Processor,
    cpus_of_process,
    data_caches,
    processor,
    streaming_threshold,
)

KIB, MIB = 2**10, 2**20


def describe(folder: Path, *caches: tuple[int, str, str, str], cpu: int = 0) -> str:
    """Write what Linux says of a CPU's caches: level, type, size and the CPUs that share it."""
    for k, fields in enumerate(caches):
        index = folder / f"cpu{cpu}" / "cache" / f"index{k}"
        index.mkdir(parents=True)
        for name, value in zip(("level", "type", "size", "shared_cpu_list"), fields, strict=True):
            (index / name).write_text(f"{value}\n")
    return str(folder)


def test_a_desktop(tmp_path: Path) -> None:
    """The cache for instructions does not count, nor do CPUs that are not this process's."""
    folder = describe(
        tmp_path,
        (1, "Data", "48K", "2,10"),
        (1, "Instruction", "32K", "2,10"),
        (2, "Unified", "2048K", "2,10"),
        (3, "Unified", "36M", "0-15"),
        cpu=2,
    )
    found = data_caches({2, 3, 10, 20}, folder)
    assert found == {1: Cache(48 * KIB, 2), 2: Cache(2 * MIB, 2), 3: Cache(36 * MIB, 3)}


def test_files_that_are_missing_or_strange(tmp_path: Path) -> None:
    assert data_caches({0}, str(tmp_path)) == {}
    folder = describe(tmp_path, (1, "Data", "?", "0"), (2, "Unified", "1G", ""))
    (tmp_path / "cpu0" / "cache" / "index7").mkdir()
    assert data_caches({0}, folder) == {2: Cache(2**30, 1)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu:type:x86,ven0002fam0019mod0011:feature:,0000,0001,0253,", Processor(2, 25, 17)),
        ("cpu:type:x86,ven0000fam0006mod00CF:feature:,0000,0258,", Processor(0, 6, 0xCF, True)),
        ("cpu:type:aarch64:feature:,0000,0001", Processor()),
        ("", Processor()),
    ],
)
def test_processor(tmp_path: Path, text: str, expected: Processor) -> None:
    assert processor(str(tmp_path)) == Processor()
    (tmp_path / "modalias").write_text(f"{text}\n")
    assert processor(str(tmp_path)) == expected


def test_names_of_processors() -> None:
    assert str(Processor(2, 25, 17)) == "AMD family 25 model 17"
    assert str(Processor(0, 6, 0xCF)) == "Intel family 6 model 207"
    assert str(Processor()) == "unknown processor"


def test_this_machine() -> None:
    cpus = cpus_of_process()
    assert all(
        cache.size > 0 and 1 <= cache.cpus <= len(cpus) for cache in data_caches(cpus).values()
    )


ZEN_3, ZEN_4, ZEN_5 = Processor(2, 25, 1), Processor(2, 25, 17), Processor(2, 26, 2)
EMERALD, SAPPHIRE = Processor(0, 6, 0xCF, True), Processor(0, 6, 0x8F)  # a hypervisor hides AMX
SKYLAKE, LATER, RAPTOR = Processor(0, 6, 0x55), Processor(0, 19, 1, True), Processor(0, 6, 0xB7)
OTHER = Processor()
L1 = Cache(32 * KIB, 1)
PROCESSORS = {
    # Zen 4, two CPUs of a virtual machine, and with stacked cache; Zen 5, a desktop with two complexes.
    "Zen 4 VM": (ZEN_4, {1: L1, 2: Cache(MIB, 1), 3: Cache(32 * MIB, 2)}, 2, 2, 48 * MIB),
    "Zen 4 X3D": (ZEN_4, {1: L1, 2: Cache(MIB, 2), 3: Cache(96 * MIB, 16)}, 16, 16, 144 * MIB),
    "Zen 5": (ZEN_5, {1: L1, 2: Cache(MIB, 2), 3: Cache(32 * MIB, 16)}, 32, 32, 48 * MIB),
    # A hypervisor that knows nothing of complexes.
    "Zen 3 VM": (ZEN_3, {2: Cache(512 * KIB, 1), 3: Cache(256 * MIB, 4)}, 4, 4, 48 * MIB),
    # Emerald Rapids as measured; a whole Sapphire Rapids with two threads a core, and four CPUs of it.
    "EMR VM": (EMERALD, {2: Cache(2 * MIB, 1), 3: Cache(300 * MIB, 2)}, 2, 2, 4 * MIB),
    "EMR one thread": (EMERALD, {2: Cache(2 * MIB, 1), 3: Cache(300 * MIB, 2)}, 2, 1, 2 * MIB),
    "SPR": (SAPPHIRE, {2: Cache(2 * MIB, 2), 3: Cache(105 * MIB, 112)}, 112, 112, 112 * MIB),
    "SPR quota": (SAPPHIRE, {2: Cache(2 * MIB, 2), 3: Cache(105 * MIB, 112)}, 112, 4, 8 * MIB),
    "Skylake VM": (SKYLAKE, {2: Cache(MIB, 2), 3: Cache(33 * MIB, 4)}, 4, 4, 2 * MIB),
    # A server of later years.
    "unknown server": (LATER, {2: Cache(2 * MIB, 1), 3: Cache(504 * MIB, 2)}, 2, 2, 4 * MIB),
    "strange": (OTHER, {2: Cache(MIB, 1), 3: Cache(504 * MIB, 2)}, 2, 2, 2 * MIB),
    "Raptor Lake": (RAPTOR, {2: Cache(2 * MIB, 2), 3: Cache(36 * MIB, 32)}, 32, 32, 54 * MIB),
    "no L3": (OTHER, {2: Cache(12 * MIB, 4)}, 8, 8, 18 * MIB),
    "unknown": (OTHER, {}, 4, 4, 48 * MIB),
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_default(name: str) -> None:
    *given, expected = PROCESSORS[name]
    size, reason = streaming_threshold(*given)
    assert size == expected
    assert "MiB" in reason
