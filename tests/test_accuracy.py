"""Every elementwise activation against references of its own: errors, limits, kinks, identities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from references import (
    ALL_PATTERNS,
    CHUNK,
    GROUP_REFERENCES,
    REFERENCES,
    Array,
    assert_accurate,
    assert_exactly_accurate,
    assert_references_agree,
    assert_same_bits,
    context,
    dense_float64_points,
    float32_chunk,
    float32_walk,
    float64_points,
    needs_long_double,
    on_arrays,
)

import fastact as fa
from fastact.activations import PointwiseActivation
from fastact.definition import REQUIRED

POINTWISE = [name for name in fa.names() if isinstance(fa.get(name), PointwiseActivation)]
FROM_OUTPUT = [name for name in POINTWISE if "backward_from_output" in fa.get(name).ufuncs]
RISING = [name for name in REFERENCES if REFERENCES[name].rises]
CASES = [(name, parameters) for name in REFERENCES for parameters in REFERENCES[name].settings]
DTYPES = (np.float32, np.float64)


def identify(value: Any) -> str:
    """Name a case in pytest's output."""
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items()) or "default"
    return str(value)


every_case = pytest.mark.parametrize(("name", "parameters"), CASES, ids=identify)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def floating_point_errors_raise() -> Iterator[None]:
    """Turn each floating-point warning into an error."""
    with np.errstate(all="raise"):
        yield


def bounds(name: str, parameters: dict[str, float], dtype: Any) -> tuple[float, float]:
    """Return the stated errors of value and derivative, in units in the last place.

    In float64 they may be larger by one unit, unless the result is correctly rounded.
    """
    stated = list(fa.get(name)._definition.errors)
    if parameters and REFERENCES[name].is_scaled:
        stated = [2 * error + 0.5 for error in stated]
    if dtype == np.float64:
        stated = [error + (error > 0.5) for error in stated]
    return stated[0], stated[1]


def complete(name: str, parameters: dict[str, float], dtype: Any) -> dict[str, float]:
    """Return all parameters of a reference, as they are in a type."""
    given = {**REFERENCES[name].defaults, **parameters}
    return {key: float(np.dtype(dtype).type(value)) for key, value in given.items()}


def references(name: str, x: Array, parameters: dict[str, float]) -> tuple[Array, Array]:
    """Return value and derivative in a wider type."""
    function = REFERENCES[name].on_arrays
    return on_arrays(function, x, **complete(name, parameters, x.dtype))  # type: ignore[no-any-return]


def exact_references(
    name: str, x: Array, parameters: dict[str, float]
) -> tuple[list[Any], list[Any]]:
    """Return value and derivative among mpmath's numbers."""
    parameters = complete(name, parameters, x.dtype)
    pairs = [REFERENCES[name].exact(context.convert(number), **parameters) for number in x]
    return [value for value, _ in pairs], [derivative for _, derivative in pairs]


def silently(function: Callable[..., Any], *args: Any) -> Any:
    """Call NumPy without warnings."""
    with np.errstate(all="ignore"):
        return function(*args)


# --- The references -----------------------------------------------------------------------------


def test_every_activation_has_a_reference() -> None:
    """The tables of references leave out nothing that is in the registry."""
    groups = set(fa.names()) - set(POINTWISE)
    assert set(REFERENCES) == set(POINTWISE)
    assert set(GROUP_REFERENCES) == groups
    for name in POINTWISE:
        parameters = fa.get(name).parameters.items()
        defaults = {key: value for key, value in parameters if value is not REQUIRED}
        assert defaults == REFERENCES[name].defaults
        assert set(fa.get(name).parameters) == set(
            complete(name, REFERENCES[name].settings[0], float)
        )


@every_dtype
@every_case
def test_references_agree(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """The formulas on arrays are exact enough to measure results in the narrower type."""
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("longdouble is no wider than float64 here")
    points = float32_walk()[::4001] if dtype == np.float32 else float64_points(40)
    x = points[np.isfinite(points)]
    pairs = zip(references(name, x, parameters), exact_references(name, x, parameters), strict=True)
    for approximate, exact in pairs:
        assert_references_agree(approximate, exact, np.finfo(dtype))


# --- Errors -------------------------------------------------------------------------------------


@every_case
def test_float32_error(name: str, parameters: dict[str, float]) -> None:
    """Value and derivative keep to the stated errors all over the range; NaN gives NaN."""
    x = float32_walk()
    results = fa.get(name).value_and_derivative(x, **parameters)
    stated = bounds(name, parameters, np.float32)
    for got, exact, bound in zip(results, references(name, x, parameters), stated, strict=True):
        assert got.dtype == np.float32
        assert_accurate(got, exact, bound, x)


@every_case
def test_float64_error(name: str, parameters: dict[str, float]) -> None:
    """Value and derivative keep to the stated errors, against mpmath."""
    x = float64_points()
    results = fa.get(name).value_and_derivative(x, **parameters)
    stated = bounds(name, parameters, np.float64)
    exact_results = exact_references(name, x, parameters)
    for got, exact, bound in zip(results, exact_results, stated, strict=True):
        assert got.dtype == np.float64
        assert_exactly_accurate(got, exact, bound, x)


@needs_long_double
@every_case
def test_float64_error_at_more_points(name: str, parameters: dict[str, float]) -> None:
    """Value and derivative keep to the stated errors, against longdouble."""
    x = dense_float64_points()
    results = fa.get(name).value_and_derivative(x, **parameters)
    stated = bounds(name, parameters, np.float64)
    for got, exact, bound in zip(results, references(name, x, parameters), stated, strict=True):
        assert_accurate(got, exact, bound, x)


@pytest.mark.long
@pytest.mark.parametrize("name", POINTWISE)
def test_all_inputs(name: str) -> None:
    """Check every float32 number: some three minutes for each activation on a free core."""
    parameters = REFERENCES[name].settings[0]
    found: list[list[tuple[float, Any]]] = [[], []]
    for start in range(0, ALL_PATTERNS, CHUNK):
        x = float32_chunk(start)
        results = fa.get(name).value_and_derivative(x, **parameters)
        exact_results = references(name, x, parameters)
        for errors, got, exact in zip(found, results, exact_results, strict=True):
            errors.append(assert_accurate(got, exact, math.inf, x))
    worst = [max(errors) for errors in found]
    for what, (error, where) in zip(("value", "derivative"), worst, strict=True):
        print(f"\n{name}: {what} at most {error:.4f} ulp, at {where!r}", end="")
    for (error, _), bound in zip(worst, bounds(name, {}, np.float32), strict=True):
        assert error <= bound


@pytest.mark.parametrize("name", GROUP_REFERENCES)
@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
@every_dtype
def test_groups_are_exact(name: str, pieces: int, dtype: Any) -> None:
    """Activations that take one number of each group take the right one, NaN and ties included."""
    x = silently(float32_walk()[::7].astype, dtype)
    x = np.random.default_rng(3).permutation(x)[: x.size // 30 * 30]
    x[::11] = x[1::11][: x[::11].size]
    item = fa.get(name)
    y, derivative = GROUP_REFERENCES[name](x, pieces)
    assert_same_bits(item(x, pieces), y)
    dy = np.random.default_rng(4).standard_normal(y.shape).astype(dtype)
    expected = np.repeat(dy, pieces) * derivative
    got, dx = item.forward_backward(x, dy, pieces)
    assert_same_bits(got, y)
    np.testing.assert_array_equal(dx, expected)
    _, which = item.forward_with_index(x, pieces)
    np.testing.assert_array_equal(item.backward(dy, which, pieces), expected)


# --- Special values -----------------------------------------------------------------------------


@every_dtype
@every_case
def test_limits(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Value and derivative at the infinities are the mathematical limits."""
    limits = REFERENCES[name].limits(**complete(name, parameters, dtype))
    item = fa.get(name)
    for infinity, (value, derivative) in zip((-math.inf, math.inf), limits, strict=True):
        for length in (1, 7, 33):
            x = np.full(length, infinity, dtype)
            got = item.value_and_derivative(x, **parameters)
            np.testing.assert_array_equal(got[0], np.full(length, value, dtype))
            np.testing.assert_array_equal(got[1], np.full(length, derivative, dtype))


@every_dtype
@every_case
def test_nan_gives_nan(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """NaN, of either sign, quiet or signalling, gives NaN in value and derivative."""
    word = np.dtype(f"u{np.dtype(dtype).itemsize}").type
    infinity = dtype(math.inf).view(word)
    sign = dtype(-0.0).view(word)
    quiet = infinity | (infinity >> word(1))
    patterns = [quiet, quiet | sign, infinity + word(1), (infinity + word(1)) | sign]
    x = np.tile(np.array(patterns, word), 9).view(dtype)
    for result in fa.get(name).value_and_derivative(x, **parameters):
        assert np.isnan(result).all()


@every_dtype
@every_case
def test_value_at_zero(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Zero gives the exact value; its sign is kept where the function is odd around it."""
    value, derivative = REFERENCES[name].exact(context.mpf(0), **complete(name, parameters, dtype))
    zeros = np.array([0.0, -0.0], dtype)
    y, d = fa.get(name).value_and_derivative(zeros, **parameters)
    np.testing.assert_array_equal(y, float(value))
    np.testing.assert_array_equal(d, float(derivative))
    if value == 0 and derivative > 0:
        assert_same_bits(y, zeros)


@every_dtype
@every_case
def test_subnormal_inputs(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Inputs below the normal range are not taken for zero."""
    precision = np.finfo(dtype)
    few = silently(np.multiply, np.arange(1, 3000), float(precision.smallest_subnormal))
    many = silently(np.multiply, np.random.default_rng(5).random(1000), float(precision.tiny))
    x = silently(np.concatenate([few, -few, many, -many]).astype, dtype)
    results = fa.get(name).value_and_derivative(x, **parameters)
    stated = bounds(name, parameters, dtype)
    exact_results = exact_references(name, x, parameters)
    for got, exact, bound in zip(results, exact_results, stated, strict=True):
        assert_exactly_accurate(got, exact, bound, x)


@every_dtype
@pytest.mark.parametrize("name", POINTWISE)
def test_no_premature_underflow(name: str, dtype: Any) -> None:
    """Neither value nor derivative vanishes before it is below the subnormal numbers.

    The largest of what libraries lose: tanh'(20) is 1.7e-17, where 1 - tanh(20)**2 is 0.
    """
    end = 105 if dtype == np.float32 else 746
    x = np.arange(-end, end + 0.125, 0.125, dtype)
    smallest = float(np.finfo(dtype).smallest_subnormal)
    parameters = REFERENCES[name].settings[0]
    exact_results = exact_references(name, x, parameters)
    results = fa.get(name).value_and_derivative(x, **parameters)
    for got, exact in zip(results, exact_results, strict=True):
        there = np.array([abs(number) >= smallest for number in exact])
        assert (got[there] != 0).all()


# --- The operations agree -----------------------------------------------------------------------


def samples(dtype: Any, seed: int = 6) -> tuple[Array, Array]:
    """Return inputs of all kinds and gradients of all magnitudes."""
    random = np.random.default_rng(seed)
    special = np.array([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 20, -20])
    x = np.concatenate([special, random.normal(0, 3, 3000), random.normal(0, 100, 3000)])
    dy = random.normal(0, 1, x.size) * 2.0 ** random.integers(-100, 100, x.size)
    return silently(x.astype, dtype), silently(dy.astype, dtype)


@every_dtype
@every_case
def test_operations_agree(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """One pass or two, the bits are the same; the gradient is one product of dy and derivative."""
    x, dy = samples(dtype)
    item = fa.get(name)
    y, derivative = item(x, **parameters), item.derivative(x, **parameters)
    dx = silently(np.multiply, dy, derivative)
    together = item.value_and_derivative(x, **parameters)
    assert_same_bits(together[0], y)
    assert_same_bits(together[1], derivative)
    backward = item.backward(dy, x, **parameters)
    fused = item.forward_backward(x, dy, **parameters)
    if fa.get(name)._definition.learnable:
        backward = backward[0]
    assert_same_bits(backward, dx)
    assert_same_bits(fused[0], y)
    assert_same_bits(fused[1], dx)


@every_dtype
@every_case
def test_backward_from_output(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """The gradient from the output is off by no more than the output's error explains."""
    if name not in FROM_OUTPUT:
        pytest.skip("the derivative is no function of the output")
    item = fa.get(name)
    needed = item._definition.from_output_needs
    if any(parameters.get(parameter, 0) < 0 for parameter in needed):
        x, dy = samples(dtype)
        with pytest.raises(ValueError, match=f"{needed[0]} must not be negative"):
            item.backward_from_output(dy, x, **parameters)
        return
    x = np.linspace(-30, 30, 6001).astype(dtype)
    y = item(x, **parameters)
    dy = np.random.default_rng(8).normal(0, 1, x.size).astype(dtype)
    got = item.backward_from_output(dy, y, **parameters).astype(np.float64)
    value, derivative = references(name, x, parameters)
    # The derivative changes by at most twice what the value changes by (tanh: -2 y), and is itself
    # rounded a few times.
    epsilon = float(np.finfo(dtype).eps)
    error_of_y = bounds(name, parameters, dtype)[0] * epsilon * np.abs(value)
    allowed = np.abs(dy) * (2 * error_of_y + 3 * epsilon * np.abs(derivative))
    np.testing.assert_array_less(
        np.abs(got - dy * derivative), allowed + float(np.finfo(dtype).smallest_subnormal)
    )


@every_dtype
@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_backward_from_output_is_exact_in_the_output(name: str, dtype: Any) -> None:
    """Two outputs of opposite inputs, and one: all that needs no rounding is exact."""
    parameters = REFERENCES[name].settings[0]
    item = fa.get(name)
    x = np.array([-np.inf, 0, np.inf], dtype)
    y = item(x, **parameters)
    finite = np.isfinite(y)
    got = item.backward_from_output(np.ones_like(y), y, **parameters)
    np.testing.assert_array_equal(got[finite], item.derivative(x, **parameters)[finite])


# --- Identities ---------------------------------------------------------------------------------


def positive_half(dtype: Any) -> Array:
    """Return nonnegative numbers of all magnitudes."""
    x = float32_walk() if dtype == np.float32 else dense_float64_points()
    return x[x >= 0]


@every_dtype
def test_tanh_is_odd(dtype: Any) -> None:
    """Bit for bit: tanh(-x) is -tanh(x), and the derivative is even."""
    x = positive_half(dtype)
    (right, d_right), (left, d_left) = (fa.tanh.value_and_derivative(z) for z in (x, -x))
    assert_same_bits(left, -right)
    assert_same_bits(d_left, d_right)


@every_dtype
def test_sigmoid_is_symmetric(dtype: Any) -> None:
    """The derivative is even bit for bit; the two values add up to one."""
    x = positive_half(dtype)
    (right, d_right), (left, d_left) = (fa.sigmoid.value_and_derivative(z) for z in (x, -x))
    assert_same_bits(d_left, d_right)
    total = left + right
    assert np.abs(total - 1).max() <= 2 * np.finfo(dtype).eps


@every_dtype
def test_ranges(dtype: Any) -> None:
    """0 <= sigmoid <= 1, abs(tanh) <= 1, elu >= -1, and no derivative is negative."""
    x = positive_half(dtype)
    x = np.concatenate([x, -x])
    for name, low, high in (("sigmoid", 0, 1), ("tanh", -1, 1), ("elu", -1, x.max())):
        value, derivative = fa.get(name).value_and_derivative(x)
        assert value.min() == low
        assert value.max() == high
        assert derivative.min() == 0


def assert_rises(name: str, start: int, count: int) -> None:
    """Check neighbours among floats, from a positive bit pattern on and with the other sign."""
    last = min(start + count, int(np.float32(np.inf).view(np.uint32)))
    magnitudes = np.arange(start, last + 1, dtype=np.uint32)
    for sign in (0, 1 << 31):
        x = (magnitudes | np.uint32(sign)).view(np.float32)
        y = fa.get(name)(x)
        falls = y[1:] > y[:-1] if sign else y[1:] < y[:-1]
        assert not falls.any(), (
            f"falls in {np.count_nonzero(falls)} places, at {x[1:][falls][:3]!r}"
        )


@pytest.mark.parametrize("name", RISING)
def test_neighbours_rise(name: str) -> None:
    """From one float to the next, the value does not fall."""
    for exponent in range(-30, 8):
        assert_rises(name, int(np.float32(2.0**exponent).view(np.uint32)), 2**18)


@pytest.mark.long
@pytest.mark.parametrize("name", RISING)
def test_all_inputs_rise(name: str) -> None:
    """Check all neighbours among float32 numbers: less than a minute for each activation."""
    for start in range(0, int(np.float32(np.inf).view(np.uint32)), CHUNK):
        assert_rises(name, start, CHUNK)


# --- Other libraries ----------------------------------------------------------------------------

# Where others still have most of their digits: 1 - tanh(x)**2 loses some of them beyond.
MIDDLE = np.concatenate([np.linspace(-1.5, 1.5, 601), [-0.0]])
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}


@every_dtype
@every_case
def test_pytorch(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Value and gradient are PyTorch's, at kinks too."""
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, name, None)
    if function is None:
        pytest.skip(f"PyTorch has no {name}")
    x, dy = MIDDLE.astype(dtype), np.cos(MIDDLE).astype(dtype)
    theirs = torch.tensor(x, requires_grad=True)
    learnable = fa.get(name)._definition.learnable
    options = {
        key: torch.tensor([value], dtype=theirs.dtype) if key in learnable else value
        for key, value in parameters.items()
    }
    y = function(theirs, **options)
    y.backward(torch.tensor(dy))
    ours = fa.get(name).forward_backward(x, dy, **parameters)
    np.testing.assert_allclose(ours[0], y.detach().numpy(), TOLERANCE[dtype])
    np.testing.assert_allclose(ours[1], theirs.grad.numpy(), TOLERANCE[dtype])


@every_dtype
@every_case
def test_jax(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Value and gradient are JAX's, and at kinks where JAX agrees with PyTorch."""
    jax = pytest.importorskip("jax")
    function = getattr(jax.nn, name, None)
    if function is None:
        pytest.skip(f"JAX has no {name}")
    x = MIDDLE if REFERENCES[name].jax_agrees_at_kinks else MIDDLE[MIDDLE != 0]
    x, dy = x.astype(dtype), np.cos(x).astype(dtype)
    with jax.enable_x64(True), np.errstate(all="ignore"):
        y, pull_back = jax.vjp(lambda z: function(z, **parameters), jax.numpy.asarray(x))
        (dx,) = pull_back(jax.numpy.asarray(dy))
    ours = fa.get(name).forward_backward(x, dy, **parameters)
    np.testing.assert_allclose(ours[0], np.asarray(y), TOLERANCE[dtype])
    np.testing.assert_allclose(ours[1], np.asarray(dx), TOLERANCE[dtype])


# --- Properties ---------------------------------------------------------------------------------

every_number = st.floats(width=32)
repeatable = settings(deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("name", POINTWISE)
@repeatable
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_any_number_is_accurate(name: str, x: float) -> None:
    """Value and derivative of any one number keep to the stated errors."""
    parameters = REFERENCES[name].settings[0]
    numbers = np.array([x], np.float32)
    results = fa.get(name).value_and_derivative(numbers, **parameters)
    stated = bounds(name, {}, np.float32)
    exact_results = exact_references(name, numbers, parameters)
    for got, exact, bound in zip(results, exact_results, stated, strict=True):
        assert_exactly_accurate(got, exact, bound, numbers)


@pytest.mark.parametrize("name", POINTWISE)
@repeatable
@given(
    x=arrays.arrays(np.float32, st.integers(1, 70), elements=every_number),
    place=st.integers(0, 69),
)
def test_place_does_not_matter(name: str, x: Array, place: int) -> None:
    """A number gives the same bits alone as among any others."""
    parameters = REFERENCES[name].settings[0]
    place %= x.size
    together = fa.get(name).value_and_derivative(x, **parameters)
    alone = fa.get(name).value_and_derivative(x[place], **parameters)
    for many, one in zip(together, alone, strict=True):
        assert_same_bits(many[place], one)


@pytest.mark.parametrize("name", POINTWISE)
@repeatable
@given(x=every_number, dy=every_number)
def test_backward_is_a_product(name: str, x: float, dy: float) -> None:
    """Any gradient at any place is the rounded product of dy and the derivative."""
    parameters = REFERENCES[name].settings[0]
    x, dy = np.float32(x), np.float32(dy)
    dx = fa.get(name).backward(dy, x, **parameters)
    if fa.get(name)._definition.learnable:
        dx = dx[0]
    assert_same_bits(dx, silently(np.multiply, dy, fa.get(name).derivative(x, **parameters)))
