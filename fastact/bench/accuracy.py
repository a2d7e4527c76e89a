"""How far the values of fastact and of other implementations are from the exact ones, over all magnitudes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.verification import numbers
from fastact.bench.workloads import Workload
from fastact.show.theme import COLORS, save, theme

#: Beside fastact: who computes values by formulas of their own, and is a reader's alternative.
PEERS = ("numpy", "torch", "jax")
_MARKERS = "os^D"


def compared_functions() -> list[str]:
    """Return the activations that are compared by default.

    They have a formula and are in another library. Those that are exact to half a unit are left out: they are piecewise
    linear, and equal everywhere.
    """
    found = (fa.get(name)._definition for name in fa.names("activation"))
    return [
        each.name
        for each in found
        if each.exact
        and each.errors
        and each.errors[0] > 0.5
        and {"pytorch", "jax"} & set(each.elsewhere)
    ]


def largest_errors(
    name: str, implementations: Sequence[str], dtype: str = "float32", count: int = 500
) -> dict[str, float]:
    """Return the largest error of the value by implementation, in units in the last place; without those that lack it.

    Inputs are finite, of all magnitudes and signs; inputs and results below the normal range are left out, which some
    libraries flush to zero. NaN is an infinite error.
    """
    from fastact.bench.exact import Formula, errors_in_ulps

    formula = Formula(fa.get(name)._definition)
    work = Workload.of(name, (1,), dtype)
    parameters = {**formula.defaults, **work.parameters}
    tiny = float(np.finfo(dtype).tiny)
    x = numbers(dtype, count)
    x = x[np.isfinite(x) & (np.abs(x) >= tiny)]
    exact = [formula.at(float(each), **parameters)[0] for each in x]
    is_normal = np.array([abs(each) >= tiny for each in exact])
    x, exact = x[is_normal], [each for each in exact if abs(each) >= tiny]
    work = replace(work, inputs=(x,), dys=(np.ones_like(x),))
    found = {}
    for each in implementations:
        try:
            with np.errstate(all="ignore"):
                y: NDArray[np.floating] = np.asarray(IMPLEMENTATIONS[each].make(work, "forward")())
        except NotImplementedError:
            continue
        errors = errors_in_ulps(y, exact)
        found[each] = float(errors.max()) if not np.isnan(errors).any() else math.inf
    return found


def draw(
    errors: Mapping[str, Mapping[str, float]], dtype: str, file: Path, *, dark: bool = False
) -> None:
    """Draw the largest errors: a row for each function, a marker for each implementation.

    An error as large as the result itself, or larger, stands at the right.
    """
    from matplotlib.figure import Figure

    all_wrong = 2.0 ** np.finfo(dtype).nmant
    names = sorted(errors, key=lambda name: max(errors[name].values()))
    with theme(dark=dark):
        figure = Figure(figsize=(7.5, 0.33 * len(names) + 1.7), layout="constrained")
        ax = figure.subplots()
        for place, implementation in enumerate(("fastact", *PEERS)):
            rows = [row for row, name in enumerate(names) if implementation in errors[name]]
            found = [min(errors[names[row]][implementation], all_wrong) for row in rows]
            if rows:
                heights = np.array(rows) + 0.21 * (
                    1.5 - place
                )  # equal errors are seen beside each other
                ax.plot(
                    found,
                    heights,
                    _MARKERS[place],
                    color=COLORS[place],
                    markersize=7 if place == 0 else 5,
                    label=_with_version(implementation),
                )
        ax.set_xscale("log")
        ax.set_xlim(0.3, 3 * all_wrong)
        ax.axvspan(all_wrong / 2, 3 * all_wrong, color="0.5", alpha=0.18, linewidth=0)
        ax.text(
            1.2 * all_wrong,
            len(names) - 0.4,
            "no digit\nis right",
            ha="center",
            va="bottom",
            fontsize="small",
        )
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.5, len(names) - 0.5)
        ax.grid(axis="x", alpha=0.3)
        ax.tick_params(axis="y", length=0)
        for row in range(0, len(names), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="0.5", alpha=0.1, linewidth=0)
        ax.set_axisbelow(True)
        ax.set_xlabel("units in the last place of the exact result, logarithmic scale")
        ax.set_title(f"Largest error of the value, {dtype}", pad=28)
        figure.legend(loc="outside lower center", ncols=1 + len(PEERS), frameon=False)
        save(figure, file)


def _with_version(implementation: str) -> str:
    """Return the title and the version of an implementation."""
    found = IMPLEMENTATIONS[implementation]
    release = version(found.packages[0]).partition("+")[0]
    return f"{found.title} {release}"
