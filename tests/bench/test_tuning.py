"""``fastact tune``: its decisions on curves that are made up, its measurements, and the command."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_process import run_python, start_python
from typer.testing import CliRunner, Result

import fastact as fa
from fastact.bench import tuning
from fastact.bench.tuning import Case, Choice, Curve, best_threshold, best_value
from fastact.cli import app
from fastact.runtime import cache_folder, settings, tuned

SIZES = (10, 20, 40, 80, 160)


def curve(*ratios: float, sizes: tuple[int, ...] = SIZES) -> Curve:
    """Return a curve on which switching on gains so much."""
    off = tuple(float(size) for size in sizes)
    return Curve("call", sizes, off, tuple(t / r for t, r in zip(off, ratios, strict=True)))


# Decisions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curves", "before", "expected"),
    [
        ([curve(0.5, 0.8, 1.5, 2, 2)], 160, 40),
        ([curve(0.5, 0.8, 1.5, 2, 2)], 10, 40),
        ([curve(0.5, 0.8, 1.5, 2, 2)], 1_000, 40),
        ([curve(2, 2, 2, 2, 2)], 80, 10),
        # Nowhere: just above what was measured, unless it was higher before.
        ([curve(0.5, 0.5, 0.5, 0.5, 0.5)], 20, 161),
        ([curve(0.5, 0.5, 0.5, 0.5, 0.5)], 300, 300),
        # A dent, such as noise makes, is no crossing.
        ([curve(0.5, 0.5, 1.02, 0.9, 0.5)], 20, 161),
        ([curve(0.5, 1.5, 0.95, 1.5, 1.5)], 80, 20),
        # A cliff on one curve outweighs a gain on the other.
        ([curve(1, 1.2, 1.2, 1.2, 1.2), curve(1, 0.5, 0.5, 1.2, 1.2)], 160, 80),
        # Too little to gain, between 40 and 80 or wherever.
        ([curve(0.5, 0.5, 1.01, 2, 2)], 80, 80),
        ([curve(1, 1, 1, 1, 1)], 80, 80),
        ([curve(1.04, 1.04, 1.04, 1.04, 1.04)], 160, 160),
    ],
)
def test_threshold(curves: list[Curve], before: int, expected: int) -> None:
    choice = best_threshold(curves, before)
    assert choice.value == expected
    assert (choice.gain == 1) == (expected == before)
    assert choice.gain == 1 or choice.gain >= tuning.MIN_GAIN


def test_gain() -> None:
    """The geometric mean over the sizes that are treated differently."""
    choice = best_threshold([curve(0.5, 2, 8, 1, 1), curve(0.5, 2, 2, 1, 1)], 80)
    assert choice.value == 20
    assert choice.gain == pytest.approx(math.prod((2, 8, 2, 2)) ** (1 / 4))
    choice = best_threshold([curve(0.25, 0.25, 2, 2, 2)], 10)
    assert choice == (40, pytest.approx(4))


def test_curves_of_different_sizes() -> None:
    found = best_threshold(
        [curve(0.5, 2, 2, sizes=(1, 5, 9)), curve(0.5, 0.5, 2, sizes=(2, 4, 8))], 100
    )
    assert found.value == 5


@pytest.mark.parametrize("break_even", [3e3, 1e5, 7e6])
def test_noise(break_even: float) -> None:
    """On curves of a cost model, a tenth of noise moves the threshold by little."""
    random = np.random.default_rng(0)
    sizes = tuning.geometric(1_000, 10_000_000, 25)
    found = []
    for _ in range(20):
        off = np.array(sizes) * 1e-9
        on = off / 2 + break_even / 2 * 1e-9
        off, on = (each * random.lognormal(0, 0.1, len(sizes)) for each in (off, on))
        found.append(best_threshold([Curve("call", tuple(sizes), tuple(off), tuple(on))], 1).value)
    assert break_even / 2 < np.median(found) < break_even * 2
    assert break_even / 4 < min(found) <= max(found) < break_even * 4


def test_value() -> None:
    times = {1: [1.0, 4.0], 2: [1.0, 2.0], 4: [1.5, 3.0]}
    assert best_value(times, 1) == Choice(2, pytest.approx(math.sqrt(2)))
    assert best_value(times, 2) == Choice(2, 1.0)
    assert best_value({1: [1.0], 2: [0.97]}, 1) == Choice(1, 1.0)


def test_geometric() -> None:
    assert tuning.geometric(1, 1000, 4) == [1, 10, 100, 1000]


# Measurements ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_fresh", [False, True])
@pytest.mark.parametrize("is_read", [False, True])
def test_cases(is_fresh: bool, is_read: bool) -> None:
    for case in (Case("relu", "forward", is_fresh, is_read), Case("gelu", "forward_backward", is_fresh, is_read)):  # fmt: skip
        case.make(1)()
        case.make(1000)()
        assert str(case).startswith(f"{case.function}.{case.operation}")
        assert ("fresh" in str(case), "read" in str(case)) == (is_fresh, is_read)


def test_each_size_is_measured_as_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads follows from the threshold: with a threshold of 1, all of many would be woken for any size."""
    seen = []

    def times_of(setting: Any, values: Any, case: Case, elements: int, seconds: float) -> Any:
        seen.append((values, elements))
        return [1.0, 1.0]

    monkeypatch.setattr(tuning, "times_of", times_of)
    monkeypatch.setattr(settings.THREADS, "_word", np.array([64]))
    (stage,) = (each for each in tuning.stages() if each.setting is settings.PARALLEL_THRESHOLD)
    list(stage.measure(1.0))
    assert len(seen) == len(stage)
    assert all(values == (sys.maxsize, elements) for values, elements in seen)


def test_outputs_begin_with_a_page() -> None:
    for n in (1, 1000, 100_001):
        assert tuning._aligned(n).ctypes.data % 4096 == 0
        assert tuning._aligned(n).shape == (n,)


def values() -> dict[str, object]:
    return dict(fa.info())


def test_everything_is_measured_and_left_as_it_was() -> None:
    before, steps = values(), []
    found = tuning.tune(0.01, lambda count: steps.append(count), lambda: steps.append(1))
    assert values() == before
    assert steps[0] == sum(steps[1:])
    names = [each.setting.name for each in found]
    expected = {each.name for each in settings.TABLE if each.is_tuned}
    if fa.get_num_threads() == 1:
        expected -= {"parallel_threshold", "chunk_size"}
    assert set(names) == expected
    for each in found:
        assert each.setting.least <= each.choice.value <= sys.maxsize
        assert all(math.isfinite(t) and t > 0 for _, _, times in each.measured for t in times)
    json.dumps(tuning.as_json(found))


def test_default_is_that_of_the_rule() -> None:
    """Not what a call has set, which stays."""
    before = fa.get_streaming_threshold()
    default, _ = settings._streaming()
    fa.set_streaming_threshold(123)
    try:
        found = tuning.tune(0.01, lambda count: None, lambda: None)
        assert found[-1].default == default
        assert fa.get_streaming_threshold() == 123
        assert fa.info()["streaming_threshold"].source == "call"
    finally:
        fa.set_streaming_threshold(before)


# The command -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of an empty cache."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("FASTACT_CACHE", str(tmp_path))
    cached = cache_folder.directory, cache_folder.distrust, cache_folder.warn
    for function in cached:
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "100", "TERM": "dumb"})


def test_tune(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTACT_CHUNK_SIZE", "77")
    measured = folder / "times.json"
    result = run("tune", "--seconds", "0.01", "--json", str(measured))
    assert result.exit_code == 0, result.output
    path = tuned.file()
    assert path is not None
    assert str(path) in result.stdout.replace("\n", "")
    assert "streaming_threshold" in result.stdout
    if fa.get_num_threads() > 1:
        assert "FASTACT_CHUNK_SIZE is set, and counts for more." in result.stdout
    kept, times = json.loads(path.read_text())["settings"], json.loads(measured.read_text())
    assert kept == {name: each["found"] for name, each in times["settings"].items()}
    shown = run("tune", "--show")
    assert shown.exit_code == 0
    assert f"streaming_threshold: {kept['streaming_threshold']:,}" in shown.stdout
    process = run_python("import fastact; print(fastact.info())", FASTACT_CACHE=str(folder))
    assert f"tuned: {path} of " in process.stdout
    assert run("tune", "--forget").stdout == f"deleted {path}\n"
    assert not path.exists()
    assert run("tune", "--forget").stdout == "there was nothing to forget\n"
    missing = run("tune", "--show")
    assert missing.exit_code == 1
    assert "nothing has been measured on this machine" in missing.stderr


def test_dry_run(folder: Path) -> None:
    result = run("tune", "--seconds", "0.01", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "output_cache_min_bytes" in result.stdout
    path = tuned.file()
    assert path is not None
    assert not path.exists()


def test_without_a_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("FASTACT_CACHE", "0")
    cache_folder.directory.cache_clear()
    result = run("tune", "--seconds", "0.01")
    assert result.exit_code == 1
    assert result.stderr == (
        "fastact: there is nowhere to keep the result: FASTACT_CACHE is 0; --dry-run only measures\n"
    )
    assert run("tune", "--show", "--forget").exit_code == 2


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c(folder: Path) -> None:
    """Nothing is kept, and what was kept before stays."""
    tuned.write({"chunk_size": 5})
    before = {path.name: path.read_bytes() for path in folder.glob("tuned*")}
    script = "from fastact.cli import app; app(['tune', '--seconds', '600'])"
    with start_python(script, FASTACT_CACHE=str(folder)) as process:
        time.sleep(8)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert {path.name: path.read_bytes() for path in folder.glob("tuned*")} == before


def test_info() -> None:
    said = " ".join(run("info").stdout.split())
    for name, each in fa.info().items():
        assert name in said
        assert f"{each.source}: {each.reason}" in said
    found = json.loads(run("info", "--json").stdout)
    assert found == {name: each._asdict() for name, each in fa.info().items()}
