"""The time to import fastact, and to its first result."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

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


class Import:
    """The import in a new process; fastact's includes NumPy's."""

    version = "1"
    param_names = ("package",)
    params = ("numpy", "fastact")

    def timeraw_import(self, package: str) -> str:
        return f"import {package}"


class FirstCall:
    """From ``import fastact`` to the first result, with NumPy imported; and one more activation."""

    version = "2"
    timeout = 300
    unit = "seconds"

    def track_with_empty_cache(self) -> float:
        """Return the seconds with compilation."""
        return statistics.median(self.measure(1)[0][0] for _ in range(3))

    def track_further_with_empty_cache(self) -> float:
        """Return the seconds for one more activation, with compilation."""
        return statistics.median(self.measure(1)[0][1] for _ in range(3))

    def track_with_filled_cache(self) -> float:
        """Return the seconds with kernels loaded from the cache."""
        return statistics.median(first for first, _ in self.measure(6)[1:])

    def measure(self, processes: int) -> list[tuple[float, float]]:
        """Run processes one after another that share a cache, empty at first."""
        with tempfile.TemporaryDirectory() as folder:
            return [_first_and_further(folder) for _ in range(processes)]


def _first_and_further(folder: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALL],
        cwd=folder,  # no source tree here hides the installed package
        env=os.environ | {"FASTACT_CACHE": os.path.join(folder, "cache")},
        stdout=subprocess.PIPE,
        check=True,
    )
    first, further = map(float, done.stdout.split())
    return first, further
