"""What reaches the inner loop at once, which is what threads can divide: the last dimension of a call.

NumPy's own machinery is asked, through ufuncs whose loops only write down their lengths.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastact.arrays.channels import run_in_blocks
from fastact.arrays.packed import PackedCall
from fastact.runtime import ufunc as ufuncs

LOOP = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_ssize_t), ctypes.c_void_p, ctypes.c_void_p
)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[np.ufunc, list[int]]]:
    """Return what makes a ufunc of a signature, and the list that the lengths of its loops go to."""

    def make(signature: str, dtypes: str) -> tuple[np.ufunc, list[int]]:
        lengths: list[int] = []
        loop = LOOP(lambda args, dimensions, steps, data: lengths.append(dimensions[0]))
        address = ctypes.cast(loop, ctypes.c_void_p).value
        monkeypatch.setattr(ufuncs.threads, "inner_loop_address", lambda: address)
        inputs, outputs = (text.count("(") for text in signature.split("->"))
        types = [np.dtype(each) for each in dtypes]
        loops = [ufuncs.Loop(types, None, lambda: None)]
        made = ufuncs.make_ufunc(
            "test",
            "recorder",
            "",
            [f"x{k}" for k in range(inputs)],
            [f"y{k}" for k in range(outputs)],
            loops,
            signature,
        )
        ufuncs.keep_alive(loop)
        return made, lengths

    return make


@pytest.mark.parametrize(
    ("shape", "axis", "least"),
    [
        ((64, 8, 50_000), 1, 64),  # images
        ((2, 3, 10**6), 1, 61),  # sounds
        ((40_000, 300), 1, 64),
        ((8_192, 4_096), 1, 64),
        ((3_000, 4_096), 1, 23),  # more sums would cost more than more threads gain
        ((30, 300_000), 1, 64),  # words
        ((5 * 10**6,), None, 64),
    ],
)
def test_blocks_for_many_threads(recorder: Any, shape: Any, axis: int | None, least: int) -> None:
    """Nearly all of an array with sums is divided into this many blocks at once, or more."""
    ufunc, lengths = recorder("(n,c,s),(c)->(n,c,s),(c)", "fffd")
    x, y = np.empty((2, *shape), np.float32)
    parameter = np.empty(1 if axis is None else shape[axis], np.float32)
    run_in_blocks(ufunc, [x], (parameter,), [y], axis, 1, None)
    whole = [length for length in lengths if length >= least]
    assert sum(whole) >= 0.9 * sum(lengths), lengths


@pytest.mark.parametrize("shape", [(1_000, 80_000), (100, 10, 80_000), (3, 4 * 10**6)])
def test_halves_for_many_threads(recorder: Any, shape: tuple[int, ...]) -> None:
    """The halves of long rows are divided along the rows or within them."""
    ufunc, lengths = recorder("(p,n)->(n)", "ff")
    x = np.empty(shape, np.float32)
    result = (*shape[:-1], shape[-1] // 2)
    PackedCall("f", ufunc, {"x": x}, (result,), (2, 1), len(shape) - 1, None)()
    assert max(lengths) >= 100, lengths
    assert max(lengths) * len([n for n in lengths if n == max(lengths)]) >= 0.5 * sum(lengths)
