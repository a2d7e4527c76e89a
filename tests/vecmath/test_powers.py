"""Vector functions of two arguments, `power` among them: against mpmath, and against NumPy's special cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from references import Array, assert_exactly_accurate, assert_same_bits, context

import fastact as fa
from fastact import vecmath
from fastact.kernels.door import make_ufunc
from fastact.kernels.kernel import Elementwise, Kernel

FUNCTIONS = {"power": vecmath.power, "hypot": vecmath.hypot, "logaddexp": vecmath.logaddexp}
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def ufunc_of(name: str) -> Any:
    function = FUNCTIONS[name]
    kernel = Kernel.of("x, y -> z", Elementwise(lambda: lambda x, y: (function(x, y),)))
    return make_ufunc(kernel, "tests", name, "", lambda dtype: f"tests.{name}.{dtype}", repr)


UFUNCS = {name: ufunc_of(name) for name in FUNCTIONS}
SPECIAL = [0.0, 1.0, 2.0, 0.5, 3.0, 2.5, 1e30, 1e-30, 1e-40, 1e17, 16777217.0, math.inf]


@every_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_cases_are_those_of_numpy(name: str, dtype: Any) -> None:
    points = np.array([*SPECIAL, *(-x for x in SPECIAL), math.nan], dtype)
    x, y = map(np.ravel, np.meshgrid(points, points))
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    got = UFUNCS[name](x, y)
    is_exact = np.isnan(wanted) | np.isinf(wanted) | (wanted == 0)
    assert_same_bits(got[is_exact], wanted[is_exact])
    np.testing.assert_allclose(got[~is_exact], wanted[~is_exact], 4 * np.finfo(dtype).eps)
    assert UFUNCS["power"](dtype(-2), dtype(3)) == -8
    assert np.isnan(UFUNCS["power"](dtype(-2), dtype(0.5)))


def random_pairs(dtype: Any) -> tuple[Array, Array]:
    """Return bases of all sizes, and exponents for which the powers are, and small ones."""
    random = np.random.default_rng(7)
    largest = 700 if dtype == np.float64 else 86
    x = np.concatenate(
        [
            2.0 ** random.uniform(-100, 100, 400),
            random.uniform(0.5, 2, 400),
            1 + random.uniform(-1e-3, 1e-3, 400),
        ]
    ).astype(dtype)
    exponents = random.uniform(-largest, largest, x.size)
    y = np.where(np.arange(x.size) % 3, exponents / np.log(x.astype(np.float64)), exponents / 100)
    return x, np.clip(y, -1e30, 1e30).astype(dtype)


@every_dtype
def test_power(dtype: Any) -> None:
    """At most 1.0 units in the last place, also where the exponent of e is as large as it can be."""
    x, y = random_pairs(dtype)
    exact = [context.convert(a) ** context.convert(b) for a, b in zip(x, y, strict=True)]
    assert_exactly_accurate(UFUNCS["power"](x, y), exact, 1.0, x)
    whole = np.round(y / 10)
    signs = np.where(whole % 2, -1.0, 1.0)
    magnitudes = [context.convert(a) ** context.convert(b) for a, b in zip(x, whole, strict=True)]
    exact = [m * float(s) for m, s in zip(magnitudes, signs, strict=True)]
    assert_exactly_accurate(UFUNCS["power"](-x, whole), exact, 1.0, x)


@every_dtype
def test_hypot(dtype: Any) -> None:
    """Correctly rounded, twice in the subnormal range, without overflow or underflow on the way."""
    random = np.random.default_rng(8)
    low, high = (-1060, 1023) if dtype == np.float64 else (-145, 126)
    sizes = random.uniform(low, high, 1000)
    x = (2.0**sizes).astype(dtype)
    y = (2.0 ** np.clip(sizes + random.uniform(-30, 30, 1000), low, high)).astype(dtype)
    exact = [
        context.hypot(context.convert(a), context.convert(b)) for a, b in zip(x, y, strict=True)
    ]
    assert_exactly_accurate(UFUNCS["hypot"](x, -y), exact, 0.76, x)


@every_dtype
def test_logaddexp(dtype: Any) -> None:
    """One unit of the larger of the result and the operands: it may cancel, as NumPy's does."""
    random = np.random.default_rng(9)
    x, y = random.normal(0, 30, (2, 2000)).astype(dtype)
    got = UFUNCS["logaddexp"](x, y)
    for a, b, z in zip(x, y, got, strict=True):
        a, b = context.convert(a), context.convert(b)
        exact = context.log(context.exp(a) + context.exp(b))
        assert abs(context.convert(z) - exact) <= np.finfo(dtype).eps * max(
            abs(a), abs(b), abs(exact)
        )


@every_dtype
def test_logarithms_are_exact_for_powers_of_the_base(dtype: Any) -> None:
    exponents = np.arange(-149 if dtype == np.float32 else -1074, 128, dtype=dtype)
    np.testing.assert_array_equal(
        fa.math.log2(np.ldexp(dtype(1), exponents.astype(int))), exponents
    )
    tens = np.arange(0, 11 if dtype == np.float32 else 23, dtype=dtype)
    np.testing.assert_array_equal(fa.math.log10(dtype(10) ** tens), tens)
