"""How long a function takes, beside its peers: from what ``fastact bench --json`` has written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.report import WORDS, Result, from_json, name_of
from fastact.show.theme import line_style

#: One file for each machine.
MACHINES = Path(__file__).resolve().parents[2] / "benchmarks" / "machines"


@cache
def machines() -> dict[str, tuple[list[Result], dict[str, Any]]]:
    """Return results and machine of each report, by the name of its file."""
    found = {}
    for file in sorted(MACHINES.glob("*.json")):
        results, _, machine = from_json(json.loads(file.read_text()))
        found[file.stem] = results, machine
    return found


def measured(name: str) -> dict[str, list[Result]]:
    """Return what has been measured of a function, by machine."""
    found = {machine: results_of(results, name) for machine, (results, _) in machines().items()}
    return {machine: results for machine, results in found.items() if results}


def results_of(results: Sequence[Result], name: str) -> list[Result]:
    """Return where a function has been measured beside others."""
    found = (each for each in results if each.activation == name)
    return [each for each in found if "fastact" in each.times and len(each.times) > 1]


def table(results: Sequence[Result]) -> Iterator[str]:
    """Yield a table of a function's times on a machine."""
    peers = peers_in(results)
    yield f"| {' | '.join(['', 'elements', 'fastact', *map(name_of, peers)])} |"
    yield f"|:--|{'--:|' * (len(peers) + 2)}"
    for operation, title in WORDS.items():
        for each in (result for result in results if result.operation == operation):
            own = microseconds(each.times["fastact"].median)
            cells = [multiple(each.ratio(key)) if key in each.times else "" for key in peers]
            yield f"| {' | '.join([title.lower(), f'{each.elements:,}', own, *cells])} |"


def peers_in(results: Sequence[Result]) -> list[str]:
    """Return those that a function was compared with."""
    found = {key for each in results for key in each.times} - {"fastact"}
    return [key for key in IMPLEMENTATIONS if key in found]


def draw(results: Sequence[Result], figure: Figure) -> None:
    """Draw how many times as long as fastact the others take, by size: a panel for each operation."""
    operations = [key for key in WORDS if any(each.operation == key for each in results)]
    axes = figure.subplots(1, len(operations), sharey=True, squeeze=False)[0]
    for ax, operation in zip(axes, operations, strict=True):
        for number, peer in enumerate(peers_in(results)):
            shown = [each for each in results if each.operation == operation and peer in each.times]
            sizes = [each.elements for each in shown]
            ratios = [each.ratio(peer) for each in shown]
            ax.loglog(sizes, ratios, label=name_of(peer), **line_style(number))
        ax.axhline(1, color="0.5", linewidth=2)
        ax.set_title(WORDS[operation].lower(), fontsize="medium")
        ax.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}")
        ax.yaxis.set_minor_formatter(lambda ratio, _: "")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("times as long")
    figure.supxlabel("elements", fontsize="medium")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")


def multiple(ratio: float) -> str:
    """Return a time as a multiple of fastact's."""
    text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    return f"**{text}**" if ratio < 1 else text


def microseconds(time: float) -> str:
    """Return a time with three digits."""
    digits = next((k for k, least in enumerate((1e-4, 1e-5, 1e-6)) if time >= least), 3)
    return f"{time * 1e6:,.{digits}f} µs"


def described(machine: str) -> str:
    """Return what was measured on: processor, threads, versions."""
    _, about = machines()[machine]
    versions = about["versions"]
    names = ("fastact", "numpy", "numba", "torch", "jax", "scipy")
    found = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    return f"{about['processor']}, {about['threads']} threads, float32; {found}."
