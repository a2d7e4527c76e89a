"""How long a function takes, beside its peers: from what ``fastact bench --json`` has written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

#: One file for each machine.
MACHINES = Path(__file__).resolve().parents[2] / "benchmarks" / "machines"

OPERATIONS = {
    "forward": "value",
    "backward": "gradient",
    "forward_backward": "value and gradient",
}
TITLES = {
    "numpy": "NumPy",
    "numba": "Numba",
    "torch": "PyTorch",
    "torch_raw": "PyTorch's kernels",
    "jax": "JAX",
    "scipy": "SciPy",
}


@cache
def machines() -> list[dict[str, Any]]:
    """Return the reports, by the name of the file."""
    return [json.loads(file.read_text()) for file in sorted(MACHINES.glob("*.json"))]


def section(name: str) -> Iterator[str]:
    """Yield the section on a function's speed, if it has been measured."""
    tables = [(each["machine"], list(table(each, name))) for each in machines()]
    tables = [(machine, lines) for machine, lines in tables if lines]
    if not tables:
        return
    yield "## Speed\n"
    yield (
        "The time of a call, and the times of others as multiples of it: below 1, in bold, they are faster. "
        "[Benchmarks](../benchmarks.md) has the method.\n"
    )
    for machine, lines in tables:
        yield from lines
        yield f"\n{described(machine)}\n"


def table(report: dict[str, Any], name: str) -> Iterator[str]:
    """Yield a table of a function's times on a machine."""
    results = [each for each in report["results"] if each["activation"] == name]
    peers = [key for key in TITLES if any(key in each["times"] for each in results)]
    if not results:
        return
    yield f"| {' | '.join(['', 'elements', 'fastact', *map(TITLES.__getitem__, peers)])} |"
    yield f"|:--|{'--:|' * (len(peers) + 2)}"
    for operation, title in OPERATIONS.items():
        for each in (result for result in results if result["operation"] == operation):
            medians = {key: found["median"] for key, found in each["times"].items()}
            if own := medians.get("fastact"):
                cells = [multiple(medians.get(key), own) for key in peers]
                size = f"{each['elements']:,}"
                yield f"| {' | '.join([title, size, microseconds(own), *cells])} |"


def multiple(time: float | None, own: float) -> str:
    """Return a time as a multiple of fastact's."""
    if time is None:
        return ""
    text = f"{time / own:.2f}" if time < 10 * own else f"{time / own:.0f}"
    return f"**{text}**" if time < own else text


def microseconds(time: float) -> str:
    """Return a time with three digits."""
    digits = next((k for k, least in enumerate((1e-4, 1e-5, 1e-6)) if time >= least), 3)
    return f"{time * 1e6:,.{digits}f} µs"


def described(machine: dict[str, Any]) -> str:
    """Return what was measured on: processor, threads, versions."""
    versions = machine["versions"]
    names = ("fastact", "numpy", "numba", "torch", "jax", "scipy")
    found = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    return f"{machine['processor']}, {machine['threads']} threads, float32; {found}."
