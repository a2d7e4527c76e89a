"""Waves, for periodic signals: they extrapolate beyond the range of the data."""

from __future__ import annotations

import math

from fastact.catalogue.definition import Context, Number, Pair, define
from fastact.simd import Vector, fma, select
from fastact.vecmath import INFINITY, sin_and_cos
from fastact.vecmath.double_double import double_double_product, double_double_sum
from fastact.vecmath.products import finite, finite_two_product
from fastact.vecmath.scaling import TINY, zero_below
from fastact.vecmath.trigonometric import sin_and_cos_double_double


def _exact_snake(mp: Context, x: Number, a: Number) -> Pair:
    if a == 0:
        return x, 1
    sine, cosine = mp.sin(a * x), mp.cos(a * x)
    return x + sine**2 / a, (sine + cosine) ** 2


@define(
    formula=r"\sin x",
    derivative=r"\cos x",
    exact=lambda mp, x: (mp.sin(x), mp.cos(x)),
    limits=("none", "none"),
    errors=(1.1, 1.1),
    aliases=("sin",),
    elsewhere={"onnx": "Sin", "chainer": "sin"},
    good_for="coordinate nets for images, sound and fields (SIREN), with the initial weights that these need",
    not_for="ordinary classifiers: it is not monotone, and sensitive to initial weights",
    reference="V. Sitzmann, J. Martel, A. Bergman, D. Lindell, G. Wetzstein, Implicit Neural Representations with Periodic Activation Functions, NeurIPS 2020.",
)
def sine(x: Vector) -> tuple[Vector, Vector]:
    """Sine: the hidden unit of nets that stand for one image, sound or field.

    No exponential. Its gradient does not vanish on average, but weights must be initialized for it. At
    the infinities there is no limit: NaN.

    Examples
    --------
    >>> fa.sine([-1.0, 0.0, 1.0])
    array([-0.84147098,  0.        ,  0.84147098])
    >>> fa.sine.derivative([-1.0, 0.0, 1.0])
    array([0.54030231, 1.        , 0.54030231])
    """
    return sin_and_cos(x)


@define(
    formula=r"x + \frac{\sin^2(a x)}{a}",
    derivative=r"1 + \sin(2 a x)",
    exact=_exact_snake,
    limits=("-inf", "inf"),
    errors=(1.6, 2.1),
    parameters_are={"a": "frequency; learnable. 0 gives the identity"},
    samples=({"a": 0.5}, {"a": 0.0}),
    near_root=lambda mp, x, a: (mp.sin(a * x) + mp.cos(a * x)) ** 2 <= 2 * math.sin(0.4) ** 2,
    learnable=("a",),
    roots=(-math.pi / 4, 3 * math.pi / 4),
    good_for="periodic signals, such as time series and sound (BigVGAN)",
    not_for="data without periods, where it only makes the loss surface wavy",
    reference="L. Ziyin, T. Hartwig, M. Ueda, Neural Networks Fail to Learn Periodic Functions and How to Fix It, NeurIPS 2020.",
)
def snake(x: Vector, a: Vector = 1.0) -> tuple[Vector, Vector, Vector]:
    """Snake: the identity with a wave, which learns periodic functions and still rises.

    No exponential. The gradient is between 0 and 2, and 0 only at isolated points: where ``a x`` is
    ``-pi / 4`` plus a multiple of pi. The gradient by `a` is
    ``x sin(2 a x) / a - sin(a x)**2 / a**2``, and ``x**2`` for a = 0. At the infinities, and
    where ``a x`` overflows, the derivative is NaN.

    Examples
    --------
    >>> fa.snake([-1.0, 0.0, 1.0])
    array([-0.29192658,  0.        ,  1.70807342])
    >>> fa.snake.derivative([-1.0, 0.0, 1.0])
    array([0.09070257, 1.        , 1.90929743])
    """
    argument = finite_two_product(a, select(a == 0, finite(x), x))
    is_tiny = abs(argument[0]) < TINY
    argument = zero_below(argument[0], TINY), select(is_tiny, 0, argument[1])
    sine, cosine = sin_and_cos_double_double(*argument)
    # (a x + sin(a x)**2) / a, in which the wave is negligible for tiny a x and the value infinite for infinite a x.
    is_line = is_tiny | (abs(argument[0]) == INFINITY)
    scaled, scaled_low = double_double_sum(argument, double_double_product(sine, sine))
    wave = scaled / a
    value = select(is_line, x, wave + (fma(-wave, a, scaled) + scaled_low) / a)
    total, total_low = double_double_sum(sine, cosine)
    derivative = fma(total, total, 2 * total * total_low)
    quotient = select(is_line, x, sine[0] / a)
    return value, derivative, quotient * fma(2 * x, cosine[0], -quotient)
