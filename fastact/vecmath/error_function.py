"""The error function, the normal distribution, and the activation that is made of it.

The tail of both is a Gaussian times a function that changes little, for which see M. M. Shepherd and
J. G. Laframboise, "Chebyshev Approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity",
Mathematics of Computation 36 (1981): over a + W, a polynomial in u = (a - K) / (a + K), which maps the
half line to an interval. The square in the Gaussian is a number and what that lacks: its rounding alone
would cost dozens of units in the last place of the result in float32, and hundreds in float64.
"""

from __future__ import annotations

from typing import Any

from fastact.simd import PerDtype, copysign, fma, polynomial, scale, select
from fastact.vecmath import coefficients
from fastact.vecmath.exponential import exp_parts


def _split(table: dict[str, tuple[float, ...]]) -> tuple[PerDtype, PerDtype]:
    """Return the lowest coefficient, and the others."""
    first = PerDtype(**{dtype: numbers[0] for dtype, numbers in table.items()})
    return first, PerDtype(**{dtype: numbers[1:] for dtype, numbers in table.items()})


ERF = PerDtype(**coefficients.ERF)
_ERFC_FIRST, _ERFC_REST = _split(coefficients.ERFC)
_ERFC_W = PerDtype(**coefficients.ERFC_W)
_ERFC_K = PerDtype(**coefficients.ERFC_K)
ERFC_ZERO = PerDtype(**coefficients.ERFC_ZERO)
_NORMAL_FIRST, _NORMAL_REST = _split(coefficients.NORMAL)
_NORMAL_W = PerDtype(**coefficients.NORMAL_W)
_NORMAL_K = PerDtype(**coefficients.NORMAL_K)
_NORMAL_ZERO = PerDtype(**coefficients.NORMAL_ZERO)
_DENSITY_HIGH = PerDtype(**coefficients.DENSITY_HIGH)
_DENSITY_LOW = PerDtype(**coefficients.DENSITY_LOW)

# erf rounds to 1 from here on.
_ERF_ONE = PerDtype(float32=4.0, float64=6.0)


def _tail(a: Any, p: Any, p_lost: Any, w: Any, k: Any, first: Any, rest: Any) -> Any:
    """Compute ``(1 + p + p_lost) (first + u rest(u)) / (a + w)``, nearly rounded once.

    The variable is ``u = (a - k) / (a + k)``, and abs(p) < 1/2.
    """
    # One division for both quotients. What 1 / (a + w) lacks makes up for the roundings on the way; and
    # a - (d - w) is exact because w has few bits.
    d = a + w
    k_sum = a + k
    both = 1 / (d * k_sum)
    y = k_sum * both
    y_lost = y * fma(-y, a - (d - w), fma(-d, y, 1))
    u = (a - k) * (d * both)
    slope = polynomial(u, rest)
    q = fma(u, slope, first)
    q_lost = fma(u, slope, first - q)
    change = fma(q, p, fma(q, p_lost, fma(q_lost, p, q_lost)))
    return fma(q, y, fma(q + change, y_lost, y * change))


def erfc_parts(a: Any) -> Any:
    """Return n and y, where ``erfc(a) = 2**n y``, for 0 <= a <= ERFC_ZERO."""
    square = a * a
    n, p, p_lost = exp_parts(-square, -fma(a, a, -square))
    return n, _tail(a, p, p_lost, _ERFC_W, _ERFC_K, _ERFC_FIRST, _ERFC_REST)


def erf(x: Any) -> Any:
    """Compute the error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    a = select(abs(x) > _ERF_ONE, _ERF_ONE, abs(x))
    n, y = erfc_parts(a)
    small = fma(a, polynomial(a * a, ERF), a)
    return copysign(select(a < 0.5, small, 1 - scale(y, n)), x)


def erfc(x: Any) -> Any:
    """Compute 1 - erf(x), without cancellation for large x."""
    vanishes = abs(x) > ERFC_ZERO
    n, y = erfc_parts(select(vanishes, 0, abs(x)))
    # y is less than `scale` asks for, but 2**(n/2) is far from the ends of the range.
    tail = select(vanishes, 0, scale(y, n))
    return select(x < 0, 2 - tail, tail)


def _normal_parts(a: Any) -> Any:
    """Return n, y and d, where ``Phi(-a) = 2**n y`` and ``phi(a) = 2**n d``, for 0 <= a <= NORMAL_ZERO.

    Phi is the distribution function of the standard normal distribution, and phi its density.
    """
    square = a * a
    n, p, p_lost = exp_parts(-0.5 * square, -0.5 * fma(a, a, -square))
    density = _DENSITY_HIGH + fma(_DENSITY_HIGH, p, _DENSITY_LOW)
    return n, _tail(a, p, p_lost, _NORMAL_W, _NORMAL_K, _NORMAL_FIRST, _NORMAL_REST), density


def normal_cdf_and_pdf(x: Any) -> Any:
    """Return the standard normal distribution's function and density, neither with cancellation."""
    vanishes = abs(x) > _NORMAL_ZERO
    n, y, density = _normal_parts(select(vanishes, 0, abs(x)))
    tail = select(vanishes, 0, scale(y, n))
    return select(x < 0, tail, 1 - tail), select(vanishes, 0, scale(density, n))


def gelu_and_derivative(x: Any) -> Any:
    """Return x Phi(x) and its derivative Phi(x) + x phi(x), with Phi and phi of the normal distribution.

    Products are made before the power of two comes in, so that results below the normal range are
    rounded once. Only near its root at -0.7517915 does the derivative lose digits. Both tend to zero
    from below.
    """
    vanishes = abs(x) > _NORMAL_ZERO
    a = select(vanishes, 0, abs(x))
    n, y, density = _normal_parts(a)
    product = scale(a * y, n)
    slope = select(vanishes, -0.0, scale(fma(-a, density, y), n))
    return select(x < 0, -product, x - product), select(x < 0, slope, 1 - slope)
