"""The command line, and the demo that it runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fastact
from fastact import baseline
from fastact.cli import app, training

SMALL = ("--epochs", "3", "--hidden", "48")


def run(*arguments: str) -> tuple[int, str]:
    """Run the command line; return the exit code and all it prints, without frames and breaks."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERM": "dumb"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    """Run some code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_activation(tmp_path: Path, dtype: str) -> None:
    """A run prints the table and writes the curves."""
    picture = tmp_path / "curves.png"
    code, output = run("demo", *SMALL, "--dtype", dtype, "--output", str(picture))
    assert code == 0, output
    assert "relu NumPy" in output
    assert "fastact" in output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_all_activations(tmp_path: Path) -> None:
    """All that have a baseline are trained, and all runs agree."""
    picture = tmp_path / "curves.png"
    code, output = run("demo", "--all", *SMALL, "--dtype", "float64", "--output", str(picture))
    assert code == 0, output
    for name in baseline.names():
        assert f"{name} NumPy" in output
    assert picture.exists()


def test_default_run_learns() -> None:
    """The default run recognizes the digits, and both backends to the same degree."""
    result = training.compare("relu", training.Settings())
    assert result.agrees
    for each in (result.fastact, result.numpy):
        assert each.accuracy >= 0.95
        assert each.losses[-1] < 0.1
        assert 0 < each.seconds_in_activations < each.seconds
    assert len(result.fastact.losses) == result.settings.epochs


@pytest.mark.parametrize("name", baseline.names())
def test_deterministic(name: str) -> None:
    """The same settings give the same losses, to the last bit."""
    settings = training.Settings(epochs=2, hidden=32, batch_size=100)
    first, second = (training.compare(name, settings) for _ in range(2))
    assert first.fastact.losses == second.fastact.losses
    assert first.numpy.losses == second.numpy.losses
    assert first.largest_difference < 1e-4


@pytest.mark.parametrize("name", baseline.names())
def test_gradients(name: str) -> None:
    """The network's gradients are those of its loss, by central differences."""
    settings = training.Settings(dtype="float64", hidden=6, batch_size=20, learning_rate=1.0)
    digits = training.load_digits(settings)
    batch = digits.images[:20], digits.labels[:20]
    network = training.Network(name, baseline.get(name), settings)
    start = [parameter.copy() for parameter in network.parameters]

    def loss(changed: int, change: Any) -> float:
        for i, (parameter, value) in enumerate(zip(network.parameters, start, strict=True)):
            parameter[...] = value + (change if i == changed else 0)
        return network.step(*batch)

    loss(0, 0)
    gradients = [gradient.copy() for gradient in network.gradients]
    random = np.random.default_rng(5)
    for i, gradient in enumerate(gradients):
        direction = random.standard_normal(gradient.shape) * 1e-6
        slope = (loss(i, direction) - loss(i, -direction)) / 2
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-4, atol=1e-11)


def test_disagreement_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses that differ too much end in an exit code and a line that says so."""
    monkeypatch.setitem(training.LARGEST_DIFFERENCE, "float32", -1.0)
    code, output = run("demo", *SMALL, "--output", str(tmp_path / "curves.png"))
    assert code == 1
    assert "differ by more than -1 for relu" in output
    diverged = training.Run((np.nan,), 0.1, 1.0, 1.0)
    assert not training.Comparison("relu", training.Settings(), diverged, diverged).agrees


def test_wrong_arguments(tmp_path: Path) -> None:
    """A wrong name gets the list of the right ones; other wrong arguments are named."""
    code, output = run("demo", "--activation", "rellu")
    assert code == 2
    assert "rellu" in output
    for name in fastact.names("activation"):
        assert name in output
    code, output = run("demo", "--output", str(tmp_path / "missing" / "curves.png"))
    assert code == 2
    assert "--output" in output
    code, output = run("demo", "--dtype", "float16")
    assert code == 2
    assert "float32" in output


def test_help_and_version() -> None:
    """The short answers."""
    code, output = run("--help")
    assert code == 0
    assert "demo" in output
    assert run("--version") == (0, f"fastact {fastact.__version__} ")


def test_help_imports_little() -> None:
    """Until a command runs, nothing that takes long is imported."""
    heavy = "{'numba', 'sklearn', 'matplotlib', 'scipy'}"
    result = run_python(f"import sys, fastact.cli; print({heavy} & set(sys.modules))")
    assert result.stdout.strip() == "set()", result.stderr


@pytest.mark.parametrize("package", ["rich", "sklearn", "matplotlib", "typer"])
def test_missing_package(package: str, tmp_path: Path) -> None:
    """A package that is not installed costs one line, not a traceback."""
    result = run_python(
        f"import sys; sys.modules[{package!r}] = None\n"
        f"sys.argv = ['fastact', 'demo', '--epochs', '1', '--hidden', '8',\n"
        f"            '--output', {str(tmp_path / 'curves.png')!r}]\n"
        "from fastact.cli import app; app()"
    )
    assert result.returncode == 1
    assert 'pip install "fastact[demo]"' in result.stderr
    assert package in result.stderr
    assert result.stderr.strip().count("\n") == 0
