"""The sigmoid, tanh and what is made of them: where they saturate, gradients vanish."""

from __future__ import annotations

from fastact.catalogue.definition import Context, Number, Pieces, define
from fastact.simd import PerDtype, Vector, copysign, fma, select
from fastact.vecmath import logistic_and_derivative, tanh_and_derivative
from fastact.vecmath.double_double import select_double_double
from fastact.vecmath.exponential import (
    exp_and_logistic_double_double,
    tail,
    tanh_and_derivative_parts,
)
from fastact.vecmath.scaling import SQUARE_ZERO, bound, zero_below


def _sigmoid_from_output(y: Vector) -> Vector:
    return y * (1 - y)


def _tanh_from_output(y: Vector) -> Vector:
    return (1 - y) * (1 + y)


# The cube of a smaller number is zero.
_CUBE_ZERO = PerDtype(float32=2.0**-55, float64=2.0**-360)
_CUBE_TINY = PerDtype(float32=2.0**-20, float64=2.0**-200)
_CUBE_FACTOR = PerDtype(float32=2.0**40, float64=2.0**300)
_CUBE_INVERSE = PerDtype(float32=2.0**-120, float64=2.0**-900)
# From here on, tanh(x) rounds to 1.
_TANH_ONE = PerDtype(float32=12.0, float64=24.0)


def _small_tanhshrink(x: Vector) -> Vector:
    """Compute x - tanh(x) for abs(x) <= 0.625, where the difference would cancel.

    It is x**3 / 3 (1 - V), where the ninth convergent of J. Lambert's continued fraction for the tangent
    (1761) gives V as a quotient of polynomials in x**2 with positive coefficients.
    """
    # The cube of a tiny number, and its low part, are lifted; V is then negligible.
    is_tiny = x < _CUBE_TINY
    lifted = select(x < _CUBE_ZERO, _CUBE_ZERO, x) * select(is_tiny, _CUBE_FACTOR, 1)
    square = lifted * lifted
    cube = lifted * square
    cube_low = fma(lifted, square, -cube) + lifted * fma(lifted, lifted, -square)
    square = select(is_tiny, 0, square)
    top = fma(square, fma(square, fma(square, 1 / 255255, 32 / 26775), 47 / 595), 6 / 5)
    bottom = fma(square, fma(square, 1 / 255255, 4 / 3315), 7 / 85)
    bottom = fma(square, fma(square, bottom, 24 / 17), 3)
    third = (cube + fma(-cube, square * top / bottom, cube_low)) / 3
    return third * select(is_tiny, _CUBE_INVERSE, 1)


def _exact_tanhshrink(mp: Context, x: Number) -> Pieces:
    # Near 0, (x cosh x - sinh x) / cosh x by the series of the numerator, whose terms have one sign.
    term, total = x, 0
    for k in range(1, 25):
        term = term * x * x / (2 * k * (2 * k + 1))
        total = total + 2 * k * term
    slope = mp.tanh(x) ** 2
    return [(abs(x) < 1, total / mp.cosh(x), slope), (True, x - mp.tanh(x), slope)]


@define(
    formula=r"\sigma(x) = \frac{1}{1 + e^{-x}}",
    derivative=r"\sigma(x) \, \sigma(-x)",
    exact=lambda mp, x: (1 / (1 + mp.exp(-x)), (mp.sech(x / 2) / 2) ** 2),
    limits=("0", "1"),
    errors=(1.8, 3.0),
    is_monotone=True,
    from_output=_sigmoid_from_output,
    aliases=("logistic", "expit"),
    elsewhere={
        "pytorch": "sigmoid",
        "jax": "sigmoid",
        "keras": "sigmoid",
        "onnx": "Sigmoid",
        "thinc": "sigmoid",
        "chainer": "sigmoid",
        "tensorflow": "sigmoid",
    },
    good_for="gates, and the output of a binary classifier",
    not_for="hidden layers of deep nets: its derivative is at most 1/4, and its outputs are not centred on zero",
    reference="P.-F. Verhulst, Correspondance mathematique et physique 10 (1838), 113-121.",
)
def sigmoid(x: Vector) -> tuple[Vector, Vector]:
    """Logistic sigmoid: maps the real line to (0, 1), a probability.

    One exponential. Its gradient is at most 1/4 and vanishes on both sides, so deep nets of sigmoids learn slowly.

    Examples
    --------
    >>> fa.sigmoid([-1.0, 0.0, 1.0])
    array([0.26894142, 0.5       , 0.73105858])
    >>> fa.sigmoid.derivative([-1.0, 0.0, 1.0])
    array([0.19661193, 0.25      , 0.19661193])
    """
    return logistic_and_derivative(x)


@define(
    formula=r"\tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}",
    derivative=r"\frac{1}{\cosh^2 x}",
    exact=lambda mp, x: (mp.tanh(x), mp.sech(x) ** 2),
    limits=("-1", "1"),
    errors=(1.8, 3.0),
    is_monotone=True,
    from_output=_tanh_from_output,
    elsewhere={
        "pytorch": "tanh",
        "jax": "tanh",
        "keras": "tanh",
        "onnx": "Tanh",
        "chainer": "tanh",
        "tensorflow": "tanh",
    },
    good_for="recurrent cells, and outputs between -1 and 1",
    not_for="hidden layers of deep feed-forward nets whose units saturate: the gradient vanishes on both sides",
    reference="Y. LeCun, L. Bottou, G. Orr, K.-R. Mueller, Efficient BackProp (1998), section 4.4.",
)
def tanh(x: Vector) -> tuple[Vector, Vector]:
    """Hyperbolic tangent: maps the real line to (-1, 1), centred on zero.

    One exponential. A sigmoid with its output centred on zero, which makes it the better hidden unit
    of the two; its gradient is 1 at zero and vanishes on both sides.

    Examples
    --------
    >>> fa.tanh([-1.0, 0.0, 1.0])
    array([-0.76159416,  0.        ,  0.76159416])
    >>> fa.tanh.derivative([-1.0, 0.0, 1.0])
    array([0.41997434, 1.        , 0.41997434])
    """
    return tanh_and_derivative(x)


@define(
    formula=r"\begin{cases} \tanh x & x > 0 \\ 0.25 \tanh x & x \le 0 \end{cases}",
    derivative=r"\begin{cases} \frac{1}{\cosh^2 x} & x > 0 \\ \frac{0.25}{\cosh^2 x} & x \le 0 \end{cases}",
    exact=lambda mp, x: [
        (x > 0, mp.tanh(x), mp.sech(x) ** 2),
        (True, mp.tanh(x) / 4, mp.sech(x) ** 2 / 4),
    ],
    kinks={"0": "0.25"},
    limits=("-0.25", "1"),
    errors=(1.8, 3.0),
    is_monotone=True,
    good_for="text models in which tanh is customary and layers are many",
    not_for="outputs that should be symmetric about zero",
    reference="B. Xu, R. Huang, M. Li, Revise Saturated Activation Functions, arXiv:1602.05980 (2016).",
)
def penalized_tanh(x: Vector) -> tuple[Vector, Vector]:
    """Penalized hyperbolic tangent: a quarter of it on the left, which makes deep nets of it trainable.

    One exponential. Its gradient vanishes on both sides.

    Examples
    --------
    >>> fa.penalized_tanh([-1.0, 0.0, 1.0])
    array([-0.19039854,  0.        ,  0.76159416])
    >>> fa.penalized_tanh.derivative([-1.0, 0.0, 1.0])
    array([0.10499359, 0.25      , 0.41997434])
    """
    value, derivative, exponent = tanh_and_derivative_parts(x)
    penalty = select(x > 0, 1, 0.25)
    return penalty * value, tail(penalty * derivative, exponent, 0, 4 * penalty)


@define(
    formula=r"x - \tanh x",
    derivative=r"\tanh^2 x",
    exact=_exact_tanhshrink,
    limits=("-inf", "inf"),
    errors=(1.6, 0.9),
    aliases=("tanh_shrink",),
    elsewhere={"pytorch": "tanhshrink", "keras": "tanh_shrink"},
    good_for="sparse codes without a kink",
    not_for="hidden layers of deep nets: the gradient is zero at 0, where most inputs are",
    reference="R. Collobert, K. Kavukcuoglu, C. Farabet, Torch7: A Matlab-like Environment for Machine Learning, BigLearn workshop at NIPS 2011.",
)
def tanhshrink(x: Vector) -> tuple[Vector, Vector]:
    """Tanh shrinkage: the input less its tanh, smooth; large inputs pass, less one.

    One exponential. The gradient vanishes at 0 only; the activation of sparse codes.

    Examples
    --------
    >>> fa.tanhshrink([-1.0, 0.0, 1.0])
    array([-0.23840584,  0.        ,  0.23840584])
    >>> fa.tanhshrink.derivative([-1.0, 0.0, 1.0])
    array([0.58002566, 0.        , 0.58002566])
    """
    size = zero_below(abs(x), SQUARE_ZERO)
    is_small = size <= 0.625
    small = _small_tanhshrink(select(is_small, size, 0.625))
    # Elsewhere tanh(x) is 1 - 2 logistic(-2 x), a double-double because the difference cancels its first digits.
    _, _, lower = exp_and_logistic_double_double(2 * bound(size, 0, _TANH_ONE))
    large = ((size - 1) + 2 * lower[0]) + 2 * lower[1]
    larger = select(is_small, size, 1)
    cube = select(size < _CUBE_TINY, 0, small)  # has no effect
    smaller, smaller_low = select_double_double(is_small, (cube, 0), (2 * lower[0], 2 * lower[1]))
    tanh = larger - smaller
    tanh_low = ((larger - tanh) - smaller) - smaller_low
    value = copysign(select(is_small, small, large), x)
    return value, fma(tanh, tanh, 2 * tanh * tanh_low)
