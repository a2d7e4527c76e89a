"""The rectifier and its relatives: the identity on the right, something smaller on the left."""

from __future__ import annotations

from typing import Any

from fastact.definition import define
from fastact.simd import select
from fastact.vecmath import INFINITY, expm1_and_exp


def _slope(x: Any, right: Any, left: Any) -> Any:
    """Return `right` where x is positive, `left` where it is not, NaN where it is NaN."""
    return select(x > 0, right, select(x <= 0, left, x))


def _line(x: Any, slope: Any) -> Any:
    """Return slope * x, and 0 where the slope is 0 and x infinite: the limit, not NaN."""
    return select((slope == 0) & (x == -INFINITY), 0, slope * x)


def _leaky(x: Any, slope: Any) -> Any:
    return select(x > 0, x, _line(x, slope)), _slope(x, 1, slope)


def _relu_from_output(y: Any) -> Any:
    return _slope(y, 1, 0)


def _leaky_from_output(y: Any, negative_slope: Any) -> Any:
    return _slope(y, 1, negative_slope)


def _elu_from_output(y: Any, alpha: Any) -> Any:
    return _slope(y, 1, y + alpha)


@define(
    formula=r"\max(x, 0)",
    derivative=r"\begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}",
    kinks={"0": "0"},
    limits=("0", "inf"),
    errors=(0.0, 0.0),
    from_output=_relu_from_output,
    reference="V. Nair, G. Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010.",
)
def relu(x: Any) -> Any:
    """Rectified linear unit: the default hidden unit.

    No exponential. Its gradient does not vanish on the right; on the left it is zero, and a unit that
    never sees a positive input is dead: it no longer learns.
    """
    return select(x < 0, 0, x), _slope(x, 1, 0)


@define(
    formula=r"\begin{cases} x & x > 0 \\ s x & x \le 0 \end{cases}, \quad s = \text{negative slope}",
    derivative=r"\begin{cases} 1 & x > 0 \\ s & x \le 0 \end{cases}",
    kinks={"0": "negative_slope"},
    limits=("-inf", "inf"),
    errors=(0.5, 0.0),
    parameters_are={"negative_slope": "slope on the left"},
    from_output=_leaky_from_output,
    from_output_needs=("negative_slope",),
    reference="A. Maas, A. Hannun, A. Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, ICML 2013.",
)
def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """Leaky rectifier: a small slope on the left, so that no unit dies.

    No exponential.
    """
    return _leaky(x, negative_slope)


@leaky_relu.convention("jax", kinks={"0": "1"})
def _leaky_relu_jax(x: Any, negative_slope: Any = 0.01) -> Any:
    return _leaky(x, negative_slope)[0], select(x >= 0, 1, select(x < 0, negative_slope, x))


@leaky_relu.convention("tensorflow", "chainer", from_output=_leaky_from_output)
def _leaky_relu_tensorflow(x: Any, negative_slope: Any = 0.2) -> Any:
    return _leaky(x, negative_slope)


@define(
    formula=r"\begin{cases} x & x > 0 \\ w x & x \le 0 \end{cases}, \quad w = \text{weight}",
    derivative=r"\begin{cases} 1 & x > 0 \\ w & x \le 0 \end{cases}",
    kinks={"0": "weight"},
    limits=("-inf", "inf"),
    errors=(0.5, 0.0),
    parameters_are={"weight": "learnable slope on the left: one number, or one for each channel"},
    from_output=_leaky_from_output,
    from_output_needs=("weight",),
    learnable=("weight",),
    reference="K. He, X. Zhang, S. Ren, J. Sun, Delving Deep into Rectifiers, ICCV 2015.",
)
def prelu(x: Any, weight: Any) -> Any:
    """Parametric rectifier: a leaky rectifier that learns its slope, one for each channel or for all.

    No exponential. The gradient by the weight is ``x`` where x <= 0, else 0.
    """
    return _leaky(x, weight) + (select(x > 0, 0, x),)


@prelu.convention("chainer", kinks={"0": "1"})
def _prelu_chainer(x: Any, weight: Any) -> Any:
    return _leaky(x, weight)[0], select(x >= 0, 1, select(x < 0, weight, x)), select(x > 0, 0, x)


@define(
    formula=r"\begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}",
    derivative=r"\begin{cases} 1 & x > 0 \\ \alpha e^x & x \le 0 \end{cases}",
    kinks={"0": "alpha"},
    limits=("-alpha", "inf"),
    errors=(1.1, 1.1),
    parameters_are={"alpha": "minus the limit on the left"},
    from_output=_elu_from_output,
    from_output_needs=("alpha",),
    reference="D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and Accurate Deep Network Learning by Exponential Linear Units, ICLR 2016.",
)
def elu(x: Any, alpha: Any = 1.0) -> Any:
    """Exponential linear unit: saturates smoothly on the left, so that mean activations are near zero.

    One exponential. For alpha = 1 the derivative is continuous; it vanishes far on the left only.
    """
    value, derivative = expm1_and_exp(select(x > 0, 0, x))
    return select(x > 0, x, alpha * value), select(x > 0, 1, alpha * derivative)
