"""The table of coefficients: it is what the generator writes, and as good as its comments say."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from references import context

from fastact.vecmath import coefficients

GENERATOR = Path(__file__).parents[2] / "tools" / "generate_coefficients.py"
TABLE = Path(coefficients.__file__)
SIGNIFICAND_BITS = {"float32": 24, "float64": 53}


def _log_of_quotient(f: Any, q: Any) -> Any:
    """Return log(1 + f) by the polynomial q, for the s and z of the comment."""
    s = f / (2 + f)
    return 2 * s + s * s * s * q(s * s)


def _log_by_two_terms(f: Any, q: Any) -> Any:
    """Return log(1 + f) by the polynomial q behind the first two terms."""
    s = f / (2 + f)
    return 2 * s + 2 * s**3 / 3 + s**5 * q(s * s)


def _mapped(name: str) -> Callable[[Any, Any], Any]:
    """Return the quotient of the polynomial in u = 1/2 - K / (a + K) and a + K."""
    k = context.mpf(getattr(coefficients, f"{name}_K")["float32"])
    return lambda a, q: q(0.5 - k / (a + k)) / (a + k)


def _mills_ratio(a: Any) -> Any:
    return context.exp(a * a / 2) * context.ncdf(-a)


# For each polynomial: the whole approximation, what it approximates, and where.
HALF_LN2 = context.ln2 / 2 * (1 + context.mpf(2) ** -10)
QUARTER_TURN = context.pi / 4 * (1 + context.mpf(2) ** -10)
APPROXIMATIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any], Any, Any]] = {
    "EXP": (lambda r, q: 1 + r + r * r * q(r), context.exp, -HALF_LN2, HALF_LN2),
    "EXPM1": (lambda r, q: r + r * r * q(r), context.expm1, -HALF_LN2, HALF_LN2),
    "LOG": (_log_of_quotient, context.log1p, context.sqrt(0.5) - 1, context.sqrt(2) - 1),
    "LOG1P": (_log_of_quotient, context.log1p, context.mpf(0), context.mpf(1)),
    "LOG_TAIL": (
        _log_by_two_terms,
        context.log1p,
        context.sqrt(0.5) - 1,
        context.sqrt(2) - 1,
    ),
    "SINH": (lambda a, q: a + a**3 * q(a * a), context.sinh, context.mpf(0), context.mpf(1)),
    "ARCTAN": (
        lambda t, q: t + t**3 * q(t * t),
        context.atan,
        context.mpf(0),
        (context.sqrt(2) - 1) * (1 + context.mpf(2) ** -10),
    ),
    "ERF": (lambda x, q: x + x * q(x * x), context.erf, context.mpf(0), context.mpf(0.5)),
    "ERFC": (
        _mapped("ERFC"),
        lambda a: context.exp(a * a) * context.erfc(a),
        context.mpf(0),
        coefficients.ERFC_ZERO,
    ),
    "NORMAL": (_mapped("NORMAL"), _mills_ratio, context.mpf(0), coefficients.NORMAL_ZERO),
    "SIN": (lambda r, q: r + r**3 * q(r * r), context.sin, context.mpf(0), QUARTER_TURN),
    "COS": (
        lambda r, q: 1 - r * r / 2 + r**4 * q(r * r),
        context.cos,
        context.mpf(0),
        QUARTER_TURN,
    ),
}
every_polynomial = pytest.mark.parametrize("name", APPROXIMATIONS)
every_dtype = pytest.mark.parametrize("dtype", SIGNIFICAND_BITS)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """Import the script by its path."""
    name = "generate_coefficients"
    spec = importlib.util.spec_from_file_location(name, GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look here for their module
    spec.loader.exec_module(module)
    return module


def relative_error(name: str, dtype: str, table: tuple[float, ...]) -> Any:
    """Return the largest relative error of an approximation on a grid."""
    approximation, function, low, high = APPROXIMATIONS[name]
    if isinstance(high, dict):
        high = context.mpf(high[dtype])

    def q(x: Any) -> Any:
        return sum(context.mpf(number) * x**power for power, number in enumerate(table))

    points = [x for x in context.linspace(low, high, 400) if x]
    return max(abs(approximation(x, q) / function(x) - 1) for x in points)


def stated_error(name: str, dtype: str) -> Any:
    """Return the error that the table's comment states."""
    text = TABLE.read_text(encoding="utf-8")
    match = re.search(rf"# .*{dtype}: degree \d+, error 2\^-(\d+\.\d).*\n{name}:", text)
    assert match is not None
    return context.mpf(2) ** -context.mpf(match[1])


def test_table_is_what_the_generator_writes(generator: ModuleType) -> None:
    """The committed file is the script's output, to the character."""
    assert generator.OUTPUT == TABLE
    assert generator.render() == TABLE.read_text(encoding="utf-8")


def test_every_polynomial_is_checked(generator: ModuleType) -> None:
    """The table here leaves out no polynomial that the script makes."""
    assert {polynomial.name for polynomial in generator.POLYNOMIALS} == set(APPROXIMATIONS)


@every_dtype
@every_polynomial
def test_stated_error(name: str, dtype: str) -> None:
    """Each approximation is as good as its comment says, and the comment is no understatement."""
    error = relative_error(name, dtype, getattr(coefficients, name)[dtype])
    stated = stated_error(name, dtype)
    assert stated / 1.2 < error <= stated


@every_dtype
@every_polynomial
def test_perturbed_coefficient_is_noticed(name: str, dtype: str) -> None:
    """A relative change of 2^-20 in the lowest coefficient exceeds the stated error.

    Where that is larger by itself, because a step of Newton's method follows, so does twice as much.
    """
    stated = stated_error(name, dtype)
    lowest, *others = getattr(coefficients, name)[dtype]
    perturbed = (lowest * (1 + max(2.0**-20, 2 * stated)), *others)
    assert relative_error(name, dtype, perturbed) > 1.5 * stated


@every_dtype
@every_polynomial
def test_coefficients_are_exact_in_their_type(name: str, dtype: str) -> None:
    """No coefficient is rounded a second time when it is used."""
    with context.workprec(SIGNIFICAND_BITS[dtype]):
        for number in getattr(coefficients, name)[dtype]:
            assert +context.mpf(number) == number


@every_dtype
def test_parts_of_ln2(dtype: str) -> None:
    """High and low parts add up to ln2, and the short part leaves room for an exponent."""
    bits = SIGNIFICAND_BITS[dtype]
    for name in ("LN2", "LN2_SHORT"):
        high = context.mpf(getattr(coefficients, f"{name}_HIGH")[dtype])
        low = context.mpf(getattr(coefficients, f"{name}_LOW")[dtype])
        assert abs(high + low - context.ln2) <= abs(low) * context.mpf(2) ** -bits
    largest_exponent = {"float32": 150, "float64": 1075}[dtype]
    with context.workprec(bits):
        rounded = high * largest_exponent
    assert rounded == high * largest_exponent
    reciprocal = context.mpf(coefficients.LOG2_E[dtype])
    assert abs(reciprocal * context.ln2 - 1) <= context.mpf(2) ** -bits


@every_dtype
def test_parts_of_half_pi(dtype: str) -> None:
    """The parts add up, and the words hold all the bits that the largest number needs."""
    bits = SIGNIFICAND_BITS[dtype]
    parts = [
        context.mpf(getattr(coefficients, f"HALF_PI_{part}")[dtype])
        for part in ("HIGH", "MIDDLE", "LOW")
    ]
    assert abs(sum(parts) - context.pi / 2) <= abs(parts[-1]) * context.mpf(2) ** -bits
    words = coefficients.TWO_OVER_PI_WORDS[dtype]
    size = {"float32": 22, "float64": 50}[dtype]
    with context.workprec(size * len(words) + 100):
        unit = context.mpf(2) ** -(size * (len(words) - 1))
        fraction = unit * sum(word << size * i for i, word in enumerate(reversed(words)))
        assert 0 <= 2 / context.pi - fraction < unit
    assert all(0 <= word < 1 << size for word in words)
    last_bit_of_largest = {"float32": 127 - 23, "float64": 1023 - 52}[dtype]
    assert size * (len(words) - 1) >= last_bit_of_largest + 4 * size


@every_dtype
def test_parts_of_the_density(dtype: str) -> None:
    """They add up to the density of the normal distribution at zero."""
    high = context.mpf(coefficients.DENSITY_HIGH[dtype])
    low = context.mpf(coefficients.DENSITY_LOW[dtype])
    error = abs(high + low - context.npdf(0))
    assert error <= abs(low) * context.mpf(2) ** -SIGNIFICAND_BITS[dtype]
