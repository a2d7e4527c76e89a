"""Every elementwise activation against references of its own: errors, limits, kinks, identities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import (
    CASES,
    EXACT,
    FROM_OUTPUT,
    POINTWISE,
    bounds,
    check_errors,
    complete,
    every_case,
    every_dtype,
    every_first_case,
    exact_references,
    identify,
    near_root,
    points,
    references,
    silently,
)
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
    needs_long_double,
)
from representatives import REPRESENTATIVES

import fastact as fa

RISING = [name for name in REFERENCES if fa.get(name)._definition.is_monotone]

# What is checked number by number, or compiles many kernels, is checked for a few.
FEW_CASES = [case for case in CASES if case[0] in REPRESENTATIVES]
every_one_of_few_cases = pytest.mark.parametrize(("name", "parameters"), FEW_CASES, ids=identify)
every_one_of_few = pytest.mark.parametrize(
    "name", [name for name in REPRESENTATIVES if name in POINTWISE]
)


@pytest.fixture(autouse=True)
def floating_point_errors_raise() -> Iterator[None]:
    """Turn each floating-point warning into an error."""
    with np.errstate(all="raise"):
        yield


# --- The references -----------------------------------------------------------------------------


def test_every_activation_has_a_reference() -> None:
    """Definitions have a formula to check them against, and samples of parameters without a default."""
    groups = set(fa.names("activation")) - set(POINTWISE)
    assert set(REFERENCES) == set(POINTWISE)
    assert set(GROUP_REFERENCES) == groups
    missing = [name for name in POINTWISE if name not in EXACT]
    assert not missing, f"no exact= in the definitions of {', '.join(missing)}"
    for name in POINTWISE:
        assert REFERENCES[name].settings, f"{name} needs samples= for its required parameters"
        for parameters in REFERENCES[name].settings:
            assert set(fa.get(name).parameters) == set(complete(name, parameters, float)), name


@every_case
def test_exact_derivatives(name: str, parameters: dict[str, float]) -> None:
    """The derivative in a definition's `exact` is that of its value."""
    reference, given = REFERENCES[name], complete(name, parameters, float)
    for x in map(context.mpf, (-9.7, -3.1, -1.7, -0.7, -0.1, 0.15, 0.65, 1.3, 2.9, 7.9)):
        value, derivative = reference.exact(x, **given)
        if context.isfinite(value):
            slope = context.diff(lambda z: reference.exact(z, **given)[0], x)
            assert abs(slope - derivative) <= 1e-12 * (1 + abs(derivative)), x


@every_dtype
@every_case
def test_references_agree(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """The formulas on arrays are exact enough to measure results in the narrower type."""
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("longdouble is no wider than float64 here")
    x = points(name, parameters, dtype)
    x = x[np.isfinite(x)]
    x = x[:: x.size // 300]
    values, derivatives = zip(
        references(name, x, parameters), exact_references(name, x, parameters), strict=True
    )
    assert_references_agree(*values, np.finfo(dtype))
    away = ~near_root(name, parameters, x)
    assert_references_agree(*(each[away] for each in derivatives), np.finfo(dtype))


# --- Errors -------------------------------------------------------------------------------------


@every_case
def test_float32_error(name: str, parameters: dict[str, float]) -> None:
    """Value and derivative keep to the stated errors all over the range; NaN gives NaN."""
    x = points(name, parameters, np.float32)
    results = fa.get(name).value_and_derivative(x, **parameters)
    assert [got.dtype for got in results] == [np.float32] * 2
    exact = references(name, x, parameters)
    check_errors(name, parameters, x, results, exact, assert_accurate)


@every_case
def test_float64_error(name: str, parameters: dict[str, float]) -> None:
    """Value and derivative keep to the stated errors, against mpmath."""
    x = points(name, parameters, np.float64)
    x = x[:: max(1, x.size // 3000)]
    results = fa.get(name).value_and_derivative(x, **parameters)
    assert [got.dtype for got in results] == [np.float64] * 2
    exact = exact_references(name, x, parameters)
    check_errors(name, parameters, x, results, exact, assert_exactly_accurate)


@needs_long_double
@every_case
def test_float64_error_at_more_points(name: str, parameters: dict[str, float]) -> None:
    """Value and derivative keep to the stated errors, against longdouble."""
    x = dense_float64_points()
    x = x if (name, parameters) in FEW_CASES else x[::17]
    results = fa.get(name).value_and_derivative(x, **parameters)
    check_errors(name, parameters, x, results, references(name, x, parameters), assert_accurate)


@pytest.mark.long
@every_first_case
def test_all_inputs(name: str) -> None:
    """Check every float32 number: some three minutes for each activation on a free core."""
    parameters = REFERENCES[name].settings[0]
    worst = [(0.0, np.float32(0))] * 2

    def remember(got: Array, exact: Array, bound: float, x: Array) -> None:
        which = calls.pop(0)
        worst[which] = max(worst[which], assert_accurate(got, exact, math.inf, x))

    for start in range(0, ALL_PATTERNS, CHUNK):
        x = float32_chunk(start)
        results = fa.get(name).value_and_derivative(x, **parameters)
        calls = [0, 1]
        check_errors(name, parameters, x, results, references(name, x, parameters), remember)
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
            np.testing.assert_array_equal(got[0], np.full(length, float(value), dtype))
            np.testing.assert_array_equal(got[1], np.full(length, float(derivative), dtype))


@every_first_case
def test_stated_limits(name: str) -> None:
    """The limits in the documentation, expressions of the parameters, are those of the formula."""
    parameters = complete(name, REFERENCES[name].settings[0], float)
    names = parameters | {"inf": math.inf, "none": math.nan, "nan": math.nan}
    stated = [float(eval(each, {}, names)) for each in fa.get(name)._definition.limits]
    limits = [float(value) for value, _ in REFERENCES[name].limits(**parameters)]
    np.testing.assert_array_equal(stated, limits)


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
    """Zero stays zero where it does; its sign is kept where the function rises there."""
    zeros = np.array([0.0, -0.0], dtype)
    results = fa.get(name).value_and_derivative(zeros, **parameters)
    exact = exact_references(name, zeros, parameters)
    check_errors(name, parameters, zeros, results, exact, assert_exactly_accurate)
    if exact[0][0] == 0 and exact[1][0] > 0:
        assert_same_bits(results[0], zeros)


@every_dtype
@every_case
def test_subnormal_inputs(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Inputs below the normal range are not taken for zero."""
    precision = np.finfo(dtype)
    few = silently(np.multiply, np.arange(1, 200, 4), float(precision.smallest_subnormal))
    many = silently(np.multiply, np.random.default_rng(5).random(50), float(precision.tiny))
    x = silently(np.concatenate([few, -few, many, -many]).astype, dtype)
    results = fa.get(name).value_and_derivative(x, **parameters)
    exact = exact_references(name, x, parameters)
    check_errors(name, parameters, x, results, exact, assert_exactly_accurate)


@every_dtype
@every_first_case
def test_no_premature_underflow(name: str, dtype: Any) -> None:
    """Neither value nor derivative vanishes before it is below the subnormal numbers.

    The largest of what libraries lose: tanh'(20) is 1.7e-17, where 1 - tanh(20)**2 is 0.
    """
    end, step = (105, 0.25) if dtype == np.float32 else (746, 2.25)
    x = np.arange(-end, end, step, dtype)
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
@every_one_of_few_cases
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
@every_one_of_few_cases
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
    count = 2**18 if name in REPRESENTATIVES else 2**14
    for exponent in range(-30, 8):
        assert_rises(name, int(np.float32(2.0**exponent).view(np.uint32)), count)


@pytest.mark.long
@pytest.mark.parametrize("name", RISING)
def test_all_inputs_rise(name: str) -> None:
    """Check all neighbours among float32 numbers: less than a minute for each activation."""
    for start in range(0, int(np.float32(np.inf).view(np.uint32)), CHUNK):
        assert_rises(name, start, CHUNK)


# --- Properties ---------------------------------------------------------------------------------

every_number = st.floats(width=32)
repeatable = settings(deadline=None, derandomize=True, database=None)


@every_one_of_few
@repeatable
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_any_number_is_accurate(name: str, x: float) -> None:
    """Value and derivative of any one number keep to the stated errors."""
    parameters = REFERENCES[name].settings[0]
    numbers = np.array([x], np.float32)
    results = fa.get(name).value_and_derivative(numbers, **parameters)
    exact = exact_references(name, numbers, parameters)
    check_errors(name, {}, numbers, results, exact, assert_exactly_accurate)


@every_one_of_few
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


@every_one_of_few
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
