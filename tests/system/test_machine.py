"""What the machine gives a process: limits of containers, read from made-up files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from fastact.system import machine


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def quota(tmp_path: Path):
    """Return a function that writes files and returns the quota that they mean."""

    def read(process: str, files: dict[str, str]) -> float:
        write(tmp_path / "cgroup", process)
        for name, text in files.items():
            write(tmp_path / "root" / name, text)
        return machine.cpu_quota(str(tmp_path / "cgroup"), str(tmp_path / "root"))

    return read


def test_version_2(quota) -> None:
    assert quota("0::/\n", {"cpu.max": "max 100000\n"}) == math.inf
    assert quota("0::/\n", {"cpu.max": "150000 100000\n"}) == 1.5


def test_narrowest_of_nested_groups(quota) -> None:
    files = {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}
    assert quota("0::/a/b\n", files) == 3
    assert quota("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}) == 0.5


def test_path_of_the_host(quota) -> None:
    assert quota("0::/../../host/path\n", {"cpu.max": "200000 100000\n"}) == 2


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_version_1(quota, folder: str) -> None:
    files = {f"{folder}/x/cpu.cfs_quota_us": "-1\n", f"{folder}/x/cpu.cfs_period_us": "100000\n"}
    assert quota("5:memory:/x\n4:cpu,cpuacct:/x\n", files) == math.inf
    files[f"{folder}/x/cpu.cfs_quota_us"] = "400000\n"
    assert quota("5:memory:/x\n4:cpu,cpuacct:/x\n", files) == 4


def test_no_control_groups(tmp_path: Path) -> None:
    assert machine.cpu_quota(str(tmp_path / "none")) == math.inf


def test_available_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for quota, cpus in ((math.inf, 8), (3.9, 3), (0.2, 1), (20.0, 8)):
        monkeypatch.setattr(machine, "cpu_quota", lambda quota=quota: quota)
        assert machine.available_cpus() == cpus


MIB = 2**20


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes files and returns the MiB that they leave, on a machine of 64 GiB."""
    monkeypatch.setattr(machine, "_memory", lambda: 2**36)
    monkeypatch.setattr(machine, "_available_within_limits", lambda: iter(()))

    def read(process: str, files: dict[str, object]) -> float:
        write(tmp_path / "cgroup", process)
        for name, text in files.items():
            write(tmp_path / "root" / name, f"{text}\n")
        root = str(tmp_path / "root")
        return machine.available_memory(str(tmp_path / "cgroup"), root) / MIB

    return read


def test_memory_of_version_2(left) -> None:
    files: dict[str, object] = {"memory.max": "max", "memory.high": "max", "memory.current": MIB}
    assert left("0::/\n", files) == 2**16
    files["memory.max"] = 100 * MIB
    assert left("0::/\n", files) == 99
    files["memory.high"] = 80 * MIB
    assert left("0::/\n", files) == 79
    files["memory.current"] = 90 * MIB
    assert left("0::/\n", files) == 0
    files["memory.stat"] = f"anon 5\nactive_file {20 * MIB}\ninactive_file {30 * MIB}"
    assert left("0::/\n", files) == 40


def test_memory_of_nested_groups(left) -> None:
    files: dict[str, object] = {"a/memory.max": 50 * MIB, "a/b/memory.max": 70 * MIB}
    files |= {"a/memory.current": 20 * MIB, "a/b/memory.current": 10 * MIB}
    assert left("0::/a/b\n", files) == 30
    assert left("0::/../../a/b\n", files) == 30
    assert left("0::/a/b\n", {"a/b/memory.high": 15 * MIB}) == 5


@pytest.mark.parametrize("folder", ["memory", "memory,hugetlb"])
def test_memory_of_version_1(left, folder: str) -> None:
    files: dict[str, object] = {f"{folder}/x/memory.limit_in_bytes": 2**63 - 4096}
    process = "5:cpu:/x\n4:memory,hugetlb:/x\n"
    assert left(process, files) == 2**16
    files[f"{folder}/memory.limit_in_bytes"] = 200 * MIB
    files[f"{folder}/memory.usage_in_bytes"] = 150 * MIB
    files[f"{folder}/memory.stat"] = (
        f"cache 7\nactive_file 1\ninactive_file 1\ntotal_active_file {40 * MIB}\ntotal_inactive_file 0"
    )
    assert left(process, files) == 90
    files[f"{folder}/x/memory.limit_in_bytes"] = 10 * MIB
    assert left(process, files) == 10


def test_memory_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_memory", lambda: 2**36)
    monkeypatch.setattr(machine, "_available_within_limits", lambda: iter((2**20, 2**21)))
    assert machine.available_memory(str(tmp_path / "none")) == 2**20


def test_limits_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = {resource.RLIMIT_AS: 2**50, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], 0))
    (of_addresses,) = machine._available_within_limits()
    assert 0 < of_addresses < 2**50
    limits[resource.RLIMIT_DATA] = 2**50
    _, of_data = machine._available_within_limits()
    assert of_addresses < of_data < 2**50  # what is only read does not count
    limits[resource.RLIMIT_DATA] = 1
    assert list(machine._available_within_limits())[1] == 0
