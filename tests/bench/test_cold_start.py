"""The measurement of first calls: its steps run, and its table says what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fresh_process import assert_clean, run_python

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import cold_start  # noqa: E402

sys.path.remove(str(ROOT))


def test_steps_run() -> None:
    numbers = list(map(float, assert_clean(run_python(cold_start.script("float32"))).split()))
    assert len(numbers) == 2 * len(cold_start.STEPS)
    assert all(each >= 0 for each in numbers)
    assert numbers[0] > 0.01  # what NumPy's import takes
    assert numbers[1] > 0.01


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each process has two numbers for each step, and the least of all processes counts."""
    folders, taken = [], iter([8.0, 2.0, 4.0, 3.0])

    def run(code: str, folder: str) -> list[float]:
        folders.append(folder)
        return len(cold_start.STEPS) * [next(taken), 1.0]

    monkeypatch.setattr(cold_start, "run", run)
    cold_start.main(["--processes", "2"])
    assert folders[0] == folders[1] != folders[2] == folders[3]
    lines = {line[:40].rstrip(): line.split()[-4:] for line in capsys.readouterr().out.splitlines()}
    assert lines["relu"] == ["4.000", "1.000", "2.000", "1.000"]
    steps = 1 + list(cold_start.STEPS).index(cold_start.NET)
    assert lines["the first net"] == [f"{n * steps:.3f}" for n in (4, 1, 2, 1)]
