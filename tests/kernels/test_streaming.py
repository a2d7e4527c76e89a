"""Stores that go past the caches: the same bits at every length, alignment and overlap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fastact as fa
from fastact.system.memory_layout import SETTING, SETTINGS

DTYPES = ("float16", "float32", "float64")


@pytest.fixture(autouse=True)
def always_streaming() -> Iterator[None]:
    """Let every call stream, however small."""
    before = SETTINGS[SETTING.streaming]
    SETTINGS[SETTING.streaming] = 0
    yield
    SETTINGS[SETTING.streaming] = before


def at_offset(values: np.ndarray, offset: int) -> np.ndarray:
    """Copy to memory whose distance from a 64-byte boundary is `offset` elements."""
    memory = np.full(values.nbytes + 128 + offset * values.itemsize, 7, np.uint8)
    start = -memory.ctypes.data % 64 + offset * values.itemsize
    view = memory[start : start + values.nbytes].view(values.dtype)
    view[...] = values
    return view


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_any_length_and_alignment(dtype: str, threads: int) -> None:
    x = (np.random.default_rng(0).standard_normal(100_000) * 4).astype(dtype)
    with np.errstate(over="ignore"):
        wide = 1 / (1 + np.exp(-x.astype(np.float64)))
    expected = fa.sigmoid(x[::-1])[::-1]  # not contiguous, so never streamed
    rtol, atol = (1e-3, 6e-8) if dtype == "float16" else (1e-6, 0)
    np.testing.assert_allclose(expected, wide, rtol=rtol, atol=atol)
    before = fa.get_num_threads()
    fa.set_num_threads(min(threads, before))
    try:
        for size in (0, 1, 5, 15, 16, 17, 31, 32, 33, 64, 100, 257, 99_999):
            for offset in (0, 1, 3, 8, 15):
                out = at_offset(np.full(size + 2, 77, dtype), offset)
                fa.sigmoid(x[:size], out=out[1:-1])
                np.testing.assert_array_equal(out[1:-1], expected[:size])
                assert out[0] == out[-1] == 77
    finally:
        fa.set_num_threads(before)


def test_in_place_and_outputs_of_different_alignment() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    expected = np.where(x > 0, x, 0)
    for offset in (0, 1, 5):
        in_place = at_offset(x, offset)
        fa.relu(in_place, out=in_place)
        np.testing.assert_array_equal(in_place, expected)
        for other in (0, 1, 5):
            y, dx = at_offset(x, offset), at_offset(x, other)
            fa.relu.forward_backward(x, x, out=(y, dx))
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(dx, expected)
