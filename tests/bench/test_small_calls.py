"""The table of small calls: fastact and plain NumPy agree in every row, and the command compares them."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python

import fastact as fa
from fastact import baseline

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.small_calls import plain, rows  # noqa: E402
from benchmarks.small_calls.__main__ import Result, measure  # noqa: E402

sys.path.remove(str(ROOT))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.long)])
def test_rows_agree(dtype: str) -> None:
    """All that has a formula or a baseline is there, and NumPy gives the same in the same type."""
    found = list(rows.all_rows(dtype))
    for row in found:
        row.check()
        assert row.x.dtype == dtype
    names = fa.names(*rows.SHAPES)
    asked = {name for name in names if name in plain.FUNCTIONS or hasattr(baseline, name)}
    assert asked <= {word for row in found for word in re.findall(r"\w+", row.title)}


def test_difference_is_found() -> None:
    x = np.array([1.0, 2.0])
    row = rows.Row("relu()", x, lambda: (x, x), (lambda: (x, x * 1.001),), rows.are_close)
    with pytest.raises(AssertionError, match=r"relu\(\) \(2,\)"):
        row.check()
    dataclasses.replace(row, plain=(lambda: (x, x),)).check()


def test_dropped_elements() -> None:
    x = np.arange(1.0, 401)
    agree, even = rows.are_dropped(x), np.arange(400) % 2 == 0
    agree(2 * x * even, 2 * x * ~even)
    for wrong in (x * even, 2 * x, 0 * x):
        with pytest.raises(AssertionError):
            agree(wrong)


@pytest.mark.parametrize(
    ("title", "ours", "is_met", "is_few"),
    [
        ("relu(bias)", 10, True, True),
        ("relu(bias)", 11, False, False),
        ("softmax_cross_entropy.forward_backward(2 arrays)", 4, True, True),
        ("softmax_cross_entropy.forward_backward(2 arrays)", 5, False, True),
        ("dropout(p, rng)", 8, True, True),
        ("dropout(p, rng)", 9, False, True),
    ],
)
def test_budgets(title: str, ours: float, is_met: bool, is_few: bool) -> None:
    row = rows.Row(title, np.ones((2, 3)), lambda: None, (), rows.are_close)
    result = Result(row, ours, 10.0, 10 / 3)
    assert (result.is_met, result.is_few) == (is_met, is_few)


def test_fastest_numpy_counts() -> None:
    x = np.ones(4)

    def slow() -> Any:
        for _ in range(1000):
            y = x + 0
        return y

    row = rows.Row("identity()", x, lambda: x, (slow, lambda: x), rows.are_close)
    (both,), (one,) = (
        measure([each], 1) for each in (row, dataclasses.replace(row, plain=(slow,)))
    )
    assert 0 < both.plain < one.plain


def test_command(tmp_path: Path) -> None:
    """It prints a line for each call, on one thread, and writes the results."""
    pytest.importorskip("rich")
    file = tmp_path / "results.json"
    code = f"""
        import fastact as fa
        from benchmarks.small_calls.__main__ import main
        threads = fa.get_num_threads()
        main(["--rounds", "1", "--only", "relu(", "--dtype", "float64", "--json", {str(file)!r}])
        assert fa.get_num_threads() == threads
    """
    printed = assert_clean(run_python(code, path=ROOT, COLUMNS="150"))
    content = json.loads(file.read_text())
    assert content["machine"]["threads"] == 1
    titles = {each["call"] for each in content["results"]}
    assert titles >= {
        "relu()",
        "relu(bias)",
        "relu(residual)",
        "relu(dropout, rng)",
        "leaky_relu()",
    }
    assert all(min(each["ours"], each["plain"], each["tanh"]) > 0 for each in content["results"])
    assert all(title in printed for title in titles)
    assert f"of {len(content['results'])} are within the budget" in printed
    unknown = 'from benchmarks.small_calls.__main__ import main; main(["--only", "nothing"])'
    refused = run_python(unknown, path=ROOT)
    assert refused.returncode == 1
    assert "no call's title contains 'nothing'" in refused.stderr
