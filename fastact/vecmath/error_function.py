"""The error function, the normal distribution, and the Gaussian error linear unit.

The tail of both is a Gaussian times a slowly varying function, approximated after M. M. Shepherd and
J. G. Laframboise, "Chebyshev Approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity",
Mathematics of Computation 36 (1981): a polynomial in u = 1/2 - K / (a + K), which maps the half line to
an interval, divided by a + K. The square in the Gaussian is a double-double: its rounding alone would
cost dozens of ULP of the result in float32, and hundreds in float64.
"""

from __future__ import annotations

from fastact.simd import (
    PerDtype,
    Vector,
    any_above,
    bits,
    copysign,
    fma,
    polynomial,
    scale,
    select,
)
from fastact.vecmath import coefficients
from fastact.vecmath.double_double import (
    DoubleDouble,
    double_double_product,
    fast_two_sum,
    select_double_double,
)
from fastact.vecmath.exponential import exp_parts, exp_parts_of_sum
from fastact.vecmath.scaling import at_least_tiny, bound, ldexp


def _split(
    table: dict[str, tuple[float, ...]],
) -> tuple[PerDtype[float], PerDtype[tuple[float, ...]]]:
    """Return the lowest coefficient, and the others."""
    first = PerDtype(**{dtype: values[0] for dtype, values in table.items()})
    return first, PerDtype(**{dtype: values[1:] for dtype, values in table.items()})


ERF = PerDtype(**coefficients.ERF)
_ERFC_FIRST, _ERFC_HIGHER = _split(coefficients.ERFC)
_ERFC_K = PerDtype(**coefficients.ERFC_K)
ERFC_ZERO = PerDtype(**coefficients.ERFC_ZERO)
_NORMAL_FIRST, _NORMAL_HIGHER = _split(coefficients.NORMAL)
_NORMAL_K = PerDtype(**coefficients.NORMAL_K)
_NORMAL_ZERO = PerDtype(**coefficients.NORMAL_ZERO)
_DENSITY_HIGH = PerDtype(**coefficients.DENSITY_HIGH)
_DENSITY_LOW = PerDtype(**coefficients.DENSITY_LOW)

_TWO_OVER_SQRT_PI = PerDtype(float32=1.128379225730896, float64=1.1283791670955126)
_TWO_OVER_SQRT_PI_LOW = PerDtype(float32=-5.8635382771399236e-08, float64=1.533545961316588e-17)

# How many times its relative error t = 1 / (a + K) makes that of Q(u) t, give or take a fifth.
_SENSITIVITY = 1.4

# Up to these, exponentials of squares are not next to the subnormal numbers.
_ERFC_NEAR = PerDtype(float32=9.0, float64=26.25)
_BITS_OF_ERFC_NEAR = PerDtype(float32=0x41100000, float64=0x403A400000000000)
_NORMAL_NEAR = PerDtype(float32=12.625, float64=37.0)
_BITS_OF_NORMAL_NEAR = PerDtype(float32=0x414A0000, float64=0x4042800000000000)

# erf rounds to 1 from here on.
_ERF_ONE = PerDtype(float32=4.0, float64=6.0)


def _tail(
    a: Vector, p: Vector, k: Vector, first: Vector, higher: PerDtype[tuple[float, ...]]
) -> Vector:
    """Compute ``(1 + p) Q(u) / (a + k)`` with ``u = 1/2 - k / (a + k)``, where abs(p) < 1/2."""
    d = a + k
    t = 1 / d
    # The relative error of t; a - (d - k) is exact because k has few bits.
    error = fma(-t, a - (d - k), fma(-d, t, 1))
    u = fma(-t, k, 0.5)
    slope = polynomial(u, higher)
    q = fma(u, slope, first)
    y = t * q
    y_low = fma(t, fma(u, slope, first - q), fma(t, q, -y))
    change = fma(y * _SENSITIVITY, error, y_low)
    return y + fma(y, p, fma(change, p, change))


def _erfc_of_parts(a: Vector, p: Vector) -> Vector:
    """Return ``erfc(a) / 2**n``, where ``exp(-a**2) = 2**n (1 + p)``."""
    return _tail(a, p, _ERFC_K, _ERFC_FIRST, _ERFC_HIGHER)


def _normal_of_parts(a: Vector, p: Vector) -> tuple[Vector, Vector]:
    """Return ``Phi(-a) / 2**n`` and ``phi(a) / 2**n``, where ``exp(-a**2 / 2) = 2**n (1 + p)``.

    Phi is the distribution function of the standard normal distribution, and phi its density.
    """
    density = _DENSITY_HIGH + fma(_DENSITY_HIGH, p, _DENSITY_LOW)
    return _tail(a, p, _NORMAL_K, _NORMAL_FIRST, _NORMAL_HIGHER), density


def _gelu_of_parts(a: Vector, factor: Vector, p: Vector) -> tuple[Vector, Vector]:
    """Return ``factor Phi(-a)`` and ``Phi(-a) - a phi(a)`` over ``2**n``, likewise."""
    y, density = _normal_of_parts(a, p)
    return factor * y, fma(-a, density, y)


def _half_square(a: Vector) -> DoubleDouble:
    """Return ``-a**2 / 2``."""
    half = -0.5 * a
    square = half * a
    return square, fma(half, a, -square)


def _minus_square(a: Vector) -> DoubleDouble:
    square = -a * a
    return square, fma(-a, a, -square)


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
    power, p = exp_parts_of_sum(*_minus_square(bounded))
    small = fma(a, polynomial(bounded * bounded, ERF), a)
    return copysign(select(a < 0.5, small, fma(-power, _erfc_of_parts(bounded, p), 1)), x)


def erfc(x: Vector) -> Vector:
    """Compute 1 - erf(x), without cancellation for large x.

    Valid range: all numbers. Maximum error: 2.0 ULP in float32, 2.5 ULP in float64.

    Examples
    --------
    >>> fa.math.erfc([-1.0, 0.0, 1.0])
    array([1.84270079, 1.        , 0.15729921])
    """
    size = abs(x)
    a = at_least_tiny(select(size > _ERFC_NEAR, _ERFC_NEAR, size))
    power, p = exp_parts_of_sum(*_minus_square(a))
    tail = _erfc_of_parts(a, p) * power
    if any_above(bits(size), _BITS_OF_ERFC_NEAR):
        far = bound(size, _ERFC_NEAR, ERFC_ZERO)
        n, p, _ = exp_parts(*_minus_square(far))
        tail = select(size > _ERFC_NEAR, ldexp(_erfc_of_parts(far, p), n), tail)
    return select(x < 0, 2 - tail, tail)


def normal_cdf_and_pdf(x: Vector) -> tuple[Vector, Vector]:
    """Return the standard normal distribution's CDF and PDF, neither with cancellation.

    Valid range: all numbers. Maximum error: 2.0 ULP; PDF 1.5 ULP.
    """
    size = abs(x)
    a = at_least_tiny(select(size > _NORMAL_NEAR, _NORMAL_NEAR, size))
    power, p = exp_parts_of_sum(*_half_square(a))
    y, density = _normal_of_parts(a, p)
    tail, density = y * power, density * power
    if any_above(bits(size), _BITS_OF_NORMAL_NEAR):
        is_far, far = size > _NORMAL_NEAR, bound(size, _NORMAL_NEAR, _NORMAL_ZERO)
        n, p, _ = exp_parts(*_half_square(far))
        y, far_density = _normal_of_parts(far, p)
        tail = select(is_far, ldexp(y, n), tail)
        density = select(is_far, ldexp(far_density, n), density)
    return select(x < 0, tail, 1 - tail), density


def gelu_and_derivative(x: Vector) -> tuple[Vector, Vector]:
    """Return x Phi(x) and its derivative Phi(x) + x phi(x), for the normal CDF Phi and PDF phi.

    Valid range: all numbers. Maximum error: 2.4 ULP; derivative 3.0 ULP, except near its root at
    -0.7517915, where the absolute error is at most the machine epsilon. Both tend to zero from below on
    the left.
    """
    size = abs(x)
    near = select(size > _NORMAL_NEAR, _NORMAL_NEAR, size)
    a = at_least_tiny(near)
    power, p = exp_parts_of_sum(*_half_square(a))
    product, slope = _gelu_of_parts(a, near, p)
    product, slope = product * power, slope * power
    if any_above(bits(size), _BITS_OF_NORMAL_NEAR):
        # Multiply before scaling by the power of two, so that subnormal results are rounded once.
        is_far, far = size > _NORMAL_NEAR, bound(size, _NORMAL_NEAR, _NORMAL_ZERO)
        n, p, _ = exp_parts(*_half_square(far))
        far_product, far_slope = _gelu_of_parts(far, far, p)
        product = select(is_far, ldexp(far_product, n), product)
        slope = select(is_far, ldexp(far_slope, n), slope)
    return select(x < 0, -0.0, x) - product, select(x < 0, slope, 1 - slope)


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
    n, p, p_low = exp_parts(*_minus_square(bounded))
    tail = _erfc_of_parts(bounded, p)
    is_small = a < 0.5
    larger = select(is_small, a, 1)
    smaller = select(
        is_small,
        a * polynomial(bounded * bounded, ERF),
        -scale(tail, select(n < lowest, lowest, n)),
    )
    erf, erf_low = fast_two_sum(larger, smaller)
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
