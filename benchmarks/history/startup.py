"""How long does one wait for the import, and for the first result?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from .pairs import declare

IMPORT = """
import time
start = time.perf_counter()
import {package}
print(time.perf_counter() - start)
"""

FIRST_CALL = """
import time
import numpy as np
x = np.ones(1000, dtype=np.float32)
dy = np.ones_like(x)
start = time.perf_counter()
import fastact as fa
fa.sigmoid.forward_backward(x, dy)
first = time.perf_counter()
fa.tanh.forward_backward(x, dy)
print(first - start, time.perf_counter() - first)
"""

#: Whether the kernel is found on disk.
FIRST = ("loaded", "compiled")


def setup_cache() -> dict[str, float]:
    """Measure all, in turn; each of two caches is empty at first."""
    found: dict[str, list[float]] = {name: [] for name in ("numpy", "fastact", *FIRST, "further")}
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            for package in ("numpy", "fastact"):
                found[package] += [run(IMPORT.format(package=package), folder)[0] for _ in range(3)]
            (cold, further), *warm = (run(FIRST_CALL, folder) for _ in range(3))
            found["compiled"].append(cold)
            found["further"].append(further)
            found["loaded"] += [first for first, _ in warm]
    return {name: statistics.median(times) for name, times in found.items()}


def track_import(found: dict[str, float], package: str) -> float:
    """Return the seconds of an import; fastact's includes NumPy's."""
    return found[package]


def track_first_call(found: dict[str, float], kernel: str) -> float:
    """Return the seconds from ``import fastact`` to the first result, with NumPy imported."""
    return found[kernel]


def track_further_function(found: dict[str, float]) -> float:
    """Return the seconds to compile one more activation."""
    return found["further"]


def run(code: str, folder: str) -> list[float]:
    """Return the numbers that a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,  # no source tree here hides the installed package
        env=os.environ | {"FASTACT_CACHE": os.path.join(folder, "cache")},
        stdout=subprocess.PIPE,
        check=True,
    )
    return list(map(float, done.stdout.split()))


declare(track_import, "import", "seconds", package=("fastact", "numpy"))
declare(track_first_call, "first call", "seconds", kernel=FIRST)
declare(track_further_function, "one more function", "seconds")
