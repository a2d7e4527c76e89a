"""Plots of activations in a terminal, which may have few characters and no colors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotext
from numpy.typing import ArrayLike

from fastact.functions import Function
from fastact.show.curves import QUANTITIES, Array, curve, title

HEIGHT = 16  # lines
_SAMPLES = 2001
#: What draws the value and the derivatives of one activation.
ONE = ("braille", "·", "+")
_SEEN = {"braille": "⠒"}
#: What draws each of several curves, and stands beside its name.
MARKERS = "abcdefghijklmnopqrstuvwxyz"


def plot_one(
    activation: Function, width: int, x: ArrayLike | None = None, derivatives: int = 1
) -> str:
    """Return a plot of the value and of some derivatives.

    Raises
    ------
    TypeError
        If the activation has no curve.
    """
    sampled = curve(activation, _points(x))
    shown = list(zip(QUANTITIES[: derivatives + 1], ONE, strict=False))
    # A legend would cover the curves.
    legend = "   ".join(f"{what} {_SEEN.get(marker, marker) * 3}" for what, marker in shown)
    # The value is drawn last, over the others.
    curves = {marker: sampled.samples(what) for what, marker in reversed(shown)}
    return _draw(legend, sampled.x, curves, width)


def plot_several(
    activations: Sequence[Function], width: int, what: str, x: ArrayLike | None = None
) -> str:
    """Return a plot that compares one of `fastact.show.curves.QUANTITIES` of activations.

    Raises
    ------
    TypeError
        If one has no curve.
    """
    points = _points(x)
    curves = {}
    for marker, activation in zip(MARKERS, activations, strict=False):
        sampled = curve(activation, points)
        y = sampled.samples(what)
        valid = ~np.isnan(y)
        curves[marker] = np.interp(points, sampled.x[valid], y[valid], left=np.nan, right=np.nan)
    names = "   ".join(
        f"{marker} {title(each)}" for marker, each in zip(MARKERS, activations, strict=False)
    )
    return f"{_draw(what, points, curves, width)}\n{names}"


def _points(x: ArrayLike | None) -> Array:
    return np.linspace(-5, 5, _SAMPLES) if x is None else np.asarray(x, np.float64)


def _draw(title: str, x: Array, curves: dict[str, Array], width: int) -> str:
    """Return a plot of some curves, by the markers that draw them."""
    left, right = float(np.nanmin(x)), float(np.nanmax(x))
    all_of_them = list(curves.values())
    low, high = float(np.nanmin(all_of_them)), float(np.nanmax(all_of_them))
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, HEIGHT)
    figure.ruler("x").ticks(np.linspace(left, right, 11)[1::2].round(6).tolist())
    gray = plotext.pixel(foreground="gray")
    if low <= 0 <= high:
        figure.draw(figure.segment((left, right), (0, 0), marker=plotext.marker("─").fill(gray)))
    if left <= 0 <= right:
        figure.draw(figure.segment((0, 0), (low, high), marker=plotext.marker("│").fill(gray)))
    figure.title(title)
    for marker, y in curves.items():
        valid = ~np.isnan(y)
        figure.draw(figure.signal(x[valid].tolist(), y[valid].tolist(), marker=marker))
    return str(figure.build()).rstrip("\n")
