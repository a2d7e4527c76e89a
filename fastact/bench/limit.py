"""What the memory allows: loops that load and store as an operation does, and compute nothing.

They are made by fastact's own engine, with its threads and its streaming stores, so that they move bytes as
fast as it can; what an operation takes longer, it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastact.arrays.dtypes import dtype_of, dtypes
from fastact.bench.contenders import Case
from fastact.bench.peers import Call

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction

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
    from fastact.runtime.ufunc import Loop, make_ufunc

    return make_ufunc(
        __name__,
        "copy",
        "Move as many arrays as an operation does.",
        "ab"[:inputs],
        "yz"[:outputs],
        [
            Loop(
                [dtype_of(dtype)] * (inputs + outputs),
                f"bench.copy.{inputs}.{outputs}.{dtype}",
                partial(_build, inputs, outputs, dtype),
            )
            for dtype in dtypes()
        ],
    )


def _build(inputs: int, outputs: int, dtype: str) -> LoopFunction:
    from fastact import kernels
    from fastact.simd.operands import Operands
    from fastact.simd.storage import Storage

    operands = Operands((Storage(dtype),) * (inputs + outputs), inputs, 0)
    return kernels.elementwise(_COPIES[inputs, outputs], operands, is_short=True)
