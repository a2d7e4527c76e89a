"""Elementary functions on SIMD vectors, many with the derivative at little extra cost.

They accept every number (NaN, infinities, signed zeros, subnormals), are accurate to the stated errors
with subnormal results too, have no intermediate overflow, and give the same bits on every CPU with a fused
multiply-add. They are free of branches, except for the sines and cosines of very large numbers.

Maximum errors, in units in the last place (ULP), over the whole range:

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
Each family has a file, which cites its methods. Each function states its valid range and maximum error.
``tools/generate_coefficients.py`` generates the coefficients.
"""

from __future__ import annotations

import math

from fastact.vecmath import derivatives  # noqa: F401  registers the rules
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
from fastact.vecmath.powers import cbrt, exp2, log2, log10, power, sqrt
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

# The functions that `fastact.math` offers on arrays.
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
