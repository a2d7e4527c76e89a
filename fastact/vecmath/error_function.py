"""The error function, the normal distribution, and the Gaussian error linear unit.

The tail of both is a Gaussian times a slowly varying function, approximated after M. M. Shepherd and
J. G. Laframboise, "Chebyshev Approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity",
Mathematics of Computation 36 (1981): a polynomial in u = (a - K) / (a + K), which maps the half line to
an interval, divided by a + W. The square in the Gaussian is a double-double: its rounding alone would
cost dozens of ULP of the result in float32, and hundreds in float64.
"""

from __future__ import annotations

from fastact.simd import PerDtype, Vector, copysign, fma, polynomial, scale, select
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import (
    DoubleDouble,
    double_double_product,
    fast_two_sum,
    select_double_double,
    two_product,
)
from fastact.vecmath.exponential import exp_parts
from fastact.vecmath.scaling import at_least_tiny, ldexp


def _split(
    table: dict[str, tuple[float, ...]],
) -> tuple[PerDtype[float], PerDtype[tuple[float, ...]]]:
    """Return the lowest coefficient, and the others."""
    first = PerDtype(**{dtype: values[0] for dtype, values in table.items()})
    return first, PerDtype(**{dtype: values[1:] for dtype, values in table.items()})


ERF = PerDtype(**coefficients.ERF)
_ERFC_FIRST, _ERFC_HIGHER = _split(coefficients.ERFC)
_ERFC_W = PerDtype(**coefficients.ERFC_W)
_ERFC_K = PerDtype(**coefficients.ERFC_K)
ERFC_ZERO = PerDtype(**coefficients.ERFC_ZERO)
_NORMAL_FIRST, _NORMAL_HIGHER = _split(coefficients.NORMAL)
_NORMAL_W = PerDtype(**coefficients.NORMAL_W)
_NORMAL_K = PerDtype(**coefficients.NORMAL_K)
_NORMAL_ZERO = PerDtype(**coefficients.NORMAL_ZERO)
_DENSITY_HIGH = PerDtype(**coefficients.DENSITY_HIGH)
_DENSITY_LOW = PerDtype(**coefficients.DENSITY_LOW)

_TWO_OVER_SQRT_PI = PerDtype(float32=1.128379225730896, float64=1.1283791670955126)
_TWO_OVER_SQRT_PI_LOW = PerDtype(float32=-5.8635382771399236e-08, float64=1.533545961316588e-17)

# erf rounds to 1 from here on.
_ERF_ONE = PerDtype(float32=4.0, float64=6.0)


def _tail(
    a: Vector,
    p: Vector,
    p_low: Vector,
    w: Vector,
    k: Vector,
    first: Vector,
    higher: PerDtype[tuple[float, ...]],
) -> Vector:
    """Compute ``(1 + p + p_low) (first + u higher(u)) / (a + w)``, nearly rounded once.

    The variable is ``u = (a - k) / (a + k)``, and abs(p) < 1/2.
    """
    # One division serves both quotients. The low part of 1 / (a + w) makes up for its roundings;
    # a - (d - w) is exact because w has few bits.
    d = a + w
    k_sum = a + k
    both = 1 / (d * k_sum)
    y = k_sum * both
    y_low = y * fma(-y, a - (d - w), fma(-d, y, 1))
    u = (a - k) * (d * both)
    slope = polynomial(u, higher)
    q = fma(u, slope, first)
    q_low = fma(u, slope, first - q)
    change = fma(q, p, fma(q, p_low, fma(q_low, p, q_low)))
    return fma(q, y, fma(q + change, y_low, y * change))


def _exp_of_minus_square(a: Vector) -> tuple[Vector, Vector, Vector]:
    """Return n and a double-double p, where ``exp(-a**2) = 2**n (1 + p)``."""
    square, square_low = two_product(a, a)
    return exp_parts(-square, -square_low)


def erfc_parts(a: Vector) -> tuple[Vector, Vector]:
    """Return n and y, where ``erfc(a) = 2**n y``.

    Valid range: TINY <= a <= ERFC_ZERO.
    """
    n, p, p_low = _exp_of_minus_square(a)
    return n, _tail(a, p, p_low, _ERFC_W, _ERFC_K, _ERFC_FIRST, _ERFC_HIGHER)


def erf(x: Vector) -> Vector:
    """Compute the error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.

    Valid range: all numbers. Maximum error: 1.5 ULP.

    Examples
    --------
    >>> fa.math.erf([-1.0, 0.0, 1.0])
    array([-0.84270079,  0.        ,  0.84270079])
    """
    a = select(abs(x) > _ERF_ONE, _ERF_ONE, abs(x))
    bounded = at_least_tiny(a)
    n, y = erfc_parts(bounded)
    small = fma(a, polynomial(bounded * bounded, ERF), a)
    return copysign(select(a < 0.5, small, 1 - scale(y, n)), x)


def erfc(x: Vector) -> Vector:
    """Compute 1 - erf(x), without cancellation for large x.

    Valid range: all numbers. Maximum error: 2.0 ULP in float32, 2.5 ULP in float64.

    Examples
    --------
    >>> fa.math.erfc([-1.0, 0.0, 1.0])
    array([1.84270079, 1.        , 0.15729921])
    """
    vanishes = abs(x) > ERFC_ZERO
    n, y = erfc_parts(at_least_tiny(select(vanishes, 0, abs(x))))
    tail = select(vanishes, 0, ldexp(y, n))
    return select(x < 0, 2 - tail, tail)


def _normal_parts(a: Vector) -> tuple[Vector, Vector, Vector]:
    """Return n, y and d, where ``Phi(-a) = 2**n y`` and ``phi(a) = 2**n d``, for TINY <= a <= _NORMAL_ZERO.

    Phi is the distribution function of the standard normal distribution, and phi its density.
    """
    square, square_low = two_product(a, a)
    n, p, p_low = exp_parts(-0.5 * square, -0.5 * square_low)
    density = _DENSITY_HIGH + fma(_DENSITY_HIGH, p, _DENSITY_LOW)
    return n, _tail(a, p, p_low, _NORMAL_W, _NORMAL_K, _NORMAL_FIRST, _NORMAL_HIGHER), density


def normal_cdf_and_pdf(x: Vector) -> tuple[Vector, Vector]:
    """Return the standard normal distribution's CDF and PDF, neither with cancellation.

    Valid range: all numbers. Maximum error: 2.0 ULP; PDF 1.5 ULP.
    """
    vanishes = abs(x) > _NORMAL_ZERO
    n, y, density = _normal_parts(at_least_tiny(select(vanishes, 0, abs(x))))
    tail = select(vanishes, 0, ldexp(y, n))
    return select(x < 0, tail, 1 - tail), select(vanishes, 0, ldexp(density, n))


def gelu_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    """Return x Phi(x) and its derivative Phi(x) + x phi(x), for the normal CDF Phi and PDF phi.

    Valid range: all numbers. Maximum error: 2.4 ULP; derivative 3.0 ULP, except near its root at
    -0.7517915, where the absolute error is at most the machine epsilon. Both tend to zero from below on
    the left.
    """
    # Multiply before scaling by the power of two, so that subnormal results are rounded once.
    vanishes = abs(x) > _NORMAL_ZERO
    a = select(vanishes, 0, abs(x))
    bounded = at_least_tiny(a)
    n, y, density = _normal_parts(bounded)
    product = ldexp(a * y, n)
    slope = select(vanishes, -0.0, ldexp(fma(-bounded, density, y), n))
    return select(x < 0, -product, x - product), select(x < 0, slope, 1 - slope)


def erf_and_derivative_double_double(
    x: Vector, x_low: Vector, lowest: Vector
) -> tuple[DoubleDouble, DoubleDouble]:
    """Return erf(x + x_low) and its derivative, ``2 / sqrt(pi) exp(-(x + x_low)**2)``.

    Valid range: x >= 0. Maximum error of the sum of both parts: about 0.1 ULP of the high part, but 1 ULP
    for erf above 1/2. A derivative below 2**lowest counts as that.
    """
    vanishes = x > ERFC_ZERO
    a = select(vanishes, 0, x)
    bounded = at_least_tiny(a)
    n, tail = erfc_parts(bounded)
    is_small = a < 0.5
    larger = select(is_small, a, 1)
    smaller = select(
        is_small,
        a * polynomial(bounded * bounded, ERF),
        -scale(tail, select(n < lowest, lowest, n)),
    )
    erf, erf_low = fast_two_sum(larger, smaller)
    n, p, p_low = _exp_of_minus_square(bounded)
    power = scale(1, select(n < lowest, lowest, n))
    gaussian = fma(power, p, power)
    gaussian_low = fma(power, p, power - gaussian) + power * p_low
    constant = (_TWO_OVER_SQRT_PI, _TWO_OVER_SQRT_PI_LOW)
    slope, slope_low = double_double_product((gaussian, gaussian_low), constant)
    # The low part of x is small enough for a linear correction.
    erf_low = fma(slope, x_low, erf_low)
    slope_low = fma(-2 * a * slope, x_low, slope_low)
    return (
        select_double_double(vanishes, (1, 0), (erf, erf_low)),
        select_double_double(vanishes, (0, 0), (slope, slope_low)),
    )
