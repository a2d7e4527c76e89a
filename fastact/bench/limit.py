"""The streaming limit: loops that load and store the bytes of an operation, and compute nothing.

They are built by fastact's own engine, with its threads and non-temporal stores, so they move bytes
as fast as it can; any further time of an operation is arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from fastact.bench.contenders import make_call
from fastact.bench.peers import Call
from fastact.bench.workloads import Workload
from fastact.kernels.door import make_ufunc
from fastact.kernels.kernel import Elementwise, Kernel, Operand

# By the number of inputs and outputs.
_COPIES: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 1): lambda a: (a,),
    (2, 1): lambda a, b: (a + b,),
    (2, 2): lambda a, b: (a, b),
}


def limit(work: Workload, operation: str) -> tuple[Call, float]:
    """Return a call that moves bytes like an operation, and the ratio of their numbers of bytes."""
    if not work.is_pointwise or work.has_bias:
        results = make_call(work, "fastact", operation)()
        touched = *work.inputs, *work.others, *map(np.asarray, results)
        return limit_of_bytes(sum(array.nbytes for array in touched)), 1.0
    x, dy = work.x.nbytes, work.others[0].nbytes
    inputs, outputs, moved = {
        "forward": (1, 1, x + dy),
        "backward": (2, 1, 2 * x + dy),
        "forward_backward": (2, 2, 2 * (x + dy)),
    }[operation]
    arrays = [np.ones_like(work.x) for _ in range(inputs + outputs)]
    call = partial(_copy(inputs, outputs), *arrays[:inputs], out=tuple(arrays[inputs:]))
    return call, sum(array.nbytes for array in arrays) / moved


def limit_of_bytes(count: int) -> Call:
    """Return a call that moves this many bytes: it loads half of them and stores the other half."""
    source, target = (np.ones(count // 8, dtype=np.float32) for _ in range(2))
    return partial(_copy(1, 1), source, out=(target,))


@cache
def _copy(inputs: int, outputs: int) -> np.ufunc:
    operands = tuple(map(Operand, "ab"[:inputs])), tuple(map(Operand, "yz"[:outputs]))
    kernel = Kernel(*operands, Elementwise(lambda: _COPIES[inputs, outputs]))
    doc = "Move as many arrays as an operation."
    name = f"bench.copy.{inputs}.{outputs}"
    return make_ufunc(kernel, __name__, "copy", doc, lambda dtype: f"{name}.{dtype}", repr)
