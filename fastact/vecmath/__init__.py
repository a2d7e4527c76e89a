"""Elementary functions on SIMD vectors, each with its derivative's ingredients at hand.

All of them are right for every input (NaN, infinities, signed zeros, subnormals in and out), never
overflow on the way, and give the same bits on every CPU with a fused multiply-add. None has a branch,
but for sines and cosines of numbers that hardly occur.

Stated errors, in units in the last place, over the whole range:

=========  =======  =======
function   float32  float64
=========  =======  =======
sqrt       0.5      0.5
exp        1.1      1.1
expm1      1.1      1.1
log        1.1      1.1
log1p      1.1      1.1
log1mexp   2.0      2.0
tanh       1.8      2.2
logistic   1.8      1.8
softplus   2.0      2.0
erf        1.5      1.5
erfc       2.0      2.5
sin        1.1      1.1
cos        1.1      1.1
exp2       1.1      1.1
log2       1.1      1.1
log10      1.1      1.1
cbrt       1.1      1.1
sinh       1.1      1.1
cosh       1.1      1.1
arcsinh    1.1      1.1
arctan     1.1      1.1
=========  =======  =======

Notes
-----
There is one file for each family, which names the sources of its methods. The coefficients are made by
``tools/generate_coefficients.py``.
"""

from __future__ import annotations

import math

from fastact.simd import sqrt
from fastact.vecmath import derivatives  # noqa: F401  they register themselves
from fastact.vecmath.arctangent import arctan
from fastact.vecmath.error_function import erf, erfc, gelu_and_derivative, normal_cdf_and_pdf
from fastact.vecmath.exponential import (
    exp,
    expm1,
    expm1_and_exp,
    logistic,
    logistic_and_derivative,
    logistic_of_sum_and_derivative,
    tanh,
    tanh_and_derivative,
)
from fastact.vecmath.hyperbolic import arcsinh, cosh, sinh
from fastact.vecmath.logarithm import log, log1mexp, log1p, softplus, softplus_and_derivative
from fastact.vecmath.powers import cbrt, exp2, log2, log10, power
from fastact.vecmath.trigonometric import cos, sin, sin_and_cos
from fastact.vecmath.two_arguments import hypot, logaddexp

__all__ = [
    "arcsinh",
    "arctan",
    "cbrt",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "expm1_and_exp",
    "gelu_and_derivative",
    "hypot",
    "log",
    "log1mexp",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logistic",
    "logistic_and_derivative",
    "logistic_of_sum_and_derivative",
    "normal_cdf_and_pdf",
    "power",
    "sin",
    "sin_and_cos",
    "sinh",
    "softplus",
    "softplus_and_derivative",
    "sqrt",
    "tanh",
    "tanh_and_derivative",
]

INFINITY = math.inf

# What `fastact.math` offers on arrays.
FUNCTIONS = (
    sqrt,
    exp,
    expm1,
    log,
    log1p,
    log1mexp,
    tanh,
    logistic,
    softplus,
    erf,
    erfc,
    sin,
    cos,
    exp2,
    log2,
    log10,
    cbrt,
    sinh,
    cosh,
    arcsinh,
    arctan,
)
