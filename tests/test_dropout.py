"""Dropout: Philox against its published answers, masks against a plain Philox, gradients, wrong calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit, types

import fastact as fa
from fastact import simd
from fastact.simd.lowering import Vector
from fastact.simd.memory import Access, first_lanes
from fastact.simd.random import RandomWords, philox
from fastact.simd.storage import Storage

KEY = 0x1BD11BDAA9FC1A22
LOWER = 2**32 - 1


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as its paper describes it, in whole numbers of Python."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = right // 2**32 ^ b ^ k, right % 2**32, left // 2**32 ^ d ^ m, left % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def plain_words(key: int, count: int, first: int = 0) -> Any:
    """Return the words of elements from the first one on."""
    found = np.empty(count, np.uint64)
    for i in range(count):
        group, place = divmod(first + i, 64)
        counter = 16 * group + place % 16
        words = plain_philox([counter % 2**32, counter >> 32, 0, 0], [key % 2**32, key >> 32])
        found[i] = words[place // 16]
    return found


def is_kept(key: int, count: int, p: float) -> Any:
    return plain_words(key, count) >= round(p * 2**32)


# From the file kat_vectors of Random123, https://github.com/DEShawResearch/random123.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([LOWER] * 4, [LOWER] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: list[int], key: list[int], words: list[int]) -> None:
    assert plain_philox(counter, key) == words

    @njit
    def compiled(a: int, b: int, c: int, d: int, key: int) -> Any:
        return philox(a, b, c, d, key)

    whole = np.uint64(key[1] << 32 | key[0]).view(np.int64)
    assert [word & LOWER for word in compiled(*counter, int(whole))] == words


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [4, 16, 128])
@pytest.mark.parametrize("first", [0, 1, 77, 64 * 2**32 - 5])
def test_words(first: int, lanes: int, dtype: str) -> None:
    """Of any elements, those of counters beyond 2**32 too; as uniform numbers, and against a threshold."""
    vector = Vector(getattr(types, dtype), lanes)
    random = RandomWords(vector)
    reserve, words_at = random.reserve, random.words_at
    size, store = np.dtype(dtype).itemsize, Access(Storage(dtype), vector).store
    lanes_up_to = first_lanes(vector)
    count = 1500

    @njit
    def fill(key: int, threshold: int, of_uniform: int, of_mask: int) -> None:
        window = reserve()
        for i in range(0, count, lanes):
            mask = lanes_up_to(count - i)
            words = words_at(window, key, first + i, first + count)
            uniform = simd.uniform(words)
            store(of_uniform + size * i, size, mask, uniform)
            reached = simd.select(simd.at_least(words, threshold), uniform * 0 + 1, 0)
            store(of_mask + size * i, size, mask, reached)

    words = plain_words(KEY, count, first)
    half = {"float32": 2.0**-24, "float64": 2.0**-33}[dtype]
    steps = words // 2**9 if dtype == "float32" else words
    for threshold in (0, 1, 2**31, 2**32 - 1, 2**32, int(words[3])):
        uniform, mask = np.empty(count, dtype), np.empty(count, dtype)
        fill(KEY, threshold, uniform.ctypes.data, mask.ctypes.data)
        np.testing.assert_array_equal(uniform, (2 * steps.astype(float) + 1) * half)
        np.testing.assert_array_equal(mask, words >= threshold)


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000, 16_384 + 7])
def test_masks(count: int, dtype: str) -> None:
    x, dy = normal(count, dtype=dtype), normal(count, dtype=dtype, seed=1)
    kept, scale = is_kept(KEY, count, 0.3), 1 / 0.7
    unit = np.finfo(dtype).eps
    y, dx = fa.dropout.forward_backward(x, dy, 0.3, rng=KEY)
    for found, given in ((y, x), (dx, dy)):
        assert found.dtype == dtype
        exact = np.where(kept, given.astype(float) * scale, 0)
        np.testing.assert_allclose(found, exact, rtol=2 * unit)
    np.testing.assert_array_equal(fa.dropout(x, 0.3, rng=KEY), y)
    np.testing.assert_array_equal(fa.dropout.backward(dy, 0.3, rng=KEY), dx)
