"""The nets of the benchmarks: NumPy, fastact and PyTorch train them alike, and the command compares."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from fresh_process import assert_clean, run_python
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.nets import NETS, measure  # noqa: E402
from benchmarks.nets.fastact_parts import FastactParts  # noqa: E402
from benchmarks.nets.net import Run  # noqa: E402
from benchmarks.nets.numpy_parts import NumpyParts  # noqa: E402

sys.path.remove(str(ROOT))

DTYPES = list(measure.TOLERANCE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_fastact_trains_as_numpy_does(name: str, dtype: str) -> None:
    net = NETS[name].shrunk(dtype)
    assert measure.largest_difference(net, "fastact") < measure.TOLERANCE[dtype]


def test_torch_trains_as_numpy_does() -> None:
    """In a process of its own: PyTorch brings threads that a later fork would not survive."""
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    code = """
        from benchmarks.nets import NETS
        from benchmarks.nets.measure import TOLERANCE, largest_difference
        for name, net in NETS.items():
            for dtype, tolerance in TOLERANCE.items():
                difference = largest_difference(net.shrunk(dtype), "torch")
                assert difference < tolerance, (name, dtype, difference)
    """
    assert_clean(run_python(code, path=ROOT))


@pytest.mark.parametrize("name", NETS)
def test_gradients(name: str) -> None:
    """The gradients of NumPy's nets are those of finite differences, in a random direction."""

    def keep(shape: tuple[int, ...], p: float) -> NDArray[np.bool]:
        return np.random.default_rng(7).random(shape) >= p

    run = Run(NETS[name].shrunk("float64"), NumpyParts(keep))
    batch = next(run.batches)
    check_gradients(run.parameters, lambda: run.gradients(*batch))


def test_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that is off by a thousandth is."""

    def wrong(parts: Any, logits: Any, labels: Any) -> Any:
        loss, dlogits = NumpyParts.cross_entropy(parts, logits, labels)
        return loss, dlogits * 1.001

    monkeypatch.setattr(FastactParts, "cross_entropy", wrong)
    net = NETS["MLP, relu, batch 32"].shrunk("float64")
    assert measure.largest_difference(net, "fastact") > 1e-4


def test_stopwatch_counts_each_part_once() -> None:
    """Dropout within an activation is part of the activation, in NumPy too."""
    net = NETS["MLP, elu, dropout"].shrunk("float32")
    for parts in (NumpyParts(), FastactParts()):
        timed, calls = measure.stopwatch(parts)
        Run(net, timed).step()
        there = ["leaky_relu", "elu", "elu"]
        expected = [*there, "cross_entropy", *reversed(there), *["momentum"] * 8]
        assert [name for name, _ in calls] == expected
        assert min(nanoseconds for _, nanoseconds in calls) > 0


def test_seconds_by_part() -> None:
    """An interrupted call does not count; the calls of a part in a step add up."""
    steps = [[("relu", 1), ("loss", 10), ("relu", relu)] for relu in (3, 5, 1000)]
    seconds = measure.seconds_by_part([call for step in steps for call in step], 3)
    assert seconds == pytest.approx({"relu": 6e-9, "loss": 10e-9})


def test_result() -> None:
    """Speed-ups are NumPy's time over ours; the optimizer is counted apart."""
    parts = {"relu": 2.0, "cross_entropy": 1.0, "adam": 3.0}
    ours = {"relu": 0.5, "cross_entropy": 2.0, "adam": 6.0}
    steps = {"numpy": 12.0, "fastact": 8.0, "torch": 16.0}
    result = measure.Result("a net", "float32", 0.0, steps, {"numpy": parts, "fastact": ours})
    assert (result.speedup(), result.speedup("torch"), result.share) == (1.5, 2.0, 0.25)
    assert result.speedup_of_parts() == pytest.approx(3 / 2.5)
    assert result.speedup_of_parts(optimizer=True) == 0.5
    assert result.slower_parts()["cross_entropy"] == 0.5


def test_command(tmp_path: Path) -> None:
    """It prints a row for each net and the parts that are slower, and writes the results."""
    pytest.importorskip("rich")
    file = tmp_path / "results.json"
    code = f"""
        from benchmarks.nets.__main__ import main
        main(["--quick", "--parts", "--only", "relu", "--json", {str(file)!r}])
    """
    printed = assert_clean(run_python(code, path=ROOT, COLUMNS="150"))
    (result,) = json.loads(file.read_text())["results"]
    assert set(result["parts"]["fastact"]) == {"relu", "cross_entropy", "momentum"}
    assert printed.count("MLP, relu, batch 32") >= 4
    assert "geometric mean" in printed
    unknown = 'from benchmarks.nets.__main__ import main; main(["--only", "nothing"])'
    refused = run_python(unknown, path=ROOT)
    assert refused.returncode == 1
    assert "no net's name contains 'nothing'" in refused.stderr
