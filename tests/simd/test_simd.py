"""The SIMD vector as a Numba type: every operation, at every width, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit, types
from representatives import only_long

from fastact import math, simd, vecmath
from fastact.simd.compilable import internal, make_compilable
from fastact.simd.lowering import Vector, lanes_of
from fastact.simd.memory import Access, first_lanes
from fastact.simd.storage import Storage

FLOATS = {"float32": types.float32, "float64": types.float64}
LANES = (1, 16, *only_long(4))


def apply(
    function: Callable[..., Any],
    *inputs: np.ndarray,
    lanes: int,
    computed_in: str = "",
    stored_as: tuple[str, ...] = (),
    step: int | None = None,
    result_step: int | None = None,
) -> np.ndarray:
    """Apply a compiled function of vectors to arrays, element by element."""
    names = stored_as or tuple(str(array.dtype) for array in inputs) + (str(inputs[0].dtype),)
    vector = Vector(FLOATS[computed_in or names[0]], lanes)
    accesses = [Access(Storage(name), vector) for name in names]
    loads, store = tuple(access.load for access in accesses[:-1]), accesses[-1].store
    first = first_lanes(vector)
    size, result_size = inputs[0].itemsize, Storage(names[-1]).itemsize
    step = size if step is None else step
    result_step = result_size if result_step is None else result_step
    compiled = internal(function)
    count = inputs[0].size if step == size else 1 + (inputs[0].nbytes - size) // abs(step or size)
    result = np.full((count - 1) * result_step // result_size + 1, 77).astype(
        {"bfloat16": np.uint16}.get(names[-1], names[-1])
    )
    load = loads[0]
    second = loads[-1]

    @njit(error_model="numpy")
    def unary(x: int, y: int, n: int) -> None:
        for i in range(0, n, lanes):
            mask = first(n - i)
            store(y + i * result_step, result_step, mask, compiled(load(x + i * step, step, mask)))

    @njit(error_model="numpy")
    def binary(x: int, z: int, y: int, n: int) -> None:
        for i in range(0, n, lanes):
            mask = first(n - i)
            values = load(x + i * step, step, mask), second(z + i * step, step, mask)
            store(y + i * result_step, result_step, mask, compiled(*values))

    run = unary if len(inputs) == 1 else binary
    run(*(array.ctypes.data for array in inputs), result.ctypes.data, count)
    return result


def numbers(dtype: str) -> np.ndarray:
    """Return numbers of all magnitudes and signs, and the special ones."""
    generator = np.random.default_rng(0)
    spread = generator.standard_normal(501) * 2.0 ** generator.integers(-40, 40, 501)
    information = np.finfo(dtype)
    special = [0, -0.0, np.inf, -np.inf, np.nan, information.max, -information.max]
    special += [information.smallest_subnormal, -information.smallest_subnormal, 1, -1]
    return np.concatenate([spread, special, generator.standard_normal(76) * 3]).astype(dtype)


def assert_same_bits(left: np.ndarray, right: np.ndarray) -> None:
    """Compare bit for bit, but for what kind of NaN it is."""
    integer = f"u{left.itemsize}"
    both_nan = np.isnan(left) & np.isnan(right)
    np.testing.assert_array_equal(left.view(integer)[~both_nan], right.view(integer)[~both_nan])


UNARY = {
    "negative": (lambda x: -x, np.negative),
    "absolute": (lambda x: abs(x), np.abs),
    "square root": (lambda x: simd.sqrt(x), np.sqrt),
    "round": (lambda x: simd.round_to_integer(x), np.rint),
    "is NaN": (lambda x: simd.select(simd.isnan(x), 1, 0), np.isnan),
    "select": (lambda x: simd.select(x > 1, x, -1), lambda x: np.where(x > 1, x, -1)),
    "weak numbers": (lambda x: 0.1 * x + 1, lambda x: x.dtype.type(0.1) * x + x.dtype.type(1)),
    "masks": (
        lambda x: simd.select(((x > -1) & (x < 1)) | (x == 2) ^ ~(x != 3), 1, 0),
        lambda x: ((x > -1) & (x < 1)) | ((x == 2) ^ (x == 3)),
    ),
    "bits": (lambda x: simd.from_bits(simd.bits(x) ^ 1 | 2 & 3), None),
}
BINARY = {
    "add": (lambda x, y: x + y, np.add),
    "subtract": (lambda x, y: x - y, np.subtract),
    "multiply": (lambda x, y: x * y, np.multiply),
    "divide": (lambda x, y: x / y, np.divide),
    "less": (lambda x, y: simd.select(x < y, 1, 0), np.less),
    "less or equal": (lambda x, y: simd.select(x <= y, 1, 0), np.less_equal),
    "greater": (lambda x, y: simd.select(x > y, 1, 0), np.greater),
    "greater or equal": (lambda x, y: simd.select(x >= y, 1, 0), np.greater_equal),
    "equal": (lambda x, y: simd.select(x == y, 1, 0), np.equal),
    "not equal": (lambda x, y: simd.select(x != y, 1, 0), np.not_equal),
    "copysign": (lambda x, y: simd.copysign(x, y), np.copysign),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lanes", LANES)
def test_unary_operations(lanes: int, dtype: str) -> None:
    x = numbers(dtype)
    for name, (function, reference) in UNARY.items():
        with np.errstate(all="ignore"):
            if reference is None:
                expected = (x.view(f"i{x.itemsize}") ^ 1 | 2).view(dtype)
            else:
                expected = reference(x).astype(dtype)
        np.testing.assert_array_equal(apply(function, x, lanes=lanes), expected, err_msg=name)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lanes", LANES)
def test_binary_operations(lanes: int, dtype: str) -> None:
    x = numbers(dtype)
    y = np.random.default_rng(1).permutation(x)
    y[::7] = x[::7]
    for name, (function, reference) in BINARY.items():
        with np.errstate(all="ignore"):
            expected = reference(x, y).astype(dtype)
        np.testing.assert_array_equal(apply(function, x, y, lanes=lanes), expected, err_msg=name)


@pytest.mark.parametrize("lanes", LANES)
def test_fma_rounds_once(lanes: int) -> None:
    x, y = numbers("float32"), np.random.default_rng(1).permutation(numbers("float32"))
    exact = x.astype("f8") * y.astype("f8")  # 24 + 24 bits fit into 53
    usable = (abs(exact) < 1e30) & (abs(exact) > 1e-20)
    rounding = exact[usable] - exact[usable].astype("f4")
    got = apply(lambda x, y: simd.fma(x, y, -(x * y)), x, y, lanes=lanes)[usable]
    np.testing.assert_array_equal(got, rounding.astype("f4"))
    assert (got != 0).mean() > 0.5  # two roundings would give zero


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lanes", LANES)
def test_scale_rounds_once_into_the_subnormal_range(lanes: int, dtype: str) -> None:
    limit = {"float32": 252, "float64": 2044}[dtype]
    n = np.arange(-limit, limit + 1).astype(dtype)
    x = np.random.default_rng(2).uniform(0.5, 4, n.size).astype(dtype)
    with np.errstate(all="ignore"):
        expected = np.ldexp(x, n.astype(int))
    make_compilable(simd.scale)
    got = apply(lambda x, n: simd.scale(x, n), x, n, lanes=lanes)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("function", vecmath.FUNCTIONS, ids=lambda function: function.__name__)
def test_scalars_and_all_widths_give_the_same_bits(function: Any, dtype: str) -> None:
    """A scalar is a vector of one lane; the ufunc uses the CPU's widest."""
    make_compilable(function)
    x = numbers(dtype)
    expected = getattr(math, function.__name__)(x)
    assert lanes_of(FLOATS[dtype]) > 1
    for lanes in (1, 4):
        assert_same_bits(apply(lambda x: function(x), x, lanes=lanes), expected)


_SQUARES = simd.PerDtype(float32=tuple(k * k for k in range(50)), float64=tuple(range(50)))
_ROOTS = simd.PerDtype(
    float32=tuple(float(np.float32(np.sqrt(k))) for k in range(50)),
    float64=tuple(float(np.sqrt(k)) for k in range(50)),
)
_BITS_OF_ZERO = simd.PerDtype(float32=0x4B400000, float64=0x4338000000000000)
_ROUND = simd.PerDtype(float32=1.5 * 2.0**23, float64=1.5 * 2.0**52)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lanes", LANES)
def test_lookup(lanes: int, dtype: str) -> None:
    """In tables of floats and of integers, which have their own in each type."""
    place = np.random.default_rng(3).integers(0, 50, 101)
    x = place.astype(dtype)
    roots = apply(
        lambda x: simd.lookup(_ROOTS, simd.bits(x + _ROUND) - _BITS_OF_ZERO), x, lanes=lanes
    )
    np.testing.assert_array_equal(roots, np.sqrt(x))
    squares = apply(
        lambda x: simd.to_float(simd.lookup(_SQUARES, simd.bits(x + _ROUND) - _BITS_OF_ZERO)),
        x,
        lanes=lanes,
    )
    np.testing.assert_array_equal(squares, place**2 if dtype == "float32" else place)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lanes", LANES)
def test_any_lane(lanes: int, dtype: str) -> None:
    """One lane is enough to take the whole vector there, and no lane is in the masked tail."""

    def marked(x: Any) -> Any:
        if simd.any_lane(x > 100):
            return x * 0 + 1
        return x * 0

    for place in (None, 0, 5, 36):
        x = np.zeros(37, dtype)
        expected = np.zeros(37, dtype)
        if place is not None:
            x[place] = 101
            start = place - place % lanes
            expected[start : start + lanes] = 1
        np.testing.assert_array_equal(apply(marked, x, lanes=lanes), expected)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("step", [-12, -4, 0, 4, 8, 20])
def test_any_stride(step: int, lanes: int) -> None:
    """Neighbours are loaded, a number is broadcast, and all else is gathered."""
    x = np.arange(1.0, 101.0, dtype=np.float32)
    source = x if step >= 0 else x[::-1].copy()
    if step == 0:
        got = apply(lambda x: x + 1, source, lanes=lanes, step=0)
        np.testing.assert_array_equal(got, np.full(100, 2, np.float32))
        return
    base = source if step > 0 else source[::-1]  # a view that starts at the last number
    got = apply(lambda x: x + 1, base, lanes=lanes, step=step)
    np.testing.assert_array_equal(got, x[:: abs(step) // 4] + 1)


@pytest.mark.parametrize("lanes", LANES)
def test_scatter_leaves_the_gaps_alone(lanes: int) -> None:
    x = np.arange(1.0, 38.0, dtype=np.float32)
    got = apply(lambda x: x + 1, x, lanes=lanes, result_step=12)
    np.testing.assert_array_equal(got[::3], x + 1)
    gaps = np.delete(got, np.s_[::3])
    assert (gaps == 77).all()


@pytest.mark.parametrize("lanes", LANES)
def test_float16_is_widened_and_rounded_once(lanes: int) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    wide = apply(
        lambda x: x, every, lanes=lanes, computed_in="float32", stored_as=("float16", "float32")
    )
    np.testing.assert_array_equal(wide, every.astype(np.float32))
    x = np.concatenate([numbers("float32"), between(every)])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    narrow = apply(lambda x: x, x, lanes=lanes, stored_as=("float32", "float16"))
    np.testing.assert_array_equal(narrow, expected)


def between(every: np.ndarray) -> np.ndarray:
    """Return the midpoints of neighbouring numbers, where rounding is decided, and their neighbours."""
    finite = np.sort(every[np.isfinite(every)].astype(np.float32))
    middle = finite[1:] / 2 + finite[:-1] / 2
    return np.concatenate([middle, np.nextafter(middle, 1e9), np.nextafter(middle, -1e9)])


@pytest.mark.parametrize("lanes", LANES)
def test_bfloat16_is_widened_and_rounded_once(lanes: int) -> None:
    every = np.arange(2**16, dtype=np.uint16)
    wide = apply(
        lambda x: x, every, lanes=lanes, computed_in="float32", stored_as=("bfloat16", "float32")
    )
    np.testing.assert_array_equal(wide, (every.astype(np.uint32) << 16).view(np.float32))
    finite = wide[np.isfinite(wide)]
    x = np.concatenate([numbers("float32"), between(finite)])
    narrow = apply(lambda x: x, x, lanes=lanes, stored_as=("float32", "bfloat16"))
    ordered = np.sort(finite.astype(np.float64))
    inside = np.isfinite(x) & (abs(x) <= ordered[-1])
    got = (narrow.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    place = np.searchsorted(ordered, x[inside].astype(np.float64))
    low, high = ordered[np.maximum(place - 1, 0)], ordered[place]
    nearest = np.minimum(x[inside] - low, high - x[inside])
    np.testing.assert_array_equal(abs(got[inside] - x[inside]), nearest)
    ties = (x[inside] - low == high - x[inside]) & (low != high)
    assert ties.sum() > 1000
    assert not (narrow[inside][ties] & 1).any()
    assert np.isnan(got[np.isnan(x)]).all()
    assert np.isinf(got[np.isinf(x)]).all()


def test_words_have_no_meaning_outside_a_kernel() -> None:
    with pytest.raises(TypeError, match="select has a meaning only inside"):
        simd.select(True, 1, 2)
