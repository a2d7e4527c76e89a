"""Smooth, and made of nothing but roots and quotients: no exponential anywhere."""

from __future__ import annotations

from typing import Any

from fastact.catalogue.definition import define
from fastact.simd import copysign, fma, isnan, select, sqrt
from fastact.vecmath import INFINITY


def _add(x: Any, y: Any) -> Any:
    """Add two numbers that are not negative, and return the sum and what it lacks."""
    larger, smaller = select(x > y, x, y), select(x > y, y, x)
    total = x + y
    return total, (larger - total) + smaller


def _divide(x: Any, y: Any, y_lost: Any) -> Any:
    """Compute ``x / (y + y_lost)`` with little more than one rounding, for finite y."""
    reciprocal = 1 / y
    quotient = x * reciprocal
    too_much = fma(quotient, y, -x) + quotient * y_lost
    return fma(too_much, -reciprocal, quotient)  # in this way -0 / y is -0


def _ratio(x: Any, y: Any, y_lost: Any) -> Any:
    """Compute ``x / (y + y_lost)``, which goes to -1 or 1 where both go to infinity together."""
    limit = select(abs(x) == INFINITY, copysign(1, x), 0)
    return select(y == INFINITY, limit, _divide(x, y, y_lost))


def _square_and_root(x: Any, b: Any) -> Any:
    """Compute ``x**2 + b`` and its root, for b > 0, and return each with what it lacks.

    Where the square overflows, b makes no difference to the root.
    """
    product = x * x
    square, square_lost = _add(product, b)
    square_lost = square_lost + fma(x, x, -product)
    root = sqrt(square)
    root_lost = 0.5 * (fma(-root, root, square) + square_lost) / root
    overflows = square == INFINITY
    root, root_lost = select(overflows, abs(x), root), select(overflows, 0, root_lost)
    return square, square_lost, root, root_lost


def _plus(x: Any, b: Any, root: Any, root_lost: Any) -> Any:
    """Compute ``(x + root) / 2`` without cancellation: on the left, root + x = b / (root - x)."""
    larger, lost = _add(0.5 * root, 0.5 * abs(x))
    is_infinite = larger == INFINITY
    lost = select(is_infinite, 0, lost + 0.5 * root_lost)
    left = select(is_infinite, 0, _divide(0.25 * b, larger, lost))
    return select(x < 0, left, larger + lost)


def _softsign_from_output(y: Any) -> Any:
    rest = 1 - abs(y)
    return rest * rest


def _squareplus_from_output(y: Any, b: Any) -> Any:
    quotient = y / (y + 0.25 * b / y)
    return select(y == INFINITY, 1, select(y > 0, quotient, y))


@define(
    formula=r"\frac{x}{1 + \lvert x \rvert}",
    derivative=r"\frac{1}{(1 + \lvert x \rvert)^2}",
    limits=("-1", "1"),
    errors=(0.6, 1.3),
    from_output=_softsign_from_output,
    aliases=("soft_sign",),
    elsewhere={
        "pytorch": "softsign",
        "jax": "soft_sign",
        "keras": "softsign",
        "onnx": "Softsign",
        "tensorflow": "softsign",
    },
    reference="J. Bergstra, G. Desjardins, P. Lamblin, Y. Bengio, Quadratic Polynomials Learn Better Image Features, Universite de Montreal TR 1337 (2009).",
)
def softsign(x: Any) -> Any:
    """Softsign: a tanh that approaches its ends slowly, and needs a quotient only.

    No exponential. Its gradient falls with the square of the input, not exponentially, so that saturated
    units still learn.
    """
    one_plus, lost = _add(abs(x), 1)
    return _ratio(x, one_plus, lost), _ratio(_divide(1, one_plus, lost), one_plus, lost)


@define(
    formula=r"\frac{x + \sqrt{x^2 + b}}{2}",
    derivative=r"\frac{1}{2} \left(1 + \frac{x}{\sqrt{x^2 + b}}\right)",
    limits=("0", "inf"),
    errors=(0.6, 1.6),
    parameters_are={"b": "four times the square of the value at 0, positive: how wide the bend is"},
    from_output=_squareplus_from_output,
    elsewhere={"jax": "squareplus", "keras": "squareplus"},
    reference="J. Barron, Squareplus: A Softplus-Like Algebraic Rectifier, arXiv:2112.11687 (2021).",
)
def squareplus(x: Any, b: Any = 4.0) -> Any:
    """Squareplus: a softplus made of a square root, several times as fast.

    No exponential. Its gradient falls with the square of the input on the left, so that units are slow
    to die.
    """
    _, _, root, root_lost = _square_and_root(x, b)
    value = _plus(x, b, root, root_lost)
    return value, _ratio(value, root, root_lost)


@define(
    formula=r"\frac{x}{2} \left(1 + \frac{x}{\sqrt{1 + x^2}}\right)",
    derivative=r"\frac{1}{2} \left(1 + \frac{x}{\sqrt{1 + x^2}}\right) + \frac{x}{2 (1 + x^2)^{3/2}}",
    limits=("0", "inf"),
    errors=(2.1, 3.6),
    # Minus the root of the golden ratio's reciprocal.
    roots=(-0.7861513777574233,),
    elsewhere={"thinc": "dish"},
    reference="D. de Kok, https://twitter.com/danieldekok/status/1484898130441166853 (2022).",
)
def dish(x: Any) -> Any:
    """Dish: follows silu and gelu with roots in place of the exponential.

    No exponential. Its gradient falls with the square of the input on the left and is slightly negative
    there; use it where silu is too slow.
    """
    square, square_lost, root, root_lost = _square_and_root(x, 1)
    quotient = _ratio(x, root, root_lost)
    plus = _plus(x, 1, root, root_lost)
    gate = _ratio(plus, root, root_lost)
    bend = _divide(fma(x, root_lost, fma(x, root, 1)), square, square_lost)
    return quotient * plus, gate * select(square < INFINITY, bend, quotient)


@define(
    formula=r"\frac{\sqrt{x^2 + 1} - 1}{2} + x",
    derivative=r"\frac{x}{2 \sqrt{x^2 + 1}} + 1",
    limits=("-inf", "inf"),
    errors=(2.0, 0.8),
    reference="Wikipedia, Activation function, https://en.wikipedia.org/wiki/Activation_function.",
)
def bent_identity(x: Any) -> Any:
    """Bent identity: slope 1/2 on the far left, 3/2 on the far right.

    No exponential. Its gradient neither vanishes nor explodes, and no unit dies; it bends little, so
    many layers are needed.
    """
    _, _, root, root_lost = _square_and_root(x, 1)
    # root - 1 = x**2 / (root + 1)
    one_plus, lost = _add(root, 1)
    value = x * fma(0.5, _ratio(x, one_plus, lost + root_lost), 1)
    return value, fma(0.5, _ratio(x, root, root_lost), 1)


@define(
    formula=r"\begin{cases} 0 & x \le -\beta \\ \frac{(x + \beta)^2}{4 \beta} & \lvert x \rvert < \beta \\ x & x \ge \beta \end{cases}",
    derivative=r"\min(\max(\frac{x + \beta}{2 \beta}, 0), 1)",
    limits=("0", "inf"),
    errors=(2.0, 0.5),
    parameters_are={"beta": "half the width of the bend, positive"},
    reference="G. Shamir, D. Lin, L. Coviello, Smooth activations and reproducibility in deep networks, arXiv:2010.09931 (2020).",
)
def smelu(x: Any, beta: Any = 1.0) -> Any:
    """Smooth rectifier: its corner is a parabola, which makes trained nets more reproducible.

    No exponential. Its gradient is zero below -beta, where units may die.
    """
    line = select(x < -beta, 0, x + beta)
    slope = select(x < beta, 0.5 * line / beta, 1)
    return select(x < beta, 0.5 * line * slope, x), select(isnan(x), x, slope)
