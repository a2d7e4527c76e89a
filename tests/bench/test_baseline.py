"""The NumPy baseline against high-precision formulas that are written here a second time."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from fastact import baseline

Formula = Callable[[Any], tuple[Any, Any]]
Array = NDArray[Any]

MAGNITUDES = [1e-40, 1e-38, 1e-20, 1e-8, 1e-3, 0.1, 0.5, 1, 2, 4.5, 8, 9.1, 17, 20, 50]
MAGNITUDES += [86, 88, 89, 100, 104, 700, 710, 1e4, 1e30, 3e38]
FINITE = [sign * magnitude for magnitude in MAGNITUDES for sign in (-1, 1)]
DTYPES = [np.float32, np.float64]


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """Compute with 60 digits in mpmath."""
    with mpmath.workdps(60):
        yield


def sigmoid(x: Any) -> tuple[Any, Any]:
    """Return value and derivative for a finite `x`, in the working precision of mpmath."""
    value = 1 / (1 + mpmath.exp(-x))
    return value, value / (1 + mpmath.exp(x))


def tanh(x: Any) -> tuple[Any, Any]:
    """Return value and derivative; beyond 200 the derivative is below any float64."""
    return mpmath.tanh(x), (mpmath.sech(x) ** 2 if abs(x) < 1000 else mpmath.mpf(0))


def bent_line(negative_slope: float) -> Formula:
    """Return the formula of a line that bends at 0."""

    def formula(x: Any) -> tuple[Any, Any]:
        slope = 1 if x > 0 else mpmath.mpf(negative_slope)
        return slope * x, slope

    return formula


def elu(alpha: float) -> Formula:
    """Return the formula of elu for one `alpha`."""

    def formula(x: Any) -> tuple[Any, Any]:
        return (x, 1) if x > 0 else (alpha * mpmath.expm1(x), alpha * mpmath.exp(x))

    return formula


# name, parameters, formula, limits of (value, derivative) at -infinity and at infinity
CASES = [
    ("sigmoid", {}, sigmoid, (0, 0), (1, 0)),
    ("tanh", {}, tanh, (-1, 0), (1, 0)),
    ("relu", {}, bent_line(0), (0, 0), (np.inf, 1)),
    ("leaky_relu", {}, bent_line(0.01), (-np.inf, 0.01), (np.inf, 1)),
    ("leaky_relu", {"negative_slope": 0.0}, bent_line(0), (0, 0), (np.inf, 1)),
    ("leaky_relu", {"negative_slope": 1.0}, bent_line(1), (-np.inf, 1), (np.inf, 1)),
    ("leaky_relu", {"negative_slope": 2.5}, bent_line(2.5), (-np.inf, 2.5), (np.inf, 1)),
    ("leaky_relu", {"negative_slope": -0.5}, bent_line(-0.5), (np.inf, -0.5), (np.inf, 1)),
    ("prelu", {"weight": 0.25}, bent_line(0.25), (-np.inf, 0.25), (np.inf, 1)),
    ("prelu", {"weight": 3.0}, bent_line(3), (-np.inf, 3), (np.inf, 1)),
    ("elu", {}, elu(1), (-1, 0), (np.inf, 1)),
    ("elu", {"alpha": 0.5}, elu(0.5), (-0.5, 0), (np.inf, 1)),
    ("elu", {"alpha": 1.5}, elu(1.5), (-1.5, 0), (np.inf, 1)),
]
IDS = ["-".join([name, *map(str, parameters.values())]) for name, parameters, *_ in CASES]
AT_ZERO = {"sigmoid": 0.25, "tanh": 1.0, "relu": 0.0}

every_case = pytest.mark.parametrize(
    ("name", "parameters", "formula", "at_minus_infinity", "at_infinity"), CASES, ids=IDS
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_layout = pytest.mark.parametrize("order", ["C", "F"])


def all_three(name: str, x: Any, dy: Any, **parameters: Any) -> tuple[Any, Any]:
    """Return value and gradient, after a check that the fused call gives the same bits."""
    item = baseline.get(name)
    y = item.forward(x, **parameters)
    gradients = item.backward(dy, x, **parameters)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for alone, fused in zip(
        (y, *gradients), item.forward_backward(x, dy, **parameters), strict=True
    ):
        np.testing.assert_array_equal(alone, fused)
        np.testing.assert_array_equal(np.signbit(alone), np.signbit(fused))
    return y, gradients[0]


@every_dtype
@every_case
def test_finite(
    name: str,
    parameters: dict[str, float],
    formula: Formula,
    at_minus_infinity: Any,
    at_infinity: Any,
    dtype: type,
) -> None:
    """Values and derivatives are right to a few units in the last place."""
    random = np.random.default_rng(1).standard_normal(300) * 8
    x: Array = np.array([*FINITE, *random], dtype=dtype)
    y, d = all_three(name, x, np.ones_like(x), **parameters)
    assert y.dtype == d.dtype == dtype
    precision, largest = np.finfo(dtype), float(np.finfo(dtype).max)
    value, derivative = zip(*(formula(mpmath.mpf(float(t))) for t in x), strict=True)
    expected = [
        np.array([math.copysign(min(abs(t), largest), t) for t in map(float, v)])
        for v in (value, derivative)
    ]
    # Overflow to infinity is right, but no value to compare with.
    finite = np.abs(expected[0]) < largest
    relative = 8 * float(precision.eps)
    # What the docstrings allow: sigmoid flushes below the normal numbers, tanh' cancels.
    tiny = float(precision.smallest_subnormal)
    lost = {"sigmoid": float(precision.tiny), "tanh": 2 * float(precision.eps)}
    np.testing.assert_allclose(
        y[finite], expected[0][finite], relative, lost["sigmoid"] if name == "sigmoid" else tiny
    )
    np.testing.assert_allclose(d, expected[1], relative, lost.get(name, tiny))


@every_dtype
@every_case
def test_special(
    name: str,
    parameters: dict[str, float],
    formula: Formula,
    at_minus_infinity: Any,
    at_infinity: Any,
    dtype: type,
) -> None:
    """NaN, infinities and zeros are right wherever in a vector or its remainder they stand."""
    slope = next(iter(parameters.values()), {"leaky_relu": 0.01, "elu": 1.0}.get(name))
    at_zero = AT_ZERO.get(name, slope)
    for length in (*range(1, 40), 100):
        for special, value, derivative in (
            (np.nan, np.nan, np.nan),
            (-np.inf, *at_minus_infinity),
            (np.inf, *at_infinity),
            (0.0, 0.5 if name == "sigmoid" else 0.0, at_zero),
            (-0.0, 0.5 if name == "sigmoid" else 0.0, at_zero),
        ):
            x: Array = np.full((length, 1), special, dtype=dtype)
            y, d = all_three(name, x, 1 if name != "prelu" else np.ones_like(x), **parameters)
            np.testing.assert_array_equal(y, np.full_like(y, value))
            np.testing.assert_array_equal(d, np.full_like(d, derivative))
            keeps_sign = name in ("tanh", "elu", "leaky_relu", "prelu") and (slope or 1) > 0
            if special == 0 and keeps_sign and not (name == "leaky_relu" and slope == 0):
                assert np.array_equal(np.signbit(y), np.signbit(x)), (name, special, length)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "elu"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_nan_spoils_nothing_else(name: str, dtype: type) -> None:
    """A NaN stays in its own element."""
    x: Array = np.linspace(-3, 3, 33).astype(dtype)
    y, d = all_three(name, x, 1)
    x[7] = np.nan
    with_nan = all_three(name, x, 1)
    for clean, spoilt in zip((y, d), with_nan, strict=True):
        assert np.isnan(spoilt[7])
        np.testing.assert_array_equal(np.delete(spoilt, 7), np.delete(clean, 7))


@every_layout
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "elu"])
def test_layouts_and_out(name: str, order: Any) -> None:
    """Strided, transposed, scalar and empty arrays work, and so do outputs that are given."""
    item, random = baseline.get(name), np.random.default_rng(2)
    x = np.asarray(random.standard_normal((6, 10)), order=order)
    dy = random.standard_normal(x.shape)
    expected = all_three(name, x, dy)
    pad = np.zeros((12, 10))
    for view in (x[::-1], pad[::2], pad[1::2, ::-1]):
        if view.base is pad:
            view[...] = x
        flipped = dy[::-1] if view.base is x else dy
        for got, right in zip(all_three(name, view, flipped), expected, strict=True):
            np.testing.assert_array_equal(got[::-1] if view.base is x else got, right)
    y, dx = np.full_like(x, 9), np.full_like(x, 9)
    assert item.forward(x, out=y) is y
    np.testing.assert_array_equal(y, expected[0])
    assert item.backward(dy, x, out=(dx,)) is dx
    np.testing.assert_array_equal(dx, expected[1])
    y[...] = dx[...] = 9
    result = item.forward_backward(x, dy, out=(y, dx))
    assert result[0] is y
    assert result[1] is dx
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(dx, expected[1])
    partly = item.forward_backward(x, dy, out=(None, dx))
    assert partly[1] is dx
    assert item.forward(x.astype(np.float32)[0, 0]).shape == ()
    assert item.forward_backward(np.empty((0, 3)), np.empty((0, 3)))[1].shape == (0, 3)
    assert item(x).tolist() == expected[0].tolist()
    assert item.forward([1, 2]).dtype == np.float64
    assert item.forward(np.array([1, 2], dtype=np.int8)).dtype == np.float16


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "elu"])
def test_wrong_calls(name: str) -> None:
    """A wrong argument is named, and no output is touched."""
    item, x = baseline.get(name), np.ones((2, 3), dtype=np.float32)
    for wrong in (np.zeros((3, 2), dtype=np.float32), np.zeros((2, 3)), x):
        before = wrong.copy()
        with pytest.raises(ValueError, match="out must"):
            item.forward(x, out=wrong)
        np.testing.assert_array_equal(wrong, before)
    with pytest.raises(ValueError, match="out must hold 2"):
        item.forward_backward(x, x, out=(x,))
    shared = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="must not share"):
        item.forward_backward(x, x, out=(shared, shared))
    with pytest.raises(ValueError, match="dy must fit"):
        item.backward(np.ones((2, 1, 3)), x)
    with pytest.raises(TypeError, match="complex"):
        item.forward(x + 1j)


def test_names() -> None:
    """The names are found, and a wrong one gets their list."""
    assert baseline.names() == (
        "sigmoid",
        "tanh",
        "relu",
        "leaky_relu",
        "prelu",
        "elu",
        "maxout",
    )
    assert baseline.get("relu") is baseline.relu
    for wrong in ("swisch", "names", "Baseline"):
        with pytest.raises(ValueError, match=r"'" + wrong + "'.*sigmoid, tanh, relu"):
            baseline.get(wrong)


# prelu -----------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((50, 4), 1), ((4, 50), 0), ((5, 4, 6, 7), 1), ((5, 6, 4), -1), ((7, 4, 3), 1)],
)
@pytest.mark.parametrize("weight", [[0.1, 0.25, 0.5, 1], [-0.5, 0, 2, 0.3], 0.25, [1.5]])
def test_prelu(shape: tuple[int, ...], axis: int, weight: Any, dtype: type) -> None:
    """The weights go along their axis, and their gradients come back from the same places."""
    random = np.random.default_rng(3)
    x: Array = random.standard_normal(shape).astype(dtype)
    dy: Array = random.standard_normal(shape).astype(dtype)
    weight = np.array(weight, dtype=dtype)
    y, dx, dweight = baseline.prelu.forward_backward(x, dy, weight, axis=axis)
    for out in (y, dx, dweight):
        assert out.dtype == dtype
    x64 = np.moveaxis(x.astype(np.float64), axis, -1)
    dy64 = np.moveaxis(dy.astype(np.float64), axis, -1)
    tolerance = 20 * float(np.finfo(dtype).eps)
    slope = np.where(x64 > 0, 1, weight.astype(np.float64))
    np.testing.assert_allclose(np.moveaxis(y, axis, -1), x64 * slope, tolerance)
    np.testing.assert_allclose(np.moveaxis(dx, axis, -1), dy64 * slope, tolerance)
    terms = np.where(x64 > 0, 0, x64 * dy64).reshape(-1, 4)
    expected = terms.sum(axis=0) if weight.size > 1 else terms.sum().reshape(weight.shape)
    assert dweight.shape == weight.shape
    np.testing.assert_allclose(dweight, expected, tolerance, tolerance * float(np.abs(terms).sum()))
    for alone, fused in zip(
        baseline.prelu.backward(dy, x, weight, axis=axis), (dx, dweight), strict=True
    ):
        np.testing.assert_array_equal(alone, fused)
    np.testing.assert_array_equal(baseline.prelu.forward(x, weight, axis=axis), y)


def test_prelu_out() -> None:
    """Outputs that are given are filled; a single array is the first of them."""
    random = np.random.default_rng(6)
    x, dy = random.standard_normal((2, 5, 3))
    weight = np.array([0.1, 0.2, 0.3])
    expected = baseline.prelu.forward_backward(x, dy, weight)
    out = np.zeros((5, 3)), np.zeros((5, 3)), np.zeros(3)
    result = baseline.prelu.forward_backward(x, dy, weight, out=out)
    for got, given, right in zip(result, out, expected, strict=True):
        assert got is given
        np.testing.assert_array_equal(got, right)
    assert baseline.prelu.backward(dy, x, weight, out=out[0])[0] is out[0]
    assert baseline.prelu.backward(dy, x, weight, out=(None, out[2]))[1] is out[2]
    with pytest.raises(ValueError, match="out must hold 2"):
        baseline.prelu.backward(dy, x, weight, out=(out[0],))
    with pytest.raises(ValueError, match=r"out must have shape \(3,\)"):
        baseline.prelu.backward(dy, x, weight, out=(None, np.zeros(4)))


def test_prelu_nan() -> None:
    """A NaN reaches the gradient of its own weight and of no other."""
    x = np.array([[1, -2, np.nan], [-1, 0, 3]], dtype=np.float32)
    dx, dweight = baseline.prelu.backward(np.ones_like(x), x, [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(dx, np.array([[1, 0.5, np.nan], [0.25, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(dweight, np.array([-1, -2, np.nan], np.float32))


@pytest.mark.parametrize(("shape", "weight"), [((3 * 10**7,), 0.25), ((10**7, 3), [0.25] * 3)])
def test_prelu_long_sums(shape: tuple[int, ...], weight: Any) -> None:
    """Many equal terms lose nothing visible in float32."""
    x = np.full(shape, -0.1, dtype=np.float32)
    _, dweight = baseline.prelu.backward(1, x, weight)
    exact = float(np.float32(-0.1)) * x.size / np.size(weight)
    np.testing.assert_allclose(dweight, np.full(np.shape(weight), exact), rtol=1e-5)


def test_prelu_wrong_weight() -> None:
    """A weight of the wrong length is refused, with both lengths."""
    with pytest.raises(ValueError, match=r"weight must.*\(3,\).*\(4,\)"):
        baseline.prelu.forward(np.ones((2, 3)), np.ones(4))
    empty = baseline.prelu.backward(np.ones((0, 3)), np.ones((0, 3)), np.ones(3))
    np.testing.assert_array_equal(empty[1], np.zeros(3))


# maxout ----------------------------------------------------------------------------------------


@every_dtype
@every_layout
@pytest.mark.parametrize("pieces", [1, 2, 3, 8, 23, 24, 300])
@pytest.mark.parametrize(("shape", "axis"), [((4, 600), -1), ((600, 4), 0), ((2, 600, 3), 1)])
def test_maxout(shape: tuple[int, ...], axis: int, pieces: int, order: Any, dtype: type) -> None:
    """Values, indices and gradients are those of a plain loop over the groups."""
    shape = tuple(length // 600 * 24 * pieces or length for length in shape)
    random = np.random.default_rng(4)
    # Few different numbers, so that there are many ties, and some NaN.
    x: Array = random.integers(-3, 3, shape).astype(dtype)
    x[random.random(shape) < 0.05] = np.nan
    x = np.asarray(x, order=order)
    y, which = baseline.maxout.forward_with_index(x, pieces, axis=axis)
    groups = np.moveaxis(x, axis, -1).reshape(-1, pieces)
    first = np.argmax(groups, axis=1)  # the first of equal ones; NaN wins
    picked = groups[np.arange(len(groups)), first]
    assert y.dtype == dtype
    np.testing.assert_array_equal(np.moveaxis(y, axis, -1).ravel(), picked)
    np.testing.assert_array_equal(np.moveaxis(which, axis, -1).ravel(), first)
    np.testing.assert_array_equal(baseline.maxout.forward(x, pieces, axis=axis), y)

    dy = random.standard_normal(y.shape).astype(dtype)
    dx = baseline.maxout.backward(dy, which, pieces, axis=axis)
    expected = np.zeros_like(groups)
    expected[np.arange(len(groups)), first] = np.moveaxis(dy, axis, -1).ravel()
    assert dx.dtype == dtype
    np.testing.assert_array_equal(np.moveaxis(dx, axis, -1).reshape(-1, pieces), expected)
    np.testing.assert_array_equal(
        baseline.maxout.backward(dy, which.astype(np.int64), pieces, axis=axis), dx
    )
    out = np.full_like(y, 9), np.full_like(x, 9)
    fused = baseline.maxout.forward_backward(x, dy, pieces, axis=axis, out=out)
    assert fused[0] is out[0]
    assert fused[1] is out[1]
    np.testing.assert_array_equal(fused[0], y)
    np.testing.assert_array_equal(fused[1], dx)
    out[1][...] = 9
    assert baseline.maxout.backward(dy, which, pieces, axis=axis, out=out[1]) is out[1]
    np.testing.assert_array_equal(out[1], dx)


def test_maxout_infinities() -> None:
    """Infinities are ordinary numbers to a maximum."""
    x = np.array([-np.inf, -np.inf, -np.inf, np.inf, 1, np.nan, np.nan, np.inf])
    y, which = baseline.maxout.forward_with_index(x, 2)
    np.testing.assert_array_equal(y, [-np.inf, np.inf, np.nan, np.nan])
    out = np.zeros(4), np.zeros(4, dtype=np.int64)
    given_y, given_which = baseline.maxout.forward_with_index(x, 2, out=out)
    assert given_y is out[0]
    assert given_which is out[1]
    np.testing.assert_array_equal(out[1], which)
    np.testing.assert_array_equal(which, [0, 1, 1, 0])


def test_maxout_wrong_calls() -> None:
    """A length that does not divide evenly is refused, with both numbers."""
    with pytest.raises(ValueError, match=r"7.*2"):
        baseline.maxout.forward(np.ones((3, 7)), 2)
    with pytest.raises(ValueError, match="pieces is 0"):
        baseline.maxout.forward(np.ones((3, 7)), 0)
    with pytest.raises(ValueError, match="one shape"):
        baseline.maxout.backward(np.ones((3, 7)), np.zeros((3, 6), dtype=int), 2)
