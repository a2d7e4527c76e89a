"""gumbel_softmax: the numbers added, what it samples, its gradient, hard choices and wrong calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_dropout import plain_words

import fastact as fa

Array = np.ndarray[Any, Any]
gumbel = fa.gumbel_softmax


def added(seed: int, size: int, bits: int = 23) -> Array:
    """Return the numbers that are added, of the words of Philox: the upper bits, at the middle of their cells."""
    uniform = (np.array(plain_words(seed, size), np.uint64) >> (32 - bits)).astype(float) + 0.5
    return -np.log(-np.log(uniform * 2.0**-bits))


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def numbers(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 12345, 2**64 - 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("temperature", [1, 0.3])
def test_value_and_gradient(seed: int, axis: int, temperature: float) -> None:
    x, dy = numbers((20, 33)), numbers((33, 20)).T
    y, dx = gumbel.forward_backward(x, dy, axis, rng=seed, temperature=temperature)
    expected = softmax((x + added(seed, x.size).reshape(x.shape)) / temperature, axis)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-7)
    inner = (dy * expected).sum(axis, keepdims=True)
    np.testing.assert_allclose(dx, expected * (dy - inner) / temperature, atol=1e-5)
    np.testing.assert_array_equal(gumbel(x, axis, rng=seed, temperature=temperature), y)
    np.testing.assert_allclose(gumbel.backward(dy, y, axis, temperature=temperature), dx, atol=1e-5)


def test_samples_follow_the_distribution() -> None:
    """The place of the largest number is a sample of the categorical distribution: within 5 sigma."""
    shares, rows = np.array([0.5, 0.3, 0.15, 0.05]), 200_000
    logits = np.broadcast_to(np.log(shares).astype(np.float32), (rows, 4))
    y = gumbel(logits, rng=7, hard=True)
    assert ((y == 0) | (y == 1)).all()
    assert (y.sum(-1) == 1).all()
    sigma = np.sqrt(shares * (1 - shares) / rows)
    assert (np.abs(y.mean(0) - shares) < 5 * sigma).all()


def test_hard() -> None:
    """A hard choice has the soft one's gradient."""
    x, dy = numbers((30, 17)), numbers((17, 30)).T
    soft, dx = gumbel.forward_backward(x, dy, rng=3)
    hard, same = gumbel.forward_backward(x, dy, rng=3, hard=True)
    np.testing.assert_array_equal(hard.argmax(-1), soft.argmax(-1))
    np.testing.assert_array_equal(hard.sum(-1), 1)
    np.testing.assert_array_equal(same, dx)


def test_the_same_numbers_in_any_layout_type_and_number_of_threads() -> None:
    x = numbers((300, 400))
    y = gumbel(x, rng=5)
    np.testing.assert_array_equal(gumbel(np.asfortranarray(x), rng=5), y)
    np.testing.assert_array_equal(gumbel(x.astype(">f4"), rng=5), y)
    np.testing.assert_allclose(
        gumbel(x.astype(np.float64), rng=5),
        softmax(x + added(5, x.size, bits=32).reshape(x.shape)),
        rtol=1e-12,
    )
    np.testing.assert_allclose(gumbel(x.astype(np.float16), rng=5), y, rtol=3e-2, atol=1e-6)
    own = x.copy()
    assert gumbel(own, rng=5, out=own) is own
    np.testing.assert_array_equal(own, y)
    before = fa.get_num_threads()
    try:
        fa.set_num_threads(1)
        np.testing.assert_array_equal(gumbel(x, rng=5), y)
    finally:
        fa.set_num_threads(before)
    generator = np.random.default_rng(0)
    assert (gumbel(x, rng=generator) != gumbel(x, rng=generator)).any()


def test_masks_and_ragged_rows() -> None:
    x, mask = numbers((4, 50)), np.random.default_rng(0).random((4, 50)) < 0.5
    y = gumbel(x, rng=1, where=mask)
    assert (y[~mask] == 0).all()
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-6)
    sums = np.add.reduceat(gumbel(x, rng=1, lengths=[20, 30]), [0, 20], axis=-1)
    np.testing.assert_allclose(sums, 1, rtol=1e-6)
    hard = gumbel(x, rng=1, lengths=[20, 30], hard=True)
    np.testing.assert_array_equal(np.add.reduceat(hard, [0, 20], axis=-1), 1)


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: gumbel(np.ones(3)), TypeError, "gumbel_softmax: rng is missing"),
    (lambda: gumbel(np.ones(3), rng=1.5), TypeError, "rng must be an int"),
    (lambda: gumbel(np.ones(3), rng=-1), ValueError, "the seed rng must be from 0"),
    (
        lambda: gumbel(np.ones(3), rng=1, temperature=0),
        ValueError,
        "temperature must be a positive",
    ),
    (lambda: gumbel(np.ones(3), axis=1, rng=1), ValueError, "axis 1 is out of bounds"),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)


def test_outputs_are_untouched_by_wrong_calls() -> None:
    out = np.full((2, 3), 7.0)
    with pytest.raises(ValueError, match="lengths add up"):
        gumbel(np.ones((2, 3)), rng=1, lengths=[1], out=out)
    assert (out == 7).all()
