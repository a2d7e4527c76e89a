"""The pictures of functions, for light and for dark pages."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import fastact
from fastact.functions import Function
from fastact.show.curves import QUANTITIES, Curve, curve, has_curve, picture_of
from fastact.show.theme import line_style, save, theme

from . import speeds

_GRAY = "0.5"  # seen on white and on black


def has_picture(function: Function) -> bool:
    """Whether a function can be drawn."""
    return picture_of(bound(function)) is not None


def draw(folder: Path) -> None:
    """Draw every function, large and as a thumbnail, its speed, and all curves in one picture."""
    for name in ("images", "thumbnails", "speed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for dark in (False, True):
        suffix = "dark" if dark else "light"
        with theme(dark=dark):
            for function in filter(has_picture, map(fastact.get, fastact.names())):
                _draw_large(function, folder / "images" / f"{function.name}-{suffix}.svg")
                _draw_small(function, folder / "thumbnails" / f"{function.name}-{suffix}.svg")
            for name in fastact.names():
                for machine, results in speeds.measured(name).items():
                    figure = Figure(figsize=(8, 3), layout="constrained")
                    speeds.draw(results, figure)
                    save(figure, folder / "speed" / f"{name}-{machine}-{suffix}.svg")
            _draw_all(folder / "images" / f"all-{suffix}.svg")


def bound(function: Function) -> Function:
    """Return a function whose parameters all have values: where there is no default, those of a sample."""
    return function.bind(**function._definition.required_parameters)


def _is_smooth(function: Function) -> bool:
    return has_curve(function) and function._definition.is_smooth


def _draw_large(function: Function, file: Path) -> None:
    of = bound(function)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    fastact.plot(of, derivatives=2 if _is_smooth(of) else 1, ax=figure.subplots())
    save(figure, file)


def _draw_small(function: Function, file: Path) -> None:
    figure = Figure(figsize=(2.4, 1.6), layout="constrained")
    ax = figure.subplots()
    if has_curve(of := bound(function)):
        _sketch(ax, of)
    else:
        fastact.plot(of, ax=ax)
        for each in figure.axes[1:]:  # the bar of colours
            each.remove()
        for text in list(ax.texts):
            text.remove()
        ax.set_title("")
        if legend := ax.get_legend():
            legend.remove()
        ax.set_axis_off()
    save(figure, file)


def _draw_all(file: Path) -> None:
    """Draw the curves of all activations side by side."""
    functions = [
        each for each in map(fastact.get, fastact.names("activation")) if has_picture(each)
    ]
    functions = [each for each in map(bound, functions) if has_curve(each)]
    columns = 12
    rows = -(-len(functions) // columns)
    figure = Figure(figsize=(columns, rows * 0.95), layout="constrained")
    axes = figure.subplots(rows, columns).ravel()
    for ax, function in zip(axes, functions, strict=False):
        _sketch(ax, function)
        ax.set_title(function.name, fontsize=7, pad=2)
    for ax in axes[len(functions) :]:
        ax.set_axis_off()
    save(figure, file)


def _sketch(ax: Axes, function: Function) -> None:
    """Draw the value and the derivative without scales."""
    sampled = _sampled(function.name)
    ax.axhline(0, color=_GRAY, linewidth=0.6)
    ax.axvline(0, color=_GRAY, linewidth=0.6)
    for number, quantity in reversed(list(enumerate(QUANTITIES[:2]))):
        ax.plot(sampled.x, sampled.samples(quantity), linewidth=1.6, **line_style(number))
    ax.set_xlim(-4, 4)
    ax.set_ylim(-2.5, 2.5)
    ax.set_axis_off()


@cache
def _sampled(name: str) -> Curve:
    return curve(bound(fastact.get(name)), np.linspace(-4, 4, 161))
