"""What the tests hold fastact's results against: formulas of their own, a measure, and points.

The formulas of activations are those of their definitions, those of `fastact.math` stand here. Each is evaluated
on mpmath's numbers, exact for every purpose here, and on arrays of float64 or longdouble, for results in float32
and float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from reference import Array, Number, Pair, Reference, context
from scipy import special

from fastact.bench.exact import errors_in_ulps as exact_errors_in_ulps
from fastact.catalogue import catalogue
from fastact.catalogue.definition import GroupDefinition

HAS_LONG_DOUBLE = np.finfo(np.longdouble).nmant >= 63
needs_long_double = pytest.mark.skipif(
    not HAS_LONG_DOUBLE, reason="longdouble is no wider than float64 here"
)

# --- Formulas -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """The references of one function of `fastact.math`: on mpmath's numbers and on arrays.

    Attributes
    ----------
    exact : callable
        Takes one of mpmath's numbers.
    on_arrays : callable
        Takes an array of float64 and, if `has_long_double`, of longdouble.
    limits : tuple
        At minus infinity and at infinity.
    lowest : float
        It is defined for what is above, and is NaN below.
    """

    exact: Callable[[Number], Number]
    on_arrays: Callable[[Array], Array]
    limits: tuple[float, float]
    lowest: float = -math.inf
    has_long_double: bool = True


def _logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _exact_log1mexp(x: Number) -> Number:
    return context.log(-context.expm1(-x)) if x < 1 else context.log1p(-context.exp(-x))


def _log1mexp(x: Array) -> Array:
    return np.where(x < 1, np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))


def _exact_cbrt(x: Number) -> Number:
    return context.sign(x) * context.cbrt(abs(x))


def _of_any_size(function: Callable[[Number], Number]) -> Callable[[Number], Number]:
    """Let mpmath reduce numbers up to 1e308 without losing all digits."""

    def exact(x: Number) -> Number:
        with context.extradps(400):
            return function(x)

    return exact


FUNCTIONS: Mapping[str, Function] = {
    "sqrt": Function(context.sqrt, np.sqrt, (math.nan, math.inf), lowest=0.0),
    "exp": Function(context.exp, np.exp, (0.0, math.inf)),
    "expm1": Function(context.expm1, np.expm1, (-1.0, math.inf)),
    "log": Function(context.log, np.log, (math.nan, math.inf), lowest=0.0),
    "log1p": Function(context.log1p, np.log1p, (math.nan, math.inf), lowest=-1.0),
    "log1mexp": Function(_exact_log1mexp, _log1mexp, (math.nan, -0.0), lowest=0.0),
    "tanh": Function(context.tanh, np.tanh, (-1.0, 1.0)),
    "logistic": Function(lambda x: 1 / (1 + context.exp(-x)), _logistic, (0.0, 1.0)),
    "softplus": Function(lambda x: context.log1p(context.exp(x)), _softplus, (0.0, math.inf)),
    "erf": Function(context.erf, special.erf, (-1.0, 1.0), has_long_double=False),
    "erfc": Function(context.erfc, special.erfc, (2.0, 0.0), has_long_double=False),
    "sin": Function(_of_any_size(context.sin), np.sin, (math.nan, math.nan)),
    "cos": Function(_of_any_size(context.cos), np.cos, (math.nan, math.nan)),
    "exp2": Function(lambda x: context.exp(x * context.ln2), np.exp2, (0.0, math.inf)),
    "log2": Function(lambda x: context.log(x, 2), np.log2, (math.nan, math.inf), lowest=0.0),
    "log10": Function(context.log10, np.log10, (math.nan, math.inf), lowest=0.0),
    "cbrt": Function(_exact_cbrt, np.cbrt, (-math.inf, math.inf)),
    "sinh": Function(context.sinh, np.sinh, (-math.inf, math.inf)),
    "cosh": Function(context.cosh, np.cosh, (math.inf, math.inf)),
    "arcsinh": Function(context.asinh, np.arcsinh, (-math.inf, math.inf)),
    "arctan": Function(context.atan, np.arctan, (-math.pi / 2, math.pi / 2)),
}


# For the activations that take each element by itself.
REFERENCES: Mapping[str, Reference] = {
    name: Reference(definition)
    for name, definition in catalogue("activation").items()
    if not isinstance(definition, GroupDefinition)
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
    """Check the formula on arrays to 1/100 of the narrower type's unit in the last place."""
    for got, right in zip(approximate, exact, strict=True):
        if not context.isfinite(right):
            assert np.isnan(got) if context.isnan(right) else got == float(right)
            continue
        if np.isinf(got):
            assert abs(right) > precision.max
            continue
        smallest = context.mpf(2) ** int(precision.minexp - precision.nmant)
        unit = max(abs(right) * context.mpf(2) ** -int(precision.nmant + 1), smallest)
        assert abs(context.convert(got) - right) <= unit / 100


# --- Points -------------------------------------------------------------------------------------

ALL_PATTERNS = 2**32
CHUNK = 2**22

# A prime, so that the walk over the bit patterns meets all kinds of significands.
_STEP = 4099

# Where results overflow, become subnormal or vanish, and where functions saturate.
_EDGES = (88.722839, 89.0, 87.336544, 103.27893, 103.97208, 104.0, 44.014, 52.68)
_EDGES += (9.0109, 17.32868, 18.0, 16.6355, 2.0**-12, 2.0**-30, 1.0, 2.0**-126, 3.4028235e38)
_EDGES += (0.5, 4.0, 9.1941, 10.0544, 10.25, 12.9, 13.2, 14.1, 14.42, 14.75, 2.0**16)

# Where a walk over all inputs found the largest errors.
_WORST = (59.306038, 0.28088626, 0.2953238, 1.9508827, 6.2372723, 0.2341752, 0.22075978)
_WORST += (2.4220264, 4.8440528, 3.8119125, 7.6238251, 4.846455, 0.3473945, 27.3301525)
_WORST += (0.7046762, 1.6911992, 0.30664018, 0.5801216, 0.49647176, 6.937844, 1.8288051, 1.2730479)
_WORST += (2.3566012, 14.921628, 2.2986274e32, 2.2011288e38)


def window(center: float, radius: int) -> Array:
    """Return consecutive float32 numbers around a place, and the same with the other sign."""
    middle = int(np.float32(abs(center)).view(np.uint32))
    magnitudes = np.arange(max(0, middle - radius), middle + radius + 1, dtype=np.uint32)
    return np.concatenate([magnitudes, magnitudes | np.uint32(1 << 31)]).view(np.float32)


def float32_chunk(start: int) -> Array:
    """Return the float32 numbers of `CHUNK` consecutive bit patterns."""
    return np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32)


@cache
def float32_walk(fewer: int = 1) -> Array:
    """Return float32 numbers all over the range, NaNs and infinities included.

    Every `_STEP`-th bit pattern, and all of them where range reductions change over, where results
    overflow or underflow, and around 0; so many times `fewer` of each, an odd number.
    """
    seams = [k * math.log(2) / 4 for k in range(1, 620)]
    seams += [2.0**k * math.sqrt(2) - 1 for k in range(-25, 128)]
    seams += [2.0**k for k in range(-149, 128)]
    parts = [
        np.arange(0, ALL_PATTERNS, _STEP * fewer, dtype=np.uint32).view(np.float32),
        window(0.0, 2**15 // fewer),
        *(window(place, 2**13 // fewer) for place in _EDGES + _WORST),
        *(window(seam, 2**7 // fewer) for seam in seams),
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
