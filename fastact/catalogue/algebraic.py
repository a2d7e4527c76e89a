"""Smooth functions without an exponential: polynomials, square roots and quotients."""

from __future__ import annotations

from fastact.catalogue.definition import (
    NOT_NEGATIVE,
    POSITIVE,
    Context,
    Number,
    Pair,
    Pieces,
    define,
)
from fastact.simd import PerDtype, Vector, copysign, fma, isnan, select, sqrt
from fastact.simd.formats import SMALLEST_NORMAL
from fastact.vecmath import INFINITY
from fastact.vecmath.double_double import DoubleDouble
from fastact.vecmath.scaling import TINY, zero_below

# A tiny number has no effect beside the root of a parameter above this.
_NOT_TINY = PerDtype(float32=2.0**-4, float64=2.0**-200)

# The reciprocal of a larger number may be subnormal.
_HUGE = PerDtype(float32=2.0**100, float64=2.0**800)
_SHRINK = PerDtype(float32=2.0**-60, float64=2.0**-400)
# From this square on, dish is a straight line.
_STRAIGHT = PerDtype(float32=2.0**110, float64=2.0**900)


def _add(x: Vector, y: Vector) -> DoubleDouble:
    """Return x + y exactly, for x >= 0 and y >= 0: FastTwoSum of the sorted operands."""
    larger, smaller = select(x > y, x, y), select(x > y, y, x)
    total = x + y  # in this order: it decides which of two NaNs comes out
    return total, (larger - total) + smaller


def _divide(x: Vector, y: Vector, y_low: Vector) -> Vector:
    """Compute ``x / (y + y_low)`` with little more than one rounding error, for finite y."""
    reciprocal = 1 / y
    quotient = x * reciprocal
    excess = fma(quotient, y, -x) + quotient * y_low
    return fma(excess, -reciprocal, quotient)  # keeps the sign of -0 / y


def _ratio(x: Vector, y: Vector, y_low: Vector) -> Vector:
    """Compute ``x / (y + y_low)``, with the limit -1 or 1 where both are infinite."""
    limit = select(abs(x) == INFINITY, copysign(1, x), 0)
    shrink = select(y > _HUGE, _SHRINK, 1)
    return select(y == INFINITY, limit, _divide(x * shrink, y * shrink, y_low * shrink))


def _square_and_root(x: Vector, b: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """Return the high and low parts of ``x**2 + b`` and of its square root, for b >= 0.

    Where the square overflows, b is negligible in the root.
    """
    product = x * x
    square, square_low = _add(product, b)
    square_low = square_low + fma(x, x, -product)
    root = sqrt(square)
    root_low = 0.5 * (fma(-root, root, square) + square_low) / root
    root_low = select(square == 0, 0, root_low)
    overflows = square == INFINITY
    root, root_low = select(overflows, abs(x), root), select(overflows, 0, root_low)
    return square, square_low, root, root_low


def _plus(x: Vector, b: Vector, root: Vector, root_low: Vector) -> Vector:
    """Compute ``(x + root) / 2`` without cancellation: on the left, root + x = b / (root - x)."""
    larger, low = _add(0.5 * root, 0.5 * abs(x))
    is_infinite = larger == INFINITY
    low = select(is_infinite, 0, low + 0.5 * root_low)
    left = select(is_infinite, 0, _divide(0.25 * b, select(x < 0, larger, 1), low))
    return select(x < 0, left, larger + low)


def _softsign_from_output(y: Vector) -> Vector:
    slope_root = 1 - abs(y)
    return slope_root * slope_root


def _squareplus_from_output(y: Vector, b: Vector) -> Vector:
    is_zero = y < SMALLEST_NORMAL
    near = select(is_zero, 1, y)
    quotient = select(is_zero, 0, near / (near + 0.25 * b / select(near > _HUGE, _HUGE, near)))
    return select(y == INFINITY, 1, select(y > 0, quotient, y))


def _exact_squareplus(mp: Context, x: Number, b: Number) -> Pieces:
    root = mp.sqrt(x * x + b)
    right = (root + abs(x)) / 2
    left = b / 4 / right
    return [(x < 0, left, left / root), (True, right, right / root)]


def _exact_dish(mp: Context, x: Number) -> Pieces:
    root = mp.sqrt(x * x + 1)
    gates = (x < 0, 1 / (root + abs(x)) / root), (True, (root + x) / root)
    return [(where, x * gate / 2, gate / 2 + x / (2 * root**3)) for where, gate in gates]


def _exact_bent_identity(mp: Context, x: Number) -> Pair:
    root = mp.sqrt(x * x + 1)
    return x + x * x / (2 * (root + 1)), 1 + x / (2 * root)


def _exact_smelu(mp: Context, x: Number, beta: Number) -> Pieces:
    distance = x + beta
    bend = (True, distance**2 / (4 * beta), distance / (2 * beta))
    return [(x <= -beta, 0, 0), (x >= beta, x, 1), bend]


@define(
    formula=r"\frac{x}{1 + \lvert x \rvert}",
    derivative=r"\frac{1}{(1 + \lvert x \rvert)^2}",
    exact=lambda mp, x: (x / (1 + abs(x)), 1 / (1 + abs(x)) ** 2),
    limits=("-1", "1"),
    errors=(0.6, 1.3),
    is_monotone=True,
    from_output=_softsign_from_output,
    aliases=("soft_sign",),
    elsewhere={
        "pytorch": "softsign",
        "jax": "soft_sign",
        "keras": "softsign",
        "onnx": "Softsign",
        "tensorflow": "softsign",
    },
    good_for="bounded hidden units whose gradient should fade slowly, as in recurrent nets",
    not_for="probabilities, and deep feed-forward nets, where an unbounded unit trains faster",
    reference="J. Bergstra, G. Desjardins, P. Lamblin, Y. Bengio, Quadratic Polynomials Learn Better Image Features, Universite de Montreal TR 1337 (2009).",
)
def softsign(x: Vector) -> tuple[Vector, Vector]:
    """Softsign: a tanh that saturates slowly, and costs no more than a quotient.

    No exponential. Its gradient falls with the square of the input, not exponentially, so that saturated
    units still learn.

    Examples
    --------
    >>> fa.softsign([-1.0, 0.0, 3.0])
    array([-0.5 ,  0.  ,  0.75])
    >>> fa.softsign.derivative([-1.0, 0.0, 3.0])
    array([0.25  , 1.    , 0.0625])
    """
    size = select(abs(x) > _HUGE, _HUGE, zero_below(abs(x), TINY))
    one_plus, low = _add(size, 1)
    value = _divide(select(abs(x) > _HUGE, copysign(_HUGE, x), x), one_plus, low)
    return value, _divide(_divide(1, one_plus, low), one_plus, low)


@define(
    formula=r"\frac{x + \sqrt{x^2 + b}}{2}",
    derivative=r"\frac{1}{2} \left(1 + \frac{x}{\sqrt{x^2 + b}}\right)",
    exact=_exact_squareplus,
    limits=("0", "inf"),
    errors=(0.6, 1.6),
    parameters_are={
        "b": "four times the square of the value at 0: how wide the bend is; 0 gives relu"
    },
    domains={"b": NOT_NEGATIVE},
    samples=({"b": 1.0}, {"b": 3.0}),
    is_monotone=True,
    from_output=_squareplus_from_output,
    elsewhere={"jax": "squareplus", "keras": "squareplus"},
    good_for="positive outputs and smooth rectifiers where an exponential costs too much",
    not_for="models trained with softplus: the two differ by up to 0.31 at 0",
    reference="J. Barron, Squareplus: A Softplus-Like Algebraic Rectifier, arXiv:2112.11687 (2021).",
)
def squareplus(x: Vector, b: Vector = 4.0) -> tuple[Vector, Vector]:
    """Squareplus: a softplus made of a square root, several times as fast.

    No exponential. Its gradient falls with the square of the input on the left, so that units are slow
    to die.

    Examples
    --------
    >>> fa.squareplus([-1.5, 0.0, 1.5])
    array([0.5, 1. , 2. ])
    >>> fa.squareplus.derivative([-1.5, 0.0, 1.5])
    array([0.2, 0.5, 0.8])
    """
    near = select(b > _NOT_TINY, zero_below(x, TINY), x)
    _, _, root, root_low = _square_and_root(near, b)
    value = _plus(near, b, root, root_low)
    return value, select(root == 0, 0, _ratio(value, root, root_low))


@define(
    formula=r"\frac{x}{2} \left(1 + \frac{x}{\sqrt{1 + x^2}}\right)",
    derivative=r"\frac{1}{2} \left(1 + \frac{x}{\sqrt{1 + x^2}}\right) + \frac{x}{2 (1 + x^2)^{3/2}}",
    exact=_exact_dish,
    limits=("0", "inf"),
    errors=(2.1, 3.6),
    # Minus the root of the golden ratio's reciprocal.
    roots=(-0.7861513777574233,),
    elsewhere={"thinc": "dish"},
    good_for="stand-ins for silu and gelu on hardware without a fast exponential",
    not_for="models trained with silu or gelu, whose results it does not reproduce",
    reference="D. de Kok, https://twitter.com/danieldekok/status/1484898130441166853 (2022).",
)
def dish(x: Vector) -> tuple[Vector, Vector]:
    """Dish: follows silu and gelu with roots in place of the exponential.

    No exponential. Its gradient falls with the square of the input on the left and is slightly negative
    there.

    Examples
    --------
    >>> fa.dish([-1.0, 0.0, 1.0])
    array([-0.14644661,  0.        ,  0.85355339])
    >>> fa.dish.derivative([-1.0, 0.0, 1.0])
    array([-0.03033009,  0.5       ,  1.03033009])
    """
    near = zero_below(x, TINY)
    square, square_low, root, root_low = _square_and_root(near, 1)
    quotient = _ratio(x, root, root_low)
    plus = _plus(near, 1, root, root_low)
    gate = _ratio(plus, root, root_low)
    bends = square < _STRAIGHT
    top = fma(near, root_low, fma(near, root, 1))
    bend = _divide(top, select(bends, square, 1), square_low)
    return quotient * plus, gate * select(bends, bend, quotient)


@define(
    formula=r"\frac{\sqrt{x^2 + 1} - 1}{2} + x",
    derivative=r"\frac{x}{2 \sqrt{x^2 + 1}} + 1",
    exact=_exact_bent_identity,
    limits=("-inf", "inf"),
    errors=(2.0, 0.8),
    is_monotone=True,
    good_for="regression, where no unit may saturate",
    not_for="classifiers: its slope only goes from 1/2 to 3/2, so that layers are nearly linear",
    reference="Wikipedia, Activation function, https://en.wikipedia.org/wiki/Activation_function.",
)
def bent_identity(x: Vector) -> tuple[Vector, Vector]:
    """Bent identity: slope 1/2 on the far left, 3/2 on the far right.

    No exponential. Its gradient neither vanishes nor explodes, and no unit dies; it bends little, so
    many layers are needed.

    Examples
    --------
    >>> fa.bent_identity([-1.0, 0.0, 1.0])
    array([-0.79289322,  0.        ,  1.20710678])
    >>> fa.bent_identity.derivative([-1.0, 0.0, 1.0])
    array([0.64644661, 1.        , 1.35355339])
    """
    near = zero_below(x, TINY)
    _, _, root, root_low = _square_and_root(near, 1)
    # root - 1 = x**2 / (root + 1)
    one_plus, low = _add(root, 1)
    value = x * fma(0.5, _ratio(near, one_plus, low + root_low), 1)
    return value, fma(0.5, _ratio(near, root, root_low), 1)


@define(
    formula=r"\begin{cases} 0 & x \le -\beta \\ \frac{(x + \beta)^2}{4 \beta} & \lvert x \rvert < \beta \\ x & x \ge \beta \end{cases}",
    derivative=r"\min(\max(\frac{x + \beta}{2 \beta}, 0), 1)",
    exact=_exact_smelu,
    limits=("0", "inf"),
    errors=(2.0, 0.5),
    parameters_are={"beta": "half the width of the bend"},
    domains={"beta": POSITIVE},
    samples=({"beta": 0.5}, {"beta": 3.0}),
    is_scaled=True,
    good_for="recommender models that must give the same predictions when they are trained again",
    not_for="nets whose units already die under relu: left of -beta there is no gradient either",
    reference="G. Shamir, D. Lin, L. Coviello, Smooth activations and reproducibility in deep networks, arXiv:2010.09931 (2020).",
)
def smelu(x: Vector, beta: Vector = 1.0) -> tuple[Vector, Vector]:
    """Smooth rectifier: its corner is a parabola, which makes trained nets more reproducible.

    No exponential. Its gradient is zero below -beta, where units may die.

    Examples
    --------
    >>> fa.smelu([-2.0, 0.0, 0.5, 2.0])
    array([0.    , 0.25  , 0.5625, 2.    ])
    >>> fa.smelu.derivative([-2.0, 0.0, 0.5, 2.0])
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    line = select(x < -beta, 0, x + beta)
    slope = select(x < beta, 0.5 * line / beta, 1)
    return select(x < beta, 0.5 * line * slope, x), select(isnan(x), x, slope)
