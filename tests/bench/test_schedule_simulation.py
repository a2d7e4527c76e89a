"""The simulation of the schedule, held against what can be said without it, and its table in the documentation."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import schedule  # noqa: E402

sys.path.remove(str(ROOT))

#: Nothing costs anything but arithmetic.
FREE = schedule.Machine(launch=0, slot=0, wake=0, take=0, nanoseconds=1, cache=1e18)


def test_without_costs() -> None:
    """The work is divided by the number of threads, but for the last chunk."""
    for threads in (1, 2, 16, 128):
        found = schedule.simulate(FREE, 10**8, 1, threads)
        assert 1e5 / threads <= found < 1.07e5 / threads
    assert schedule.simulate(FREE, 3, 10**6, 128) == pytest.approx(1000)  # a row belongs to one


def test_two_kinds_of_cores() -> None:
    """Whoever is done takes over: with cores of speeds 1 and 1/2, eight are worth six; not so with OpenMP."""
    slow = schedule.Machine(**vars(FREE) | {"slow": 2.0})
    assert schedule.simulate(slow, 10**8, 1, 8) == pytest.approx(1e5 / 6, rel=0.04)
    fixed = schedule.Machine(**vars(slow) | {"openmp": True})
    assert schedule.simulate(fixed, 10**8, 1, 8) == pytest.approx(1e5 / 4, rel=0.04)


def test_waking_up() -> None:
    """Each thread wakes two: seven threads are awake after two wake-ups, and the call waits for those of OpenMP."""
    lazy = schedule.Machine(**vars(FREE) | {"wake": 100.0, "openmp": True})
    alone = schedule.simulate(FREE, 7 * 16 * 8192, 1, 7)
    assert schedule.simulate(lazy, 7 * 16 * 8192, 1, 7) == pytest.approx(200 + alone)


def test_bandwidth_ends_it() -> None:
    memory = schedule.Machine(bandwidth=100, alone=10, bytes=10, cache=0, nanoseconds=0)
    gain, _ = schedule.cell(memory, 10**8, 1, 128)
    assert gain == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("nanoseconds", [0.2, 0.5, 1.2])
def test_no_loss(nanoseconds: float) -> None:
    """The rules of the library never lose much, and with threads that are awake more CPUs are no worse."""
    for wake, bound in ((1.0, 1.5), (schedule.ASLEEP, 1.3)):
        machine = schedule.Machine(nanoseconds=nanoseconds, wake=wake, cache=1e18)
        for size in (*schedule.SIZES, 98_304, 150_000, 500_000):
            cells = [schedule.cell(machine, size, 1, threads) for threads in schedule.THREADS]
            assert all(loss < bound for _, loss in cells), (size, cells)
            assert all(gain > 0.8 for gain, _ in cells), (size, cells)


def test_tables_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """They are what the commands above them print."""
    text = (ROOT / "docs/parallelism.md").read_text()
    tables = re.findall(
        r"<!-- python -m benchmarks\.schedule(.*?) -->\n```text\n(.*?)```", text, re.S
    )
    assert len(tables) == 2
    for arguments, table in tables:
        schedule.main(shlex.split(arguments))
        assert capsys.readouterr().out == table
