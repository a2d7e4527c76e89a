"""mpmath's functions on arrays, so that `Definition.exact` gives results at many points.

For results in float32, in plain float64. For results in float64, in longdouble, whose 11 more bits are lost in an
exponential: the rounding error of an argument of 700 is a relative error of the power. So each number comes with
the rounding error that it has, to first order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[Any]


class Wide:
    """Numbers of longdouble, and what rounding has lost of them."""

    __array_ufunc__ = None  # so that longdouble's operators leave it to ours
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, high: Any, low: Any = 0.0) -> None:
        self.high = np.asarray(high, np.longdouble)
        self.low = np.where(np.isfinite(low), low, 0)

    def rounded(self) -> Any:
        """Return the nearest numbers of longdouble."""
        return self.high + self.low

    def map(self, function: Callable[[Any], Any], derivative: Callable[[Any, Any], Any]) -> Wide:
        """Apply a function whose derivative is given in terms of x and the value."""
        value = function(self.high)
        return Wide(value, derivative(self.high, value) * self.low)

    def __neg__(self) -> Wide:
        return Wide(-self.high, -self.low)

    def __abs__(self) -> Wide:
        return Wide(abs(self.high), np.where(self.high < 0, -self.low, self.low))

    def __add__(self, other: Any) -> Wide:
        x, y = self.high, (other := _wide(other)).high
        total = x + y  # and Knuth's TwoSum
        part = total - x
        return Wide(total, (x - (total - part)) + (y - part) + (self.low + other.low))

    def __sub__(self, other: Any) -> Wide:
        return self + -other

    def __rsub__(self, other: Any) -> Wide:
        return -self + other

    def __mul__(self, other: Any) -> Wide:
        x, y = self.high, (other := _wide(other)).high
        product = x * y
        lost = _product_error(x, y, product)
        return Wide(product, lost + x * other.low + y * self.low)

    def __truediv__(self, other: Any) -> Wide:
        x, y = self.high, (other := _wide(other)).high
        quotient = x / y
        rest = (x - quotient * y) - _product_error(quotient, y, quotient * y)
        return Wide(quotient, (rest + self.low - quotient * other.low) / y)

    def __rtruediv__(self, other: Any) -> Wide:
        return _wide(other) / self

    def __pow__(self, exponent: int) -> Wide:
        result = self
        for _ in range(exponent - 1):
            result = result * self
        return result

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> Any:
        return (self - other).high < 0

    def __le__(self, other: Any) -> Any:
        return (self - other).high <= 0

    def __gt__(self, other: Any) -> Any:
        return (self - other).high > 0

    def __ge__(self, other: Any) -> Any:
        return (self - other).high >= 0

    def __eq__(self, other: object) -> Any:
        return (self - other).high == 0


def _wide(x: Any) -> Wide:
    return x if isinstance(x, Wide) else Wide(x)


def _product_error(x: Array, y: Array, product: Array) -> Array:
    """Return x y - product, by Dekker's method."""
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    error = (x_high * y_high - product) + x_high * y_low + x_low * y_high + x_low * y_low
    return np.where(np.isfinite(error), error, 0)


def _halves(x: Array) -> tuple[Array, Array]:
    """Split numbers in two, each with at most half of the bits of a longdouble."""
    shifted = (2.0**32 + 1) * x
    high = shifted - (shifted - x)
    return high, x - high


# Functions ---------------------------------------------------------------------------------------


def _sqrt(x: Wide) -> Wide:
    root = np.sqrt(x.high)
    square = root * root
    rest = (x.high - square) - _product_error(root, root, square) + x.low
    return Wide(root, rest / (2 * root))


def _erf_near_zero(a: Array) -> Array:
    """Return erf for 0 <= a <= 1, by the series whose terms are all positive."""
    term, total = a, a
    for k in range(1, 40):
        term = term * (2 * a * a / (2 * k + 1))
        total = total + term
    return _TWO_OVER_SQRT_PI * np.exp(-a * a) * total


def _erfc(x: Wide) -> Array:
    """Return erfc, by the series or Laplace's continued fraction, times exp(-x**2)."""
    a = abs(x.high)
    near = np.minimum(a, 1)
    scaled = np.exp(near * near) * (1 - _erf_near_zero(near))
    for low, high, terms in ((1.0, 4.0, 280), (4.0, math.inf, 40)):
        here = (a > low) & (a <= high)
        fraction = part = a[here]
        for k in range(terms, 0, -1):
            fraction = part + 0.5 * k / fraction
        scaled[here] = _TWO_OVER_SQRT_PI / 2 / fraction
    tail = scaled * (-(Wide(a) * Wide(a))).map(np.exp, lambda _, y: y).rounded()
    return np.where(x.high < 0, 2 - tail, tail)


def _erf(x: Array) -> Array:
    a = abs(x)
    size = np.where(a < 1, _erf_near_zero(np.minimum(a, 1)), 1 - _erfc(Wide(a)))
    return np.copysign(size, x)


def _bell(x: Array, _: Array) -> Array:
    return _TWO_OVER_SQRT_PI * np.exp(-x * x)


_TWO_OVER_SQRT_PI = 2 / np.sqrt(np.longdouble("3.14159265358979323846264338327950288"))

# By mpmath's names, each with its derivative in terms of x and the value.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "exp": (np.exp, lambda x, y: y),
    "expm1": (np.expm1, lambda x, y: y + 1),
    "log": (np.log, lambda x, y: 1 / x),
    "log1p": (np.log1p, lambda x, y: 1 / (1 + x)),
    "tanh": (np.tanh, lambda x, y: 1 - y * y),
    "sech": (lambda x: 1 / np.cosh(x), lambda x, y: -np.tanh(x) * y),
    "sinh": (np.sinh, lambda x, y: np.cosh(x)),
    "cosh": (np.cosh, lambda x, y: np.sinh(x)),
    "sin": (np.sin, lambda x, y: np.cos(x)),
    "cos": (np.cos, lambda x, y: -np.sin(x)),
    "atan": (np.arctan, lambda x, y: 1 / (1 + x * x)),
    "asinh": (np.arcsinh, lambda x, y: 1 / np.hypot(1, x)),
    "cbrt": (np.cbrt, lambda x, y: 1 / (3 * y * y)),
}


def _function_of(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    if name not in FUNCTIONS:
        raise AttributeError(f"tests/wide.py has no {name}: add it to FUNCTIONS")
    return FUNCTIONS[name]


class DoubleContext:
    """What stands in for mpmath's context, for arrays of float64."""

    inf, nan, pi = math.inf, math.nan, math.pi
    sqrt, erf, erfc = np.sqrt, special.erf, special.erfc

    def __getattr__(self, name: str) -> Any:
        return _function_of(name)[0]

    def mpf(self, number: Any) -> Any:
        """Return a constant or a parameter."""
        return np.float64(number)


class WideContext:
    """The same for `Wide` numbers."""

    inf, nan = math.inf, math.nan

    def __init__(self, exact: Any) -> None:
        self._exact = exact
        self.pi = self.mpf(exact.pi)

    def __getattr__(self, name: str) -> Any:
        function, derivative = _function_of(name)
        return lambda x: _wide(x).map(function, derivative)

    def sqrt(self, x: Any) -> Wide:
        """Return the square root."""
        return _sqrt(_wide(x))

    def erf(self, x: Wide) -> Wide:
        """Return the error function."""
        return x.map(_erf, _bell)

    def erfc(self, x: Wide) -> Wide:
        """Return one minus the error function."""
        return x.map(lambda high: _erfc(Wide(high)), lambda high, _: -_bell(high, _))

    def mpf(self, number: Any) -> Any:
        """Return a constant, and what a longdouble loses of it."""
        number = self._exact.convert(number)
        high = np.longdouble(self._exact.nstr(number, 40))
        rest = number - self._exact.convert(high)
        return Wide(high, np.longdouble(self._exact.nstr(rest, 40)))
