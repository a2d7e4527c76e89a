"""Shrinkage: inputs near zero become zero, as in sparse coding."""

from __future__ import annotations

from fastact.catalogue.definition import NOT_NEGATIVE, Number, Pieces, define
from fastact.simd import Vector, copysign, select


def _outside(x: Vector, lambd: Vector) -> Vector:
    """Return 1 where abs(x) > lambd, 0 elsewhere, NaN for NaN."""
    return select(abs(x) > lambd, 1, select(abs(x) <= lambd, 0, x))


def _shrunk(x: Vector, lambd: Vector, bias: Vector) -> Vector:
    return select(abs(x) <= lambd, 0, x - copysign(bias, x))


def _softshrink_from_output(y: Vector, lambd: Vector) -> Vector:
    return _outside(y, 0)


def _exact_shrunk(x: Number, lambd: Number, bias: Number) -> Pieces:
    return [(x < -lambd, x + bias, 1), (x > lambd, x - bias, 1), (True, 0, 0)]


@define(
    formula=r"\begin{cases} x & \lvert x \rvert > \lambda \\ 0 & \lvert x \rvert \le \lambda \end{cases}",
    derivative=r"\begin{cases} 1 & \lvert x \rvert > \lambda \\ 0 & \lvert x \rvert \le \lambda \end{cases}",
    exact=lambda mp, x, lambd: _exact_shrunk(x, lambd, 0),
    kinks={"-lambd": "0", "lambd": "0"},
    limits=("-inf", "inf"),
    errors=(0.0, 0.0),
    parameters_are={"lambd": "up to this distance from 0, the value is 0"},
    samples=({"lambd": 1.0},),
    aliases=("hard_shrink",),
    elsewhere={"pytorch": "hardshrink", "keras": "hard_shrink"},
    good_for="thresholding of coefficients, as in wavelet denoising",
    not_for="gradient descent through it: the value jumps, and there is no gradient in between",
    reference="D. Donoho, I. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 81 (1994), 425-455.",
)
def hardshrink(x: Vector, lambd: Vector = 0.5) -> tuple[Vector, Vector]:
    """Hard shrinkage: keeps or kills, as hard thresholding does with wavelet coefficients.

    No exponential. It jumps by lambd; between the jumps there is no gradient.

    Examples
    --------
    >>> fa.hardshrink([-1.0, 0.5, 2.0])
    array([-1.,  0.,  2.])
    >>> fa.hardshrink.derivative([-1.0, 0.5, 2.0])
    array([1., 0., 1.])
    """
    return _shrunk(x, lambd, 0), _outside(x, lambd)


@define(
    formula=r"\mathrm{sign}(x) \max(\lvert x \rvert - \lambda, 0)",
    derivative=r"\begin{cases} 1 & \lvert x \rvert > \lambda \\ 0 & \lvert x \rvert \le \lambda \end{cases}",
    exact=lambda mp, x, lambd: _exact_shrunk(x, lambd, lambd),
    kinks={"-lambd": "0", "lambd": "0"},
    limits=("-inf", "inf"),
    errors=(0.5, 0.0),
    parameters_are={"lambd": "up to this distance from 0, the value is 0"},
    domains={"lambd": NOT_NEGATIVE},
    samples=({"lambd": 1.25}, {"lambd": 0.0}),
    from_output=_softshrink_from_output,
    aliases=("soft_shrink", "soft_threshold"),
    elsewhere={"pytorch": "softshrink", "keras": "soft_shrink"},
    good_for="proximal steps and unrolled sparse coding (LISTA)",
    not_for="hidden layers of classifiers: around zero there is no gradient",
    reference="D. Donoho, De-noising by soft-thresholding, IEEE Transactions on Information Theory 41 (1995), 613-627.",
)
def softshrink(x: Vector, lambd: Vector = 0.5) -> tuple[Vector, Vector]:
    """Soft shrinkage: moves every number towards zero, the proximal step of an l1 penalty.

    No exponential. Continuous; where it is zero there is no gradient.

    Examples
    --------
    >>> fa.softshrink([-1.0, 0.5, 2.0])
    array([-0.5,  0. ,  1.5])
    >>> fa.softshrink.derivative([-1.0, 0.5, 2.0])
    array([1., 0., 1.])
    """
    return _shrunk(x, lambd, lambd), _outside(x, lambd)


@define(
    formula=r"\begin{cases} x - \mathrm{sign}(x) \, b & \lvert x \rvert > \lambda \\ 0 & \lvert x \rvert \le \lambda \end{cases}, \quad b = \text{bias}",
    derivative=r"\begin{cases} 1 & \lvert x \rvert > \lambda \\ 0 & \lvert x \rvert \le \lambda \end{cases}",
    exact=lambda mp, x, lambd, bias: _exact_shrunk(x, lambd, bias),
    kinks={"-lambd": "0", "lambd": "0"},
    limits=("-inf", "inf"),
    errors=(0.5, 0.0),
    parameters_are={
        "lambd": "up to this distance from 0, the value is 0",
        "bias": "how far the others move towards 0",
    },
    domains={"lambd": NOT_NEGATIVE},
    samples=({"lambd": 1.5, "bias": 0.5},),
    elsewhere={"onnx": "Shrink"},
    good_for="models converted from ONNX, and both kinds of thresholding under one name",
    not_for="hidden layers of classifiers: around zero there is no gradient",
    reference="ONNX Operators, https://onnx.ai/onnx/operators/onnx__Shrink.html (2018).",
)
def shrink(x: Vector, lambd: Vector = 0.5, bias: Vector = 0.0) -> tuple[Vector, Vector]:
    """Shrinkage of both kinds: hard where bias is 0, soft where it is lambd.

    No exponential. Where it is zero there is no gradient.

    Examples
    --------
    >>> fa.shrink([-1.0, 0.5, 2.0], bias=0.25)
    array([-0.75,  0.  ,  1.75])
    """
    return _shrunk(x, lambd, bias), _outside(x, lambd)
