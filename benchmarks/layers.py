"""Time and memory of rows and layers, fastact and the NumPy baseline in one plot."""

from __future__ import annotations

from functools import lru_cache

import fastact as fa
from fastact.bench.contenders import NATIVE, make_call
from fastact.bench.peers import Call
from fastact.bench.workloads import Workload

#: A small batch, a large one, and short rows.
SHAPES = ("32x1000", "8192x1000", "100000x16")


@lru_cache(maxsize=1)
def prepare(function: str, implementation: str, shape: str) -> Call:
    """Return the call to measure, cached because asv repeats the setup before each sample."""
    work = Workload.of(function, tuple(map(int, shape.split("x"))))
    return make_call(work, implementation, "forward_backward")


class RowsAndLayers:
    """Value and gradients in one call, into new arrays."""

    version = "1"
    param_names = ("function", "implementation", "shape")
    params = (
        (*fa.names("row"), *fa.names("packed", "cell", "dropout", "normalization", "loss")),
        NATIVE,
        SHAPES,
    )

    def setup(self, function: str, implementation: str, shape: str) -> None:
        self.call = prepare(function, implementation, shape)

    def time_forward_backward(self, function: str, implementation: str, shape: str) -> None:
        self.call()

    def peakmem_forward_backward(self, function: str, implementation: str, shape: str) -> None:
        self.call()
