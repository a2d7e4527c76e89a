"""``fastact list`` and ``fastact show``."""

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

import fastact
from fastact.catalogue.definition import LAYERS
from fastact.cli import app
from fastact.show.facts import LIBRARIES, signatures
from fastact.show.formulas import unicode_equation

# What it looks like in a pipe.
IN_A_PIPE = {"COLUMNS": "80", "TERM": "dumb"}


def run(*arguments: str) -> Result:
    """Run the command line."""
    result = CliRunner().invoke(app, arguments, env=IN_A_PIPE)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def words(*arguments: str) -> str:
    """Run the command line, and return what it prints, without line breaks."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.stdout)


def names(*arguments: str) -> list[str]:
    """Return the names that ``fastact list`` gives."""
    return run("list", "--names", *arguments).stdout.split()


def test_list() -> None:
    """The tables have all activations, rows and layers, and stay within the terminal."""
    output = run("list").stdout
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output
    listed = [line.split()[0] for line in output.splitlines() if re.match(r"\w", line)]
    assert listed == [
        *("activation", *fastact.names("activation"), *fastact.names("row")),
        *("layer", *fastact.names(*LAYERS)),
    ]
    for said in ("Leaky rectifier:", "negative_slope=0.01; kinks at 0", "P PyTorch, J JAX"):
        assert said in output
    assert re.search(r"^relu +PJKOTCF ", output, re.MULTILINE)


@pytest.mark.parametrize("library", LIBRARIES)
def test_list_of_a_library(library: str) -> None:
    """The names in a library stand beside ours."""
    assert 0 < len(names("--library", library)) < len(fastact.names("activation"))
    output = run("list", "--library", library).stdout
    for name in names("--library", library):
        its_name = fastact.get(name)._definition.elsewhere[library]
        assert re.search(rf"^{name} +{its_name} ", output, re.MULTILINE)


def test_names() -> None:
    """Names alone are there for scripts."""
    assert names() == fastact.names()
    assert "tanh" in names("--smooth")
    assert "relu" not in names("--smooth")


def test_show() -> None:
    """All that there is to know is shown, and stays within the terminal."""
    output = run("show", "elu").stdout
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output
    assert "  f(x) = ⎧ x           if x > 0" in output
    assert "         ⎩ α (eˣ - 1)  if x ≤ 0" in output
    for said in (
        "elu, alpha=1",
        "Exponential linear unit: saturates smoothly",
        "derivative ···",
        "alpha minus the limit on the left",
        "kink at 0 the derivative is alpha",
        "limits -alpha at -∞, ∞ at ∞",
        "ulp in the value",
        "in ONNX Elu",
        "in TensorFlow elu (derivative 1 at 0)",
        "ICLR 2016",
    ):
        assert said in re.sub(r"\s+", " ", output)


@pytest.mark.parametrize("name", [*fastact.names("row"), *fastact.names(*LAYERS)])
def test_show_of_whole_arrays(name: str) -> None:
    """How it is called takes the place of a plot."""
    output = run("show", name).stdout
    assert max(map(len, output.splitlines())) <= 80
    assert output.startswith(name)
    for signature in signatures(fastact.get(name)):
        assert signature in re.sub(r"\s+", " ", output)


def test_show_of_a_layer() -> None:
    output = words("show", "swiglu")
    for said in (
        "a silu gate, as in the feed-forward blocks",
        "By default the first half is the gate.",
        "y = v silu(g)",
        "interleaved bool, default False. Whether the halves are the elements at even and",
        "arXiv:2002.05202",
    ):
        assert said in output
    result = run("show", "swiglu", "--set", "beta=1")
    assert result.exit_code == 2
    assert "unknown parameter 'beta'; its parameters: none" in result.stderr


def test_show_with_settings() -> None:
    """Parameters and conventions can be chosen."""
    assert "elu, alpha=0.5" in words("show", "elu", "--set", "alpha=0.5")
    assert "kink at 0 the derivative is 1 " in words("show", "leaky_relu", "--convention", "jax")
    assert "relu The default" not in words("show", "rectifier")


def test_show_without_a_plot() -> None:
    """Where there is no curve, the reason is given instead."""
    assert "No plot. prelu: its curve depends on weight" in words("show", "prelu")
    assert "No plot" not in words("show", "prelu", "--set", "weight=0.25")
    assert "No plot. maxout: a function of several inputs" in words("show", "maxout")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rellu"], "there is no function 'rellu'. Did you mean 'relu'?"),
        (["elu", "--set", "beta=1"], "elu: unknown parameter 'beta'"),
        (["elu", "--set", "alpha=much"], "elu: alpha has dtype"),
        (["elu", "--set", "alpha"], "--set takes PARAMETER=VALUE, got 'alpha'"),
        (["elu", "--convention", "caffe"], "convention must be one of"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str) -> None:
    """What is wrong is said in one line."""
    result = run("show", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("package", ["rich", "plotext", "pylatexenc"])
def test_missing_package(package: str) -> None:
    """A package that is not installed costs one line, not a traceback."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "sys.argv = ['fastact', 'show', 'elu']\n"
        "from fastact.cli import app; app()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert 'pip install "fastact[cli]"' in result.stderr
    assert package in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\frac{x + 1}{2 \beta}", "(x + 1)/(2 β)"),
        (r"\frac{x}{2 (1 + x^2)^{3/2}}", "x/(2 (1 + x²)^(3/2))"),
        (r"\frac{\sqrt{x^2 + 1} - 1}{2} + x", "(√(x² + 1) - 1)/2 + x"),
        (r"\lvert x \rvert e^{-x} \le \alpha", "|x| e⁻ˣ ≤ α"),
        (r"e^{-3 x} e^{\alpha x} e^{-x^2}", "e⁻³ˣ e^(αx) e^(-x²)"),
        (r"\sigma(x) \, \sigma(-x)", "σ(x) σ(-x)"),
        (r"\max_{1 \le j \le k} x_j", "max_(1≤j≤k) xⱼ"),
        (r"a x, \quad a = \text{min\_val}", "a x\n    a = min_val"),
        (
            r"\begin{cases} 1 & x > 0 \\ -\lambda & \text{else} \end{cases}",
            "⎧ 1   if x > 0\n    ⎩ -λ  else",
        ),
    ],
)
def test_formulas(tex: str, text: str) -> None:
    """Formulas are written as one writes them on a line."""
    assert unicode_equation("y", tex) == f"y = {text}"


@pytest.mark.parametrize("name", [*fastact.names("activation"), *fastact.names("row")])
def test_formulas_of_all(name: str) -> None:
    """Nothing of TeX is left, and parentheses match."""
    activation = fastact.get(name)
    for tex in (activation.formula, activation.derivative_formula):
        text = unicode_equation("y", tex)
        assert not re.search(r"[\\{}&]", text)
        assert text.count("(") == text.count(")")
