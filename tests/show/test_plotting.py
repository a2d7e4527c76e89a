"""The curves, and what they look like."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import fastact
from fastact.show.plotting import compare, curve, kink_positions, plot

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
    axes = plot(fastact.get("elu", alpha=0.5))
    assert axes.get_title() == "elu, alpha=0.5"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["value", "derivative"]
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


def test_compare() -> None:
    """Values on the left, derivatives on the right, and the names of all in both legends."""
    from matplotlib.figure import Figure

    figure = Figure()
    compare([fastact.get("identity"), fastact.get("elu", alpha=0.5)], figure, [-1, 1])
    for axes, what, ends in zip(
        figure.axes, ("value", "derivative"), ([-1, 1], [1, 1]), strict=True
    ):
        assert axes.get_title() == what
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["identity", "elu, alpha=0.5"]
        (line,) = (each for each in axes.get_lines() if each.get_label() == "identity")
        assert line.get_ydata().tolist() == ends


def test_no_curve() -> None:
    """What has no curve says why."""
    with pytest.raises(TypeError, match="maxout: a function of several inputs"):
        curve(fastact.get("maxout"))
    with pytest.raises(TypeError, match="prelu: its curve depends on weight"):
        curve(fastact.get("prelu"))


def test_without_matplotlib() -> None:
    """The error says what to install."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import fastact; from fastact.show.plotting import plot\n"
        "plot(fastact.get('relu'))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'ModuleNotFoundError: plotting needs matplotlib: pip install "fastact[plot]"' in (
        result.stderr
    )


def test_poles_are_cut_off(pyplot: object) -> None:
    """What grows beyond bounds does not flatten the rest."""
    assert fastact.get("exponential").plot().get_ylim()[1] < 12
    assert fastact.get("relu").plot(np.linspace(-5, 50)).get_ylim()[1] > 50
