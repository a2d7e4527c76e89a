"""The errors beside those of other libraries, and their chart."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fastact as fa
from fastact.bench import accuracy, contenders
from fastact.bench.contenders import Implementation
from fastact.bench.workloads import Workload
from fastact.cli import app

pytest.importorskip("mpmath")
pytest.importorskip("matplotlib")


def in_float64(work: Workload, operation: str) -> Any:
    """Return tanh, rounded once."""
    if work.name != "tanh":
        raise NotImplementedError
    return lambda: np.tanh(work.x.astype(np.float64)).astype(np.float32)


def naive(work: Workload, operation: str) -> Any:
    """Return tanh by a quotient: 0 near 0, NaN far out."""
    up, down = partial(np.exp, work.x), partial(np.exp, -work.x)
    return lambda: (up() - down()) / (up() + down())


@pytest.fixture(autouse=True)
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two peers whose errors are known."""
    for name, make in (("numpy", in_float64), ("jax", naive)):
        found = Implementation(name, ("numpy",), make)
        monkeypatch.setitem(contenders.IMPLEMENTATIONS, name, found)


def test_errors() -> None:
    found = accuracy.largest_errors("tanh", ["fastact", "numpy", "jax"], count=200)
    assert 0.4 < found["numpy"] < 0.501
    assert found["jax"] == math.inf
    assert 0.4 < found["fastact"] <= fa.tanh._definition.errors[0]
    assert set(accuracy.largest_errors("sigmoid", ["fastact", "numpy"], count=20)) == {"fastact"}


def test_functions() -> None:
    """What is computed by steps is compared; what is a comparison and a product is not."""
    found = accuracy.compared_functions()
    assert {"gelu", "sigmoid", "tanh", "elu"} <= set(found)
    assert not {"relu", "leaky_relu", "hardtanh", "identity"} & set(found)


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It prints the errors, as a table or as JSON, and draws them."""
    monkeypatch.setattr(accuracy, "PEERS", ("numpy", "jax"))
    file = tmp_path / "errors.svg"
    command = ["verify", "tanh", "--chart", str(file), "--points", "20"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    head, row = result.stdout.splitlines()
    assert head.split() == ["float32", "fastact", "numpy", "jax"]
    assert row.split()[0] == "tanh"
    assert row.split()[-1] == "inf"
    assert b"<svg" in file.read_bytes()
    result = CliRunner().invoke(app, [*command, "--json", "--dark"])
    content = json.loads(result.stdout)
    assert set(content["errors_in_ulp"]["tanh"]) == {"fastact", "numpy", "jax"}
    assert b"#e6edf3" in file.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["softmax"], "softmax is compared with no formula"),
        (["tanh", "--dtype", "float32", "--dtype", "float64"], "--chart is of one --dtype"),
    ],
)
def test_wrong_charts(words: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", *words, "--chart", str(tmp_path / "a.svg")])
    assert result.exit_code == 2
    assert said in result.stderr
