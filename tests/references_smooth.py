"""The formulas of the smooth activations, each twice; see `reference.Reference`.

On arrays, arguments of exponentials come in two parts: the rounding error of an argument of 700, even
in longdouble, is a relative error of the result that is not small against float64's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from reference import Array, Number, Pair, Reference, context

INFINITY = math.inf

# (value, derivative) at an infinity.
ZERO, LINE = (0.0, 0.0), (INFINITY, 1.0)
ENDS = (ZERO, LINE)
BOTH_LINES = ((-INFINITY, 1.0), LINE)

# --- Arithmetic in two parts --------------------------------------------------------------------


def _sum(x: Array, y: Array) -> Pair:
    """Return x + y rounded, and the rounding error, by Knuth's method."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _halves(x: Array) -> Pair:
    """Split a number in two, each with at most half of the bits of a longdouble."""
    shifted = (2.0**32 + 1) * x
    high = shifted - (shifted - x)
    return high, x - high


def _product(x: Array, y: Array) -> Pair:
    """Return x y rounded, and the rounding error, by Dekker's method."""
    product = x * y
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    lost = (x_high * y_high - product) + x_high * y_low + x_low * y_high + x_low * y_low
    return product, np.where(np.isfinite(lost), lost, 0)


def _quotient(x: Array, y: Array) -> Pair:
    """Return x / y rounded, and the rounding error."""
    quotient = x / y
    product, lost = _product(quotient, y)
    rest = ((x - product) - lost) / y
    return quotient, np.where(np.isfinite(rest), rest, 0)


def _constant(number: Number, like: Array) -> Pair:
    """Return a number of mpmath's as the sum of two of the type of `like`."""
    high = like.dtype.type(context.nstr(number, 40))
    rest = number - context.convert(high)
    return high, like.dtype.type(context.nstr(rest, 40))


def _times(x: Array, y: Array) -> Array:
    """Multiply x by what vanishes faster than x grows."""
    return np.where(y == 0, np.copysign(0, x), x * y)


# --- Functions that NumPy does not have ---------------------------------------------------------


def _logistic(x: Array, lost: Any = 0.0) -> Array:
    """Return the logistic function of x + lost."""
    power = np.exp(-np.abs(x)) * np.where(x < 0, 1 + lost, 1 - lost)
    return np.where(x < 0, power, 1) / (1 + power)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _erf_near_zero(a: Array) -> Array:
    """Return erf for 0 <= a <= 1, by the series whose terms are all positive."""
    term, total = a, a
    for k in range(1, 40):
        term = term * (2 * a * a / (2 * k + 1))
        total = total + term
    return 2 / np.sqrt(_constant(context.pi, a)[0]) * np.exp(-a * a) * total


def _scaled_erfc(a: Array) -> Array:
    """Return exp(a**2) erfc(a) for a >= 0, by the series or Laplace's continued fraction."""
    near = np.minimum(a, 1)
    result = np.exp(near * near) * (1 - _erf_near_zero(near))
    for low, high, terms in ((1.0, 4.0, 280), (4.0, INFINITY, 40)):
        here = (a > low) & (a <= high)
        part = a[here]
        fraction = part
        for k in range(terms, 0, -1):
            fraction = part + 0.5 * k / fraction
        result[here] = 1 / (np.sqrt(_constant(context.pi, a)[0]) * fraction)
    return np.where(np.isnan(a), a, result)


def _erf(a: Array) -> Array:
    """Return erf for a >= 0."""
    return np.where(
        a < 1, _erf_near_zero(np.minimum(a, 1)), 1 - _times(_scaled_erfc(a), np.exp(-a * a))
    )


# --- Formulas -----------------------------------------------------------------------------------


def _exact_logistic(x: Number) -> Number:
    return 1 / (1 + context.exp(-x))


def _exact_sigmoid(x: Number) -> Pair:
    return 1 / (1 + context.exp(-x)), (context.sech(x / 2) / 2) ** 2


def _sigmoid(x: Array) -> Pair:
    return 1 / (1 + np.exp(-x)), (0.5 / np.cosh(x / 2)) ** 2


def _exact_tanh(x: Number) -> Pair:
    return context.tanh(x), context.sech(x) ** 2


def _tanh(x: Array) -> Pair:
    return np.tanh(x), (1 / np.cosh(x)) ** 2


def _exact_penalized_tanh(x: Number) -> Pair:
    value, derivative = _exact_tanh(x)
    return (value, derivative) if x > 0 else (value / 4, derivative / 4)


def _penalized_tanh(x: Array) -> Pair:
    value, derivative = _tanh(x)
    penalty = np.where(x > 0, 1, 0.25).astype(x.dtype)
    return penalty * value, penalty * derivative


def _exact_tanhshrink(x: Number) -> Pair:
    if abs(x) < context.mpf("1e-10"):
        value = x**3 / 3 - 2 * x**5 / 15 + 17 * x**7 / 315
    else:
        with context.extradps(30):
            value = x - context.tanh(x)
    return value, context.tanh(x) ** 2


def _tanhshrink(x: Array) -> Pair:
    # J. Lambert: tanh(x) = x / (1 + k), k = x**2 / (3 + x**2 / (5 + ...)).
    near = np.clip(x, -2, 2)
    fraction = np.full_like(x, 61)
    for odd in range(59, 1, -2):
        fraction = odd + near * near / fraction
    k = near * near / fraction
    value = np.where(np.abs(x) > 2, x - np.tanh(x), near * (k / (1 + k)))
    return value, np.tanh(x) ** 2


def _exact_exponential(x: Number) -> Pair:
    return context.exp(x), context.exp(x)


def _exponential(x: Array) -> Pair:
    return np.exp(x), np.exp(x)


def _exact_selu(x: Number, alpha: float, scale: float) -> Pair:
    factor = context.mpf(scale)
    if x > 0:
        return factor * x, factor
    return factor * alpha * context.expm1(x), factor * alpha * context.exp(x)


def _selu(x: Array, alpha: float, scale: float) -> Pair:
    factor = x.dtype.type(scale)
    return (
        factor * np.where(x > 0, x, alpha * np.expm1(x)),
        factor * np.where(x > 0, 1, alpha * np.exp(x)),
    )


def _exact_celu(x: Number, alpha: float) -> Pair:
    if x > 0:
        return x, context.mpf(1)
    return alpha * context.expm1(x / alpha), context.exp(x / alpha)


def _celu(x: Array, alpha: float) -> Pair:
    quotient, lost = _quotient(np.minimum(x, 0), np.full_like(x, alpha))
    power = np.exp(quotient)
    value = alpha * (np.expm1(quotient) + power * lost)
    one = np.ones_like(x)
    return np.where(x > 0, x, value), np.where(x > 0, one, power + power * lost)


def _exact_gaussian(x: Number) -> Pair:
    value = context.exp(-x * x)
    return value, -2 * x * value


def _gaussian(x: Array) -> Pair:
    square, lost = _product(x, x)
    value = np.exp(-square) * (1 - np.minimum(lost, 1))
    return value, -2 * _times(x, value)


def _exact_softplus(x: Number, beta: float) -> Pair:
    return context.log1p(context.exp(beta * x)) / beta, _exact_logistic(beta * x)


def _softplus_with_beta(x: Array, beta: float) -> Pair:
    z, lost = _product(x, np.full_like(x, beta))
    rest = np.exp(-np.abs(z)) * np.where(z < 0, 1 + lost, 1 - lost)
    value = np.where(z > 0, x, 0) + np.log1p(rest) / beta
    return np.where(np.isnan(x), x, value), _logistic(z, lost)


def _exact_logsigmoid(x: Number) -> Pair:
    return -context.log1p(context.exp(-x)), _exact_logistic(-x)


def _logsigmoid(x: Array) -> Pair:
    return -_softplus(-x), _logistic(-x)


def _exact_log1mexp(x: Number) -> Pair:
    if x <= 0:
        nan = context.mpf("nan")
        return (nan, nan) if x < 0 else (context.mpf("-inf"), context.mpf("inf"))
    power = context.exp(-x)
    value = context.log1p(-power) if x > 1 else context.log(-context.expm1(-x))
    return value, power / -context.expm1(-x)


def _log1mexp(x: Array) -> Pair:
    power, rest = np.exp(-x), -np.expm1(-np.abs(x))
    value = np.where(x > 1, np.log1p(-power), np.log(rest))
    return np.where(x < 0, np.nan, value), np.where(x < 0, np.nan, power / rest)


def _exact_silu(x: Number, beta: float) -> Pair:
    z = beta * x
    gate = _exact_logistic(z)
    return x * gate, gate * (1 + z * _exact_logistic(-z))


def _silu(x: Array, beta: float) -> Pair:
    z, lost = _product(x, np.full_like(x, beta)) if beta else (np.where(np.isnan(x), x, 0), 0.0)
    gate = _logistic(z, lost)
    return _times(x, gate), _times(1 + _times(z, _logistic(-z, -lost)), gate)


def _limits_of_silu(beta: float) -> tuple[Pair, Pair]:
    if beta == 0:
        return (-INFINITY, 0.5), (INFINITY, 0.5)
    return ENDS if beta > 0 else ((-INFINITY, 1.0), ZERO)


_QUICK = context.mpf("1.702")


def _exact_quick_gelu(x: Number) -> Pair:
    return _exact_silu(x, _QUICK)


def _quick_gelu(x: Array) -> Pair:
    high, low = _constant(_QUICK, x)
    z, lost = _product(x, np.full_like(x, high))
    lost = np.where(np.isfinite(x), lost + low * x, 0)
    gate = _logistic(z, lost)
    return _times(x, gate), _times(1 + _times(z, _logistic(-z, -lost)), gate)


_LINEAR = 2 * context.sqrt(2 / context.pi)
_CUBIC = _LINEAR * context.mpf("0.044715")


def _exact_gelu_tanh(x: Number) -> Pair:
    if abs(x) > 1000:  # to more digits than any number here has
        return (x, context.mpf(1)) if x > 0 else (context.mpf(0), context.mpf(0))
    w = _LINEAR * x + _CUBIC * x**3
    gate = _exact_logistic(w)
    return x * gate, gate * (1 + (w + 2 * _CUBIC * x**3) * _exact_logistic(-w))


def _gelu_tanh(x: Array) -> Pair:
    near = np.clip(x, -50, 50)
    (linear, linear_low), (cubic, cubic_low) = _constant(_LINEAR, x), _constant(_CUBIC, x)
    square, square_lost = _product(near, near)
    bend, bend_lost = _product(square, np.full_like(x, cubic))
    slope, slope_lost = _sum(bend, np.full_like(x, linear))
    slope_lost = slope_lost + bend_lost + cubic * square_lost + cubic_low * square + linear_low
    w, lost = _product(near, slope)
    lost = lost + near * slope_lost
    gate, growth = _logistic(w, lost), near * (linear + 3 * bend)
    return _times(x, gate), gate * (1 + growth * _logistic(-w, -lost))


def _exact_gelu(x: Number) -> Pair:
    if abs(x) > 1000:
        return (x, context.mpf(1)) if x > 0 else (context.mpf(0), context.mpf(0))
    distribution = context.erfc(-x / context.sqrt(2)) / 2
    density = context.exp(-x * x / 2) / context.sqrt(2 * context.pi)
    return x * distribution, distribution + x * density


def _gelu(x: Array) -> Pair:
    near = np.clip(x, -1000, 1000)
    square, lost = _product(near, near)
    power = np.exp(-square / 2) * (1 - lost / 2)
    density = power / np.sqrt(2 * _constant(context.pi, x)[0])
    tail = _scaled_erfc(np.abs(near) / np.sqrt(x.dtype.type(2))) * power / 2
    distribution = np.where(x < 0, tail, 1 - tail)
    return _times(x, distribution), distribution + near * density


def _exact_mish(x: Number) -> Pair:
    softplus = context.log1p(context.exp(x))
    gate = context.tanh(softplus)
    return x * gate, gate + x * _exact_logistic(x) * context.sech(softplus) ** 2


def _mish(x: Array) -> Pair:
    softplus = _softplus(x)
    gate = np.tanh(softplus)
    return _times(x, gate), gate + _times(x, _logistic(x) / np.cosh(softplus) ** 2)


def _exact_serf(x: Number) -> Pair:
    if x > 1000:
        return x, context.mpf(1)
    softplus = context.log1p(context.exp(x))
    gate = context.erf(softplus)
    slope = 2 / context.sqrt(context.pi) * context.exp(-(softplus**2)) * _exact_logistic(x)
    return x * gate, gate + x * slope


def _serf(x: Array) -> Pair:
    softplus = _softplus(x)
    gate = _erf(softplus)
    factor = 2 / np.sqrt(_constant(context.pi, x)[0])
    slope = factor * np.exp(-(softplus**2)) * _logistic(x)
    return _times(x, gate), gate + _times(x, slope)


def _exact_logish(x: Number) -> Pair:
    opening = _exact_logistic(x)
    gate = context.log1p(opening)
    return x * gate, gate + x * opening * _exact_logistic(-x) / (1 + opening)


def _logish(x: Array) -> Pair:
    opening = _logistic(x)
    gate = np.log1p(opening)
    return _times(x, gate), gate + _times(x, opening * _logistic(-x) / (1 + opening))


def _exact_lisht(x: Number) -> Pair:
    return x * context.tanh(x), context.tanh(x) + x * context.sech(x) ** 2


def _lisht(x: Array) -> Pair:
    return x * np.tanh(x), np.tanh(x) + _times(x, 1 / np.cosh(x) ** 2)


def _exact_sine(x: Number) -> Pair:
    return context.sin(x), context.cos(x)


def _sine(x: Array) -> Pair:
    return np.sin(x), np.cos(x)


def _exact_snake(x: Number, a: float) -> Pair:
    if a == 0:
        return x, context.mpf(1)
    sine = context.sin(a * x)
    return x + sine**2 / a, (sine + context.cos(a * x)) ** 2


def _snake(x: Array, a: float) -> Pair:
    if a == 0:
        return x, np.where(np.isnan(x), x, 1)
    z, lost = _product(x, np.full_like(x, a))
    sine = np.sin(z) * np.cos(lost) + np.cos(z) * np.sin(lost)
    cosine = np.cos(z) * np.cos(lost) - np.sin(z) * np.sin(lost)
    return np.where(np.isinf(x), x, x + sine**2 / a), (sine + cosine) ** 2


def _near(root: float, factor: str | None = None) -> Callable[..., Any]:
    """Return what tells whether x, times the parameter of this name, is near a root."""

    def near_root(x: Array, **parameters: float) -> Any:
        return np.abs(x * (parameters[factor] if factor else 1) - root) <= 0.4

    return near_root


def _near_root_of_snake(x: Array, a: float) -> Any:
    """Tell whether a x is near -pi / 4, up to a multiple of pi."""
    return _snake(x.astype(np.longdouble), a)[1] <= 2 * math.sin(0.4) ** 2


REFERENCES: Mapping[str, Reference] = {
    "sigmoid": Reference(
        exact=_exact_sigmoid,
        on_arrays=_sigmoid,
        limits=lambda: (ZERO, (1.0, 0.0)),
        rises=True,
    ),
    "tanh": Reference(
        exact=_exact_tanh,
        on_arrays=_tanh,
        limits=lambda: ((-1.0, 0.0), (1.0, 0.0)),
        rises=True,
    ),
    "penalized_tanh": Reference(
        exact=_exact_penalized_tanh,
        on_arrays=_penalized_tanh,
        limits=lambda: ((-0.25, 0.0), (1.0, 0.0)),
        kinks=lambda: (0.0,),
        rises=True,
    ),
    "tanhshrink": Reference(
        exact=_exact_tanhshrink, on_arrays=_tanhshrink, limits=lambda: BOTH_LINES
    ),
    "exponential": Reference(
        exact=_exact_exponential,
        on_arrays=_exponential,
        limits=lambda: (ZERO, (INFINITY, INFINITY)),
        rises=True,
    ),
    "selu": Reference(
        exact=_exact_selu,
        on_arrays=_selu,
        limits=lambda alpha, scale: ((-scale * alpha, 0.0), (INFINITY, scale)),
        defaults={"alpha": 1.6732632423543772, "scale": 1.0507009873554805},
        settings=({}, {"alpha": 1.0, "scale": 1.0}, {"alpha": 0.3, "scale": 2.5}),
        is_scaled=True,
        kinks=lambda **_: (0.0,),
        rises=True,
    ),
    "celu": Reference(
        exact=_exact_celu,
        on_arrays=_celu,
        limits=lambda alpha: ((-alpha, 0.0), LINE),
        defaults={"alpha": 1.0},
        settings=({}, *({"alpha": alpha} for alpha in (0.3, 1.7, 40.0))),
        is_scaled=True,
        rises=True,
    ),
    "gaussian": Reference(exact=_exact_gaussian, on_arrays=_gaussian, limits=lambda: (ZERO, ZERO)),
    "softplus": Reference(
        exact=_exact_softplus,
        on_arrays=_softplus_with_beta,
        limits=lambda beta: ENDS if beta > 0 else ((-INFINITY, 1.0), ZERO),
        defaults={"beta": 1.0},
        settings=({}, *({"beta": beta} for beta in (0.3, 1.7, 20.0, -1.0))),
        is_scaled=True,
    ),
    "logsigmoid": Reference(
        exact=_exact_logsigmoid,
        on_arrays=_logsigmoid,
        limits=lambda: ((-INFINITY, 1.0), ZERO),
    ),
    "log1mexp": Reference(
        exact=_exact_log1mexp,
        on_arrays=_log1mexp,
        limits=lambda: ((math.nan, math.nan), ZERO),
    ),
    "silu": Reference(
        exact=_exact_silu,
        on_arrays=_silu,
        limits=_limits_of_silu,
        defaults={"beta": 1.0},
        settings=({}, *({"beta": beta} for beta in (0.3, 1.7, 0.0, -1.0))),
        near_root=_near(-1.2784645427610738, "beta"),
    ),
    "quick_gelu": Reference(
        exact=_exact_quick_gelu,
        on_arrays=_quick_gelu,
        limits=lambda: ENDS,
        near_root=_near(-0.7511542554412889),
    ),
    "gelu_tanh": Reference(
        exact=_exact_gelu_tanh,
        on_arrays=_gelu_tanh,
        limits=lambda: ENDS,
        near_root=_near(-0.7524614220710163),
    ),
    "gelu": Reference(
        exact=_exact_gelu,
        on_arrays=_gelu,
        limits=lambda: ENDS,
        near_root=_near(-0.7517915246935645),
    ),
    "mish": Reference(
        exact=_exact_mish,
        on_arrays=_mish,
        limits=lambda: ENDS,
        near_root=_near(-1.1924312145154952),
    ),
    "serf": Reference(
        exact=_exact_serf,
        on_arrays=_serf,
        limits=lambda: ENDS,
        near_root=_near(-1.193059968928188),
    ),
    "logish": Reference(
        exact=_exact_logish,
        on_arrays=_logish,
        limits=lambda: (ZERO, (INFINITY, math.log(2))),
        near_root=_near(-1.3724541370256921),
    ),
    "lisht": Reference(
        exact=_exact_lisht,
        on_arrays=_lisht,
        limits=lambda: ((INFINITY, -1.0), LINE),
    ),
    "sine": Reference(
        exact=_exact_sine,
        on_arrays=_sine,
        limits=lambda: ((math.nan, math.nan),) * 2,
    ),
    "snake": Reference(
        exact=_exact_snake,
        on_arrays=_snake,
        limits=lambda a: ((-INFINITY, math.nan), (INFINITY, math.nan)) if a else BOTH_LINES,
        defaults={"a": 1.0},
        settings=({}, *({"a": a} for a in (0.5, 0.0))),
        near_root=_near_root_of_snake,
    ),
}
