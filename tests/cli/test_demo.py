"""The command line, and the demo that it runs."""

import re
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from representatives import only_long
from typer.testing import CliRunner

import fastact
from fastact import baseline
from fastact.cli import app
from fastact.cli.training import comparison, timing
from fastact.cli.training.comparison import compare
from fastact.cli.training.digits import load_digits
from fastact.cli.training.net import PARTS, Net, Settings, initial_weights

SMALL = ("--epochs", "3", "--width", "16", "--layers", "2", "--activation", "relu")
#: NaN for negative numbers, and random: the demo refuses them.
REFUSED = ("log1mexp", "gumbel_softmax")
TRAINED = [name for name in fastact.names("activation", "row", "packed") if name not in REFUSED]
#: One of each kind: learned parameters, groups, gates, reduced rows, and units of both signs.
KINDS = ("gelu", "prelu", "maxout", "swiglu", "logsumexp", "crelu", "softmax")


def run(*arguments: str) -> tuple[int, str]:
    """Run the command line; return the exit code and all it prints, without frames and breaks."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERM": "dumb"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    """Run some code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def small(activation: str, dtype: str = "float32", **changes: Any) -> Settings:
    """Return a small net."""
    sizes: dict[str, Any] = {"width": 8, "layers": 2, "batch_size": 50, "epochs": 2}
    return Settings(activation=activation, dtype=dtype, **(sizes | changes))


def both_nets(settings: Settings) -> tuple[Net, Net, Any]:
    """Return the net of fastact and that of NumPy, and a batch."""
    digits = load_digits(settings)
    batch = next(digits.batches(np.arange(100), settings.batch_size))
    weights = initial_weights(settings, batch[0])
    ours, theirs = (
        Net(settings, weights, get(settings.activation), get("softmax_cross_entropy"))
        for get in (fastact.get, baseline.get)
    )
    return ours, theirs, batch


@pytest.mark.parametrize("dtype", ["float32", *only_long("float64")])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_command(tmp_path: Path, dtype: str, suffix: str) -> None:
    """A run prints the table and draws the picture."""
    picture = tmp_path / f"curves.{suffix}"
    code, output = run("demo", *SMALL, "--dtype", dtype, "--output", str(picture))
    assert code == 0, output
    for part in (*PARTS, "whole step", "test accuracy", "NumPy fastact faster"):
        assert part in output
    assert "2 hidden layers of 16 units with relu" in output
    assert "losses of the first 20 steps agree" in output
    start = b"\x89PNG" if suffix == "png" else b"<?xml"
    assert picture.read_bytes().startswith(start)


@pytest.mark.parametrize("name", TRAINED)
def test_step_with_every_function(name: str) -> None:
    """A step has a finite loss, and changes all parameters as it does in NumPy."""
    ours, theirs, batch = both_nets(small(name))
    with np.errstate(all="ignore"):
        loss, expected = ours.step(*batch), theirs.step(*batch)
    assert np.isfinite(loss)
    np.testing.assert_allclose(loss, expected, 1e-5)
    for one, other in zip(ours.parameters, theirs.parameters, strict=True):
        np.testing.assert_allclose(one.value, other.value, 1e-4, 1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_losses_agree(name: str) -> None:
    """So they do for several epochs; the same settings give the same losses, to the last bit."""
    first, second = (compare(small(name)) for _ in range(2))
    assert first.agrees
    assert first.difference < 1e-5
    for each in ("NumPy", "fastact"):
        assert first.runs[each].losses == second.runs[each].losses
        assert len(first.runs[each].steps) == len(first.runs[each].losses) == 2 * (1438 // 50)
        assert set(first.runs[each].parts) == set(PARTS)


@pytest.mark.parametrize("name", KINDS)
def test_gradients(name: str) -> None:
    """The net's gradients are those of its loss, by central differences."""
    settings = small(name, "float64", learning_rate=1.0, most_norm=np.inf)
    _, net, batch = both_nets(settings)
    start = [parameter.value.copy() for parameter in net.parameters]

    def loss(changed: int, change: Any) -> float:
        for i, (parameter, value) in enumerate(zip(net.parameters, start, strict=True)):
            parameter.value[...] = value + (change if i == changed else 0)
            parameter.velocity[...] = 0
        return net.step(*batch)

    loss(0, 0)
    gradients = [parameter.gradient.copy() for parameter in net.parameters]
    random = np.random.default_rng(5)
    for i, gradient in enumerate(gradients):
        direction = random.standard_normal(gradient.shape) * 1e-6
        slope = (loss(i, direction) - loss(i, -direction)) / 2
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-4, atol=1e-11)


def test_long_gradients_are_shortened() -> None:
    _, net, batch = both_nets(small("relu", "float64", learning_rate=1.0, most_norm=0.1))
    net.step(*batch)
    steps = np.concatenate([each.gradient.ravel() for each in net.parameters])
    np.testing.assert_allclose(np.linalg.norm(steps), 0.1, 1e-4)


def test_default_run_learns() -> None:
    """It recognizes the digits, in both variants alike."""
    result = compare(Settings(epochs=15))
    assert result.agrees
    assert not result.diverged
    for each in result.runs.values():
        assert each.accuracy >= 0.95
        assert each.losses[-1] < 0.1
        assert 0 < each.part("activations") < each.step


def test_torch(tmp_path: Path) -> None:
    """PyTorch trains the same; in a process of its own, as its threads do not survive a fork."""
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    result = run_python(
        "from fastact.cli.training.comparison import compare\n"
        "from fastact.cli.training.net import Settings\n"
        "for name in ('relu', 'prelu'):\n"
        "    s = Settings(activation=name, width=8, batch_size=50, epochs=1)\n"
        "    found = compare(s, with_torch=True)\n"
        "    print(*found.runs, found.agrees, found.difference)\n"
        "import sys; from fastact.cli import app\n"
        f"sys.argv = ['fastact', 'demo', '--torch', *{SMALL!r}, '--output', {str(tmp_path / 'a.png')!r}]\n"
        "app()"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("NumPy fastact PyTorch True") == 2
    assert re.search("faster +PyTorch", result.stdout)


def test_torch_cannot_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why."""
    monkeypatch.setitem(sys.modules, "torch", None)
    code, output = run("demo", *SMALL, "--torch")
    assert code == 2
    assert "--torch needs PyTorch, which is not installed" in output


def test_disagreement_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses that differ too much, or are not finite, end in an exit code and a line that says so."""
    picture = str(tmp_path / "curves.png")
    code, output = run("demo", *SMALL, "--learning-rate", "1e30", "--output", picture)
    assert code == 1
    assert "the loss is not finite" in output
    monkeypatch.setitem(comparison.TOLERANCE, "float32", -1.0)
    code, output = run("demo", *SMALL, "--output", picture)
    assert code == 1
    assert "more than -1e+00" in output


def test_busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, with the reasons; a quiet one is not mentioned."""
    assert timing.Noise(0.1, 0.01, 0.05).reasons == []
    taken = timing.Noise(0.1, 0.25, 0.05)
    assert "busy" in str(taken)
    assert "other processes took 25% of the time" in str(taken)
    assert "rounds differ by more than 50%" in str(timing.Noise(0.0, 0.0, 0.5))
    assert timing.spread([1, 1, 1]) == 0
    assert timing.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 1
    monkeypatch.setattr(comparison, "load", lambda: 1000.0)
    code, output = run("demo", *SMALL, "--output", str(tmp_path / "curves.png"))
    assert code == 0
    assert "the load was 1000.0 on" in output


@pytest.mark.parametrize(("slow", "expected"), [((), 4), ((3,), 2), ((0, 1, 2, 3, 4), 1)])
def test_threads_of_blas(
    monkeypatch: pytest.MonkeyPatch, slow: tuple[int, ...], expected: int
) -> None:
    """More are used where they are faster in every round."""
    now, used = [0.0], [1]

    def blas_threads(number: int) -> Any:
        used[0] = number
        return nullcontext()

    rounds = {2: [], 4: list(slow)} if expected == 2 else {2: list(slow), 4: list(slow)}
    counts = {1: 0, 2: 0, 4: 0}

    def step() -> None:
        which = counts[used[0]] // 4  # three steps and one before
        counts[used[0]] += 1
        now[0] += 100 if which in rounds.get(used[0], ()) else 1 / used[0]

    monkeypatch.setattr(timing, "blas_threads", blas_threads)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(fastact, "get_num_threads", lambda: 4)
    assert timing.fastest_blas_threads(step) == expected


def test_clock() -> None:
    """One thread is measured by its own time, several by the wall's."""
    import time

    few, many = 1000, fastact.get_parallel_threshold()
    assert timing.clock_for(1, few) is time.thread_time
    assert timing.clock_for(2, few) is timing.clock_for(1, many) is time.perf_counter


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--activation", "rellu"), "there is no function 'rellu'. Did you mean 'relu'?"),
        (("--activation", "huber"), "huber is not an activation of hidden layers"),
        (("--activation", "log1mexp"), "log1mexp is NaN for negative numbers"),
        (("--activation", "gumbel_softmax"), "gumbel_softmax draws random numbers"),
        (("--activation", "crelu", "--width", "5"), "--width must be even"),
        (("--batch-size", "5000"), "there are only 1438 images"),
        (("--output", "missing/curves.png"), "--output: the folder 'missing' does not exist"),
        (("--output", "curves.jpg"), "must end in .png or .svg"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], message: str) -> None:
    """They are told in one line."""
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.strip().count("\n") == 0


def test_alias() -> None:
    """Names of other libraries are taken, and wrong choices get the right ones."""
    code, output = run("demo", "--dtype", "float16")
    assert code == 2
    assert "float32" in output
    assert fastact.get("swish").name in TRAINED


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


@pytest.mark.parametrize("package", ["rich", "sklearn", "matplotlib", "threadpoolctl"])
def test_missing_package(package: str, tmp_path: Path) -> None:
    """A package that is not installed costs one line, not a traceback."""
    result = run_python(
        f"import sys; sys.modules[{package!r}] = None\n"
        f"sys.argv = ['fastact', 'demo', *{SMALL!r},\n"
        f"            '--output', {str(tmp_path / 'curves.png')!r}]\n"
        "from fastact.cli import app; app()"
    )
    assert result.returncode == 1
    assert 'pip install "fastact[demo]"' in result.stderr
    assert package in result.stderr
    assert result.stderr.strip().count("\n") == 0
