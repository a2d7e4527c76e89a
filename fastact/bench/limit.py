"""What the memory allows: loops that load and store as an operation does, and compute nothing.

They are made by fastact's own engine, with its threads and its streaming stores, so that they move bytes as
fast as it can; what an operation takes longer, it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from fastact.bench.contenders import Case
from fastact.bench.peers import Call
from fastact.kernels.door import make_ufunc
from fastact.kernels.kernel import Elementwise, Kernel, Operand

# By the numbers of inputs and outputs.
_COPIES: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 1): lambda a: (a,),
    (2, 1): lambda a, b: (a + b,),
    (2, 2): lambda a, b: (a, b),
}


def limit(case: Case, operation: str) -> tuple[Call, float]:
    """Return the call of the loop that moves as many arrays, and the share of the bytes that it moves."""
    inputs, outputs, moved = case.moved(operation)
    arrays = [np.ones_like(case.x) for _ in range(inputs + outputs)]
    call = partial(_copy(inputs, outputs), *arrays[:inputs], out=tuple(arrays[inputs:]))
    return call, sum(array.nbytes for array in arrays) / moved


def limit_of(moved: int) -> Call:
    """Return the call of a loop that moves so many bytes: it loads half of them, and stores the others."""
    source, target = (np.ones(moved // 8, dtype=np.float32) for _ in range(2))
    return partial(_copy(1, 1), source, out=(target,))


@cache
def _copy(inputs: int, outputs: int) -> np.ufunc:
    operands = tuple(map(Operand, "ab"[:inputs])), tuple(map(Operand, "yz"[:outputs]))
    kernel = Kernel(*operands, Elementwise(lambda: _COPIES[inputs, outputs]))
    doc = "Move as many arrays as an operation does."
    name = f"bench.copy.{inputs}.{outputs}"
    return make_ufunc(kernel, __name__, "copy", doc, lambda dtype: f"{name}.{dtype}", repr)
