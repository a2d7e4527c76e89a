"""What the tests hold fastact's results against: formulas of their own, a measure, and points.

Each formula stands twice, and shares no code with fastact: on mpmath's numbers, exact for every
purpose here, and on arrays of float64 or longdouble, for results in float32 and float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
Number = Any  # mpmath's numbers are not annotated
Pair = tuple[Any, Any]

# A context of our own: the global precision of mpmath stays as it is.
context = mpmath.mp.clone()
context.dps = 50

HAS_LONG_DOUBLE = np.finfo(np.longdouble).nmant >= 63
needs_long_double = pytest.mark.skipif(
    not HAS_LONG_DOUBLE, reason="longdouble is no wider than float64 here"
)

# --- Formulas -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """The references of one function of `fastact.math`: on mpmath's numbers and on arrays."""

    exact: Callable[[Number], Number]
    on_arrays: Callable[[Array], Array]
    limits: tuple[float, float]


def _logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


FUNCTIONS: Mapping[str, Function] = {
    "exp": Function(context.exp, np.exp, (0.0, math.inf)),
    "expm1": Function(context.expm1, np.expm1, (-1.0, math.inf)),
    "log1p": Function(context.log1p, np.log1p, (math.nan, math.inf)),
    "logistic": Function(lambda x: 1 / (1 + context.exp(-x)), _logistic, (0.0, 1.0)),
    "tanh": Function(context.tanh, np.tanh, (-1.0, 1.0)),
}


@dataclass(frozen=True)
class Reference:
    """The references of one activation. All functions take its parameters by name.

    Attributes
    ----------
    exact : callable
        Takes one of mpmath's numbers, gives value and derivative.
    on_arrays : callable
        Takes an array of float64 or longdouble, gives value and derivative in its type.
    limits : callable
        Gives (value, derivative) at minus infinity and at infinity.
    defaults : dict
        The parameters that need not be given.
    settings : tuple of dict
        Parameters to test with; an empty one stands for the defaults.
    is_scaled : bool
        Whether a parameter is a factor of the result, where the stated error is for 1: as the
        product's significand may be half as large, the same error is up to twice as many units in
        the last place, and half a unit is added.
    jax_agrees_at_kinks : bool
        Whether JAX chooses the same derivative as PyTorch where there are two.
    rises : bool
        Whether it is smooth and rises, and must not fall from one float to the next.
    """

    exact: Callable[..., Pair]
    on_arrays: Callable[..., Pair]
    limits: Callable[..., tuple[Pair, Pair]]
    defaults: Mapping[str, float] = field(default_factory=dict)
    settings: tuple[dict[str, float], ...] = ({},)
    is_scaled: bool = False
    jax_agrees_at_kinks: bool = True
    rises: bool = False


def _exact_sigmoid(x: Number) -> Pair:
    return 1 / (1 + context.exp(-x)), (context.sech(x / 2) / 2) ** 2


def _sigmoid(x: Array) -> Pair:
    return _logistic(x), (0.5 / np.cosh(x / 2)) ** 2


def _exact_tanh(x: Number) -> Pair:
    return context.tanh(x), context.sech(x) ** 2


def _tanh(x: Array) -> Pair:
    return np.tanh(x), (1 / np.cosh(x)) ** 2


def _bent_line(negative_slope: Any) -> tuple[Any, Any, Any]:
    """Return the references of a line that bends at 0, where its slope is that on the left."""

    def exact(x: Number) -> Pair:
        slope = context.mpf(1) if x > 0 else context.mpf(negative_slope)
        return slope * x, slope

    def on_arrays(x: Array) -> Pair:
        left = negative_slope * x
        if negative_slope == 0:  # the limit of 0 x at infinity
            left = np.where(np.isinf(x), 0, left)
        slope = np.where(x > 0, 1, negative_slope).astype(x.dtype)
        return np.where(x > 0, x, left), np.where(np.isnan(x), x, slope)

    at_minus_infinity = -math.inf * negative_slope if negative_slope else 0.0
    return exact, on_arrays, ((at_minus_infinity, negative_slope), (math.inf, 1.0))


def _exact_elu(x: Number, alpha: float) -> Pair:
    if x > 0:
        return x, context.mpf(1)
    return alpha * context.expm1(x), alpha * context.exp(x)


def _elu(x: Array, alpha: float) -> Pair:
    one = np.ones_like(x)
    return np.where(x > 0, x, alpha * np.expm1(x)), np.where(x > 0, one, alpha * np.exp(x))


# For the activations that take each element by itself.
REFERENCES: Mapping[str, Reference] = {
    "relu": Reference(
        exact=lambda x: _bent_line(0.0)[0](x),
        on_arrays=lambda x: _bent_line(0.0)[1](x),
        limits=lambda: _bent_line(0.0)[2],
    ),
    "leaky_relu": Reference(
        exact=lambda x, negative_slope: _bent_line(negative_slope)[0](x),
        on_arrays=lambda x, negative_slope: _bent_line(negative_slope)[1](x),
        limits=lambda negative_slope: _bent_line(negative_slope)[2],
        defaults={"negative_slope": 0.01},
        settings=({}, *({"negative_slope": slope} for slope in (0.2, -0.5, 0.0, 1.7))),
        jax_agrees_at_kinks=False,
    ),
    "prelu": Reference(
        exact=lambda x, weight: _bent_line(weight)[0](x),
        on_arrays=lambda x, weight: _bent_line(weight)[1](x),
        limits=lambda weight: _bent_line(weight)[2],
        settings=tuple({"weight": weight} for weight in (0.25, -0.3, 0.0, 1.7)),
    ),
    "elu": Reference(
        exact=_exact_elu,
        on_arrays=_elu,
        limits=lambda alpha: ((-alpha, 0.0), (math.inf, 1.0)),
        defaults={"alpha": 1.0},
        settings=({}, *({"alpha": alpha} for alpha in (0.5, 2.0, 1.7, -1.0, 0.0))),
        is_scaled=True,
        rises=True,
    ),
    "sigmoid": Reference(
        exact=_exact_sigmoid,
        on_arrays=_sigmoid,
        limits=lambda: ((0.0, 0.0), (1.0, 0.0)),
        rises=True,
    ),
    "tanh": Reference(
        exact=_exact_tanh,
        on_arrays=_tanh,
        limits=lambda: ((-1.0, 0.0), (1.0, 0.0)),
        rises=True,
    ),
}


def _maxout(x: Array, pieces: int) -> Pair:
    """Return the value, and the derivative by each feature; ties go to the first, NaN wins."""
    groups = x.reshape(-1, pieces)
    winners = groups.argmax(axis=1)[:, np.newaxis] == np.arange(pieces)
    return groups.max(axis=1), winners.reshape(x.shape).astype(x.dtype)


# For the activations that take groups of features: on 1-d arrays, exact in every type.
GROUP_REFERENCES: Mapping[str, Callable[..., Pair]] = {"maxout": _maxout}


def on_arrays(function: Callable[..., Any], x: Array, **parameters: float) -> Any:
    """Evaluate a reference for results in the type of `x`, silently, in a wider type."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.longdouble if x.dtype == np.float64 else np.float64)
        return function(wide, **parameters)


# --- The measure --------------------------------------------------------------------------------


def errors_in_ulps(got: Array, exact: Array) -> Array:
    """Return by how many units in the last place, at the exact result, each result is off.

    The exact results come in a wider type. Below the normal range the unit is the spacing of the
    subnormal numbers. Infinity counts as the power of two behind the largest number, and is right
    where the exact result is beyond that. NaN is right where the exact result is NaN, else
    infinitely wrong.
    """
    precision = np.finfo(got.dtype)
    assert np.finfo(exact.dtype).nmant > precision.nmant
    with np.errstate(all="ignore"):
        overflow = np.ldexp(exact.dtype.type(1), int(precision.maxexp))
        wide = got.astype(exact.dtype)
        is_infinite = np.isinf(wide)
        if is_infinite.any():
            wide = np.clip(wide, -overflow, overflow)
            exact = np.where(is_infinite, np.clip(exact, -overflow, overflow), exact)
        errors = np.abs(wide - exact) * _ulps_in_one(exact, precision)
        if np.isnan(errors).any():
            wrong = np.where(np.isnan(got) & np.isnan(exact), 0, np.inf)
            errors = np.where(np.isnan(errors), wrong, errors)
        return errors


def _ulps_in_one(exact: Array, precision: Any) -> Array:
    """Return 1 / ulp, at each exact result."""
    if exact.dtype == np.float64:
        exponents = (exact.view(np.int64) >> 52) & 0x7FF
        exponents = np.clip(exponents, precision.minexp + 1023, precision.maxexp + 1022)
        return ((2046 + precision.nmant - exponents) << 52).view(np.float64)
    exponents = np.where(exact == 0, precision.minexp, np.frexp(exact)[1])
    exponents = np.clip(exponents, precision.minexp + 1, precision.maxexp)
    return np.ldexp(exact.dtype.type(1), precision.nmant + 1 - exponents)


def exact_errors_in_ulps(got: Array, exact: Iterable[Number]) -> Array:
    """Return the same as `errors_in_ulps`, for finite exact results among mpmath's numbers."""
    precision = np.finfo(got.dtype)
    overflow = context.ldexp(1, int(precision.maxexp))
    errors = []
    for number, right in zip(got, exact, strict=True):
        if np.isnan(number):
            errors.append(math.inf)
            continue
        if np.isinf(number):
            number = math.copysign(1, number) * overflow
            right = min(max(right, -overflow), overflow)
        exponent = max(context.mag(right), precision.minexp + 1) if right else precision.minexp + 1
        exponent = min(int(exponent), int(precision.maxexp))
        difference = abs(context.convert(number) - right)
        errors.append(float(context.ldexp(difference, int(precision.nmant) + 1 - exponent)))
    return np.array(errors)


def assert_accurate(got: Array, exact: Array, bound: float, x: Array) -> tuple[float, Any]:
    """Check errors and signs, and return the largest error with the place where it is."""
    errors = errors_in_ulps(got, exact)
    worst = int(errors.argmax())
    assert errors[worst] <= bound, (
        f"{errors[worst]} ulp at {x[worst]!r}: {got[worst]!r} instead of {exact[worst]!r}; "
        f"{np.count_nonzero(errors > bound)} of {x.size} are off by more than {bound}"
    )
    with np.errstate(invalid="ignore"):
        is_signed = (exact < 0) | (exact > 0)
    wrong = is_signed & (np.signbit(got) != np.signbit(exact))
    assert not wrong.any(), f"wrong sign at {x[wrong][:5]!r}: {got[wrong][:5]!r}"
    return float(errors[worst]), x[worst]


def assert_exactly_accurate(got: Array, exact: Sequence[Number], bound: float, x: Array) -> float:
    """Check errors and signs against mpmath's numbers, and return the largest error."""
    errors = exact_errors_in_ulps(got, exact)
    worst = int(errors.argmax())
    assert errors[worst] <= bound, (
        f"{errors[worst]} ulp at {x[worst]!r}: {got[worst]!r} instead of "
        f"{context.nstr(exact[worst], 25)}"
    )
    wrong = [
        bool(np.signbit(number)) != (right < 0)
        for number, right in zip(got, exact, strict=True)
        if right
    ]
    assert not any(wrong), f"wrong sign in {sum(wrong)} of {x.size} results"
    return float(errors[worst])


def assert_same_bits(first: Any, second: Any) -> None:
    """Check that two results are equal to the sign of zero; all NaNs count as one."""
    np.testing.assert_array_equal(first, second)
    number = ~np.isnan(first)
    np.testing.assert_array_equal(np.signbit(first)[number], np.signbit(second)[number])


def assert_references_agree(approximate: Array, exact: Sequence[Number], precision: Any) -> None:
    """Check the formula on arrays to 1/200 of the narrower type's unit in the last place."""
    for got, right in zip(approximate, exact, strict=True):
        if np.isinf(got):
            assert abs(right) > precision.max
            continue
        smallest = context.mpf(2) ** int(precision.minexp - precision.nmant)
        unit = max(abs(right) * context.mpf(2) ** -int(precision.nmant + 1), smallest)
        assert abs(context.convert(got) - right) <= unit / 200


# --- Points -------------------------------------------------------------------------------------

ALL_PATTERNS = 2**32
CHUNK = 2**22

# A prime, so that the walk over the bit patterns meets all kinds of significands.
_STEP = 4099

# Where results overflow, become subnormal or vanish, and where functions saturate.
_EDGES = (88.722839, 89.0, 87.336544, 103.27893, 103.97208, 104.0, 44.014, 52.68)
_EDGES += (9.0109, 17.32868, 18.0, 16.6355, 2.0**-12, 2.0**-30, 1.0, 2.0**-126, 3.4028235e38)

# Where a walk over all inputs found the largest errors.
_WORST = (59.306038, 0.28088626, 0.2953238, 1.9508827, 6.2372723, 0.2341752, 0.22075978)
_WORST += (2.4220264, 4.8440528, 3.8119125, 7.6238251, 4.846455, 0.3473945, 27.3301525)


def window(center: float, radius: int) -> Array:
    """Return consecutive float32 numbers around a place, and the same with the other sign."""
    middle = int(np.float32(abs(center)).view(np.uint32))
    magnitudes = np.arange(max(0, middle - radius), middle + radius + 1, dtype=np.uint32)
    return np.concatenate([magnitudes, magnitudes | np.uint32(1 << 31)]).view(np.float32)


def float32_chunk(start: int) -> Array:
    """Return the float32 numbers of `CHUNK` consecutive bit patterns."""
    return np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32)


@cache
def float32_walk() -> Array:
    """Return float32 numbers all over the range, NaNs and infinities included.

    Every `_STEP`-th bit pattern, and all of them where range reductions change over, where results
    overflow or underflow, and around 0.
    """
    seams = [k * math.log(2) / 4 for k in range(1, 620)]
    seams += [2.0**k * math.sqrt(2) - 1 for k in range(-25, 128)]
    seams += [2.0**k for k in range(-149, 128)]
    parts = [
        np.arange(0, ALL_PATTERNS, _STEP, dtype=np.uint32).view(np.float32),
        window(0.0, 2**15),
        *(window(place, 2**13) for place in _EDGES + _WORST),
        *(window(seam, 2**7) for seam in seams),
        np.array([-np.inf, np.inf, np.nan], np.float32),
    ]
    return _constant(np.concatenate(parts))


@cache
def float64_points(count: int = 1_000) -> Array:
    """Return finite float64 numbers of all magnitudes and signs; several times `count`."""
    random = np.random.default_rng(20260)
    patterns = random.integers(0, 2**63, count, dtype=np.uint64).view(np.float64)
    seams = np.array([k * math.log(2) / 4 for k in range(1, 4310, 7)])
    edges = [709.782712893384, 710.475, 708.3964185322641, 744.4400719213812, 745.1332191019412]
    edges += [354.2, 372.5, 19.0615, 37.42995, 38.0, 1.0, 2.0**-53, 2.0**-60, 2.0**-1022]
    edges += [float(np.finfo(np.float64).max), 5e-324, 1e-310, 0.0]
    magnitudes = np.concatenate(
        [
            patterns[np.isfinite(patterns)],
            2.0 ** random.uniform(-60, 11, 2 * count),
            random.uniform(0, 2, count),
            random.uniform(0, 40, count),
            random.uniform(0, 760, count),
            *(np.nextafter(seams, step) for step in (0.0, np.inf)),
            *(_neighbours(edge, 8) for edge in edges),
        ]
    )
    return _constant(np.concatenate([magnitudes, -magnitudes]))


@cache
def dense_float64_points() -> Array:
    """Return some hundred thousand float64 numbers, for a reference in longdouble."""
    return float64_points(50_000)


def _neighbours(center: float, radius: int) -> Array:
    middle = int(np.float64(center).view(np.uint64))
    largest = int(np.finfo(np.float64).max.view(np.uint64))
    around = range(max(0, middle - radius), min(largest, middle + radius) + 1)
    return np.array(around, np.uint64).view(np.float64)


def _constant(array: Array) -> Array:
    array.flags.writeable = False
    return array
