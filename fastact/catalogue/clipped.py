"""Functions clipped at both ends, or made of a clipped line: cheap stand-ins for smooth functions."""

from __future__ import annotations

from fastact.catalogue.definition import POSITIVE, Context, Number, Pieces, define
from fastact.simd import Vector, fma, isnan, select
from fastact.vecmath import sqrt


def _clip(x: Vector, low: Vector, high: Vector) -> Vector:
    """Return ``min(max(x, low), high)``, so that of bounds that cross the upper one holds, as in NumPy's clip."""
    raised = select(x < low, low, x)
    return select(raised > high, high, raised)


def _inside(x: Vector, low: Vector, high: Vector, slope: Vector) -> Vector:
    """Return `slope` where x is between the bounds, 0 outside, NaN for NaN."""
    return select((x > low) & (x < high), slope, select(isnan(x), x, 0))


def _clipped(x: Vector, low: Vector, high: Vector) -> tuple[Vector, Vector]:
    return _clip(x, low, high), _inside(x, low, high, 1)


def _with_nan_of(
    low: Vector, high: Vector, value: Vector, derivative: Vector
) -> tuple[Vector, Vector]:
    """Return value and derivative, or NaN where a bound is NaN."""
    is_nan = isnan(low) | isnan(high)
    return select(is_nan, low + high, value), select(is_nan, low + high, derivative)


def _gate(x: Vector, alpha: Vector, beta: Vector) -> tuple[Vector, Vector, Vector]:
    """Return ``clip(alpha x + beta, 0, 1)`` and the positions of its two kinks.

    The kinks of x / 6 + 1 / 2 are exact in floating point, though 1 / 6 is not: so they bound the line, and the
    value is computed from the distance to the lower kink, where the sum would cancel.
    """
    low, high = -beta / alpha, (1 - beta) / alpha
    return _clip(alpha * (x - low), 0, 1), low, high


def _gated(x: Vector, alpha: Vector, beta: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """Return x times its gate, the derivative between the kinks, and the two kinks."""
    gate, low, high = _gate(x, alpha, beta)
    return select(x <= low, 0, x * gate), alpha * fma(2, x, -low), low, high


def _clipped_relu_from_output(y: Vector, z: Vector) -> Vector:
    return _inside(y, 0, z, 1)


def _relu6_from_output(y: Vector) -> Vector:
    return _inside(y, 0, 6, 1)


def _hardtanh_from_output(y: Vector, min_val: Vector, max_val: Vector) -> Vector:
    return _inside(y, min_val, max_val, 1)


def _clipped_linear_from_output(
    y: Vector, slope: Vector, offset: Vector, min_val: Vector, max_val: Vector
) -> Vector:
    return _inside(y, min_val, max_val, slope)


def _hardsigmoid_from_output(y: Vector, alpha: Vector, beta: Vector) -> Vector:
    return _inside(y, 0, 1, alpha)


def _sparse_plus_from_output(y: Vector) -> Vector:
    return select(y > 1, 1, sqrt(y))


_GATES = ({"alpha": 0.2}, {"alpha": 0.25, "beta": 0.125})


def _exact_clipped(line: Number, low: Number, high: Number, slope: Number = 1) -> Pieces:
    return [(line <= low, low, 0), (line >= high, high, 0), (True, line, slope)]


def _fraction(number: Number) -> tuple[Number, Number]:
    """Return numerator and denominator of the number that a parameter was rounded from, such as 1 / 6."""
    from fractions import Fraction  # for tests only: it would slow down the import

    found = Fraction(float(number)).limit_denominator(60)
    return type(number)(found.numerator), type(number)(found.denominator)


def _exact_hardsigmoid(mp: Context, x: Number, alpha: Number, beta: Number) -> Pieces:
    (a, b), (c, d) = _fraction(alpha), _fraction(beta)
    return _exact_clipped((a * d * x + b * c) / (b * d), 0, 1, a / b)


def _exact_hardswish(mp: Context, x: Number, alpha: Number, beta: Number) -> Pieces:
    (a, b), (c, d) = _fraction(alpha), _fraction(beta)
    gate, slope = (a * d * x + b * c) / (b * d), (2 * a * d * x + b * c) / (b * d)
    return [(gate <= 0, 0, 0), (gate >= 1, x, 1), (True, x * gate, slope)]


@define(
    formula=r"\min(\max(x, 0), 6)",
    derivative=r"\begin{cases} 1 & 0 < x < 6 \\ 0 & \text{else} \end{cases}",
    exact=lambda mp, x: _exact_clipped(x, 0, 6),
    kinks={"0": "0", "6": "0"},
    limits=("0", "6"),
    errors=(0.0, 0.0),
    from_output=_relu6_from_output,
    elsewhere={
        "pytorch": "relu6",
        "jax": "relu6",
        "keras": "relu6",
        "chainer": "relu6",
        "tensorflow": "relu6",
    },
    good_for="nets that will be quantized to 8 bits, such as MobileNet",
    not_for="nets that stay in floating point, where the bound only removes gradients",
    reference="A. Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10 (2010).",
)
def relu6(x: Vector) -> tuple[Vector, Vector]:
    """Rectifier clipped at 6: keeps activations in a range that few bits can represent.

    No exponential. Its gradient is zero on both sides.

    Examples
    --------
    >>> fa.relu6([-1.0, 3.0, 8.0])
    array([0., 3., 6.])
    >>> fa.relu6.derivative([-1.0, 3.0, 8.0])
    array([0., 1., 0.])
    """
    return _clipped(x, 0, 6)


@define(
    formula=r"\min(\max(x, 0), z)",
    derivative=r"\begin{cases} 1 & 0 < x < z \\ 0 & \text{else} \end{cases}",
    exact=lambda mp, x, z: _exact_clipped(x, 0, z),
    kinks={"0": "0", "z": "0"},
    limits=("0", "z"),
    errors=(0.0, 0.0),
    parameters_are={"z": "the largest value"},
    samples=({"z": 0.5},),
    from_output=_clipped_relu_from_output,
    aliases=("relu_k",),
    elsewhere={"thinc": "relu_k", "chainer": "clipped_relu"},
    good_for="recurrent nets of rectifiers, as in Deep Speech",
    not_for="deep feed-forward nets, where normalization keeps activations in range and leaves the gradient",
    reference="A. Hannun et al., Deep Speech: Scaling up end-to-end speech recognition, arXiv:1412.5567 (2014).",
)
def clipped_relu(x: Vector, z: Vector = 20.0) -> tuple[Vector, Vector]:
    """Clipped rectifier: bounds the activations, so that those of recurrent nets do not explode.

    No exponential. Its gradient is zero on both sides.

    Examples
    --------
    >>> fa.clipped_relu([-1.0, 3.0, 25.0])
    array([ 0.,  3., 20.])
    >>> fa.clipped_relu([-1.0, 3.0, 25.0], z=2.0)
    array([0., 2., 2.])
    """
    return _with_nan_of(z, z, *_clipped(x, 0, z))


@clipped_relu.convention("thinc", from_output=_clipped_relu_from_output)
def _clipped_relu_thinc(x: Vector, z: Vector = 6.0) -> tuple[Vector, Vector]:
    return _with_nan_of(z, z, *_clipped(x, 0, z))


@define(
    formula=r"\min(\max(s x + o, a), b), \quad s = \text{slope}, o = \text{offset}, a = \text{min\_val}, b = \text{max\_val}",
    derivative=r"\begin{cases} s & a < s x + o < b \\ 0 & \text{else} \end{cases}",
    exact=lambda mp, x, slope, offset, min_val, max_val: _exact_clipped(
        slope * x + offset, min_val, max_val, slope
    ),
    kinks={"(min_val-offset)/slope": "0", "(max_val-offset)/slope": "0"},
    limits=("min_val", "max_val"),
    errors=(0.5, 0.0),
    parameters_are={
        "slope": "slope of the line",
        "offset": "the line at 0",
        "min_val": "the smallest value",
        "max_val": "the largest value",
    },
    samples=({"slope": 2.0, "offset": -0.5, "min_val": -1.0, "max_val": 3.0},),
    from_output=_clipped_linear_from_output,
    elsewhere={"thinc": "clipped_linear"},
    good_for="saturating arithmetic, and models converted from ONNX's Clip",
    not_for="hidden units of its own: prefer one of the special cases, which others know by name",
    reference="Explosion, Thinc, https://thinc.ai/docs/api-backends (2022).",
)
def clipped_linear(
    x: Vector,
    slope: Vector = 1.0,
    offset: Vector = 0.0,
    min_val: Vector = 0.0,
    max_val: Vector = 1.0,
) -> tuple[Vector, Vector]:
    """Clipped line: any line between any two bounds; the bounded rectifiers are special cases.

    No exponential. Its gradient is zero on both sides.

    Examples
    --------
    >>> fa.clipped_linear([-2.0, 0.5, 3.0])
    array([0. , 0.5, 1. ])
    >>> fa.clipped_linear([-2.0, 0.5, 3.0], slope=0.5)
    array([0.  , 0.25, 1.  ])
    """
    line = select((slope == 0) & ~isnan(x), offset, fma(slope, x, offset))
    # The rounded line may equal a bound inside the bounds, so compare differences instead.
    above, below = fma(slope, x, offset - min_val), fma(slope, x, offset - max_val)
    inside = (above > 0) & (below < 0)
    derivative = select(inside, slope, select(isnan(x), x, 0))
    return _with_nan_of(min_val, max_val, _clip(line, min_val, max_val), derivative)


@define(
    formula=r"\min(\max(x, a), b), \quad a = \text{min\_val}, b = \text{max\_val}",
    derivative=r"\begin{cases} 1 & a < x < b \\ 0 & \text{else} \end{cases}",
    exact=lambda mp, x, min_val, max_val: _exact_clipped(x, min_val, max_val),
    kinks={"min_val": "0", "max_val": "0"},
    limits=("min_val", "max_val"),
    errors=(0.0, 0.0),
    parameters_are={"min_val": "the smallest value", "max_val": "the largest value"},
    samples=({"min_val": -0.5, "max_val": 2.0},),
    from_output=_hardtanh_from_output,
    aliases=("hard_tanh",),
    elsewhere={
        "pytorch": "hardtanh",
        "jax": "hard_tanh",
        "keras": "hard_tanh",
        "onnx": "Clip",
        "thinc": "hard_tanh",
    },
    good_for="cheap bounded outputs, such as actions in control, and nets to be quantized",
    not_for="deep hidden layers: outside the interval no gradient passes",
    reference="R. Collobert, Large Scale Machine Learning, PhD thesis, Universite Paris VI (2004).",
)
def hardtanh(x: Vector, min_val: Vector = -1.0, max_val: Vector = 1.0) -> tuple[Vector, Vector]:
    """Hard hyperbolic tangent: the identity, clipped; a tanh that costs next to nothing.

    No exponential. Its gradient is zero on both sides.

    Examples
    --------
    >>> fa.hardtanh([-2.0, 0.5, 2.0])
    array([-1. ,  0.5,  1. ])
    >>> fa.hardtanh.derivative([-2.0, 0.5, 2.0])
    array([0., 1., 0.])
    """
    return _with_nan_of(min_val, max_val, *_clipped(x, min_val, max_val))


@hardtanh.convention("jax", kinks={"min_val": "1", "max_val": "1"})
def _hardtanh_jax(
    x: Vector, min_val: Vector = -1.0, max_val: Vector = 1.0
) -> tuple[Vector, Vector]:
    inside = (x >= min_val) & (x <= max_val)
    derivative = select(inside, 1, select(isnan(x), x, 0))
    return _with_nan_of(min_val, max_val, _clip(x, min_val, max_val), derivative)


@define(
    formula=r"\min(\max(\alpha x + \beta, 0), 1)",
    derivative=r"\begin{cases} \alpha & 0 < \alpha x + \beta < 1 \\ 0 & \text{else} \end{cases}",
    exact=_exact_hardsigmoid,
    kinks={"-beta/alpha": "0", "(1-beta)/alpha": "0"},
    limits=("0", "1"),
    errors=(1.6, 0.5),
    parameters_are={"alpha": "slope of the line", "beta": "the line at 0"},
    domains={"alpha": POSITIVE},
    samples=_GATES,
    from_output=_hardsigmoid_from_output,
    aliases=("hard_sigmoid",),
    elsewhere={
        "pytorch": "hardsigmoid",
        "jax": "hard_sigmoid",
        "keras": "hard_sigmoid",
        "onnx": "HardSigmoid",
        "thinc": "hard_sigmoid",
        "chainer": "hard_sigmoid",
    },
    good_for="gates and attention over channels on mobile hardware",
    not_for="output probabilities: it reaches 0 and 1, where the cross-entropy is infinite; libraries differ in its slope",
    reference="M. Courbariaux, Y. Bengio, J.-P. David, BinaryConnect, NIPS 2015.",
)
def hardsigmoid(x: Vector, alpha: Vector = 1 / 6, beta: Vector = 0.5) -> tuple[Vector, Vector]:
    """Hard sigmoid: a line between 0 and 1, clipped; a gate that costs next to nothing.

    No exponential. Its gradient is zero on both sides.

    Examples
    --------
    >>> fa.hardsigmoid([-4.0, 0.0, 1.5, 4.0])
    array([0.  , 0.5 , 0.75, 1.  ])
    >>> fa.hardsigmoid([-4.0, 0.0, 1.5, 4.0], convention="thinc")
    array([0. , 0.5, 0.8, 1. ])
    """
    gate, low, high = _gate(x, alpha, beta)
    return gate, _inside(x, low, high, alpha)


@hardsigmoid.convention("thinc", "chainer", from_output=_hardsigmoid_from_output)
def _hardsigmoid_thinc(x: Vector, alpha: Vector = 0.2, beta: Vector = 0.5) -> tuple[Vector, Vector]:
    gate, low, high = _gate(x, alpha, beta)
    return gate, _inside(x, low, high, alpha)


@define(
    formula=r"x \min(\max(\alpha x + \beta, 0), 1)",
    derivative=r"\begin{cases} 0 & \alpha x + \beta \le 0 \\ 2 \alpha x + \beta & 0 < \alpha x + \beta < 1 \\ 1 & \alpha x + \beta \ge 1 \end{cases}",
    exact=_exact_hardswish,
    kinks={"-beta/alpha": "0", "(1-beta)/alpha": "1"},
    limits=("0", "inf"),
    errors=(2.5, 1.5),
    parameters_are={"alpha": "slope of the gate", "beta": "the gate at 0"},
    domains={"alpha": POSITIVE},
    samples=_GATES,
    aliases=("hard_swish", "hard_silu", "hard_swish_mobilenet"),
    elsewhere={
        "pytorch": "hardswish",
        "jax": "hard_swish",
        "keras": "hard_silu",
        "onnx": "HardSwish",
        "thinc": "hard_swish",
    },
    good_for="mobile convolutional nets, as in MobileNetV3",
    not_for="nets on hardware with a fast exponential, where silu is as cheap and smooth",
    reference="A. Howard et al., Searching for MobileNetV3, ICCV 2019.",
)
def hardswish(x: Vector, alpha: Vector = 1 / 6, beta: Vector = 0.5) -> tuple[Vector, Vector]:
    """Hard swish: the input times a hard sigmoid, which follows silu without its exponential.

    No exponential. It dips below zero before it vanishes on the left, and with it the gradient.

    Examples
    --------
    >>> fa.hardswish([-4.0, -1.5, 1.5, 4.0])
    array([ 0.   , -0.375,  1.125,  4.   ])
    >>> fa.hardswish.derivative([-4.0, -1.5, 1.5, 4.0])
    array([0., 0., 1., 1.])
    """
    value, middle, low, high = _gated(x, alpha, beta)
    right = select(x < high, middle, 1)
    return value, select(x > low, right, select(x <= low, 0, x))


@hardswish.convention("thinc", kinks={"-beta/alpha": "-beta", "(1-beta)/alpha": "2-beta"})
def _hardswish_thinc(x: Vector, alpha: Vector = 0.2, beta: Vector = 0.5) -> tuple[Vector, Vector]:
    value, middle, low, high = _gated(x, alpha, beta)
    right = select(x <= high, middle, 1)
    return value, select(x >= low, right, select(x < low, 0, x))


@define(
    formula=r"\frac{x}{2} \min(\max(x + 2, 0), 2)",
    derivative=r"\begin{cases} 0 & x \le -2 \\ x + 1 & -2 < x < 0 \\ 1 & x \ge 0 \end{cases}",
    exact=lambda mp, x: [(x <= -2, 0, 0), (x >= 0, x, 1), (True, x * (x + 2) / 2, x + 1)],
    kinks={"-2": "0"},
    limits=("0", "inf"),
    errors=(1.5, 0.5),
    good_for="mobile convolutional nets in place of mish",
    not_for="models trained with mish, whose results it does not reproduce",
    reference="D. Misra, H-Mish, https://github.com/digantamisra98/H-Mish.",
)
def hard_mish(x: Vector) -> tuple[Vector, Vector]:
    """Hard mish: two parabola ends in place of mish's exponentials.

    No exponential. It dips below zero before it vanishes on the left, and with it the gradient.

    Examples
    --------
    >>> fa.hard_mish([-3.0, -1.0, 1.0])
    array([ 0. , -0.5,  1. ])
    >>> fa.hard_mish.derivative([-3.0, -1.0, 1.0])
    array([0., 0., 1.])
    """
    gate = 0.5 * _clip(x + 2, 0, 2)
    derivative = select(x > -2, _clip(x, -2, 0) + 1, select(x <= -2, 0, x))
    return select(x <= -2, 0, x * gate), derivative


@define(
    formula=r"\min(\max(\frac{x + 1}{2}, 0), 1)",
    derivative=r"\begin{cases} \frac{1}{2} & -1 < x < 1 \\ \frac{1}{4} & \lvert x \rvert = 1 \\ 0 & \text{else} \end{cases}",
    exact=lambda mp, x: [(abs(x) == 1, (x + 1) / 2, 0.25), *_exact_clipped((x + 1) / 2, 0, 1, 0.5)],
    kinks={"-1": "0.25", "1": "0.25"},
    limits=("0", "1"),
    errors=(0.5, 0.0),
    elsewhere={"jax": "sparse_sigmoid", "keras": "sparse_sigmoid"},
    good_for="gates that should close and open completely",
    not_for="output probabilities under a logarithm, and layers that must not stop learning outside (-1, 1)",
    reference="A. Martins, R. Astudillo, From Softmax to Sparsemax, ICML 2016.",
)
def sparse_sigmoid(x: Vector) -> tuple[Vector, Vector]:
    """Sparse sigmoid: the sparsemax of two numbers, and the derivative of sparse_plus.

    No exponential. Its gradient is zero on both sides; unlike the sigmoid it reaches 0 and 1.

    Examples
    --------
    >>> fa.sparse_sigmoid([-2.0, 0.5, 1.0])
    array([0.  , 0.75, 1.  ])
    >>> fa.sparse_sigmoid.derivative([-2.0, 0.5, 1.0])
    array([0.  , 0.5 , 0.25])
    """
    half = 0.5 * (x + 1)
    return _clip(half, 0, 1), select(abs(x) == 1, 0.25, _inside(x, -1, 1, 0.5))


@define(
    formula=r"\begin{cases} 0 & x \le -1 \\ \frac{(x + 1)^2}{4} & -1 < x < 1 \\ x & x \ge 1 \end{cases}",
    derivative=r"\min(\max(\frac{x + 1}{2}, 0), 1)",
    exact=lambda mp, x: [(x <= -1, 0, 0), (x >= 1, x, 1), (True, (x + 1) ** 2 / 4, (x + 1) / 2)],
    limits=("0", "inf"),
    errors=(2.0, 0.5),
    from_output=_sparse_plus_from_output,
    elsewhere={"jax": "sparse_plus", "keras": "sparse_plus"},
    good_for="positive outputs that may be exactly zero",
    not_for="outputs under a logarithm, where softplus stays above zero",
    reference="A. Martins, R. Astudillo, From Softmax to Sparsemax, ICML 2016.",
)
def sparse_plus(x: Vector) -> tuple[Vector, Vector]:
    """Sparse plus: a rectifier whose corner is a parabola; a softplus that reaches zero.

    No exponential. Its gradient is zero below -1, where units may die.

    Examples
    --------
    >>> fa.sparse_plus([-2.0, 0.0, 2.0])
    array([0.  , 0.25, 2.  ])
    >>> fa.sparse_plus.derivative([-2.0, 0.0, 2.0])
    array([0. , 0.5, 1. ])
    """
    half = _clip(0.5 * (x + 1), 0, 1)
    return select(x < 1, half * half, x), half
