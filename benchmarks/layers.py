"""Time and memory of rows and layers, fastact beside the NumPy baseline in each plot."""

from __future__ import annotations

from functools import lru_cache

import fastact as fa
from fastact.bench.contenders import NATIVE
from fastact.bench.layers import MAKERS, Workload
from fastact.bench.peers import Call

#: A small batch, classes of a large one, and short rows.
SHAPES = ("32x1000", "8192x1000", "100000x16")


@lru_cache(maxsize=1)
def prepare(function: str, implementation: str, shape: str) -> Call:
    """Return the call to measure: made once, although asv sets up again before each sample."""
    work = Workload.of(function, tuple(map(int, shape.split("x"))))
    call = MAKERS[implementation](work)
    call()
    return call


class RowsAndLayers:
    """Value and gradients in one call, into new arrays."""

    version = "1"
    param_names = ("function", "implementation", "shape")
    params = ((*fa.names("row"), *fa.names("packed", "dropout", "loss")), NATIVE, SHAPES)

    def setup(self, function: str, implementation: str, shape: str) -> None:
        self.call = prepare(function, implementation, shape)

    def time_forward_backward(self, function: str, implementation: str, shape: str) -> None:
        self.call()

    def peakmem_forward_backward(self, function: str, implementation: str, shape: str) -> None:
        self.call()
