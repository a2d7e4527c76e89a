"""Functions of whole rows against float64 and mpmath references, PyTorch and JAX; axes, masks and wrong calls."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import fastact as fa
from fastact.system.memory_layout import SETTING, SETTINGS

Array = np.ndarray[Any, Any]
NAMES = ["softmax", "log_softmax", "softmin"]
SIGN = {"softmin": -1}


def in_half_types(names: list[str]) -> list[Any]:
    """Return names with half types; by default softmax stands for all, whose passes over a row are theirs."""
    return [
        pytest.param(name, kind, marks=[] if name == "softmax" else pytest.mark.long)
        for name in names
        for kind in ("float16", "bfloat16")
    ]


def shares(x: Array, axis: Any = -1) -> Array:
    """Return the softmax in float64, or in what is wider."""
    wide = np.asarray(x, np.longdouble)
    e = np.exp(wide - wide.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def value(name: str, x: Array, axis: Any = -1) -> Array:
    x = SIGN.get(name, 1) * np.asarray(x, np.longdouble)
    if name != "log_softmax":
        return shares(x, axis)
    # The largest number is left out of the sum: next to 0, its logarithm has no digits else.
    difference = x - x.max(axis, keepdims=True)
    axes = tuple(range(x.ndim)) if axis is None else axis
    equal = (difference == 0).sum(axes, keepdims=True)
    others = np.where(difference == 0, 0, np.exp(difference)).sum(axes, keepdims=True)
    return difference - np.log1p(others + (equal - 1))


def gradient(name: str, x: Array, dy: Array, axis: Any = -1) -> Array:
    sign = SIGN.get(name, 1)
    y, dy = shares(sign * np.asarray(x, np.longdouble), axis), np.asarray(dy, np.longdouble)
    if name == "log_softmax":
        return dy - y * dy.sum(axis, keepdims=True)
    return sign * y * (dy - (y * dy).sum(axis, keepdims=True))


def numbers(
    shape: tuple[int, ...], dtype: Any = np.float32, scale: float = 4
) -> tuple[Array, Array]:
    random = np.random.default_rng(sum(shape))
    x, dy = random.standard_normal((2, *shape))
    return (x * scale).astype(dtype), dy.astype(dtype)


def ulps(actual: Array, expected: Array) -> float:
    """Return the largest error in units in the last place of the result's own type."""
    spacing = np.spacing(np.abs(expected).astype(actual.dtype))
    return float(np.max(np.abs(actual - expected) / spacing, initial=0))


def at_scale(actual: Array, expected: Array, terms: Array) -> float:
    """Return the largest error in units in the last place of the largest of the terms of a difference."""
    return float(
        np.max(np.abs(actual - expected)) / np.spacing(np.abs(terms).max().astype(actual.dtype))
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 63, 64, 65, 129, 1000, 5003, 70_001])
@pytest.mark.parametrize("scale", [0.01, 4, 30])
def test_errors(name: str, dtype: Any, length: int, scale: float) -> None:
    x, dy = numbers((3, length), dtype, scale)
    y = getattr(fa, name)(x)
    assert y.dtype == dtype
    expected = value(name, x)
    # What is next to the smallest number has few digits; glibc's and our subnormals are compared below.
    normal = np.abs(expected) > np.finfo(dtype).tiny
    bound = 4 if dtype is np.float32 else 6
    assert ulps(y[normal], expected[normal]) <= bound
    both = getattr(fa, name).forward_backward(x, dy)
    np.testing.assert_array_equal(both[0], y)
    right = gradient(name, x, dy)
    terms = np.concatenate([dy, dy.sum(-1, keepdims=True, dtype=np.float64)], axis=-1)
    assert at_scale(both[1], right, terms) <= bound
    assert at_scale(getattr(fa, name).backward(dy, y), right, terms) <= bound + 4 * (length > 1000)


def test_log_softmax_next_to_zero() -> None:
    """The largest share's logarithm is a small number with all its digits (SciPy loses them)."""
    for others in (1e-3, 20.0, 50.0, 80.0):
        for dtype in (np.float32, np.float64):
            x = np.array([0, -others, -others - 1], dtype)
            with mpmath.workdps(60):
                total = sum(mpmath.exp(mpmath.mpf(float(each))) for each in x)
                expected = np.array(
                    [float(mpmath.mpf(float(each)) - mpmath.log(total)) for each in x]
                )
            assert ulps(fa.log_softmax(x), expected) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_large_numbers(name: str) -> None:
    """Nothing overflows, and what is far below the largest number vanishes gradually."""
    for x in (
        [1e4, 1e4 - 3, -1e4],
        [3e38, 3e38, 1e38],
        [-3e38, 3e38],
        [0.0, -90, -100, -103, -110],
    ):
        array = np.array(x, np.float32)
        with np.errstate(over="ignore"):
            expected = value(name, array).astype(np.float32)
        np.testing.assert_allclose(getattr(fa, name)(array), expected, rtol=4e-7, atol=2e-45)


@pytest.mark.parametrize("name", NAMES)
def test_special_rows(name: str) -> None:
    """What PyTorch gives: NaN for rows with a NaN, with plus infinity, or of minus infinities alone."""
    sign = SIGN.get(name, 1)
    f = getattr(fa, name)
    for row in ([0, np.nan, 1], [np.inf, 0, 1], [-np.inf] * 3):
        assert np.isnan(f(sign * np.array(row))).all()
    y = f(sign * np.array([-np.inf, 0, 0]))
    np.testing.assert_allclose(
        y, [-np.inf, -np.log(2), -np.log(2)] if name == "log_softmax" else [0, 0.5, 0.5]
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 0), (-1, 1), None])
@pytest.mark.parametrize("layout", ["plain", "strided", "fortran", "swapped", "unaligned"])
def test_axes_and_layouts(name: str, axis: Any, layout: str) -> None:
    """All give the bits of contiguous rows."""
    x, dy = numbers((6, 70, 7))
    if layout == "strided":
        x, dy = x[::-1, ::2], dy[::-1, ::2]
    elif layout == "fortran":
        x, dy = np.asfortranarray(x), np.asfortranarray(dy)
    elif layout == "swapped":
        x, dy = x.astype(">f4"), dy.astype(">f4")
    elif layout == "unaligned":
        memory = np.zeros(x.nbytes + 1, np.uint8)
        view = memory[1:].view(np.float32).reshape(x.shape)
        view[...] = x
        x = view
    y, dx = getattr(fa, name).forward_backward(x, dy, axis=axis)
    assert y.shape == dx.shape == x.shape
    expected = value(name, x, axis).astype(np.float64)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(
        dx, gradient(name, x, dy, axis).astype(np.float64), rtol=1e-4, atol=1e-5
    )
    axes = tuple(range(3)) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    last = np.moveaxis(x, axes, tuple(range(-len(axes), 0)))
    rows = np.ascontiguousarray(last).astype(np.float32)
    flat = rows.reshape(*rows.shape[: 3 - len(axes)], -1)
    again = getattr(fa, name)(flat).reshape(rows.shape)
    np.testing.assert_array_equal(np.moveaxis(y, axes, tuple(range(-len(axes), 0))), again)


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_with_any_number_of_threads(name: str) -> None:
    x, dy = numbers((900, 333))
    before, results = fa.get_num_threads(), []
    try:
        for threads in {1, before}:
            fa.set_num_threads(threads)
            for _ in range(3):
                y, dx = getattr(fa, name).forward_backward(x, dy)
                results.append(
                    (y.tobytes(), dx.tobytes(), getattr(fa, name).backward(dy, y).tobytes())
                )
    finally:
        fa.set_num_threads(before)
    assert len(set(results)) == 1


def from_boundary(array: Array, offset: int) -> Array:
    """Return a copy that begins so many elements after a multiple of 64 bytes."""
    memory = np.zeros(array.size + offset + 64, array.dtype)
    first = -memory.ctypes.data % 64 // array.itemsize + offset
    view = memory[first : first + array.size].reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product([*NAMES, "logsumexp"], ["float32", "float64"]),
        *in_half_types([*NAMES, "logsumexp"]),
    ],
)
def test_outputs_past_the_caches(name: str, dtype: str) -> None:
    """They have the same bits as those that stay, wherever rows begin."""
    kind = (
        np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
        if dtype == "bfloat16"
        else np.dtype(dtype)
    )
    before = SETTINGS[SETTING.streaming]
    f = getattr(fa, name)
    for length in (1, 15, 17, 31, 32, 33, 65, 130, 1001, 70_001):
        x, dy = (each.astype(kind) for each in numbers((7, length)))
        dy = dy[:, 0] if name == "logsumexp" else dy
        expected = f.forward_backward(x, dy)
        for offset in (0, 1, 6):
            out = from_boundary(np.zeros_like(dy), offset), from_boundary(np.zeros_like(x), offset)
            SETTINGS[SETTING.streaming] = 0
            try:
                f.forward_backward(x, dy, out=out)
            finally:
                SETTINGS[SETTING.streaming] = before
            np.testing.assert_array_equal(out[0], expected[0])
            np.testing.assert_array_equal(out[1], expected[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.5, 2, np.float32(7)])
def test_temperature(name: str, temperature: Any) -> None:
    x, dy = numbers((4, 100), np.float64)
    y, dx = getattr(fa, name).forward_backward(x, dy, temperature=temperature)
    np.testing.assert_allclose(y, value(name, x / temperature).astype(float), rtol=1e-13)
    expected = gradient(name, x / temperature, dy).astype(float) / float(temperature)
    np.testing.assert_allclose(dx, expected, rtol=1e-10, atol=1e-14)
    back = getattr(fa, name).backward(dy, y, temperature=temperature)
    np.testing.assert_allclose(back, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_temperatures(dtype: Any) -> None:
    """All for the largest element, and the same for all; what the type cannot hold is refused, not clamped."""
    x = np.array([1, 3, -2, -np.inf], dtype)
    for temperature in (1e-300, 1e-40, 1e-30):
        if temperature < float(np.finfo(dtype).tiny):
            with pytest.raises(ValueError, match="temperature must be from"):
                fa.softmax(x, temperature=temperature)
            continue
        assert fa.softmax(x, temperature=temperature).tolist() == [0, 1, 0, 0]
        assert fa.softmax.bind(temperature=temperature)(x).tolist() == [0, 1, 0, 0]
    for temperature in (1e30, 1e300):
        if temperature > float(np.finfo(dtype).max):
            with pytest.raises(ValueError, match="temperature must be from"):
                fa.softmax.bind(temperature=temperature)(x)
            continue
        expected = [1 / 3] * 3 + [0]
        np.testing.assert_allclose(fa.softmax(x, temperature=temperature), expected, rtol=1e-6)
        np.testing.assert_allclose(fa.softmax.bind(temperature=temperature)(x), expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*fa.names("row")])
@pytest.mark.parametrize("dtype", ["float32", ">f4", "int16"])
def test_small_arrays_are_as_others(name: str, dtype: str) -> None:
    """Plain small arrays go straight to the ufunc: with the results that all others have."""
    f = getattr(fa, name)
    options = {"rng": 0} if name == "gumbel_softmax" else {}
    x = numbers((3, 5, 7))[0].astype(dtype)
    dy = np.ones(np.shape(f(x, **options)), f(x, **options).dtype)
    for bound in (f, f.bind(temperature=3)):
        temperature = bound.parameters["temperature"]
        found = [bound(x, **options), *bound.forward_backward(x, dy, **options)]
        out = tuple(map(np.empty_like, found))
        f(x, temperature=temperature, out=out[0], **options)
        f.forward_backward(x, dy, temperature=temperature, out=out[1:], **options)
        for one, other in zip(found, out, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_finite_differences(name: str) -> None:
    x, dy = numbers((2, 9), np.float64, 2)
    f, step = getattr(fa, name), 1e-6
    for axis in (0, 1):
        _, dx = f.forward_backward(x, dy, axis=axis, temperature=1.5)
        for place in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[place] = step
            change = f(x + moved, axis=axis, temperature=1.5) - f(
                x - moved, axis=axis, temperature=1.5
            )
            assert abs(dx[place] - (change * dy).sum() / (2 * step)) < 1e-8


@pytest.mark.parametrize("name", NAMES)
def test_where(name: str) -> None:
    """What takes no part has no share, and no gradient; a row of which nothing takes part is all of that."""
    x, dy = numbers((5, 33), np.float64)
    mask = np.random.default_rng(1).random(x.shape) < 0.5
    mask[2] = False
    y, dx = getattr(fa, name).forward_backward(x, dy, where=mask)
    nothing = -np.inf if name == "log_softmax" else 0
    for row in range(5):
        chosen = mask[row]
        assert (y[row, ~chosen] == nothing).all()
        assert (dx[row, ~chosen] == 0).all()
        if chosen.any():
            np.testing.assert_allclose(
                y[row, chosen], value(name, x[row, chosen]).astype(float), rtol=1e-13
            )
    if name != "log_softmax":
        expected = gradient(name, x[0, mask[0]], dy[0, mask[0]]).astype(float)
        np.testing.assert_allclose(dx[0, mask[0]], expected, rtol=1e-10, atol=1e-15)
    first = mask[:, :1]
    np.testing.assert_array_equal(
        getattr(fa, name)(x, where=first),
        getattr(fa, name)(x, where=np.broadcast_to(first, x.shape).copy()),
    )


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name: str) -> None:
    """Results go to given arrays of any layout and wider type, to the input itself among them."""
    x, dy = numbers((8, 70))
    f = getattr(fa, name)
    y, dx = f.forward_backward(x, dy)
    for out in (np.empty((8, 70), np.float32), np.empty((70, 8), np.float32).T, np.empty((8, 70))):
        assert f(x, out=out) is out
        np.testing.assert_array_equal(out, y)
    own = x.copy()
    assert f(own, out=own) is own
    np.testing.assert_array_equal(own, y)
    first, second = x.copy(), dy.copy()
    results = f.forward_backward(first, second, out=(first, second))
    assert results[0] is first
    assert results[1] is second
    np.testing.assert_array_equal(first, y)
    np.testing.assert_array_equal(second, dx)
    back = f.backward(dy, y)
    for place in (0, 1):
        arrays = [dy.copy(), y.copy()]
        assert f.backward(*arrays, out=arrays[place]) is arrays[place]
        np.testing.assert_array_equal(arrays[place], back)
    both = np.concatenate([x.ravel(), np.zeros(70, np.float32)])  # a row behind itself
    f(both[:-70].reshape(8, 70), out=both[70:].reshape(8, 70))
    np.testing.assert_array_equal(both[70:].reshape(8, 70), y)
    both = np.stack([x, dy])
    crossed = f.forward_backward(both[0], both[1], out=(both[1], both[0]))
    np.testing.assert_array_equal(crossed[0], y)
    np.testing.assert_array_equal(crossed[1], dx)
    (columns := np.empty((6, 5, 4), np.float32))[...] = 0
    deep, _ = numbers((6, 5, 4))
    f(deep, axis=(0, 2), out=columns)
    np.testing.assert_array_equal(columns, f(deep, axis=(0, 2)))


@pytest.mark.parametrize(("name", "kind"), in_half_types(NAMES))
def test_half_types(name: str, kind: str) -> None:
    """Computed in float32 and rounded once."""
    dtype = (
        np.dtype(pytest.importorskip("ml_dtypes").bfloat16) if kind == "bfloat16" else np.float16
    )
    x, dy = numbers((3, 77))
    x, dy = x.astype(dtype), dy.astype(dtype)
    y, dx = getattr(fa, name).forward_backward(x, dy)
    assert y.dtype == dx.dtype == dtype
    wide = getattr(fa, name).forward_backward(x.astype(np.float32), dy.astype(np.float32))
    for half, full in zip((y, dx), wide, strict=True):
        np.testing.assert_allclose(
            half.astype(float),
            full.astype(dtype).astype(float),
            rtol=2e-2 if kind == "bfloat16" else 2e-3,
            atol=1e-7,
        )
        assert (half == full.astype(dtype)).mean() > 0.9


def test_other_types_and_shapes() -> None:
    assert fa.softmax([1, 2, 3]).dtype == np.float64
    assert fa.softmax(np.array([1, 2], np.int8)).dtype == np.float16
    assert fa.softmax(np.array([True, False])).dtype == np.float16
    assert fa.softmax(np.zeros((3, 0))).shape == (3, 0)
    assert fa.softmax(np.zeros((0, 3))).shape == (0, 3)
    assert fa.softmax(np.float32(3), axis=None) == 1
    np.testing.assert_array_equal(
        fa.softmax(np.broadcast_to(np.float32(2), (4, 5))), np.full((4, 5), 0.2, np.float32)
    )


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fa.softmax(np.ones(3, complex)), TypeError, "x has dtype complex128"),
    (lambda: fa.softmax(np.ones(3), axis=1), ValueError, "axis 1 is out of bounds"),
    (lambda: fa.softmax(np.ones(3), axis=0.5), TypeError, "axis must be an integer"),
    (lambda: fa.softmax(np.ones((3, 3)), axis=(0, -2)), ValueError, "repeats an axis"),
    (lambda: fa.softmax(np.ones(3), temperature=0), ValueError, "temperature must be a positive"),
    (lambda: fa.softmax(np.ones(3), temperature=np.nan), ValueError, "temperature must be"),
    (lambda: fa.softmax.bind(temperature=-1.0), ValueError, "temperature must be"),
    (lambda: fa.softmax(np.ones(3), where=[1, 2, 3]), TypeError, "where must hold bools"),
    (lambda: fa.softmax(np.ones(3), where=[True] * 2), ValueError, "where has shape (2,)"),
    (lambda: fa.softmax(np.ones(3), out=np.ones(4)), ValueError, "out has shape (4,)"),
    (lambda: fa.softmax(np.ones(3), out=np.ones(3, int)), TypeError, "out has dtype int64"),
    (
        lambda: fa.softmax.backward(np.ones(3), np.ones(4)),
        ValueError,
        "y has shape (4,), expected (3,)",
    ),
    (lambda: fa.softmax(np.ones(3), dim=0), TypeError, "dim"),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)


def test_outputs_are_untouched_by_wrong_calls() -> None:
    out = np.full(3, 7.0)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        fa.softmax(np.ones(3), out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("name", NAMES)
def test_objects(name: str) -> None:
    f = getattr(fa, name)
    assert fa.get(name) is f
    assert pickle.loads(pickle.dumps(f)) is f
    assert name in dir(fa)
    for operation in ("forward", "backward", "forward_backward"):
        ufunc = f.ufuncs[operation]
        assert isinstance(ufunc, np.ufunc)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
    assert ".. math::" in f.__doc__
    assert f.bind(temperature=2.0)([1.0, 2]).tolist() == f([1.0, 2], temperature=2).tolist()


def test_import_stays_light() -> None:
    code = "import sys, fastact; fastact.softmax; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


TORCH = """
import numpy as np, torch
import fastact as fa
x, dy = np.random.default_rng(0).standard_normal((2, 40, 30, 5)).astype(np.float32)
for name in ("softmax", "log_softmax", "softmin"):
    theirs = getattr(torch.nn.functional, fa.get(name)._definition.elsewhere["pytorch"])
    for axis in (0, 1, 2):
        t = torch.from_numpy(x).requires_grad_()
        y = theirs(t, axis)
        (dx,) = torch.autograd.grad(y, t, torch.from_numpy(dy))
        ours = getattr(fa, name).forward_backward(x, dy, axis=axis)
        for our, their in zip(ours, (y.detach(), dx)):
            np.testing.assert_allclose(our, their.numpy(), rtol=3e-6, atol=3e-6)
"""
JAX = """
import numpy as np, jax
import fastact as fa
x, dy = np.random.default_rng(0).standard_normal((2, 40, 30)).astype(np.float32)
mask = np.random.default_rng(1).random(x.shape) < 0.7
for name in ("softmax", "log_softmax"):
    for axis in (0, 1, (0, 1)):
        y, pull = jax.vjp(lambda x: getattr(jax.nn, name)(x, axis=axis), x)
        ours = getattr(fa, name).forward_backward(x, dy, axis=axis)
        for our, their in zip(ours, (y, pull(dy)[0])):
            np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)
y, pull = jax.vjp(lambda x: jax.nn.softmax(x, where=mask), x)
for our, their in zip(fa.softmax.forward_backward(x, dy, where=mask), (y, pull(dy)[0])):
    np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)
"""


@pytest.mark.parametrize(("package", "code"), [("torch", TORCH), ("jax", JAX)])
def test_peers(package: str, code: str) -> None:
    """In a process of their own: they bring threads that a later fork would not survive."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
