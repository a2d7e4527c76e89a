"""Waves: for signals that repeat, beyond the range of the data too."""

from __future__ import annotations

import math
from typing import Any

from fastact.catalogue.definition import define
from fastact.simd import fma, select
from fastact.vecmath import INFINITY, sin_and_cos
from fastact.vecmath.pairs import add_pairs, multiply_pairs, sin_and_cos_pairs
from fastact.vecmath.products import finite, product_and_lost


@define(
    formula=r"\sin x",
    derivative=r"\cos x",
    limits=("none", "none"),
    errors=(1.1, 1.1),
    aliases=("sin",),
    elsewhere={"onnx": "Sin", "chainer": "sin"},
    reference="V. Sitzmann, J. Martel, A. Bergman, D. Lindell, G. Wetzstein, Implicit Neural Representations with Periodic Activation Functions, NeurIPS 2020.",
)
def sine(x: Any) -> Any:
    """Sine: the hidden unit of nets that stand for one image, sound or field.

    No exponential. Its gradient does not vanish on average, but weights must be initialized for it. At
    the infinities there is no limit: NaN.
    """
    return sin_and_cos(x)


@define(
    formula=r"x + \frac{\sin^2(a x)}{a}",
    derivative=r"1 + \sin(2 a x)",
    limits=("-inf", "inf"),
    errors=(1.6, 2.1),
    parameters_are={"a": "frequency; learnable. 0 gives the identity"},
    learnable=("a",),
    roots=(-math.pi / 4, 3 * math.pi / 4),
    reference="L. Ziyin, T. Hartwig, M. Ueda, Neural Networks Fail to Learn Periodic Functions and How to Fix It, NeurIPS 2020.",
)
def snake(x: Any, a: Any = 1.0) -> Any:
    """Snake: the identity with a wave, which learns periodic functions and still rises.

    No exponential. The gradient is between 0 and 2, and 0 only in points: wherever ``a x`` is
    ``-pi / 4`` and a multiple of pi more. The gradient by `a` is
    ``x sin(2 a x) / a - sin(a x)**2 / a**2``, and ``x**2`` for a = 0. At the infinities, and
    where ``a x`` overflows, the derivative is NaN.
    """
    argument = product_and_lost(a, select(a == 0, finite(x), x))
    sine, cosine = sin_and_cos_pairs(*argument)
    # Of a x + sin(a x)**2, divided by a; where a x is so small or so large, the line is all there is.
    is_line = (abs(argument[0]) < 1e-20) | (abs(argument[0]) == INFINITY)
    scaled, scaled_lost = add_pairs(argument, multiply_pairs(sine, sine))
    wave = scaled / a
    value = select(is_line, x, wave + (fma(-wave, a, scaled) + scaled_lost) / a)
    total, total_lost = add_pairs(sine, cosine)
    derivative = fma(total, total, 2 * total * total_lost)
    quotient = select(is_line, x, sine[0] / a)
    return value, derivative, quotient * fma(2 * x, cosine[0], -quotient)
