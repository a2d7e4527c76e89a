"""What type checkers know: the stub is that of the catalogue, right calls pass, wrong ones are found before they run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CALLS = """
import numpy as np

import fastact as fa

x = np.ones((2, 3), np.float32)
fa.gelu(x), fa.gelu.derivative(x), fa.gelu.forward_backward(x, x, bias=1.0)
fa.elu(x, 0.5), fa.elu(x, alpha=0.5), fa.elu.bind(alpha=0.5)(x), fa.swish(x, beta=2.0)
fa.leaky_relu(x, convention="tensorflow"), fa.prelu.backward(x, x, weight=0.25)
fa.softmax(x, axis=(0, 1), temperature=2.0), fa.logsumexp(x, keepdims=True)
fa.softmax_cross_entropy.forward_backward(x, [0, 1], reduction="sum")
fa.maxout(x, 3), fa.dropout(x, 0.5, rng=1), fa.swiglu(x, x), fa.math.exp(x)
fa.get("relu")(x), fa.names("activation", "row"), fa.gelu.ufuncs["forward"](x)


@fa.activation
def own(x: float, beta: float = 1.5) -> float:
    return x * beta


own(x, beta=2.0), own.forward_backward(x, x)
fa.gellu(x)  # wrong
fa.gelu.forwrd(x)  # wrong
fa.relu.second_derivative(x)  # wrong
fa.softmax(x, axes=1)  # wrong
fa.softmax(x, axis="1")  # wrong
fa.softmax_cross_entropy(x, [0, 1], reduction="men")  # wrong
fa.leaky_relu(x, convention="torch")  # wrong
fa.elu(x, 0.5, 0.5)  # wrong
fa.elu(x, beta=0.5)  # wrong
fa.gelu.backward(x)  # wrong
fa.maxout(x)  # wrong
fa.names("layers")  # wrong
"""


def test_stub_is_up_to_date() -> None:
    script = ROOT / "tools" / "generate_stubs.py"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_wrong_calls_are_found(checker: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    file = tmp_path / "calls.py"
    file.write_text(CALLS)
    mypy = ["--strict", "--no-incremental"]
    options = mypy if checker == "mypy" else ["--pythonpath", sys.executable]
    command = [sys.executable, "-m", checker, *options, str(file)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    if not re.search(r"\d+ errors?", said):
        pytest.skip(f"{checker} cannot run here: {said[-200:]}")  # it downloads itself at first
    found = {int(line) for line in re.findall(r"calls\.py:(\d+)(?::\d+)?(?: -)?:? error", said)}
    lines = CALLS.splitlines()
    assert found == {k for k, line in enumerate(lines, 1) if line.endswith("# wrong")}, said
