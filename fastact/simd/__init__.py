"""The words in which kernels are written: operations on one hardware vector.

A kernel is a plain Python function on vectors. It uses the operators (``+ - * /``, the comparisons,
``& | ~`` on masks, ``& | ^ << >>`` on integer vectors), ``abs`` and the functions below. Numbers are
weak: ``0.5 * x`` has the type of ``x``. A scalar is a vector of one lane, so the same function serves
both and gives the same bits for both.

Nothing here runs in Python: each function is a name that `fastact.simd.lowering` teaches Numba to
compile. They live apart from it so that definitions can be imported without Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = [
    "PerDtype",
    "any_lane",
    "at_least",
    "bits",
    "copysign",
    "derivative_of",
    "derivative_rule",
    "dual",
    "fma",
    "fold_to_double",
    "from_bits",
    "isnan",
    "largest_lane",
    "lookup",
    "polynomial",
    "round_to_integer",
    "scale",
    "select",
    "sqrt",
    "sum_lanes",
    "to_double",
    "to_float",
    "uniform",
    "value_and_derivative_of",
    "value_of",
]


class PerDtype:
    """A constant (or a tuple of coefficients) that has its own value in each floating-point type.

    Parameters
    ----------
    float32, float64 : float or tuple of float
        The value where a kernel computes in that type.
    """

    def __init__(self, float32: Any, float64: Any) -> None:
        self.float32 = float32
        self.float64 = float64

    def __hash__(self) -> int:
        return hash((self.float32, self.float64))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PerDtype)
            and self.float32 == other.float32
            and self.float64 == other.float64
        )

    def __neg__(self) -> PerDtype:
        return PerDtype(-self.float32, -self.float64)


def _compiled_only(name: str) -> NoReturn:
    raise TypeError(f"fastact.simd.{name} has a meaning only inside a compiled kernel")


def select(mask: Any, if_true: Any, if_false: Any) -> Any:
    """Take each lane from `if_true` where `mask` is set, else from `if_false`."""
    _compiled_only("select")


def fma(x: Any, y: Any, z: Any) -> Any:
    """Compute ``x * y + z`` with one rounding."""
    _compiled_only("fma")


def sqrt(x: Any) -> Any:
    """Compute the square root, correctly rounded."""
    _compiled_only("sqrt")


def copysign(magnitude: Any, sign: Any) -> Any:
    """Give `magnitude` the sign of `sign`, of zeros and NaNs too."""
    _compiled_only("copysign")


def isnan(x: Any) -> Any:
    """Return the mask of the lanes that hold a NaN."""
    _compiled_only("isnan")


def round_to_integer(x: Any) -> Any:
    """Round to the nearest whole number, halves to even; the result is still floating point."""
    _compiled_only("round_to_integer")


def scale(x: Any, n: Any) -> Any:
    """Compute ``x * 2**n`` with one rounding, for ``0.5 <= abs(x) <= 4`` and whole `n`.

    Results in the subnormal range are rounded once; below it they are zero, above the largest number
    infinite. `n` (a float vector) must be below 2**22 in size, and not above 252 in float32, 2044 in
    float64, where ``n / 2`` is no normal exponent.
    """
    _compiled_only("scale")


def bits(x: Any) -> Any:
    """Reinterpret a float vector as a vector of integers of the same width."""
    _compiled_only("bits")


def from_bits(x: Any) -> Any:
    """Reinterpret an integer vector as a vector of floats of the same width."""
    _compiled_only("from_bits")


def to_float(x: Any) -> Any:
    """Convert whole numbers below 2**22 in size to the float type of the same width."""
    _compiled_only("to_float")


def to_double(x: Any) -> Any:
    """Convert every lane to float64: the result is as many registers as it takes."""
    _compiled_only("to_double")


def fold_to_double(x: Any) -> Any:
    """Add up the registers of a block to one register of float64."""
    _compiled_only("fold_to_double")


def sum_lanes(x: Any) -> Any:
    """Add up the lanes to a number: one half to the other, again and again."""
    _compiled_only("sum_lanes")


def largest_lane(x: Any) -> Any:
    """Return the largest of the lanes, none of which may be a NaN."""
    _compiled_only("largest_lane")


def polynomial(x: Any, coefficients: PerDtype) -> Any:
    """Evaluate a polynomial by Horner's rule with fused multiply-adds, lowest coefficient first."""
    _compiled_only("polynomial")


def lookup(table: PerDtype, index: Any) -> Any:
    """Take the number at `index`, an integer vector, from a tuple: one by one, for rare cases.

    The result is a vector of integers where all the numbers of the table are, else of floats. No index
    may lie outside the table.
    """
    _compiled_only("lookup")


def at_least(words: Any, threshold: Any) -> Any:
    """Return the mask, for floats of their width, of the random words that are at least a whole number.

    Words are unsigned 32-bit numbers; `threshold` is from 0 to ``2**32``, which none reaches.
    """
    _compiled_only("at_least")


def uniform(words: Any) -> Any:
    """Turn random words into numbers between 0 and 1, neither of which comes up.

    In float32 they are the odd multiples of ``2**-24``, of the upper 23 bits; in float64 those of ``2**-33``.
    """
    _compiled_only("uniform")


def any_lane(mask: Any) -> Any:
    """Return whether `mask` is set in any lane: a condition for ``if``, around what few lanes need."""
    _compiled_only("any_lane")


def dual(value: Any, derivative: Any) -> Any:
    """Return the dual number of a vector and its derivative."""
    _compiled_only("dual")


def value_of(x: Any) -> Any:
    """Return the value of a dual number; of anything else, itself."""
    _compiled_only("value_of")


def derivative_of(x: Any) -> Any:
    """Return the derivative of a dual number; of anything else, 0."""
    _compiled_only("derivative_of")


def value_and_derivative_of(result: Any) -> Any:
    """Return the two parts of a dual number; of a pair of dual numbers, the values of both."""
    _compiled_only("value_and_derivative_of")


#: By function: what it is on dual numbers, where that cannot be had by differentiating it step by step.
DERIVATIVE_RULES: dict[Callable[..., Any], Callable[..., Any]] = {}


def derivative_rule(
    function: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the function below what `function` is on dual numbers."""
    return lambda rule: DERIVATIVE_RULES.setdefault(function, rule)
