"""How long it takes until fastact is there, and until it has computed something."""

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
print(time.perf_counter() - start)
"""


class Import:
    """The import alone, in a new process; fastact's contains NumPy's."""

    version = "1"
    param_names = ("package",)
    params = ("numpy", "fastact")

    def timeraw_import(self, package: str) -> str:
        return f"import {package}"


class FirstCall:
    """From ``import fastact`` to the first result, NumPy already there."""

    version = "1"
    timeout = 300
    unit = "seconds"

    def track_with_empty_cache(self) -> float:
        """Return the seconds until a kernel is compiled."""
        return statistics.median(self.measure(1)[0] for _ in range(3))

    def track_with_filled_cache(self) -> float:
        """Return the seconds until a kernel is loaded."""
        return statistics.median(self.measure(6)[1:])

    def measure(self, processes: int) -> list[float]:
        """Run one process after another on a cache of their own that is empty at first."""
        with tempfile.TemporaryDirectory() as folder:
            return [
                float(
                    subprocess.run(
                        [sys.executable, "-c", FIRST_CALL],
                        cwd=folder,  # where no source tree hides the installed package
                        env=os.environ | {"FASTACT_CACHE": os.path.join(folder, "cache")},
                        stdout=subprocess.PIPE,
                        check=True,
                    ).stdout
                )
                for _ in range(processes)
            ]
