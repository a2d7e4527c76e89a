"""Measure what the first calls of a process take: with an empty kernel cache, and with a warm one.

    python -m benchmarks.cold_start
    python -m benchmarks.cold_start --processes 5 --dtype float32

Each column is of fresh processes, which take the steps in turn; the first has an empty cache each time, the second what
they have left. A cell is the least of all processes: seconds of CPU, in all threads, and seconds on the clock. The first net
is a training step with `relu`, `dropout` and `softmax_cross_entropy`, counted from the beginning of the process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fastact.bench.timing import describe, machine

from .history.startup import run

#: What a process does, in turn; each of a dtype.
STEPS = {
    "import numpy": "import numpy as np",
    "import fastact": "import fastact as fa",
    "relu": """
x = np.linspace(-3, 3, 1000, dtype="{dtype}").reshape(10, 100)
y = fa.relu(x)""",
    "dropout": "z = fa.dropout(y, 0.5, rng=0)",
    "softmax_cross_entropy.forward_backward": """
loss, dz = fa.softmax_cross_entropy.forward_backward(z, np.arange(10))""",
    "dropout.backward": "dy = fa.dropout.backward(dz, 0.5, rng=0)",
    "relu.backward": "fa.relu.backward(dy, x)",
    "a further function: sigmoid.forward_backward": "fa.sigmoid.forward_backward(x, x)",
    "a further function of rows: softmax": "fa.softmax(x)",
}
#: The last step of the net.
NET = "relu.backward"
COLUMNS = ("empty cache", "warm cache")


class Seconds(NamedTuple):
    """What a step takes.

    Attributes
    ----------
    cpu, wall : float
        Seconds of CPU and on the clock.
    """

    cpu: float
    wall: float


def script(dtype: str) -> str:
    """Return a script that prints the seconds of all steps: of CPU and on the clock, in turn.

    Those of the first step count from the beginning of the process, but for the start of the interpreter on the clock.
    """
    watch = "_marks.append((_time.process_time(), _time.perf_counter()))\n"
    steps = "".join(f"{code.format(dtype=dtype)}\n{watch}" for code in STEPS.values())
    return f"""
import time as _time
_marks = [(0.0, _time.perf_counter())]
{steps}
for (a, b), (c, d) in zip(_marks, _marks[1:]):
    print(c - a, d - b)
"""


def measure(dtype: str, processes: int) -> dict[str, dict[str, Seconds]]:
    """Return the least seconds of each step, by column and step, and those of the whole net."""
    found: dict[str, list[dict[str, Seconds]]] = {column: [] for column in COLUMNS}
    for _ in range(processes):
        with tempfile.TemporaryDirectory() as folder:
            for column in COLUMNS:
                numbers = iter(run(script(dtype), folder))
                steps = {step: Seconds(next(numbers), next(numbers)) for step in STEPS}
                found[column].append(steps | {"the first net": _until(NET, steps)})
    return {
        column: {
            step: Seconds(*map(min, zip(*(each[step] for each in samples), strict=True)))
            for step in samples[0]
        }
        for column, samples in found.items()
    }


def _until(last: str, steps: Mapping[str, Seconds]) -> Seconds:
    """Add up the steps to the last one."""
    names = list(steps)
    some = [steps[name] for name in names[: names.index(last) + 1]]
    return Seconds(*map(sum, zip(*some, strict=True)))


def print_table(found: Mapping[str, Mapping[str, Seconds]]) -> None:
    """Print all steps, and the net."""
    width = max(map(len, found[COLUMNS[0]]))
    print(f"{'':{width}}" + "".join(f"{column:>20}" for column in COLUMNS))
    print(f"{'':{width}}" + len(COLUMNS) * f"{'CPU s':>12}{'wall s':>8}")
    for step in found[COLUMNS[0]]:
        cells = (found[column][step] for column in COLUMNS)
        print(f"{step:{width}}" + "".join(f"{cpu:12.3f}{wall:8.3f}" for cpu, wall in cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cold_start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dtype", default="float64", help="of all arrays (default: float64)")
    parser.add_argument("--processes", type=int, default=3, help="for each cell (default: 3)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    where = machine()
    found = measure(options.dtype, options.processes)
    print_table(found)
    print(describe(where))
    if options.json:
        plain = {
            column: {step: each._asdict() for step, each in steps.items()}
            for column, steps in found.items()
        }
        options.json.write_text(json.dumps({"machine": where, "seconds": plain}, indent=1) + "\n")


if __name__ == "__main__":
    main()
