"""How pictures look: colors that suit light and dark pages, and how they are written to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colors that the color-blind can tell apart. All have a contrast of more than 3 both to white and to what pages call
#: black, so curves look the same in every theme: only text and axes change.
COLORS = ("#2a7fba", "#d55e00", "#009e73", "#b5609a", "#8f7a00", "#7f7f7f")
#: Lines differ in their dashes too, in print and for those who see no colors.
DASHES: Sequence[Any] = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)))

_ON_LIGHT = "#1f2328"
_ON_DARK = "#e6edf3"


def line_style(number: int) -> dict[str, Any]:
    """Return the color and dashes of one of several lines: no two have both in common."""
    turn, place = divmod(number, len(COLORS))
    return {"color": COLORS[place], "linestyle": DASHES[(place + turn) % len(DASHES)]}


@contextmanager
def theme(*, dark: bool = False) -> Iterator[None]:
    """Draw figures for a light page, or for a dark one: light text on a transparent background."""
    from matplotlib import rc_context

    text = _ON_DARK if dark else _ON_LIGHT
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    background = "none" if dark else "white"
    style: dict[Any, Any] = {
        **dict.fromkeys(names, text),
        "figure.facecolor": background,
        "axes.facecolor": background,
        "legend.facecolor": "#151b23" if dark else "white",  # it may cover curves
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "fastact",  # equal figures are equal files
    }
    with rc_context(style):
        yield


def save(figure: Figure, file: Path) -> None:
    """Write a figure to a file, whose suffix is its format."""
    metadata = {"Date": None} if file.suffix == ".svg" else None
    figure.savefig(file, dpi=150, metadata=metadata)
