"""`fastact.math` against references of its own: errors, special values, types, warnings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from references import (
    ALL_PATTERNS,
    CHUNK,
    FUNCTIONS,
    HAS_LONG_DOUBLE,
    Array,
    assert_accurate,
    assert_exactly_accurate,
    assert_references_agree,
    assert_same_bits,
    context,
    dense_float64_points,
    errors_in_ulps,
    exact_errors_in_ulps,
    float32_chunk,
    float32_walk,
    float64_points,
    needs_long_double,
    on_arrays,
)

import fastact.math
import fastact.vecmath
from fastact.simd import fma
from fastact.vecmath import (
    gelu_and_derivative,
    logistic_of_sum_and_derivative,
    normal_cdf_and_pdf,
    softplus_and_derivative,
)

# The stated errors, in units in the last place: in float32, and in float64.
BOUNDS = {
    name: (float(single), float(double))
    for name, single, double in re.findall(
        r"^(\w+) +(\d\.\d) +(\d\.\d)$", fastact.vecmath.__doc__, re.MULTILINE
    )
}
DTYPES = (np.float16, np.float32, np.float64)

# What those are at zero that are not zero there.
AT_ZERO = {
    "exp": 1.0,
    "log": -math.inf,
    "log1mexp": -math.inf,
    "logistic": 0.5,
    "softplus": math.log(2),
    "erfc": 1.0,
    "cos": 1.0,
    "exp2": 1.0,
    "log2": -math.inf,
    "log10": -math.inf,
    "cosh": 1.0,
}

NAMES = [function.__name__ for function in fastact.vecmath.FUNCTIONS]

every_function = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def floating_point_errors_raise() -> Iterator[None]:
    """Turn each floating-point warning into an error."""
    with np.errstate(all="raise"):
        yield


def evaluate(name: str, x: Any) -> Any:
    """Call a function of `fastact.math`."""
    return getattr(fastact.math, name)(x)


def domain(name: str, x: Array) -> Array:
    """Return the finite numbers among those that a function is defined for."""
    return x[x > FUNCTIONS[name].lowest]


# --- The references and the measure themselves --------------------------------------------------


def test_every_function_has_a_reference_and_a_bound() -> None:
    """Neither the references nor the stated errors leave out anything that is offered."""
    assert set(FUNCTIONS) == set(BOUNDS) == set(NAMES) <= set(fastact.math.__all__)
    assert all(single <= 2.2 and double <= 3.2 for single, double in BOUNDS.values())


@every_function
def test_docstrings_state_the_bounds(name: str) -> None:
    """The contract of each function is that of the table."""
    single, double = BOUNDS[name]
    bound = (
        f"{single} ULP" if single == double else f"{single} ULP in float32, {double} ULP in float64"
    )
    doc = getattr(fastact.vecmath, name).__doc__
    assert "Valid range: " in doc
    assert f"Maximum error: {bound}" in " ".join(doc.split())


@every_function
def test_references_agree(name: str) -> None:
    """The formula on arrays is exact enough to measure results in the narrower type."""
    function = FUNCTIONS[name]
    for dtype, points in ((np.float32, float32_walk()[::4001]), (np.float64, float64_points(40))):
        if dtype == np.float64 and not (HAS_LONG_DOUBLE and function.has_long_double):
            continue
        x = domain(name, points[np.isfinite(points)])
        exact = [function.exact(context.convert(number)) for number in x]
        approximate = on_arrays(function.on_arrays, x)
        assert_references_agree(approximate, exact, np.finfo(dtype))


def test_measure() -> None:
    """Errors are counted in units at the exact result, with care at the ends of the range."""
    largest = float(np.finfo(np.float32).max)
    cases = [
        (1.0, 1.0, 0.0),
        (1 + 2.0**-23, 1.0, 1.0),
        (1 - 2.0**-24, 1.0, 0.5),
        (1.0, 1 - 2.0**-25, 0.5),
        (-2.0, -2 - 2.0**-24, 0.25),
        (2.0**-149, 0.0, 1.0),
        (2.0**-149, 2.0**-150, 0.5),
        (0.0, 1e-300, 0.0),
        (-(2.0**-126), 2.0**-126, 2.0**24),
        (math.inf, 1e39, 0.0),
        (math.inf, largest, 1.0),
        (-math.inf, -largest - 2.0**103, 0.5),
        (largest, largest + 2.0**103, 0.5),
        (math.nan, 1.0, math.inf),
    ]
    got, exact, errors = map(np.array, zip(*cases, strict=True))
    narrow = got.astype(np.float32)
    np.testing.assert_allclose(errors_in_ulps(narrow, exact), errors, rtol=1e-12, atol=1e-200)
    wide = errors_in_ulps(narrow, exact.astype(np.longdouble))
    np.testing.assert_allclose(wide.astype(np.float64), errors, rtol=1e-12, atol=1e-200)
    numbers = [context.convert(number) for number in exact]
    np.testing.assert_allclose(exact_errors_in_ulps(narrow, numbers), errors, 1e-12, 1e-200)
    infinities = np.array([math.inf, -math.inf, math.inf, largest], np.float32)
    exact = np.array([math.inf, -math.inf, -math.inf, math.inf])
    assert errors_in_ulps(infinities, exact).tolist()[:2] == [0, 0]
    assert (errors_in_ulps(infinities, exact)[2:] > 1e6).all()
    nan = np.array([math.nan, 1.0])
    np.testing.assert_array_equal(errors_in_ulps(nan.astype(np.float32), nan[[0, 0]]), [0, np.inf])


def test_perturbed_results_are_noticed() -> None:
    """A result that is off by more than the bound, or has the wrong sign, fails the check."""
    x = np.append(float32_walk()[:: 2**10], np.float32(2.0**-149))
    exact = on_arrays(np.tanh, x)
    right = exact.astype(np.float32)
    assert_accurate(right, exact, 0.51, x)
    place = int(np.flatnonzero(x > 1)[0])
    for wrong in (right[place] * (1 + 2.0**-22), 0.0, -right[place], np.nan):
        spoilt = right.copy()
        spoilt[place] = wrong
        with pytest.raises(AssertionError, match="ulp at"):
            assert_accurate(spoilt, exact, 1.1, x)
    spoilt = right.copy()
    spoilt[-1] = -0.0
    with pytest.raises(AssertionError, match="wrong sign"):
        assert_accurate(spoilt, exact, 2.0, x)


# --- Errors -------------------------------------------------------------------------------------


@every_function
def test_float32_error(name: str) -> None:
    """Errors stay within the bound all over the range, and NaN gives NaN."""
    x = float32_walk()
    assert_accurate(evaluate(name, x), on_arrays(FUNCTIONS[name].on_arrays, x), BOUNDS[name][0], x)


@every_function
def test_float64_error(name: str) -> None:
    """Errors stay within the bound, against mpmath."""
    x = domain(name, float64_points())
    exact = [FUNCTIONS[name].exact(context.convert(number)) for number in x]
    assert_exactly_accurate(evaluate(name, x), exact, BOUNDS[name][1], x)


@needs_long_double
@every_function
def test_float64_error_at_more_points(name: str) -> None:
    """Errors stay within the bound, against longdouble."""
    if not FUNCTIONS[name].has_long_double:
        pytest.skip("no reference in longdouble")
    x = dense_float64_points()
    assert_accurate(evaluate(name, x), on_arrays(FUNCTIONS[name].on_arrays, x), BOUNDS[name][1], x)


@pytest.mark.long
@every_function
def test_all_inputs(name: str) -> None:
    """Check every float32 number: some two minutes for each function on a free core."""
    found = []
    for start in range(0, ALL_PATTERNS, CHUNK):
        x = float32_chunk(start)
        exact = on_arrays(FUNCTIONS[name].on_arrays, x)
        found.append(assert_accurate(evaluate(name, x), exact, math.inf, x))
    worst, where = max(found)
    print(f"\n{name}: at most {worst:.4f} ulp, at {where!r}", end="")
    assert worst <= BOUNDS[name][0]


# --- Second results, and functions of which there is no ufunc ------------------------------------

# As narrow in float64 as it stands here, so that both types multiply by the same number.
BETA = float(np.float32(1.702))


def phi_of(x: Any) -> Any:
    return normal_cdf_and_pdf(x)[0]


def density_of(x: Any) -> Any:
    return normal_cdf_and_pdf(x)[1]


def gelu_of(x: Any) -> Any:
    return gelu_and_derivative(x)[0]


def gelu_slope_of(x: Any) -> Any:
    return gelu_and_derivative(x)[1]


def logistic_slope_of(x: Any) -> Any:
    return softplus_and_derivative(x)[1]


def scaled_logistic_of(x: Any) -> Any:
    product = BETA * x
    return logistic_of_sum_and_derivative(product, fma(BETA, x, -product))[0]


def scaled_logistic_slope_of(x: Any) -> Any:
    product = BETA * x
    return logistic_of_sum_and_derivative(product, fma(BETA, x, -product))[1]


def exact_phi(x: Any) -> Any:
    if abs(x) > 1e3:  # whose exponent mpmath cannot hold
        return context.mpf(x > 0)
    return context.erfc(-x / context.sqrt(2)) / 2


def exact_density(x: Any) -> Any:
    return context.npdf(x) if abs(x) < 1e3 else context.mpf(0)


# By name: the function, the exact one, the largest errors in float32 and float64, limits, and the root
# from which the errors are counted only in absolute terms: within 0.4 an epsilon is allowed.
OTHERS: dict[str, tuple[Any, Any, tuple[float, float], tuple[float, float], float | None]] = {
    "phi": (phi_of, exact_phi, (2.0, 2.0), (0.0, 1.0), None),
    "density": (density_of, exact_density, (1.5, 1.5), (0.0, 0.0), None),
    "gelu": (gelu_of, lambda x: x * exact_phi(x), (2.4, 2.4), (-0.0, math.inf), None),
    "gelu'": (
        gelu_slope_of,
        lambda x: exact_phi(x) + x * exact_density(x),
        (3.0, 3.0),
        (-0.0, 1.0),
        -0.7517915,
    ),
    "softplus'": (
        logistic_slope_of,
        lambda x: 1 / (1 + context.exp(-x)),
        (1.6, 1.6),
        (0.0, 1.0),
        None,
    ),
    "scaled logistic": (
        scaled_logistic_of,
        lambda x: 1 / (1 + context.exp(-BETA * x)),
        (1.6, 1.6),
        (0.0, 1.0),
        None,
    ),
    "scaled logistic'": (
        scaled_logistic_slope_of,
        lambda x: (context.sech(BETA * x / 2) / 2) ** 2,
        (3.0, 3.0),
        (0.0, 0.0),
        None,
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OTHERS)
def test_other_functions(name: str, dtype: Any) -> None:
    """Errors stay within the bounds, into the subnormal range, and limits are right."""
    function, exact, bounds, (low, high), root = OTHERS[name]
    ufunc = fastact.math._make(function)
    x = float64_points(300)
    tail = np.linspace(12, 14.5, 500) if dtype == np.float32 else np.linspace(36, 38.7, 500)
    with np.errstate(all="ignore"):
        x = np.concatenate([x, tail, -tail, np.linspace(-4, 4, 1000)]).astype(dtype)
    x = x[np.isfinite(x) & (abs(x) < np.finfo(dtype).max / 2)]
    got = ufunc(x)
    right = [exact(context.convert(number)) for number in x]
    is_near = np.zeros(x.size, bool) if root is None else abs(x - dtype(root)) < 0.4
    for place in np.flatnonzero(is_near):
        assert abs(context.convert(got[place]) - right[place]) <= np.finfo(dtype).eps
    far = np.flatnonzero(~is_near)
    bound = bounds[dtype == np.float64]
    assert_exactly_accurate(got[far], [right[place] for place in far], bound, x[far])
    special = np.array([-np.inf, np.inf, np.nan], dtype)
    assert_same_bits(ufunc(special), np.array([low, high, np.nan], dtype))
    if name == "gelu":
        assert_same_bits(ufunc(np.array([-0.0, 0.0], dtype)), np.array([-0.0, 0.0], dtype))


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_hard_reductions(name: str) -> None:
    """Multiples of half a turn, and the float64 number that comes closest to one."""
    closest = 6381956970095103 * 2.0**797
    places = np.arange(1, 2000) * (math.pi / 2)
    wide = np.concatenate([places, places * 2.0**20, places * 2.0**300, [closest]])
    narrow = np.concatenate([places, places * 2.0**20, places * 2.0**100])
    for x, bound in ((wide, BOUNDS[name][1]), (narrow.astype(np.float32), BOUNDS[name][0])):
        exact = [FUNCTIONS[name].exact(context.convert(number)) for number in x]
        assert_exactly_accurate(evaluate(name, x), exact, bound, x)


# --- Special values -----------------------------------------------------------------------------


@every_dtype
@every_function
def test_special_values(name: str, dtype: Any) -> None:
    """NaN, infinities and zeros are right wherever in a vector or its remainder they stand."""
    low, high = FUNCTIONS[name].limits
    at_zero = AT_ZERO.get(name)
    special = [
        (math.nan, math.nan),
        (-math.nan, math.nan),
        (-math.inf, low),
        (math.inf, high),
        (0.0, 0.0 if at_zero is None else at_zero),
        (-0.0, -0.0 if at_zero is None else at_zero),
    ]
    for x, y in special:
        for length in (1, 2, 7, 16, 33, 100):
            got = evaluate(name, np.full(length, x, dtype))
            assert got.dtype == dtype
            assert_same_bits(got, np.full(length, y, dtype))


@every_dtype
@every_function
def test_ends_of_the_range(name: str, dtype: Any) -> None:
    """The smallest and the largest numbers give what the function tends to there."""
    precision = np.finfo(dtype)
    tiny = np.array([precision.smallest_subnormal, precision.tiny, -precision.tiny], dtype)
    if name in ("expm1", "log1p", "tanh", "sin", "sinh", "arcsinh", "arctan"):
        assert_same_bits(evaluate(name, tiny), tiny)
    elif name in ("exp", "logistic", "softplus", "erfc", "cos", "exp2", "cosh"):
        assert_same_bits(evaluate(name, tiny), np.full(3, AT_ZERO[name], dtype))
    low, high = FUNCTIONS[name].limits
    if name in ("log", "log1p", "sqrt", "log2", "log10"):
        high = getattr(math, name)(float(precision.max))
    if name in ("cbrt", "arcsinh"):
        high = float(getattr(np, name)(np.longdouble(precision.max)))
        low = -high
    if name == "softplus":
        high = precision.max
    if name not in ("sin", "cos"):
        assert_same_bits(evaluate(name, np.array([-precision.max])), np.array([low], dtype))
        highest = evaluate(name, np.array([precision.max]))
        assert_same_bits(highest, np.array([high]).astype(dtype))


@every_dtype
@every_function
def test_below_the_domain(name: str, dtype: Any) -> None:
    """There are infinities or zero at its end, and NaN below."""
    lowest = dtype(FUNCTIONS[name].lowest)
    if np.isinf(lowest):
        pytest.skip("defined everywhere")
    np.testing.assert_array_equal(evaluate(name, lowest), 0 if name == "sqrt" else -np.inf)
    with np.errstate(under="ignore"):
        below = np.nextafter(lowest, dtype(-2))
    np.testing.assert_array_equal(evaluate(name, below), np.nan)


@pytest.mark.parametrize("name", ["exp", "logistic", "softplus", "erfc", "exp2"])
def test_exponential_underflows_gradually(name: str) -> None:
    """Results below the normal range are there, down to the last subnormal number."""
    ranges = [(np.float32, -103.0, -87.4), (np.float64, -744.0, -708.5)]
    if name == "exp2":
        ranges = [(np.float32, -148.9, -126.1), (np.float64, -1073.9, -1022.1)]
    if name == "erfc":
        ranges = [(np.float32, 10.04, 9.2), (np.float64, 27.21, 26.55)]
    for dtype, start, stop in ranges:
        y = evaluate(name, np.linspace(start, stop, 1000, dtype=dtype))
        assert (y > 0).all()
        assert (y < np.finfo(dtype).tiny).all()


# --- Types and warnings -------------------------------------------------------------------------


@every_function
def test_float16_is_the_rounded_float32(name: str) -> None:
    """All 65,536 numbers of half the width: the float32 result, correctly rounded."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float32)
    exact = on_arrays(FUNCTIONS[name].on_arrays, x)
    got = evaluate(name, x)
    result = evaluate(name, wide)
    with np.errstate(all="ignore"):
        assert_same_bits(got, result.astype(np.float16))
    # Rounded twice, of which the first time hardly counts.
    assert_accurate(got, exact, 0.501, x)


@every_dtype
@every_function
def test_no_warnings(name: str, dtype: Any) -> None:
    """No input raises a floating-point warning, alone or among others."""
    with np.errstate(all="ignore"):
        x = float32_walk()[::997].astype(dtype)
    together = evaluate(name, x)
    alone = np.array([evaluate(name, number) for number in x], dtype)
    assert_same_bits(alone, together)
