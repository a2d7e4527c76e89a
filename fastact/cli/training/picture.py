"""The results as a picture: how the loss falls with time, and where the time of a step goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastact.cli.training.comparison import Comparison, Run
from fastact.cli.training.net import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"NumPy": "#d9822b", "fastact": "#1f5fa8", "PyTorch": "#8a8a8a"}
PART_COLORS = dict(zip(PARTS, ("#b8c4d6", "#c8102e", "#f2c14e", "#7f9c6b"), strict=True))
WHOLE_COLOR = "#d5d5d5"


def draw(result: Comparison, path: Path) -> None:
    """Write the picture to a file, whose suffix is its format."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    with rc_context(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
        }
    ):
        figure = Figure(figsize=(10, 4.3), layout="constrained")
        curves, bars = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _draw_curves(curves, result)
        _draw_bars(bars, result)
        handles = [Patch(color=color, label=part) for part, color in PART_COLORS.items()]
        figure.legend(handles=handles, loc="outside lower right", ncols=len(PARTS), frameon=False)
        s = result.settings
        figure.suptitle(
            f"Training on handwritten digits: {s.layers} hidden layers of {s.width} units with {s.activation}, "
            f"batches of {s.batch_size}, {s.dtype}",
            fontsize=13,
        )
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_curves(axes: Axes, result: Comparison) -> None:
    """Draw the losses against the time of training, in steps of median length."""
    for name, run in result.runs.items():
        losses = run.by_epoch(run.losses)
        seconds = np.arange(1, run.epochs + 1) * run.step * losses.shape[1]
        axes.plot(seconds, losses.mean(axis=1), color=COLORS[name], linewidth=2, label=name)
        axes.plot(seconds[-1], losses[-1].mean(), "o", color=COLORS[name])
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_title("The same losses, sooner" if result.faster() > 1 else "The same losses")
    axes.set_xlabel("time of training (s)")
    axes.set_ylabel("training loss (mean of an epoch)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _draw_bars(axes: Axes, result: Comparison) -> None:
    """Draw a bar for each variant, divided into the parts of a step."""
    names = list(result.runs)
    longest = max(run.step for run in result.runs.values()) * 1e3
    for place, name in enumerate(names):
        run, left = result.runs[name], 0.0
        for part, width in _widths(run).items():
            color = PART_COLORS.get(part, WHOLE_COLOR)
            axes.barh(place, width, left=left, height=0.55, color=color, edgecolor="white")
            if part in PARTS and width > 0.07 * longest:
                white = part == "activations"
                axes.text(
                    left + width / 2,
                    place,
                    f"{width:.2f}",
                    ha="center",
                    va="center",
                    color="white" if white else "black",
                    fontsize=9,
                )
            left += width
        axes.text(
            left + 0.015 * longest, place, f"{run.step * 1e3:.2f}", va="center", weight="bold"
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * longest)
    axes.set_xlabel("time of a step (ms, median)")
    faster, in_activations = result.faster(), result.faster("activations")
    axes.set_title(f"Activations {in_activations:.1f} times faster, the step {faster:.1f} times")


def _widths(run: Run) -> dict[str, float]:
    """Return the milliseconds of each part, or of the whole step where parts are not measured."""
    if not run.parts:
        return {"whole": run.step * 1e3}
    return {part: run.part(part) * 1e3 for part in PARTS}
