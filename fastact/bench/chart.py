"""A chart of how many times as long as fastact the other implementations take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastact.bench.report import WORDS, Result, Settings, geometric_mean, name_of
from fastact.show.theme import COLORS, save, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS = 5


def draw(
    results: Sequence[Result],
    settings: Settings,
    machine: Mapping[str, Any],
    files: Sequence[Path],
    *,
    dark: bool = False,
) -> None:
    """Draw a panel for each size, and save the figure in any format that matplotlib supports.

    A dot is an activation, a large one with a number the geometric mean of all. The last operation is drawn; of many
    sizes some, the least and the largest included.
    """
    from matplotlib.figure import Figure

    operation = settings.operations[-1]
    shown = [r for r in results if r.operation == operation and "fastact" in r.times]
    sizes = _some(sorted({r.elements for r in shown}))
    peers = [
        p for p in settings.implementations if p != "fastact" and any(p in r.times for r in shown)
    ]
    with theme(dark=dark):
        height = 0.42 * len(peers) + 1.6
        figure = Figure(figsize=(2.3 * len(sizes) + 1, height), layout="constrained")
        axes = figure.subplots(1, max(1, len(sizes)), sharex=True, sharey=True, squeeze=False)[0]
        for panel, size in zip(axes, sizes, strict=False):
            _draw_panel(panel, [r for r in shown if r.elements == size], peers)
            panel.set_title(f"{size:,} numbers", fontsize="medium", pad=18)
        axes[0].set_yticks(range(len(peers)), map(name_of, peers))
        axes[0].set_ylim(len(peers) - 0.4, -0.6)
        count = len({r.activation for r in shown})
        figure.suptitle(f"Time relative to fastact: {WORDS[operation].lower()}, {settings.dtype}")
        figure.supxlabel(
            f"a dot for each of {count} activations, if the library has it, and their geometric mean; logarithmic scale\n"
            f"{machine['processor']}, {machine['cores']} cores",
            fontsize="small",
        )
        for file in files:
            save(figure, file)


def _some(sizes: Sequence[int]) -> list[int]:
    """Return at most `_MOST_PANELS` sizes, evenly chosen; single numbers are not for a chart."""
    several = [size for size in sizes if size > 1] or sizes
    places = np.linspace(0, len(several) - 1, min(len(several), _MOST_PANELS)).round()
    return [several[int(place)] for place in places]


def _draw_panel(ax: Axes, results: Sequence[Result], peers: Sequence[str]) -> None:
    ax.set_xscale("log")
    ax.axvline(1, color=COLORS[0], linewidth=2, zorder=1)
    ax.text(
        1,
        1,
        "fastact",
        ha="center",
        va="bottom",
        color=COLORS[0],
        fontsize="small",
        transform=ax.get_xaxis_transform(),
    )
    for place, peer in enumerate(peers):
        ratios = [result.ratio(peer) for result in results if peer in result.times]
        if not ratios:
            continue
        mean = geometric_mean(ratios)
        ax.plot(
            ratios,
            [place] * len(ratios),
            "o",
            markersize=4,
            color=COLORS[1],
            alpha=0.35,
            markeredgewidth=0,
        )
        ax.plot(mean, place, "o", markersize=9, color=COLORS[1])
        ax.annotate(
            f"{mean:.2g}",
            (mean, place),
            (0, 7),
            textcoords="offset points",
            ha="center",
            weight="bold",
        )
    ax.grid(axis="x", alpha=0.3)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.spines["left"].set_visible(False)
