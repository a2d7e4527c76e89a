"""Plots of functions with matplotlib: `fastact.plot`, and the method `plot` of functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastact.functions import Function
from fastact.functions.registry import get
from fastact.show.curves import (
    QUANTITIES,
    SATURATED,
    Curve,
    curve,
    has_curve,
    jacobian,
    losses,
    picture_of,
    surface,
    title,
)
from fastact.show.theme import line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GRAY = "0.5"  # seen on white and on black
_SHADE: dict[str, Any] = {"color": _GRAY, "alpha": 0.18, "linewidth": 0}
_SHADED = f"|derivative| < {SATURATED}"
_MOST_NUMBERS = 10  # elements of a row whose Jacobian has its numbers written in it


def plot(
    *functions: str | Function,
    x: ArrayLike | None = None,
    derivatives: int = 1,
    ax: Any = None,
) -> Any:
    """Plot functions with matplotlib: value and derivative, kinks, and where they are saturated.

    An activation is drawn with its derivative; several are compared, with a panel for the values and one for the
    derivatives. Dots mark kinks, and the derivative chosen there. The saturated region is shaded: there the derivative
    is smaller than 0.05 in magnitude, and does not merely change its sign, so little of a gradient passes.

    Of a row function, such as softmax, and of a normalization of rows the Jacobian at a row is drawn; of a gated unit,
    or maxout of two pieces, the value on the plane of its two inputs; of a loss, the loss and its derivative for one
    element or row. These have a panel each.

    Parameters
    ----------
    *functions : str or Function
        Names, or functions, perhaps with bound parameters.
    x : array_like, optional
        The points, by default from -5 to 5; for a Jacobian, the row.
    derivatives : {0, 1, 2}
        How many derivatives of activations to draw.
    ax : matplotlib.axes.Axes or sequence of them, optional
        Where to draw: one for each panel. By default one panel is drawn into pyplot's current axes, several into a new
        figure.

    Returns
    -------
    matplotlib.axes.Axes or ndarray of them
        The axes: an array if there are several panels.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    TypeError
        If a function has no such picture, if a parameter has no value, or if activations are to be compared with
        other functions.
    ValueError
        If there is no function of a name, or `ax` has too few or too many axes.

    Notes
    -----
    The colors of curves suit light and dark backgrounds; everything else follows the style of matplotlib, so
    ``pyplot.style.use("dark_background")`` gives a dark figure.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = fa.plot("gelu", ax=Figure().subplots())
    >>> ax.get_title()
    'gelu'
    >>> panels = fa.plot("relu", fa.elu.bind(alpha=0.5), derivatives=2, ax=Figure().subplots(1, 3))
    >>> [each.get_title() for each in panels]
    ['value', 'derivative', 'second derivative']
    """
    if not functions:
        raise TypeError("plot: which function? Give at least one")
    if derivatives not in range(len(QUANTITIES)):
        raise ValueError(f"plot: derivatives must be 0, 1 or 2, got {derivatives!r}")
    found = [get(each) if isinstance(each, str) else each for each in functions]
    quantities = QUANTITIES[: derivatives + 1]
    if all(map(has_curve, found)):
        sampled = [curve(each, x) for each in found]
        if len(found) == 1:
            panels = _panels(ax, 1)
            _draw_one(panels[0], sampled[0], quantities, title(found[0]))
        else:
            panels = _panels(ax, len(quantities))
            titles = list(map(title, found))
            for panel, quantity in zip(panels, quantities, strict=True):
                _draw_several(panel, sampled, quantity, titles)
    else:
        for each in found:
            _check_picture(each)
        panels = _panels(ax, len(found))
        for panel, each in zip(panels, found, strict=True):
            _DRAWN[picture_of(each) or ""](panel, each, x)
    return panels[0] if len(panels) == 1 else panels


def _check_picture(function: Function) -> None:
    """Raise a TypeError if a function is none of those that have panels of their own."""
    if has_curve(function):
        raise TypeError(f"{function.name} is a function of one number: plot it by itself")
    if picture_of(function) is None:
        raise TypeError(
            f"{function.name}: there is no picture of it; there are those of activations, row functions, gated units, "
            "losses and normalizations of rows"
        )


def _panels(ax: Any, count: int) -> Any:
    """Return an array of the given axes, or of new ones."""
    if ax is not None:
        given = np.ravel(ax)
        if given.size != count:
            raise ValueError(f"plot: ax must be {count} axes, one for each panel, got {given.size}")
        return given
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'plotting needs matplotlib: pip install "fastact[plot]"', name=error.name
        ) from None
    if count == 1:
        return np.array([pyplot.gca()])
    return pyplot.subplots(1, count, figsize=(5 * count, 4), layout="constrained")[1]


# Curves ----------------------------------------------------------------------------------------


def _draw_one(ax: Axes, sampled: Curve, quantities: Sequence[str], name: str) -> None:
    """Draw the value and derivatives of one activation."""
    _draw_origin(ax)
    for number, quantity in enumerate(quantities):
        _draw_line(ax, sampled, quantity, number, quantity)
    label: str | None = _SHADED
    for low, high in sampled.saturated():
        ax.axvspan(low, high, label=label, zorder=0, **_SHADE)
        label = None
    _finish(ax, name)


def _draw_several(ax: Axes, sampled: Sequence[Curve], quantity: str, names: Sequence[str]) -> None:
    """Draw the same of several activations."""
    _draw_origin(ax)
    for number, (each, name) in enumerate(zip(sampled, names, strict=True)):
        _draw_line(ax, each, quantity, number, name)
    if quantity == "derivative":
        ax.axhspan(-SATURATED, SATURATED, label=_SHADED, zorder=0, **_SHADE)
    _finish(ax, quantity)


def _draw_line(ax: Axes, sampled: Curve, quantity: str, number: int, label: str) -> None:
    style = line_style(number)
    ax.plot(sampled.x, sampled.samples(quantity), label=label, linewidth=2, **style)
    ax.plot(sampled.kinks, sampled.at_kinks(quantity), "o", markersize=5, color=style["color"])


def _draw_origin(ax: Axes) -> None:
    ax.axhline(0, color=_GRAY, linewidth=0.8)
    ax.axvline(0, color=_GRAY, linewidth=0.8)


def _finish(ax: Axes, name: str) -> None:
    ax.margins(x=0)
    ax.set_xlabel("x")
    ax.set_title(name)
    ax.grid(alpha=0.3)
    ax.legend()


# Planes ----------------------------------------------------------------------------------------


def _draw_jacobian(ax: Axes, function: Function, row: ArrayLike | None) -> None:
    """Draw the derivative of each result with respect to each element of a row."""
    x, y, dx = jacobian(function, row)
    image = _draw_plane(ax, dx, origin="upper", aspect="auto" if y.size < x.size else "equal")
    ax.set_xticks(range(x.size), [f"{each:.3g}" for each in x])
    ax.set_yticks(range(y.size), [f"{each:.2g}" for each in y])
    if x.size <= _MOST_NUMBERS:
        for (i, j), number in np.ndenumerate(dx):
            is_dark = abs(number) > 0.6 * image.norm.vmax
            color = "white" if is_dark else "black"
            said = f"{number:.2f}".replace("-0.00", "0").removesuffix(".00")
            ax.text(j, i, said, ha="center", va="center", fontsize="x-small", color=color)
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    ax.set_title(f"{title(function)}: dy/dx")


def _draw_surface(ax: Axes, function: Function, x: ArrayLike | None) -> None:
    """Draw the value on the plane of two inputs."""
    points, y, (across, up) = surface(function, x)
    ends = points[0], points[-1]
    _draw_plane(ax, y, origin="lower", extent=(*ends, *ends))
    lines = ax.contour(points, points, y, colors="black", linewidths=0.6, alpha=0.6)
    ax.clabel(lines, fontsize="x-small")
    ax.set_xlabel(across)
    ax.set_ylabel(up)
    ax.set_title(title(function))


def _draw_loss(ax: Axes, function: Function, x: ArrayLike | None) -> None:
    """Draw the loss of an element or a row, and its derivative."""
    points, found, across = losses(function, x)
    _draw_origin(ax)
    for number, (target, curves) in enumerate(found.items()):
        for place, (what, y) in enumerate(zip(("loss", "derivative"), curves, strict=True)):
            label = ", ".join(filter(None, (what, target)))
            ax.plot(points, y, label=label, linewidth=2, **line_style(2 * number + place))
    low, high = np.quantile(
        np.concatenate([each for pair in found.values() for each in pair]), (0.02, 0.98)
    )
    ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    _finish(ax, title(function))
    ax.set_xlabel(across)


def _draw_plane(ax: Axes, numbers: Any, **options: Any) -> Any:
    """Draw numbers as colors: white is zero."""
    most = float(np.nanmax(np.abs(numbers))) or 1.0
    image = ax.imshow(numbers, cmap="RdBu_r", vmin=-most, vmax=most, **options)
    ax.figure.colorbar(image, ax=ax)
    return image


#: What draws each of `picture_of` that has a panel of its own.
_DRAWN = {"jacobian": _draw_jacobian, "plane": _draw_surface, "loss": _draw_loss}
