"""A chart of all times, as multiples of the streaming limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.report import Result, Settings

# Okabe and Ito's colours, safe for the colour-blind, and distinct markers.
_STYLES = {
    "fastact": ("#000000", "o"),
    "numpy": ("#0072B2", "s"),
    "numba": ("#882255", "d"),
    "torch": ("#D55E00", "^"),
    "torch_raw": ("#E69F00", "v"),
    "torch_compile": ("#CC79A7", "<"),
    "jax": ("#009E73", "D"),
    "numexpr": ("#56B4E9", "P"),
    "scipy": ("#999999", "X"),
    "thinc": ("#F0E442", ">"),
    "onnxruntime": ("#7F3C8D", "*"),
}


def draw(results: Sequence[Result], settings: Settings, files: Sequence[Path]) -> None:
    """Draw a panel for each size, or every second, and save the figure in any format that matplotlib supports."""
    from matplotlib.figure import Figure

    operation = settings.operations[-1]
    shown = [r for r in results if r.operation == operation and "fastact" in r.times]
    sizes = [size for size in settings.elements if size > 1]
    sizes = sizes[::2] if len(sizes) > 5 else sizes
    order = _order(shown, sizes[-1] if sizes else settings.elements[-1])
    sizes = sizes or list(settings.elements)
    figure = Figure(figsize=(3.1 * len(sizes) + 1.6, 0.24 * len(order) + 1.9), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, sharex=True, squeeze=False)[0]
    for panel, elements in zip(panels, sizes, strict=True):
        _draw_panel(panel, [r for r in shown if r.elements == elements], order)
        panel.set_title(f"{elements:,} elements", fontsize=10)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    handles: dict[str, Any] = {}
    for panel in panels:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    figure.suptitle(
        f"{operation.replace('_', ' and ')}, {settings.dtype}: time as a multiple of the streaming limit",
        fontsize=11,
    )
    for file in files:
        figure.savefig(file, dpi=150)


def _order(results: Sequence[Result], elements: int) -> list[str]:
    """Return the activations, slowest first: they are drawn at the bottom."""
    times = {r.activation: r.times["fastact"].median for r in results if r.elements == elements}
    return sorted(times, key=lambda name: -times[name])


def _draw_panel(panel: Any, results: Sequence[Result], order: Sequence[str]) -> None:
    panel.axvline(1, color="0.6", linewidth=1)
    panel.set_xscale("log")
    panel.grid(axis="x", which="major", color="0.9")
    panel.grid(axis="y", color="0.95")
    panel.set_axisbelow(True)
    for name, (color, marker) in _STYLES.items():
        points = [
            (result.times[name].median / result.limit, order.index(result.activation))
            for result in results
            if name in result.times
        ]
        if points:
            panel.scatter(
                *zip(*points, strict=True),
                s=34 if name == "fastact" else 16,
                color=color,
                marker=marker,
                linewidths=0,
                alpha=1 if name == "fastact" else 0.8,
                zorder=3 if name == "fastact" else 2,
                label=IMPLEMENTATIONS[name].title,
            )
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
