"""Curves, Jacobians and planes, and what they look like."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastact
from fastact.show.curves import curve, kink_positions, value_range
from fastact.show.theme import COLORS, line_style, theme

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def pyplot() -> Iterator[object]:
    """Draw without a screen, and leave no figure behind."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_curve_of_a_kink() -> None:
    """The two sides of a kink are apart, and the kink has the derivative that was chosen."""
    found = curve(fastact.get("leaky_relu", negative_slope=0.5), [-1, 0, 1])
    np.testing.assert_allclose(found.x, [-1, 0, np.nan, 0, 1], atol=1e-5)
    np.testing.assert_allclose(found.value, [-0.5, 0, np.nan, 0, 1], atol=1e-5)
    np.testing.assert_array_equal(found.derivative, [0.5, 0.5, np.nan, 1, 1])
    np.testing.assert_array_equal(found.kinks, [0])
    np.testing.assert_array_equal(found.kink_derivatives, [0.5])
    jax = curve(fastact.get("leaky_relu", convention="jax"), [-1, 1])
    np.testing.assert_array_equal(jax.kink_derivatives, [1])


def test_curve_without_kinks() -> None:
    """The points are those given, in order."""
    found = curve(fastact.get("sigmoid"), [[2, 0], [1, -1]])
    np.testing.assert_array_equal(found.x, [-1, 0, 1, 2])
    np.testing.assert_array_equal(found.value, fastact.get("sigmoid")(found.x))
    assert found.kinks.size == 0
    assert curve(fastact.get("relu"), [1, 2]).kinks.size == 0  # its kink is elsewhere


@pytest.mark.parametrize("name", fastact.names("activation"))
def test_kinks_are_numbers(name: str) -> None:
    """What the definitions say of kinks can be computed."""
    activation = fastact.get(name)
    if "ties" in activation.kinks:
        pytest.skip("not a function of one number")
    positions = kink_positions(activation.bind(**activation._definition.required_parameters))
    assert len(positions) == len(activation.kinks)
    assert positions == sorted(positions)
    assert np.all(np.isfinite(positions))


def test_plot(pyplot: object) -> None:
    """Two labelled curves, the kink, and a title that names the bound parameters."""
    axes = fastact.plot(fastact.get("elu", alpha=0.5))
    assert axes.get_title() == "elu, alpha=0.5"
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["value", "derivative", "|derivative| < 0.05"]
    curves = {line.get_label(): line for line in axes.get_lines()}
    x, derivative = curves["derivative"].get_data()
    assert (x[0], x[-1]) == (-5, 5)
    np.testing.assert_allclose(derivative[0], 0.5 * np.exp(-5))
    dots = [line.get_xydata() for line in axes.get_lines() if line.get_marker() == "o"]
    np.testing.assert_array_equal(np.concatenate(dots), [[0, 0], [0, 0.5]])


def test_plot_on_given_axes(pyplot: object) -> None:
    """It draws where it is told to, and only there."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert fastact.get("sigmoid").plot([-1, 1], axes) is axes
    assert axes.get_lines()[-2].get_xdata().tolist() == [-1, 1]
    from matplotlib import pyplot as module

    assert module.get_fignums() == []


def test_several(pyplot: Any) -> None:
    """A panel for the values and one for each derivative, and the names of all in the legends."""
    panels = fastact.plot("identity", fastact.elu.bind(alpha=0.5), x=[-1, 1], derivatives=2)
    ends = {"value": [-1, 1], "derivative": [1, 1], "second derivative": [0, 0]}
    assert [each.get_title() for each in panels] == [*ends]
    for axes in panels:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels[:2] == ["identity", "elu, alpha=0.5"]
        (line,) = (each for each in axes.get_lines() if each.get_label() == "identity")
        assert line.get_ydata().tolist() == ends[axes.get_title()]
    assert len(pyplot.get_fignums()) == 1


@pytest.mark.parametrize("name", ["sigmoid", "selu", "tanh"])
def test_second_derivative(name: str) -> None:
    """It is that of the formula, up to the kinks."""
    found = curve(fastact.get(name))
    x = found.x[~np.isnan(found.x)]
    got = found.second_derivative[~np.isnan(found.x)]
    s, t = 1 / (1 + np.exp(-x)), np.tanh(x)
    right = {
        "sigmoid": s * (1 - s) * (1 - 2 * s),
        "tanh": -2 * t * (1 - t * t),
        "selu": np.where(x < 0, 1.0507009873554805 * 1.6732632423543772 * np.exp(x), 0),
    }[name]
    np.testing.assert_allclose(got, right, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "sigmoid",
            [(-5, -2.9), (2.9, 5)],
        ),  # s (1 - s) < 0.05 beyond log((0.5 + r) / (0.5 - r)), r = sqrt(0.2)
        ("relu", [(-5, 0)]),
        ("hardshrink", [(-0.5, 0.5)]),
        ("leaky_relu", [(-5, 0)]),  # its slope is 0.01
        ("sine", []),  # extrema are not saturation
        ("gelu", [(-5, -2.34)]),  # nor is the minimum
        ("identity", []),
    ],
)
def test_saturated(name: str, expected: list[tuple[float, float]]) -> None:
    found = list(curve(fastact.get(name)).saturated())
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, atol=0.025)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", "(0, 1)"),
        ("tanh", "(-1, 1)"),
        ("gaussian", "(0, 1]"),
        ("relu", "[0, ∞)"),
        ("clipped_relu", "[0, 20]"),
        ("elu", "(-1, ∞)"),
        ("silu", "[-0.278, ∞)"),  # -W(1/e), W being Lambert's function
        ("identity", "(-∞, ∞)"),
        ("exponential", "(0, ∞)"),
        ("log1mexp", "(-∞, 0)"),
        ("sine", "[-1, 1]"),
        ("hardshrink", ""),  # nothing between 0 and 0.5
    ],
)
def test_range(name: str, expected: str) -> None:
    assert value_range(fastact.get(name)) == expected


def test_jacobian() -> None:
    """That of softmax is diag(y) - y y^T; ticks have the row and the results."""
    from matplotlib.figure import Figure

    row = np.array([1.0, 0, -2])
    axes = fastact.plot("softmax", x=row, ax=Figure().subplots())
    y = np.exp(row) / np.exp(row).sum()
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array(), np.diag(y) - np.outer(y, y), atol=1e-15)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "0", "-2"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0.71", "0.26", "0.035"]
    (image,) = fastact.plot("logsumexp", x=row, ax=Figure().subplots()).get_images()
    np.testing.assert_allclose(image.get_array(), [y], atol=1e-15)


def test_planes() -> None:
    """Of a gated unit and of maxout; they have a panel each."""
    from matplotlib.figure import Figure

    x = np.array([-2.0, 0, 1, 3])
    panels = fastact.plot("swiglu", "glu", "maxout", x=x, ax=Figure().subplots(1, 3))
    gate, value = np.meshgrid(x, x)
    s = 1 / (1 + np.exp(-gate))
    right = value * gate * s, value * s, np.maximum(gate, value)
    for axes, expected in zip(panels, right, strict=True):
        np.testing.assert_allclose(axes.get_images()[0].get_array(), expected, atol=1e-14)
    assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("gate", "value")


def test_losses() -> None:
    """The loss and its derivative, of both targets where the input is a logit."""
    from matplotlib.figure import Figure

    x = np.array([-3.0, -0.5, 2.0])
    s = 1 / (1 + np.exp(-x))
    right = {
        "mse": {"loss, target 0": x**2, "derivative, target 0": 2 * x},
        "sigmoid_binary_cross_entropy": {
            "loss, target 0": -np.log(1 - s),
            "derivative, target 0": s,
            "loss, target 1": -np.log(s),
            "derivative, target 1": s - 1,
        },
        "softmax_cross_entropy": {"loss": -np.log(s), "derivative": s - 1},
    }
    panels = fastact.plot(*right, x=x, ax=Figure().subplots(1, 3))
    for axes, curves in zip(panels, right.values(), strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        for label, y in curves.items():
            np.testing.assert_allclose(drawn[label], y, atol=1e-14)
    assert [each.get_xlabel() for each in panels] == [
        "predictions",
        "logits",
        "logits of the label's class",
    ]


def test_jacobian_of_a_normalization() -> None:
    """That of a row of two numbers: each element takes from the other what it gains."""
    from matplotlib.figure import Figure

    (image,) = fastact.plot("layer_norm", x=[0.0, 2.0], ax=Figure().subplots()).get_images()
    eps = 1e-5
    slope = eps / (2 * (1 + eps) ** 1.5)  # of (x1 - x2) / 2 / sqrt((x1 - x2)**2 / 4 + eps)
    np.testing.assert_allclose(image.get_array(), slope * np.array([[1, -1], [-1, 1]]), rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "at least one"),
        (["softmax", "relu"], "relu is a function of one number"),
        (["gumbel_softmax"], "gumbel_softmax: there is no picture of it"),
        (["lstm_cell"], "lstm_cell: there is no picture of it"),
        (["batch_norm"], "batch_norm: there is no picture of it"),
        ([fastact.maxout.bind(pieces=3)], "a picture of 2 pieces, not of 3"),
        (["prelu"], "prelu: its curve depends on weight"),
    ],
)
def test_no_picture(names: list[Any], said: str) -> None:
    """What has none says why; all others have one."""
    from matplotlib.figure import Figure

    with pytest.raises(TypeError, match=said):
        fastact.plot(*names, ax=Figure().subplots())


def test_wrong_options() -> None:
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match="derivatives must be 0, 1 or 2, got 3"):
        fastact.plot("relu", derivatives=3)
    with pytest.raises(ValueError, match="ax must be 2 axes, one for each panel, got 1"):
        fastact.plot("relu", "elu", ax=Figure().subplots())


def test_colors() -> None:
    """Lines are seen on light and on dark pages (WCAG's contrast), and no two of many look the same."""

    def luminance(color: str) -> float:
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for color in COLORS:
        for background in ("#ffffff", "#0d1117", "#14181e"):
            low, high = sorted((luminance(color), luminance(background)))
            assert (high + 0.05) / (low + 0.05) > 3, (color, background)
    assert len({str(line_style(number)) for number in range(30)}) == 30


def test_themes(pyplot: Any) -> None:
    """Text is light on a dark page, which shows through; the style of matplotlib is restored."""
    before = dict(matplotlib.rcParams)
    with theme(dark=True):
        axes = fastact.plot("relu")
    assert axes.title.get_color() == "#e6edf3"
    assert axes.figure.get_facecolor()[3] == 0
    assert dict(matplotlib.rcParams) == before


def test_no_curve() -> None:
    """What has no curve says why."""
    with pytest.raises(TypeError, match="maxout: a function of several inputs"):
        curve(fastact.get("maxout"))
    with pytest.raises(TypeError, match="prelu: its curve depends on weight"):
        curve(fastact.get("prelu"))


def test_without_matplotlib() -> None:
    """The error says what to install."""
    code = "import sys; sys.modules['matplotlib'] = None\nimport fastact; fastact.plot('relu')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'ModuleNotFoundError: plotting needs matplotlib: pip install "fastact[plot]"' in (
        result.stderr
    )


def test_poles_are_cut_off(pyplot: object) -> None:
    """What grows beyond bounds does not flatten the rest."""
    assert fastact.get("exponential").plot().get_ylim()[1] < 12
    assert fastact.get("relu").plot(np.linspace(-5, 50)).get_ylim()[1] > 50
