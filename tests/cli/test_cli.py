"""``fastact list``, ``fastact show`` and ``fastact plot``."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import fastact
from fastact.catalogue.definition import KINDS, LAYERS
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
    """All functions stand there, kind by kind and in alphabetical order, within the terminal."""
    output = run("list").stdout
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output
    listed = [line.split()[0] for line in output.splitlines() if re.match(r"\w", line)]
    assert listed == [each for kind in KINDS for each in (kind, *sorted(fastact.names(kind)))]
    assert re.search(r"^elu +Exponential linear unit$", output, re.MULTILINE)
    assert "dish              Dish: follows silu" in output  # the title alone would say nothing
    assert "Logistic sigmoid; also logistic, expit" in output


def test_list_of_a_kind() -> None:
    assert names("--kind", "cell") == sorted(fastact.names("cell"))
    assert set(names("--kind", "row", "--kind", "loss")) == set(fastact.names("row", "loss"))
    result = run("list", "--kind", "losses")
    assert result.exit_code == 2
    assert ", ".join(KINDS) in result.stderr


def test_json() -> None:
    """What is listed and shown is there for programs, with all that it says."""
    found = {each["name"]: each for each in json.loads(run("list", "--json").stdout)}
    assert set(found) == set(fastact.names())
    assert found["silu"]["aliases"] == ["swish"]
    assert found["prelu"]["parameters"] == {"weight": None}
    assert found["softmax"]["kind"] == "row"
    assert found["relu"]["kinks"] == {"0": "0"}
    assert json.loads(run("show", "silu", "--json").stdout) == found["silu"]
    shown = json.loads(run("show", "elu", "--set", "alpha=0.5", "--json").stdout)
    assert shown["parameters"] == {"alpha": 0.5}


@pytest.mark.parametrize("library", LIBRARIES)
def test_list_of_a_library(library: str) -> None:
    """The names in a library stand beside ours."""
    assert 0 < len(names("--library", library)) < len(fastact.names())
    output = run("list", "--library", library).stdout
    for name in names("--library", library):
        its_name = fastact.get(name)._definition.elsewhere[library]
        assert re.search(rf"^{name} +{its_name} ", output, re.MULTILINE)


def test_names() -> None:
    """Names alone are there for scripts."""
    assert set(names()) == set(fastact.names())
    assert {"tanh", "softmax"} < set(names("--smooth"))
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
        (["gleu"], "there is no function 'gleu'. Did you mean 'gelu'?\n"),
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


def test_plot_of_one() -> None:
    """Its value and derivative stand in one plot."""
    output = run("plot", "sine", "--from", "1", "--to", "9").stdout
    assert output.startswith("sine\n")
    assert max(map(len, output.splitlines())) <= 80
    assert "value ⠒⠒⠒   derivative ···" in output
    assert re.search(r"^ +1.00┤", output, re.MULTILINE)


def test_plot_of_several() -> None:
    """Letters draw the curves: the largest value ends highest."""
    output = run("plot", "identity", "tanh", "--to", "4").stdout
    values, derivatives = output.split("derivative")
    assert values.count("a identity   b tanh") == derivatives.count("a identity   b tanh") == 1
    drawn = [line.rpartition("┤")[2].rstrip(" │") for line in values.splitlines() if "┤" in line]
    assert drawn[0].endswith("a")
    assert drawn[-1].startswith("a")


def test_plot_of_the_second_derivative() -> None:
    one = run("plot", "tanh", "--derivatives", "2").stdout
    assert "value ⠒⠒⠒   derivative ···   second derivative +++" in one
    assert "+" in one.partition("+++")[2]
    several = run("plot", "tanh", "sine", "--derivatives", "2").stdout
    assert several.count("a tanh   b sine") == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["gelu"],
        ["relu", "gelu", "--derivatives", "2"],
        ["softmax", "--row", "1,0,-2"],
        ["swiglu", "maxout"],
    ],
)
def test_plot_to_a_file(tmp_path: Path, arguments: list[str]) -> None:
    light, dark = tmp_path / "light.svg", tmp_path / "dark.svg"
    for file, option in ((light, []), (dark, ["--dark"])):
        result = run("plot", *arguments, *option, "-o", str(file))
        assert (result.exit_code, result.stdout) == (0, "")
        assert b"<svg" in file.read_bytes()
    assert b"#e6edf3" in dark.read_bytes()
    assert b"#e6edf3" not in light.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rellu"], "Did you mean 'relu'?"),
        (["softmax"], "softmax: a function of several inputs has no curve"),
        (["prelu"], "prelu: its curve depends on weight"),
        (["gumbel_softmax", "-o", "x.png"], "gumbel_softmax: there is no picture of it"),
        (
            ["softmax", "--row", "1,a", "-o", "x.png"],
            "--row takes numbers such as 1,0,-2, got '1,a'",
        ),
        (["relu", "--row", "1", "-o", "x.png"], "--row is for row functions"),
        (["relu", "--from", "1", "--to", "1"], "--from must be less than --to"),
        (["relu", "-o", "curves.txt"], "Format 'txt' is not supported"),
        (["relu", "-o", "nowhere/curves.png"], "the folder 'nowhere' does not exist"),
    ],
)
def test_wrong_plots(arguments: list[str], said: str) -> None:
    result = run("plot", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.splitlines()[-1].startswith("fastact: ")


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
