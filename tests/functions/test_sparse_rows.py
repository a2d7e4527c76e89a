"""sparsemax and entmax15 against the algorithms with sorting, hardmax against argmax; and ragged rows of all functions of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_reduced_rows
import test_rows
from representatives import HALF_TYPES

import fastact as fa

Array = np.ndarray[Any, Any]
NAMES = ["sparsemax", "entmax15", "hardmax"]


def test_every_row_function_is_tested() -> None:
    tested = {*NAMES, *test_rows.NAMES, *test_reduced_rows.NAMES, "gumbel_softmax"}
    assert tested >= set(fa.names("row"))


def sparsemax(row: Array) -> Array:
    """Return the sparsemax of one row as in the article: sort, and find how many numbers remain."""
    z = np.sort(row.astype(np.float64))[::-1]
    places = np.arange(1, len(z) + 1)
    k = places[1 + places * z > np.cumsum(z)][-1]
    return np.maximum(row - (z[:k].sum() - 1) / k, 0)


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, scale: float = 1) -> Array:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * scale).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 64, 65, 1000, 20_000])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1, 100])
def test_sparsemax(dtype: Any, length: int, scale: float) -> None:
    x, dy = numbers((3, length), dtype, scale), numbers((3, length), dtype)
    y, dx = fa.sparsemax.forward_backward(x, dy)
    assert y.dtype == dtype
    unit = np.spacing(dtype(1))
    for row in range(3):
        expected = sparsemax(x[row])
        assert np.abs(y[row] - expected).max() <= 4 * unit
        support = y[row] > 0
        change = np.where(support, dy[row] - dy[row][support].mean(dtype=np.float64), 0)
        np.testing.assert_allclose(dx[row], change, atol=8 * unit * np.abs(dy).max())
    np.testing.assert_allclose(fa.sparsemax.backward(dy, y), dx, atol=8 * unit)
    np.testing.assert_array_equal(fa.sparsemax(x), y)


def test_sparsemax_of_many_equals_and_of_far_numbers() -> None:
    np.testing.assert_allclose(fa.sparsemax(np.full(7, 3e4)), np.full(7, 1 / 7), rtol=1e-15)
    assert fa.sparsemax(np.array([3e38, 0, -3e38], np.float32)).tolist() == [1, 0, 0]
    assert fa.sparsemax(np.array([-np.inf, 0.0, 0.5])).tolist() == [0, 0.25, 0.75]


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_finite_differences(name: str) -> None:
    f = getattr(fa, name)
    x, dy, step = numbers((2, 9), np.float64), numbers((2, 9), np.float64, 2), 1e-6
    _, dx = f.forward_backward(x, dy, axis=0, temperature=1.5)
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        change = f(x + moved, axis=0, temperature=1.5) - f(x - moved, axis=0, temperature=1.5)
        assert abs(dx[place] - (change * dy).sum() / (2 * step)) < 1e-8


def entmax15(row: Array) -> Array:
    """Return the 1.5-entmax of one row as in the article: sort, and find how many elements remain."""
    z = np.sort(row.astype(np.float64) / 2)[::-1]
    k = np.arange(1, len(z) + 1)
    mean = np.cumsum(z) / k
    spread = k * (np.cumsum(z * z) / k - mean * mean)
    threshold = mean - np.sqrt(np.maximum((1 - spread) / k, 0))
    return np.maximum(row / 2 - threshold[np.sum(threshold <= z) - 1], 0) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 17, 65, 1000, 20_000])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1, 100])
def test_entmax15(dtype: Any, length: int, scale: float) -> None:
    x, dy = numbers((3, length), dtype, scale), numbers((3, length), dtype)
    y, dx = fa.entmax15.forward_backward(x, dy)
    unit = np.spacing(dtype(1))
    for row in range(3):
        expected = entmax15(x[row].astype(np.float64) - x[row].max())
        assert np.abs(y[row] - expected).max() <= 4 * unit
        root = np.sqrt(y[row].astype(np.float64))
        change = root * (dy[row] - (root * dy[row]).sum() / root.sum())
        np.testing.assert_allclose(dx[row], change, atol=8 * unit * np.abs(dy).max())
    np.testing.assert_allclose(fa.entmax15.backward(dy, y), dx, atol=8 * unit)
    np.testing.assert_array_equal(fa.entmax15(x), y)


@pytest.mark.parametrize("dtype", ["float32", "float64", *HALF_TYPES])
@pytest.mark.parametrize("length", [1, 2, 31, 33, 64, 200, 4097])
def test_hardmax(dtype: str, length: int) -> None:
    kind = (
        np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
        if dtype == "bfloat16"
        else np.dtype(dtype)
    )
    x = np.random.default_rng(length).integers(-50, 50, (40, length)).astype(kind)
    y, dx = fa.hardmax.forward_backward(x, np.ones_like(x))
    assert y.dtype == kind
    expected = np.zeros((40, length))
    expected[np.arange(40), np.argmax(x.astype(float), axis=-1)] = 1  # the first of equals
    np.testing.assert_array_equal(y.astype(float), expected)
    assert not dx.any()
    assert not fa.hardmax.backward(np.ones_like(x), y).any()
    np.testing.assert_array_equal(fa.hardmax(x.T, axis=0).astype(float), expected.T)


def test_hardmax_of_large_arrays() -> None:
    """Where results go past the caches, blocks do not begin where the row does."""
    x = numbers((4000, 3333))
    y = fa.hardmax(x)
    assert (y.sum(-1) == 1).all()
    assert (y.argmax(-1) == x.argmax(-1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_special_rows(name: str) -> None:
    f = getattr(fa, name)
    for length in (2, 100):
        row = np.zeros(length)
        row[1] = np.nan
        assert np.isnan(f(row)).all()
    assert f(np.zeros((3, 0))).shape == (3, 0)
    mask = np.array([[True, False, True], [False] * 3])
    y, dx = f.forward_backward(np.ones((2, 3)), np.arange(6.0).reshape(2, 3), where=mask)
    assert y[0, 1] == 0
    assert y[0].sum() == pytest.approx(1, abs=4e-16)
    assert (y[1] == 0).all()
    assert (dx[~mask] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_with_any_number_of_threads(name: str) -> None:
    x, before, results = numbers((900, 333)), fa.get_num_threads(), set()
    try:
        for threads in {1, before}:
            fa.set_num_threads(threads)
            for _ in range(10):
                y, dx = getattr(fa, name).forward_backward(x, x)
                results.add((y.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


LENGTHS = [3, 0, 1, 40, 3, 3, 0, 17]


@pytest.mark.parametrize("name", [name for name in fa.names("row") if name != "gumbel_softmax"])
@pytest.mark.parametrize("axis", [0, -1])
def test_ragged_rows(name: str, axis: int) -> None:
    """Each is as if it were alone."""
    total, f = sum(LENGTHS), getattr(fa, name)
    shape = (total, 4) if axis == 0 else (4, total)
    x, reduces = numbers(shape, scale=3), name in test_reduced_rows.NAMES
    dy_shape = list(shape)
    if reduces:
        dy_shape[axis] = len(LENGTHS)
    dy = numbers(tuple(dy_shape))
    mask = np.random.default_rng(0).random(shape) < 0.7
    for where in (None, mask):
        y, dx = f.forward_backward(x, dy, axis=axis, lengths=LENGTHS, where=where)
        assert y.shape == dy.shape
        assert dx.shape == x.shape
        start = 0
        for row, length in enumerate(LENGTHS):
            part = np.arange(start, start + length)
            start += length
            own = np.take(dy, row if reduces else part, axis)
            chosen = None if where is None else np.take(where, part, axis)
            alone = f.forward_backward(np.take(x, part, axis), own, axis=axis, where=chosen)
            np.testing.assert_array_equal(np.take(y, row if reduces else part, axis), alone[0])
            np.testing.assert_array_equal(np.take(dx, part, axis), alone[1])
    given = (dy, x) if reduces else (dy, y)
    back = f.backward(*given, axis=axis, lengths=LENGTHS)
    assert back.shape == x.shape


def test_long_and_many_ragged_rows() -> None:
    random = np.random.default_rng(3)
    lengths = np.concatenate([random.integers(0, 40, 20_000), [100_000, 70_000]])
    x = random.standard_normal(lengths.sum(), dtype=np.float32)
    sums = np.add.reduceat(
        np.exp(x.astype(float)), np.cumsum(lengths)[lengths > 0] - lengths[lengths > 0]
    )
    found = fa.logsumexp(x, lengths=lengths)
    np.testing.assert_allclose(found[lengths > 0], np.log(sums), rtol=1e-5, atol=1e-6)
    assert (found[lengths == 0] == -np.inf).all()
    own = x.copy()
    assert fa.softmax(own, lengths=lengths, out=own) is own
    np.testing.assert_allclose(
        own, np.exp(x.astype(float)) / np.repeat(sums, lengths[lengths > 0]), rtol=1e-5
    )


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: fa.softmax(np.ones(3), lengths=[1, 1]),
        ValueError,
        "the lengths add up to 2, but axis 0 has 3",
    ),
    (lambda: fa.softmax(np.ones(3), lengths=[4, -1]), ValueError, "lengths[1] is negative: -1"),
    (
        lambda: fa.softmax(np.ones(3), lengths=[1.5, 1.5]),
        TypeError,
        "1-d array of integers, got float64",
    ),
    (lambda: fa.softmax(np.ones(3), lengths=3), TypeError, "1-d array of integers"),
    (lambda: fa.softmax(np.ones((3, 3)), (0, 1), lengths=[3]), ValueError, "axis must be one axis"),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_lengths(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)
