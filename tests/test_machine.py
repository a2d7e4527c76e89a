"""What the machine gives a process: quotas of containers and sizes of caches, read from made-up files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from fastact import machine


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


def test_last_cache(tmp_path: Path) -> None:
    assert machine.last_cache(str(tmp_path)) == 2**25
    for index, size in enumerate(("48K", "1024K", "96M")):
        write(tmp_path / f"index{index}" / "size", f"{size}\n")
    assert machine.last_cache(str(tmp_path)) == 96 * 2**20
