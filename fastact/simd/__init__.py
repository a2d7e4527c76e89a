"""The language of kernels: operations on one hardware vector.

A kernel is a plain Python function on vectors. It uses the operators (``+ - * /``, the comparisons,
``& | ~`` on masks, ``& | ^ << >>`` on integer vectors), ``abs`` and the functions below. Numbers are
weak: ``0.5 * x`` has the type of ``x``. A scalar is a vector of one lane, so one function serves both,
with the same bits.

Nothing here runs in Python: each function is a stub whose meaning `fastact.simd.lowering` teaches Numba.
The stubs stand apart from it so that definitions can be imported, and type-checked, without Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from fastact.simd.types import MYPY, IntVector, Mask, Vector

__all__ = [
    "IntVector",
    "Mask",
    "PerDtype",
    "Vector",
    "any_above",
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
    "product_in_double",
    "round_to_integer",
    "scale",
    "scale_down",
    "select",
    "sqrt",
    "sum_lanes",
    "to_double",
    "to_float",
    "uniform",
    "value_and_derivative_of",
    "value_of",
    "values_of",
    "weighted_derivative_of",
]


_Value = TypeVar("_Value", covariant=True)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class PerDtype(Generic[_Value]):
    """A constant (or a tuple of coefficients) with a value of its own for each floating-point type.

    Parameters
    ----------
    float32, float64 : int, float or tuple of them
        The value where a kernel computes in that type.
    """

    def __init__(self, float32: _Value, float64: _Value) -> None:
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

    def __neg__(self: PerDtype[float]) -> PerDtype[float]:
        return PerDtype(-self.float32, -self.float64)

    # To type checkers it is a weak operand, as numbers are; only compiled code can compute with it.
    if TYPE_CHECKING:

        def __add__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __sub__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __mul__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __truediv__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __radd__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __rsub__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __rmul__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __rtruediv__(self: PerDtype[float], other: PerDtype[float], /) -> Vector: ...
        def __pow__(self: PerDtype[float], exponent: int, /) -> Vector: ...
        def __abs__(self: PerDtype[float]) -> Vector: ...
        def __lt__(self: PerDtype[float], other: PerDtype[float], /) -> Mask: ...
        def __le__(self: PerDtype[float], other: PerDtype[float], /) -> Mask: ...
        def __gt__(self: PerDtype[float], other: PerDtype[float], /) -> Mask: ...
        def __ge__(self: PerDtype[float], other: PerDtype[float], /) -> Mask: ...

        if not MYPY:

            def __bool__(self) -> object: ...


def _compiled_only(name: str) -> NoReturn:
    raise TypeError(f"fastact.simd.{name} has a meaning only inside a compiled kernel")


def select(mask: Mask, if_true: Vector, if_false: Vector) -> Vector:
    """Take each lane from `if_true` where `mask` is set, else from `if_false`."""
    _compiled_only("select")


def fma(x: Vector, y: Vector, z: Vector) -> Vector:
    """Compute ``x * y + z`` with one rounding."""
    _compiled_only("fma")


def sqrt(x: Vector) -> Vector:
    """Compute the square root, correctly rounded; of a subnormal number slowly, unlike `fastact.vecmath.sqrt`."""
    _compiled_only("sqrt")


def copysign(magnitude: Vector, sign: Vector) -> Vector:
    """Give `magnitude` the sign of `sign`, that of zeros and NaNs included."""
    _compiled_only("copysign")


def isnan(x: Vector) -> Mask:
    """Return the mask of the lanes that hold a NaN."""
    _compiled_only("isnan")


def round_to_integer(x: Vector) -> Vector:
    """Round to the nearest integer, ties to even; the result is still floating point."""
    _compiled_only("round_to_integer")


def scale(x: Vector, n: Vector) -> Vector:
    """Compute ``x * 2**n`` with one rounding.

    Valid range: ``0.5 <= abs(x) <= 4``, and an integer `n` (a float vector) with ``abs(n) < 2**22`` that is
    at most 252 in float32 and 2044 in float64, beyond which ``2**(n / 2)`` overflows. Subnormal results are
    rounded once; results below them are zero, those above the largest number infinite.
    """
    _compiled_only("scale")


def scale_down(x: Vector, power: Vector) -> Vector:
    """Compute ``x * power`` with one rounding, where the result may be subnormal, without a microcode assist.

    Valid range: normal numbers, and powers of two from ``2**-126``, in float64 ``2**-1000``, to 1.
    """
    _compiled_only("scale_down")


def bits(x: Vector) -> IntVector:
    """Reinterpret floats as integers of the same width."""
    _compiled_only("bits")


def from_bits(x: IntVector) -> Vector:
    """Reinterpret integers as floats of the same width."""
    _compiled_only("from_bits")


def to_float(x: IntVector) -> Vector:
    """Convert integers to floats of the same width, exactly for ``abs(x) < 2**22``."""
    _compiled_only("to_float")


def to_double(x: Vector) -> Vector:
    """Convert every lane to float64: the result takes as many registers as that needs."""
    _compiled_only("to_double")


def product_in_double(x: Vector, y: Vector) -> Vector:
    """Compute ``x * y`` in float64, rounded to the type of x: the same number."""
    _compiled_only("product_in_double")


def fold_to_double(x: Vector) -> Vector:
    """Sum a block into a vector of float64 that is as wide on every processor, in an order that is the same on each."""
    _compiled_only("fold_to_double")


def sum_lanes(x: Vector) -> float:
    """Sum all lanes pairwise: the upper half onto the lower one, and so on."""
    _compiled_only("sum_lanes")


def largest_lane(x: Vector) -> float:
    """Return the largest lane; none may be NaN."""
    _compiled_only("largest_lane")


def polynomial(x: Vector, coefficients: PerDtype[tuple[float, ...]]) -> Vector:
    """Evaluate a polynomial by Horner's rule with fused multiply-adds; lowest coefficient first."""
    _compiled_only("polynomial")


@overload
def lookup(  # pyright: ignore[reportOverlappingOverload]  # an int passes for a float
    table: PerDtype[tuple[int, ...]], index: IntVector
) -> IntVector: ...
@overload
def lookup(table: PerDtype[tuple[float, ...]], index: IntVector) -> Vector: ...
def lookup(table: Any, index: Any) -> Any:
    """Gather the elements of a tuple at `index`, one lane after the other: for rare cases.

    The result is a vector of integers where all elements of the table are integers, else of floats. Every
    index must lie inside the table.
    """
    _compiled_only("lookup")


def at_least(words: IntVector, threshold: int) -> Mask:
    """Return the mask, for floats of the same width, of the random words that reach a threshold.

    Words are unsigned 32-bit integers; `threshold` is from 0 to ``2**32``, which none reaches.
    """
    _compiled_only("at_least")


def uniform(words: IntVector) -> Vector:
    """Turn random words into numbers of the open interval (0, 1).

    They are odd multiples of ``2**-24`` in float32, from the upper 23 bits, and of ``2**-33`` in float64.
    """
    _compiled_only("uniform")


def any_lane(mask: Mask) -> bool:
    """Return whether `mask` is set in any lane: the condition for ``if`` around rare cases."""
    _compiled_only("any_lane")


def any_above(words: IntVector, threshold: PerDtype[int]) -> bool:
    """Return whether any lane, as an unsigned integer, exceeds a threshold.

    It takes two instructions for a register, where a comparison and `any_lane` take four.
    """
    _compiled_only("any_above")


def dual(value: Vector, derivative: Vector) -> Vector:
    """Return the dual number of a value and its derivative."""
    _compiled_only("dual")


def value_of(x: Vector) -> Vector:
    """Return the value of a dual number; anything else is its own value."""
    _compiled_only("value_of")


def derivative_of(x: Vector) -> Vector:
    """Return the derivative of a dual number; that of anything else is 0."""
    _compiled_only("derivative_of")


def value_and_derivative_of(result: Vector | tuple[Vector, Vector]) -> tuple[Vector, Vector]:
    """Return both parts of a dual number; of a pair of dual numbers, both values."""
    _compiled_only("value_and_derivative_of")


def values_of(results: Any, like: Vector, count: int) -> tuple[Vector, ...]:
    """Return one result or a tuple of `count` as a tuple of vectors; a mask counts as 1 and 0, a number has the type of `like`."""
    _compiled_only("values_of")


def weighted_derivative_of(results: Any, weights: tuple[Vector, ...]) -> Vector:
    """Return the sum of each result's derivative times its weight, without those that are constant."""
    _compiled_only("weighted_derivative_of")


#: The derivative rules: for each function that cannot be differentiated step by step, its form on dual numbers.
DERIVATIVE_RULES: dict[Callable[..., Any], Callable[..., Any]] = {}


def derivative_rule(
    function: Callable[_Parameters, _Result],
) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """Register the decorated function as the form of `function` on dual numbers."""

    def register(rule: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        DERIVATIVE_RULES.setdefault(function, rule)
        return rule

    return register
