"""The table of magnitudes: every pointwise function and all of `fastact.math` is in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import fastact as fa
from fastact.bench.workloads import Workload

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import magnitudes  # noqa: E402

sys.path.remove(str(ROOT))


def test_all_functions_are_measured() -> None:
    names = [name for name, _ in magnitudes.functions("", "float32")]
    assert set(names) >= {*fa.names("activation"), *magnitudes.ROW_FUNCTIONS}
    assert {name for name in names if name.startswith("math.")} == {
        f"math.{name}" for name in fa.math.__all__ if name != "where"
    }


def test_calls_differ_in_the_magnitude_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnitudes, "ELEMENTS", 100)
    ((_, make),) = magnitudes.functions("gelu_tanh", "float64")
    one, large = make(1.0), make(30.0)
    for operation, arguments in {"forward": ["x"], "forward_backward": ["x", "dy"]}.items():
        assert len(one[operation].args) == len(arguments)
        np.testing.assert_array_equal(30 * one[operation].args[0], large[operation].args[0])
        np.testing.assert_array_equal(one[operation].args[1:], large[operation].args[1:])


def test_scale_of_a_workload() -> None:
    small, large = (Workload.of("softmax", (100, 100), scale=scale).x for scale in (1e-20, 1.0))
    np.testing.assert_allclose(small, 1e-20 * large, rtol=1e-6)
    assert abs(np.std(large) - 1) < 0.05


def test_times_of_all_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured for each standard deviation is the call on its elements, made in turn."""
    monkeypatch.setattr(magnitudes, "NANOSECONDS", 1)
    seen: set[float] = set()

    def calls_of(scale: float) -> dict[str, magnitudes.Call]:
        x = np.full(3, scale)

        def call(x: np.ndarray) -> None:
            seen.add(float(x[0]))

        return {"forward": magnitudes.partial(call, x)}

    monkeypatch.setattr(magnitudes, "functions", lambda only, dtype: [("f", calls_of)])
    (result,) = magnitudes.measure("", "float32", [1e-20, 30.0], rounds=2)
    assert seen == {1.0, 1e-20, 30.0}
    assert set(result.times) == {1.0, 1e-20, 30.0}
    assert set(result.ratios) == {1e-20, 30.0}


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a table that fits 100 columns, writes a file, and leaves the threads as they were."""
    pytest.importorskip("rich")
    file, threads = tmp_path / "a.json", fa.get_num_threads()
    magnitudes.main(["--only", "tanh", "--rounds", "1", "--dtype", "float32", "--json", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-2])) <= 100  # the last two are sentences
    named = {line.split()[0] for line in lines if line}
    assert {"tanh", "gelu_tanh", "math.tanh", "softmax"} & named == {
        "tanh",
        "gelu_tanh",
        "math.tanh",
    }
    assert "…" not in "".join(lines)
    content = json.loads(file.read_text())
    (tanh,) = (
        each
        for each in content["results"]
        if (each["function"], each["operation"]) == ("tanh", "forward")
    )
    assert set(tanh["times"]) == {"1.0", "1e-20", "4.0", "30.0"}
    assert content["machine"]["threads"] == 1
    assert fa.get_num_threads() == threads


def test_marks_and_summary() -> None:
    results = [
        magnitudes.Result("tanh", "forward", "float32", {1.0: 0.5, 4.0: 0.6, 30.0: 16.5}),
        magnitudes.Result("tanh", "backward", "float32", {1.0: 0.5, 4.0: 0.5, 30.0: 0.6}),
    ]
    (row,) = magnitudes.rows(results, [4.0, 30.0])
    assert row == ["tanh", "0.50", "1.20 ", "33.0*", "0.50", "1.00 ", "1.20 ", "", "", ""]
    assert magnitudes.summary(results).startswith("1 of 4 ratios are over 1.3")
    assert "33.00 (tanh, forward, float32, s = 30)" in magnitudes.summary(results)


def test_no_function_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no function's name contains 'rellu'"):
        magnitudes.main(["--only", "rellu"])
