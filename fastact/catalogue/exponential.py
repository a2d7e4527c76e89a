"""Functions of one exponential: linear units that saturate on the left, the softplus and its relatives."""

from __future__ import annotations

import math

from fastact.catalogue.definition import NOT_ZERO, Context, Number, Pieces, define
from fastact.simd import Vector, fma, select
from fastact.simd.formats import SMALLEST_NORMAL
from fastact.vecmath import exp, expm1, expm1_and_exp, softplus_and_derivative
from fastact.vecmath import log1mexp as log_of_one_minus_exp
from fastact.vecmath.double_double import two_product
from fastact.vecmath.exponential import NUDGE, expm1_and_exp_parts, reciprocal_of_expm1, tail
from fastact.vecmath.logarithm import softplus_parts_of_minus_abs
from fastact.vecmath.products import exp_times, finite, finite_two_product
from fastact.vecmath.scaling import (
    TINY,
    at_least_tiny,
    away_from_zero,
    dropped,
    power_of_two,
)


def _selu_parts(x: Vector, alpha: Vector, scale: Vector) -> tuple[Vector, Vector]:
    """Return the value, and scale * alpha * exp(x) for x <= 0."""
    left, factor = select(x > 0, 0, x), scale * alpha
    value, _ = expm1_and_exp(left)
    # At -0 the left branch would lose the sign: the compiler turns the clamp into a minimum.
    return select(x >= 0, scale * x, factor * value), exp_times(left, 0, factor)


def _selu_from_output(y: Vector, alpha: Vector, scale: Vector) -> Vector:
    near = select(abs(y) < SMALLEST_NORMAL, 0, y)
    return select(y > 0, scale, fma(scale, alpha, near))


def _celu_from_output(y: Vector, alpha: Vector) -> Vector:
    return select(y > 0, 1, (y + alpha) / alpha)


def _softplus_from_output(y: Vector, beta: Vector) -> Vector:
    return -expm1(-beta * y)


def _logsigmoid_from_output(y: Vector) -> Vector:
    return -expm1(y)


def _exponential_from_output(y: Vector) -> Vector:
    return y


def _exact_selu(mp: Context, x: Number, alpha: Number, scale: Number) -> Pieces:
    factor = scale * alpha
    return [(x > 0, scale * x, scale), (True, factor * mp.expm1(x), factor * mp.exp(x))]


def _exact_celu(mp: Context, x: Number, alpha: Number) -> Pieces:
    return [(x > 0, x, 1), (True, alpha * mp.expm1(x / alpha), mp.exp(x / alpha))]


def _exact_softplus(mp: Context, x: Number, beta: Number) -> Pieces:
    z = beta * x
    rest, gate = mp.log1p(mp.exp(-abs(z))) / beta, 1 / (1 + mp.exp(-z))
    return [(z > 0, x + rest, gate), (True, rest, gate)]


def _exact_logsigmoid(mp: Context, x: Number) -> Pieces:
    rest, gate = mp.log1p(mp.exp(-abs(x))), 1 / (1 + mp.exp(x))
    return [(x > 0, -rest, gate), (True, x - rest, gate)]


def _exact_log1mexp(mp: Context, x: Number) -> Pieces:
    yield x < 0, mp.nan, mp.nan
    yield x == 0, -mp.inf, mp.inf
    power, complement = mp.exp(-x), -mp.expm1(-x)
    yield x > 1, mp.log1p(-power), power / complement
    yield True, mp.log(complement), power / complement


@define(
    formula=r"e^x",
    derivative=r"e^x",
    exact=lambda mp, x: (mp.exp(x), mp.exp(x)),
    limits=("0", "inf"),
    errors=(1.1, 1.1),
    is_monotone=True,
    from_output=_exponential_from_output,
    aliases=("exp",),
    elsewhere={"keras": "exponential", "onnx": "Exp", "chainer": "exp"},
    good_for="the output of a Poisson regression, or a scale that must be positive",
    not_for="hidden layers: the gradient explodes; for scales that may be large, softplus is safer",
    reference="J. Nelder, R. Wedderburn, Generalized Linear Models, Journal of the Royal Statistical Society A 135 (1972), 370-384: the inverse of the logarithmic link.",
)
def exponential(x: Vector) -> tuple[Vector, Vector]:
    """Exponential: the output of a net that predicts a rate or a scale.

    One exponential. The gradient is the value: it vanishes on the left and explodes on the right.

    Examples
    --------
    >>> fa.exponential([-1.0, 0.0, 1.0])
    array([0.36787944, 1.        , 2.71828183])
    >>> fa.exponential.derivative([-1.0, 0.0, 1.0])
    array([0.36787944, 1.        , 2.71828183])
    """
    value = exp(x)
    return value, value


@define(
    formula=r"\begin{cases} \lambda x & x > 0 \\ \lambda \alpha (e^x - 1) & x \le 0 \end{cases}, \quad \lambda = \text{scale}",
    derivative=r"\begin{cases} \lambda & x > 0 \\ \lambda \alpha e^x & x \le 0 \end{cases}",
    exact=_exact_selu,
    kinks={"0": "scale * alpha"},
    limits=("-scale * alpha", "inf"),
    errors=(1.9, 1.2),
    parameters_are={
        "alpha": "minus the limit on the left, before scaling",
        "scale": "slope on the right",
    },
    samples=({"alpha": 1.0, "scale": 1.0}, {"alpha": 0.3, "scale": 2.5}),
    is_scaled=True,
    is_monotone=True,
    from_output=_selu_from_output,
    from_output_needs=("alpha", "scale"),
    elsewhere={
        "pytorch": "selu",
        "jax": "selu",
        "keras": "selu",
        "onnx": "Selu",
        "chainer": "selu",
        "tensorflow": "selu",
    },
    good_for="deep fully connected nets without normalization, with weights of variance 1/n and alpha dropout",
    not_for="nets with batch or layer normalization, or other initial weights: the property is lost and only the cost remains",
    reference="G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-Normalizing Neural Networks, NIPS 2017.",
)
def selu(
    x: Vector,
    alpha: Vector = 1.6732632423543772848170429916717,
    scale: Vector = 1.0507009873554804934193349852946,
) -> tuple[Vector, Vector]:
    """Scaled exponential linear unit: keeps activations at mean 0 and variance 1 through deep nets.

    One exponential. The gradient vanishes far on the left only.

    Examples
    --------
    >>> fa.selu([-1.0, 0.0, 1.0])
    array([-1.11133074,  0.        ,  1.05070099])
    >>> fa.selu.derivative([-1.0, 0.0, 1.0])
    array([0.6467686 , 1.75809934, 1.05070099])
    """
    value, power = _selu_parts(x, alpha, scale)
    return value, select(x > 0, scale, power)


@selu.convention("tensorflow", kinks={"0": "scale"})
def _selu_tensorflow(
    x: Vector,
    alpha: Vector = 1.6732632423543772848170429916717,
    scale: Vector = 1.0507009873554804934193349852946,
) -> tuple[Vector, Vector]:
    value, power = _selu_parts(x, alpha, scale)
    return value, select(x >= 0, scale, power)


@define(
    formula=r"\begin{cases} x & x > 0 \\ \alpha (e^{x / \alpha} - 1) & x \le 0 \end{cases}",
    derivative=r"\begin{cases} 1 & x > 0 \\ e^{x / \alpha} & x \le 0 \end{cases}",
    exact=_exact_celu,
    limits=("-alpha", "inf"),
    errors=(1.1, 1.1),
    parameters_are={"alpha": "minus the limit on the left"},
    domains={"alpha": NOT_ZERO},
    samples=tuple({"alpha": alpha} for alpha in (0.3, 1.7, 40.0)),
    is_scaled=True,
    is_monotone=True,
    from_output=_celu_from_output,
    from_output_needs=("alpha",),
    elsewhere={"pytorch": "celu", "jax": "celu", "keras": "celu", "onnx": "Celu"},
    good_for="hidden units where elu with alpha other than 1 would have a kink",
    not_for="inference where every exponential counts",
    reference="J. Barron, Continuously Differentiable Exponential Linear Units, arXiv:1704.07483 (2017).",
)
def celu(x: Vector, alpha: Vector = 1.0) -> tuple[Vector, Vector]:
    """Continuously differentiable exponential linear unit: elu without a kink, whatever alpha is.

    One exponential. The gradient vanishes far on the left only.

    Examples
    --------
    >>> fa.celu([-1.0, 0.0, 1.0])
    array([-0.63212056,  0.        ,  1.        ])
    >>> fa.celu.derivative([-1.0, 0.0, 1.0])
    array([0.36787944, 1.        , 1.        ])
    """
    left = select(x > 0, 0, x)
    quotient = left / alpha
    is_x = abs(quotient) < TINY
    rest = fma(-select(is_x, 0, quotient), alpha, select(is_x, 0, left))
    low = select(abs(quotient) > 1000, 0, rest / alpha)
    value, n, q = expm1_and_exp_parts(away_from_zero(quotient))
    factor = 1 + q
    value = fma(low, factor * power_of_two(n), value)
    power = dropped(fma(low, factor, factor) * power_of_two(n), n)
    # Near 0 the value is x; the quotient may have lost digits of it to underflow.
    return select(is_x, x, alpha * value), select(x > 0, 1, power)


@define(
    formula=r"e^{-x^2}",
    derivative=r"-2 x e^{-x^2}",
    exact=lambda mp, x: (mp.exp(-x * x), -2 * x * mp.exp(-x * x)),
    limits=("0", "0"),
    errors=(1.3, 1.4),
    good_for="radial basis functions, and coordinate nets without position encodings",
    not_for="deep hidden layers: the gradient vanishes on both sides and at 0",
    reference="D. Broomhead, D. Lowe, Multivariable Functional Interpolation and Adaptive Networks, Complex Systems 2 (1988), 321-355.",
)
def gaussian(x: Vector) -> tuple[Vector, Vector]:
    """Gaussian: answers to inputs near 0 only, the unit of radial basis function nets.

    One exponential. The gradient vanishes on both sides, and at 0.

    Examples
    --------
    >>> fa.gaussian([-1.0, 0.5, 1.0])
    array([0.36787944, 0.77880078, 0.36787944])
    >>> fa.gaussian.derivative([-1.0, 0.5, 1.0])
    array([ 0.73575888, -0.77880078, -0.73575888])
    """
    size = at_least_tiny(abs(x))
    square, low = two_product(size, size)
    return exp_times(-square, -low, 1), exp_times(-square, -low, -2 * x)


@define(
    formula=r"\frac{1}{\beta} \ln(1 + e^{\beta x})",
    derivative=r"\sigma(\beta x)",
    exact=_exact_softplus,
    limits=("0", "inf"),
    errors=(2.0, 1.6),
    parameters_are={"beta": "sharpness of the bend: the larger, the nearer to relu"},
    domains={"beta": NOT_ZERO},
    samples=tuple({"beta": beta} for beta in (0.3, 1.7, 20.0, -1.0)),
    is_scaled=True,
    from_output=_softplus_from_output,
    elsewhere={
        "pytorch": "softplus",
        "jax": "softplus",
        "keras": "softplus",
        "onnx": "Softplus",
        "chainer": "softplus",
        "tensorflow": "softplus",
    },
    good_for="outputs that must be positive, such as a variance",
    not_for="hidden layers: relu is cheaper and learns as well; outputs that may be exactly zero",
    reference="C. Dugas, Y. Bengio, F. Belisle, C. Nadeau, R. Garcia, Incorporating Second-Order Functional Knowledge for Better Option Pricing, NIPS 2000.",
)
def softplus(x: Vector, beta: Vector = 1.0) -> tuple[Vector, Vector]:
    """Softplus: a smooth rectifier, always positive; its derivative is the sigmoid.

    One exponential and one logarithm. The gradient vanishes far on the left only. There is no
    threshold from which on it would be the identity.

    Examples
    --------
    >>> fa.softplus([-1.0, 0.0, 1.0])
    array([0.31326169, 0.69314718, 1.31326169])
    >>> fa.softplus([-1.0, 0.0, 1.0], beta=2.0)
    array([0.06346401, 0.34657359, 1.06346401])
    """
    argument, low = finite_two_product(beta, finite(x) + NUDGE)
    # The low part of an argument beyond which there is nothing left of the result may be any number.
    low = select(abs(argument) > 2000, 0, low)
    size_low = select(argument < 0, -low, low)
    left, lower, upper, exponent = softplus_parts_of_minus_abs(argument)
    # softplus(x) = max(x, 0) + softplus(-abs(x)), with the argument's low part to first order.
    left = tail(fma(-size_low, lower, left) / beta, exponent, -size_low, 1 / beta)
    lower = tail(fma(-size_low * upper, lower, lower), exponent, -size_low, 1)
    value = select(argument < 0, -0.0, x) + left
    return value, select(argument < 0, lower, 1 - lower)


@define(
    formula=r"\ln \sigma(x) = -\ln(1 + e^{-x})",
    derivative=r"\sigma(-x)",
    exact=_exact_logsigmoid,
    limits=("-inf", "0"),
    errors=(2.0, 1.6),
    from_output=_logsigmoid_from_output,
    aliases=("log_sigmoid", "log_expit"),
    elsewhere={"pytorch": "logsigmoid", "jax": "log_sigmoid", "keras": "log_sigmoid"},
    good_for="log-probabilities in losses, as in word2vec and preference optimization",
    not_for="hidden layers; and the binary cross-entropy, which sigmoid_binary_cross_entropy computes with its gradient",
    reference="R. Collobert, K. Kavukcuoglu, C. Farabet, Torch7: A Matlab-like Environment for Machine Learning, BigLearn workshop at NIPS 2011.",
)
def logsigmoid(x: Vector) -> tuple[Vector, Vector]:
    """Logarithm of the sigmoid: a log-probability, for losses.

    One exponential and one logarithm. The gradient vanishes far on the right only, where the probability is
    nearly one.

    Examples
    --------
    >>> fa.logsigmoid([-1.0, 0.0, 1.0])
    array([-1.31326169, -0.69314718, -0.31326169])
    >>> fa.logsigmoid.derivative([-1.0, 0.0, 1.0])
    array([0.73105858, 0.5       , 0.26894142])
    """
    value, derivative = softplus_and_derivative(-x)
    return -value, derivative


@define(
    formula=r"\ln(1 - e^{-x})",
    derivative=r"\frac{1}{e^x - 1}",
    exact=_exact_log1mexp,
    limits=("nan", "0"),
    errors=(1.7, 2.3),
    elsewhere={"jax": "log1mexp"},
    good_for="log-probabilities of complements, as in survival and censored models",
    not_for="positive arguments, where it is NaN, and hidden layers",
    reference="M. Maechler, Accurately Computing log(1 - exp(-|a|)), R package Rmpfr (2012).",
)
def log1mexp(x: Vector) -> tuple[Vector, Vector]:
    """Logarithm of one minus an exponential: the log-probability of the complement of an event.

    One exponential and one logarithm. It is ``-inf`` at 0, and NaN for negative numbers.

    Examples
    --------
    >>> fa.log1mexp([0.5, 1.0, 2.0])
    array([-0.93275213, -0.45867515, -0.14541346])
    >>> fa.log1mexp.derivative([0.5, 1.0, 2.0])
    array([1.54149408, 0.58197671, 0.15651764])
    """
    size = at_least_tiny(abs(x))
    return log_of_one_minus_exp(x), select(x < 0, math.nan * size, reciprocal_of_expm1(abs(x)))
