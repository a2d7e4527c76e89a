"""The input times a gate, which mostly opens from 0 to 1: smooth rectifiers, most with a dip left of 0.

In the left tail, the value is an exponential times the input: it is accurate down to the smallest subnormal
number only if the input comes in before the exponential underflows; see `fastact.vecmath.products`.
"""

from __future__ import annotations

from fastact.catalogue.definition import Context, Number, Pair, define
from fastact.simd import PerDtype, Vector, copysign, fma, select
from fastact.vecmath import gelu_and_derivative
from fastact.vecmath.double_double import (
    double_double_product,
    double_double_reciprocal_of_one_plus,
    double_double_sum,
    select_double_double,
    two_product,
    two_sum,
)
from fastact.vecmath.error_function import erf_and_derivative_double_double
from fastact.vecmath.exponential import (
    NUDGE,
    TINY_SQUARE,
    VANISHING,
    exp_and_logistic_double_double,
    near_exp_parts,
    tail,
    tanh_and_derivative_parts,
)
from fastact.vecmath.logarithm import log1p_double_double
from fastact.vecmath.products import exp_times, finite, logistic_gate, logistic_times
from fastact.vecmath.scaling import (
    SQUARE_ZERO,
    away_from_zero,
    bound,
    zero_below,
)

# Constants that scale an argument are double-doubles.
_QUICK = PerDtype(float32=1.7020000219345093, float64=1.702)
_QUICK_LOW = PerDtype(float32=-2.193450927734375e-08, float64=4.263256414560605e-17)
# 2 sqrt(2 / pi), and the same times 0.044715.
_LINEAR = PerDtype(float32=1.5957691669464111, float64=1.5957691216057308)
_LINEAR_LOW = PerDtype(float32=-4.534068042105272e-08, float64=-9.969308809110914e-17)
_CUBIC = PerDtype(float32=0.07135481387376785, float64=0.07135481627260025)
_CUBIC_LOW = PerDtype(float32=2.3988323959931355e-09, float64=-6.175149918155207e-19)
_TWO_OVER_SQRT_PI = 1.1283791670955126
# Above, the gates of serf and logish are open to the last bit; below, they are the exponential times a constant.
_GATE_OPEN = PerDtype(float32=24.0, float64=48.0)
_MINUS_GATE_OPEN = -_GATE_OPEN
_GATE_SHUT = PerDtype(float32=-20.0, float64=-40.0)


def _clamp(x: Vector, limit: Vector) -> Vector:
    """Return the nearest number to x between -limit and limit."""
    bounded = select(x > limit, limit, x)
    return select(bounded < -limit, -limit, bounded)


def _near(x: Vector) -> Vector:
    """Return x between the bounds beyond which serf and logish do not use it."""
    return zero_below(bound(_clamp(x, 1000), _MINUS_GATE_OPEN, _GATE_OPEN), NUDGE)


def _cubic_argument(x: Vector) -> tuple[Vector, Vector, Vector]:
    """Return the high and low part of _LINEAR x + _CUBIC x**3, and x times its derivative."""
    # Not by TwoProd, after which LLVM orders operands otherwise: the sign of a NaN would change in bfloat16.
    square = x * x
    bend = _CUBIC * square
    bend_low = fma(_CUBIC, square, -bend) + fma(_CUBIC, fma(x, x, -square), _CUBIC_LOW * square)
    factor, factor_low = two_sum(bend, _LINEAR)
    factor_low = factor_low + (bend_low + _LINEAR_LOW)
    argument = x * factor
    slope = fma(3, bend, _LINEAR)
    slope_low = fma(3, bend, _LINEAR - slope) + _LINEAR_LOW
    low = fma(x, factor, -argument) + x * factor_low
    return argument, low, fma(x, slope, x * slope_low)


def _exact_logistic(mp: Context, x: Number) -> Number:
    return 1 / (1 + mp.exp(-x))


def _exact_silu(mp: Context, x: Number, beta: Number) -> Pair:
    z = beta * x
    gate = _exact_logistic(mp, z)
    return x * gate, gate * (1 + z * _exact_logistic(mp, -z))


def _exact_gelu_tanh(mp: Context, x: Number) -> Pair:
    linear = 2 * mp.sqrt(2 / mp.pi)
    cube = linear * mp.mpf("0.044715") * x**3
    w = linear * x + cube
    gate = _exact_logistic(mp, w)
    return x * gate, gate * (1 + (w + 2 * cube) * _exact_logistic(mp, -w))


def _exact_gelu(mp: Context, x: Number) -> Pair:
    distribution = mp.erfc(-x / mp.sqrt(2)) / 2
    density = mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)
    return x * distribution, distribution + x * density


def _exact_mish(mp: Context, x: Number) -> Pair:
    softplus = mp.log1p(mp.exp(x))  # whose derivative is 1 - exp(-softplus)
    gate = mp.tanh(softplus)
    return x * gate, gate - x * mp.expm1(-softplus) * mp.sech(softplus) ** 2


def _exact_serf(mp: Context, x: Number) -> Pair:
    softplus = mp.log1p(mp.exp(x))
    gate = mp.erf(softplus)
    slope = 2 / mp.sqrt(mp.pi) * mp.exp(-(softplus**2)) * mp.expm1(-softplus)
    return x * gate, gate - x * slope


def _exact_logish(mp: Context, x: Number) -> Pair:
    opening = _exact_logistic(mp, x)
    gate = mp.log1p(opening)
    return x * gate, gate + x * opening * _exact_logistic(mp, -x) / (1 + opening)


@define(
    formula=r"x \, \sigma(\beta x)",
    derivative=r"\sigma(\beta x) \left( 1 + \beta x \, \sigma(-\beta x) \right)",
    exact=_exact_silu,
    limits=("0", "inf"),
    errors=(2.5, 4.2),
    parameters_are={"beta": "how steeply the gate opens; learnable"},
    samples=tuple({"beta": beta} for beta in (0.3, 1.7, 0.0, -1.0)),
    near_root=lambda mp, x, beta: abs(beta * x + 1.2784645427610738) <= 0.4,
    learnable=("beta",),
    roots=(-1.2784645427610738,),
    aliases=("swish",),
    elsewhere={
        "pytorch": "silu",
        "jax": "silu",
        "keras": "silu",
        "onnx": "Swish",
        "thinc": "swish",
        "chainer": "swish",
        "tensorflow": "silu",
    },
    good_for="deep convolutional nets such as EfficientNet, and the gate of SwiGLU",
    not_for="shallow nets and cheap inference, where relu learns as well in less time",
    reference="S. Elfwing, E. Uchibe, K. Doya, Sigmoid-Weighted Linear Units for Neural Network Function Approximation in Reinforcement Learning, Neural Networks 107 (2018), 3-11; P. Ramachandran, B. Zoph, Q. Le, Searching for Activation Functions, arXiv:1710.05941 (2017).",
)
def silu(x: Vector, beta: Vector = 1.0) -> tuple[Vector, Vector, Vector]:
    """Sigmoid linear unit, or swish: the input times its own sigmoid, a rectifier without a kink.

    One exponential. The gradient vanishes far on the left only, where it is negative, so units seldom
    die. The gradient by beta is ``x**2`` times the derivative of the sigmoid.

    Examples
    --------
    >>> x = np.array([-1.0, 0.0, 1.0])
    >>> fa.silu(x)
    array([-0.26894142,  0.        ,  0.73105858])
    >>> dx, dbeta = fa.silu.backward(np.ones(3), x, beta=1.0)
    >>> dx
    array([0.07232949, 0.5       , 0.92767051])
    >>> print(f"{dbeta:.6f}")
    0.393224
    """
    argument, low = two_product(beta, finite(x) + NUDGE)
    size, size_low = abs(argument), select(argument < 0, -low, low)
    # x exp(-size / 2) logistic(size), whose square overflows only where the result does.
    half = exp_times(-0.5 * size, -0.5 * size_low, logistic_times(size, size_low, x))
    half = zero_below(half, SQUARE_ZERO)
    return logistic_gate(x, argument, low, argument) + (half * half,)


@define(
    formula=r"x \, \sigma(1.702 \, x)",
    derivative=r"\sigma(1.702 \, x) \left( 1 + 1.702 \, x \, \sigma(-1.702 \, x) \right)",
    exact=lambda mp, x: _exact_silu(mp, x, mp.mpf("1.702")),
    limits=("0", "inf"),
    errors=(2.5, 4.2),
    roots=(-0.75115425544128895,),
    good_for="models trained with it, such as CLIP",
    not_for="new models: gelu is exact and costs about the same here",
    reference="D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, arXiv:1606.08415 (2016), section 2.",
)
def quick_gelu(x: Vector) -> tuple[Vector, Vector]:
    """Gaussian error linear unit with the normal distribution replaced by a sigmoid: silu, steeper.

    One exponential. It is up to 0.02 off the exact unit.

    Examples
    --------
    >>> fa.quick_gelu([-1.0, 0.0, 1.0])
    array([-0.15420423,  0.        ,  0.84579577])
    >>> fa.quick_gelu.derivative([-1.0, 0.0, 1.0])
    array([-0.06777961,  0.5       ,  1.06777961])
    """
    near = x + NUDGE
    argument, low = two_product(_QUICK, near)
    return logistic_gate(x, argument, low + _QUICK_LOW * near, argument)


@define(
    formula=r"x \, \sigma(w) = \frac{x}{2} \left( 1 + \tanh \frac{w}{2} \right), \quad w = 2 \sqrt{2 / \pi} \, (x + 0.044715 \, x^3)",
    derivative=r"\sigma(w) \left( 1 + x w' \sigma(-w) \right), \quad w' = 2 \sqrt{2 / \pi} \, (1 + 0.134145 \, x^2)",
    exact=_exact_gelu_tanh,
    limits=("0", "inf"),
    errors=(2.5, 4.8),
    roots=(-0.75246142207101626,),
    aliases=("gelu_approx", "fast_gelu"),
    elsewhere={"jax": "gelu", "thinc": "gelu_approx"},
    good_for="models trained with it, such as GPT-2",
    not_for="new models: gelu is exact and costs about the same here",
    reference="D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, arXiv:1606.08415 (2016), section 2.",
)
def gelu_tanh(x: Vector) -> tuple[Vector, Vector]:
    """Gaussian error linear unit with the normal distribution replaced by a tanh.

    One exponential. It is up to 0.0005 off the exact unit, which costs about the same here.

    Examples
    --------
    >>> fa.gelu_tanh([-1.0, 0.0, 1.0])
    array([-0.15880801,  0.        ,  0.84119199])
    >>> fa.gelu_tanh.derivative([-1.0, 0.0, 1.0])
    array([-0.08296408,  0.5       ,  1.08296408])
    """
    # Beyond 40, the gate is open or shut to the last bit; the clamp keeps its argument from overflowing.
    argument, low, growth = _cubic_argument(away_from_zero(_clamp(x, 40)))
    return logistic_gate(x, argument, low, growth)


@define(
    formula=r"x \, \Phi(x), \quad \Phi(x) = \frac{1}{2} \mathrm{erfc} \left( -\frac{x}{\sqrt 2} \right)",
    derivative=r"\Phi(x) + x \, \varphi(x), \quad \varphi(x) = \frac{e^{-x^2 / 2}}{\sqrt{2 \pi}}",
    exact=_exact_gelu,
    limits=("0", "inf"),
    errors=(2.3, 2.7),
    roots=(-0.75179152469356446,),
    choices={
        "approximate": {"tanh": gelu_tanh, "quick": quick_gelu},
        "convention": {"jax": gelu_tanh},
    },
    elsewhere={
        "pytorch": "gelu",
        "jax": "gelu",
        "keras": "gelu",
        "onnx": "Gelu",
        "thinc": "gelu",
        "tensorflow": "gelu",
    },
    good_for="the feed-forward blocks of transformers",
    not_for="small nets on a tight budget of time, where relu is cheaper and often as good",
    reference="D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, arXiv:1606.08415 (2016).",
)
def gelu(x: Vector) -> tuple[Vector, Vector]:
    """Gaussian error linear unit: the input times the probability that a normal number is smaller.

    One exponential. The gradient vanishes far on the left only, faster than that of silu.

    Examples
    --------
    >>> x = np.array([-1.0, 0.0, 1.0])
    >>> fa.gelu(x)
    array([-0.15865525,  0.        ,  0.84134475])
    >>> fa.gelu.derivative(x)
    array([-0.08331547,  0.5       ,  1.08331547])
    >>> fa.gelu(x, approximate="tanh")
    array([-0.15880801,  0.        ,  0.84119199])
    """
    return gelu_and_derivative(x)


def _times_exp(x: Vector, power: Vector, p: Vector, exponent: Vector) -> Vector:
    """Compute ``exp(exponent) * x``, given its power of two and rest."""
    return tail(fma(p, x, x) * power, exponent, 0, x)


@define(
    formula=r"x \tanh(\ln(1 + e^x)) = x \, \frac{e^{2 x} + 2 e^x}{e^{2 x} + 2 e^x + 2}",
    derivative=r"\frac{e^x \left( e^{3 x} + 4 e^{2 x} + (6 + 4 x) e^x + 4 + 4 x \right)}{(e^{2 x} + 2 e^x + 2)^2}",
    exact=_exact_mish,
    limits=("0", "inf"),
    errors=(2.6, 4.7),
    roots=(-1.1924312145154952,),
    elsewhere={"pytorch": "mish", "jax": "mish", "keras": "mish", "onnx": "Mish", "thinc": "mish"},
    good_for="convolutional nets for detection, as in YOLOv4",
    not_for="nets in which silu does as well, which is simpler and better known",
    reference="D. Misra, Mish: A Self Regularized Non-Monotonic Activation Function, BMVC 2020.",
)
def mish(x: Vector) -> tuple[Vector, Vector]:
    """Mish: much like silu with a steeper gate.

    One exponential, and neither a tanh nor a logarithm. The gradient vanishes far on the left only.

    Examples
    --------
    >>> fa.mish([-1.0, 0.0, 1.0])
    array([-0.30340146,  0.        ,  0.86509839])
    >>> fa.mish.derivative([-1.0, 0.0, 1.0])
    array([0.05921676, 0.6       , 1.04903622])
    """
    # Both quotients in powers of exp(-abs(x)), not of exp(x): on the right, coefficients are reversed.
    is_left, near = x < 0, _clamp(x, 1000)
    exponent = -abs(near) - NUDGE
    power, p = near_exp_parts(exponent)
    e, outer, inner = fma(power, p, power), fma(4, near, 4), fma(4, near, 6)
    factor, constant = select(is_left, e + 2, 2 * e), select(is_left, 2, fma(2, e, 1))
    bottom = fma(e, factor, constant)
    one_minus_gate = fma(e, select(is_left, 1 + e, 2 * e), TINY_SQUARE) / bottom
    value = copysign(select(x > 1000, x, fma(-near, one_minus_gate, near)), x)
    top = fma(e, select(is_left, 1, outer), select(is_left, 4, inner))
    top = fma(e, fma(e, top, select(is_left, inner, 4)), select(is_left, outer, 1))
    slope = top / fma(2 * bottom, fma(e, factor, constant - bottom + TINY_SQUARE), bottom * bottom)
    left, left_slope = _times_exp(value, power, p, exponent), _times_exp(slope, power, p, exponent)
    return select(is_left, left, value), select(is_left, left_slope, slope)


@define(
    formula=r"x \mathrm{erf}(\ln(1 + e^x))",
    derivative=r"\mathrm{erf}(u) + \frac{2}{\sqrt \pi} \, x \, e^{-u^2} \sigma(x), \quad u = \ln(1 + e^x)",
    exact=_exact_serf,
    limits=("0", "inf"),
    errors=(2.5, 2.2),
    roots=(-1.193059968928188,),
    good_for="experiments with smooth units; it follows mish closely",
    not_for="cheap inference: two exponentials and a logarithm for each element",
    reference="S. Nag, M. Bhattacharyya, A. Mukherjee, R. Kundu, SERF: Towards Better Training of Deep Neural Networks Using Log-Softplus ERror Activation Function, WACV 2023.",
)
def serf(x: Vector) -> tuple[Vector, Vector]:
    """Log-softplus error unit: the mish with an error function in place of its tanh.

    Two exponentials and one logarithm: the most expensive of its kind. The gradient vanishes far on the left only.

    Examples
    --------
    >>> fa.serf([-1.0, 0.0, 1.0])
    array([-0.34224796,  0.        ,  0.93672192])
    >>> fa.serf.derivative([-1.0, 0.0, 1.0])
    array([0.06714568, 0.67304129, 1.0837494 ])
    """
    is_left, near = x < 0, _near(x)
    e, upper, lower = exp_and_logistic_double_double(near)
    argument = double_double_sum((select(is_left, 0, near), 0), log1p_double_double(*e))
    gate, gate_slope = erf_and_derivative_double_double(*argument, VANISHING)
    opening = double_double_product(select_double_double(is_left, lower, upper), gate_slope)
    slope, slope_low = double_double_sum(gate, double_double_product((near, 0), opening))
    # Far on the left, the gate is exp(x) times a constant to the last bit.
    is_far, left = x < _GATE_SHUT, _TWO_OVER_SQRT_PI * x
    value = select(is_far, exp_times(-abs(x), 0, left), x * (gate[0] + gate[1]))
    far_slope = exp_times(-abs(x), 0, left + _TWO_OVER_SQRT_PI)
    return value, select(is_far, far_slope, slope + slope_low)


@define(
    formula=r"x \ln(1 + \sigma(x))",
    derivative=r"\ln(1 + \sigma(x)) + \frac{x \, \sigma(x) \, \sigma(-x)}{1 + \sigma(x)}",
    exact=_exact_logish,
    limits=("0", "inf"),
    errors=(1.6, 1.0),
    roots=(-1.3724541370256921,),
    good_for="experiments with smooth units whose slope stays below that of silu",
    not_for="nets that need a slope of 1 on the right: here it is ln 2",
    reference="H. Zhu, H. Zeng, J. Liu, X. Zhang, Logish: A New Nonlinear Nonmonotonic Activation Function for Convolutional Neural Network, Neurocomputing 458 (2021), 490-499.",
)
def logish(x: Vector) -> tuple[Vector, Vector]:
    """Logish: the input times the logarithm of one plus its sigmoid.

    One exponential and one logarithm. The gradient goes to ln 2 on the right and vanishes far on the left
    only.

    Examples
    --------
    >>> fa.logish([-1.0, 0.0, 1.0])
    array([-0.23818303,  0.        ,  0.54873312])
    >>> fa.logish.derivative([-1.0, 0.0, 1.0])
    array([0.08324133, 0.40546511, 0.66231213])
    """
    is_left, near = x < 0, _near(x)
    e, upper, lower = exp_and_logistic_double_double(near)
    gate = log1p_double_double(*select_double_double(is_left, lower, upper))
    # sigma(x) sigma(-x) / (1 + sigma(x)) is `lower` over 1 + 2 e on the left, over 2 + e on the right.
    factor, half = select(is_left, 2, 0.5), near * select(is_left, 1, 0.5)
    reciprocal = double_double_reciprocal_of_one_plus((factor * e[0], factor * e[1]))
    change = double_double_product((half, 0), double_double_product(lower, reciprocal))
    slope, slope_low = double_double_sum(gate, change)
    # Far on the left, the gate is exp(x) to the last bit.
    is_far = x < _GATE_SHUT
    value = select(is_far, exp_times(-abs(x), 0, x), x * (gate[0] + gate[1]))
    return value, select(is_far, exp_times(-abs(x), 0, 1 + x), slope + slope_low)


@define(
    formula=r"x \tanh x",
    derivative=r"\tanh x + \frac{x}{\cosh^2 x}",
    exact=lambda mp, x: (x * mp.tanh(x), mp.tanh(x) + x * mp.sech(x) ** 2),
    limits=("inf", "inf"),
    errors=(2.4, 2.2),
    good_for="inputs whose sign carries no information",
    not_for="hidden layers that must tell x from -x",
    reference="S. Roy, S. Manna, S. Dubey, B. Chaudhuri, LiSHT: Non-Parametric Linearly Scaled Hyperbolic Tangent Activation Function for Neural Networks, arXiv:1901.05894 (2019).",
)
def lisht(x: Vector) -> tuple[Vector, Vector]:
    """Linearly scaled hyperbolic tangent: even, near 0 a parabola, far away the absolute value.

    One exponential. Its gradient vanishes at 0 only, and the value is never negative.

    Examples
    --------
    >>> fa.lisht([-1.0, 0.0, 2.0])
    array([0.76159416, 0.        , 1.92805516])
    >>> fa.lisht.derivative([-1.0, 0.0, 2.0])
    array([-1.1815685 ,  0.        ,  1.10532923])
    """
    gate, slope, _ = tanh_and_derivative_parts(x)
    return x * gate, gate + select(slope == 0, 0, bound(x, -200, 200) * slope)
