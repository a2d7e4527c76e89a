"""Rows too long for one thread: errors, special values, layouts, and the same bits on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from references import HAS_LONG_DOUBLE

import fastact as fa
from fastact.arrays.long_rows import LONG

REDUCED = ("logsumexp", "logmeanexp")
NAMES = ("softmax", "log_softmax", "softmin", *REDUCED)
ULPS = 4  # the errors that these functions state
RNG = np.random.default_rng(0)
X = 5 * RNG.standard_normal(LONG + 77)
DY = RNG.standard_normal(X.size)


def exact(name: str, x: Any, temperature: Any) -> Any:
    """Return the value in extended precision."""
    sign = -1 if name == "softmin" else 1
    x = sign * np.asarray(x, np.longdouble) / temperature
    e = np.exp(x - x.max())
    if name in ("softmax", "softmin"):
        return e / e.sum()
    log_sum = np.log(e.sum()) + x.max()
    return (
        x - log_sum if name == "log_softmax" else log_sum - (name == "logmeanexp") * np.log(x.size)
    )


def exact_gradient(name: str, y: Any, dy: Any, temperature: Any) -> tuple[Any, Any]:
    """Return the gradient of the value `y` in extended precision, and the size of the terms whose difference it is."""
    sign = -1 if name == "softmin" else 1
    y, dy = np.asarray(y, np.longdouble), np.asarray(dy, np.longdouble)
    is_log = name == "log_softmax"
    terms = (dy, np.exp(y) * dy.sum()) if is_log else (y * dy, y * (y * dy).sum())
    return sign * (terms[0] - terms[1]) / temperature, (abs(terms[0]) + abs(terms[1])) / temperature


def ulps(found: Any, expected: Any) -> float:
    """Return the largest error in units in the last place."""
    return float(np.max(abs(found - expected) / np.spacing(abs(expected).astype(found.dtype))))


def dy_of(name: str, dtype: Any) -> Any:
    return dtype(1.5) if name in REDUCED else DY.astype(dtype)


def results(name: str, x: Any, dy: Any, **options: Any) -> list[Any]:
    """Return the results of all operations."""
    f = getattr(fa, name)
    y, dx = f.forward_backward(x, dy, **options)
    value, vjp = f.vjp(x, **options)
    saved = x if name in REDUCED else y
    return [f(x, **options), y, value, dx, vjp(dy), f.backward(dy, saved, **options)]


@pytest.mark.parametrize(
    ("dtype", "temperature"),
    [(np.float32, 1.0), (np.float32, 0.7), *[(np.float64, 1.0)] * HAS_LONG_DOUBLE],
)
@pytest.mark.parametrize("name", NAMES)
def test_errors_of_long_rows(name: str, dtype: Any, temperature: float) -> None:
    x, dy, used = X.astype(dtype), dy_of(name, dtype), dtype(temperature)
    *values, dx, from_vjp, from_saved = results(name, x, dy, temperature=temperature)
    expected = exact(name, x, used)
    for y in values:
        assert ulps(y, expected) <= ULPS
    if name in REDUCED:
        for each in (dx, from_vjp, from_saved):
            assert ulps(each, dy * exact("softmax", x, used) / used) <= ULPS
        return
    for each, y in ((dx, expected), (from_vjp, values[2]), (from_saved, values[1])):
        gradient, terms = exact_gradient(name, y, dy, used)
        assert np.all(abs(each - gradient) <= 2 * ULPS * np.finfo(dtype).eps * terms)


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, np.float32) for name in NAMES] + [("log_softmax", np.float16)]
)
def test_bits_of_long_rows(name: str, dtype: Any) -> None:
    """They depend neither on threads nor on other rows, strides and where results go."""
    x, dy = X.astype(dtype), dy_of(name, dtype)
    before = fa.get_num_threads()
    try:
        fa.set_num_threads(1)
        one = results(name, x, dy)
        fa.set_num_threads(2)
        assert [each.tobytes() for each in results(name, x, dy)] == [each.tobytes() for each in one]
    finally:
        fa.set_num_threads(before)
    f, y = getattr(fa, name), one[0]
    spread = np.empty(2 * x.size, dtype)[::-2]
    spread[...] = x
    column = np.stack([np.zeros_like(x), x], -1)
    for value in (f(spread), f(column, axis=0)[..., 1], f(x.reshape(1, -1))[0]):
        assert value.tobytes() == y.tobytes()
    out = np.zeros(2 * y.size, dtype)[::-2].reshape(y.shape)
    assert f(x, out=out) is out
    assert out.tobytes() == y.tobytes()
    if name not in REDUCED:
        assert f(spread, out=spread) is spread
        assert spread.tobytes() == y.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1])
def test_lengths_around_long(name: str, length: int) -> None:
    x, f = X[:length].astype(np.float32), getattr(fa, name)
    assert ulps(f(x), exact(name, x, 1)) <= ULPS
    # The same row, as the masked kernel computes it in one piece.
    np.testing.assert_allclose(f(x), f(x, where=np.True_), rtol=1e-6)


ALL, CHUNKS = slice(None), slice(100_000)  # the latter are three chunks and a part
SPECIAL: dict[str, list[tuple[Any, float]]] = {
    "NaN": [(100_000, np.nan)],
    "infinity": [(100_000, np.inf)],
    "infinities": [(1, np.inf), (-1, np.inf)],
    "NaN and infinity": [(100_000, np.inf), (-1, np.nan)],
    "minus infinity": [(0, -np.inf), (LONG, -np.inf)],
    "chunks of minus infinity": [(CHUNKS, -np.inf)],
    "NaN among minus infinity": [(CHUNKS, -np.inf), (50_000, np.nan)],
    "only minus infinity": [(ALL, -np.inf)],
    "NaN and minus infinity": [(ALL, -np.inf), (-1, np.nan)],
    "one number": [(ALL, -np.inf), (70_000, 3.0)],
    "far apart": [(ALL, -1e30), (70_000, 1e30)],
    "huge": [(ALL, 3e38), (70_000, -3e38)],
    "a saturated row": [(ALL, -30.0), (70_000, 3.0)],
}


@pytest.mark.parametrize("case", SPECIAL)
@pytest.mark.parametrize("name", NAMES)
def test_special_values_of_long_rows(name: str, case: str) -> None:
    """They have the results that the kernel for masks computes in one piece."""
    x, dy = X.astype(np.float32), dy_of(name, np.float32)
    for at, value in SPECIAL[case]:
        x[at] = value
    if name == "softmin":
        x = -x
    y, dx = getattr(fa, name).forward_backward(x, dy)
    expected = getattr(fa, name).forward_backward(x, dy, where=np.True_)
    np.testing.assert_allclose(y, expected[0], rtol=1e-6)
    np.testing.assert_allclose(dx, expected[1], rtol=1e-5, atol=1e-12)


def test_ragged_and_random_long_rows() -> None:
    x = X.astype(np.float32)
    both = np.concatenate([x[:10], x])
    y = fa.softmax(both, lengths=[10, x.size])
    assert y[10:].tobytes() == fa.softmax(x).tobytes()
    y = fa.gumbel_softmax(x, rng=0)
    assert abs(y.sum(dtype=np.float64) - 1) < 1e-6
    assert y.tobytes() == fa.gumbel_softmax(x, rng=0).tobytes()


def test_cross_entropy_of_long_rows() -> None:
    f, labels = fa.softmax_cross_entropy, np.array([5, -100, X.size - 3])
    x = np.stack([X, X[::-1], 2 * X]).astype(np.float32)
    y = np.array([exact("softmax", row, 1) for row in x])
    losses = [-np.log(y[0, 5]), 0, -np.log(y[2, -3])]
    gradient = y.copy()
    gradient[0, 5] -= 1
    gradient[1] = 0
    gradient[2, -3] -= 1
    more: dict[str, Any] = {"reduction": "none", "return_probabilities": True}
    found = []
    before = fa.get_num_threads()
    for threads in (1, 2):
        fa.set_num_threads(threads)
        found.append([*f.forward_backward(x, labels, **more), f(x, labels, reduction="none")])
    fa.set_num_threads(before)
    assert [each.tobytes() for each in found[0]] == [each.tobytes() for each in found[1]]
    loss, dx, probabilities, value = found[0]
    assert ulps(loss, np.array(losses)) <= ULPS
    assert ulps(dx, gradient) <= ULPS
    assert ulps(probabilities, y) <= ULPS
    assert value.tobytes() == loss.tobytes()
    x[:, 9] = np.nan
    np.testing.assert_array_equal(f(x, labels, reduction="none"), [np.nan, 0, np.nan])
