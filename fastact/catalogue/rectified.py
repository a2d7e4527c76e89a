"""The rectifier and its relatives: mostly the identity on the right, and something smaller on the left."""

from __future__ import annotations

from fastact.catalogue.definition import Number, Pieces, define
from fastact.simd import Vector, isnan, select
from fastact.vecmath import INFINITY, sqrt
from fastact.vecmath.exponential import near_expm1_and_exp, tail
from fastact.vecmath.scaling import MINUS_TINY, at_most_minus_tiny


def _slope(x: Vector, right: Vector, left: Vector, kink: Vector = 0) -> Vector:
    """Return `right` above the kink, `left` up to it, NaN for NaN."""
    return select(x > kink, right, select(x <= kink, left, x))


def _line(x: Vector, slope: Vector) -> Vector:
    """Return slope * x, or its limit 0, not NaN, where the slope is 0 and x is infinite."""
    return select((slope == 0) & (x == -INFINITY), 0, slope * x)


def _leaky(x: Vector, slope: Vector) -> tuple[Vector, Vector]:
    # Compute the NaN instead of passing it through: some specializations elide the float16 round trip, and a
    # signalling NaN would stay signalling.
    derivative = select(x > 0, 1, select(x <= 0, slope, x + slope))
    return select(x > 0, x, _line(x, slope)), derivative


def _slope_one_at_zero(x: Vector, left: Vector) -> Vector:
    return select(x >= 0, 1, select(x < 0, left, x))


def _mean(lower: Vector, upper: Vector) -> Vector:
    return 0.5 * (lower + upper)


def _elu(x: Vector, alpha: Vector) -> tuple[Vector, Vector]:
    is_x = x > MINUS_TINY
    exponent = at_most_minus_tiny(x)
    value, power, q = near_expm1_and_exp(exponent)
    left = alpha * select(is_x, select(x > 0, 0, x), value)
    return select(x >= 0, x, left), tail(alpha * (1 + q) * power, exponent, 0, alpha)


def _identity_from_output(y: Vector) -> Vector:
    return select(isnan(y), y, 1)


def _relu_from_output(y: Vector) -> Vector:
    return _slope(y, 1, 0)


def _squared_relu_from_output(y: Vector) -> Vector:
    return 2 * sqrt(y)


def _leaky_from_output(y: Vector, negative_slope: Vector) -> Vector:
    return _slope(y, 1, negative_slope)


def _rrelu_from_output(y: Vector, lower: Vector, upper: Vector) -> Vector:
    return _slope(y, 1, _mean(lower, upper))


def _elu_from_output(y: Vector, alpha: Vector) -> Vector:
    return _slope(y, 1, y + alpha)


def _exact_leaky(x: Number, slope: Number) -> Pieces:
    return [(x > 0, x, 1), (True, slope * x, slope)]


@define(
    formula="x",
    derivative="1",
    exact=lambda mp, x: (x, 1),
    limits=("-inf", "inf"),
    errors=(0.0, 0.0),
    from_output=_identity_from_output,
    aliases=("linear",),
    elsewhere={
        "pytorch": "Identity",
        "jax": "identity",
        "keras": "linear",
        "onnx": "Identity",
        "chainer": "identity",
        "tensorflow": "identity",
    },
    is_homogeneous=True,
    good_for="outputs of a regression, and layers that should have no activation",
    not_for="hidden layers: without something nonlinear in between, many are no more than one",
    reference="B. Widrow, M. Hoff, Adaptive Switching Circuits, IRE WESCON Convention Record 4 (1960), 96-104.",
)
def identity(x: Vector) -> tuple[Vector, Vector]:
    """Identity: the output of a regression, and the placeholder where a layer has no activation.

    No exponential. Its gradient is 1 everywhere; layers with nothing else between them are one layer.

    Examples
    --------
    >>> fa.identity([-1.0, 0.0, 1.0])
    array([-1.,  0.,  1.])
    >>> fa.identity.derivative([-1.0, 0.0, 1.0])
    array([1., 1., 1.])
    """
    return x, _identity_from_output(x)


@define(
    formula=r"\max(x, 0)",
    derivative=r"\begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}",
    exact=lambda mp, x: [(x > 0, x, 1), (True, 0, 0)],
    kinks={"0": "0"},
    limits=("0", "inf"),
    errors=(0.0, 0.0),
    from_output=_relu_from_output,
    aliases=("rectifier", "ramp"),
    elsewhere={
        "pytorch": "relu",
        "jax": "relu",
        "keras": "relu",
        "onnx": "Relu",
        "thinc": "relu",
        "chainer": "relu",
        "tensorflow": "relu",
    },
    is_homogeneous=True,
    good_for="hidden layers of convolutional and feed-forward nets; the first thing to try",
    not_for="nets in which many units die, as with large learning rates: use leaky_relu or prelu",
    reference="V. Nair, G. Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010.",
)
def relu(x: Vector) -> tuple[Vector, Vector]:
    """Rectified linear unit: the default hidden unit.

    No exponential. Its gradient does not vanish on the right; on the left it is zero, and a unit that
    never sees a positive input is dead: it no longer learns.

    Examples
    --------
    >>> fa.relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    >>> fa.relu.derivative([-1.0, 0.0, 2.0])
    array([0., 0., 1.])
    """
    return select(x < 0, 0, x), _slope(x, 1, 0)


@define(
    formula=r"\max(x, 0)^2",
    derivative=r"2 \max(x, 0)",
    exact=lambda mp, x: [(x > 0, x * x, 2 * x), (True, 0, 0)],
    limits=("0", "inf"),
    errors=(0.5, 0.0),
    from_output=_squared_relu_from_output,
    aliases=("relu_squared", "relu2"),
    good_for="the feed-forward blocks of language models, as in Primer",
    not_for="nets without normalization: values grow with the square, and float16 overflows at 256",
    reference="D. So, W. Manke, H. Liu, Z. Dai, N. Shazeer, Q. Le, Primer: Searching for Efficient Transformers for Language Modeling, NeurIPS 2021.",
)
def squared_relu(x: Vector) -> tuple[Vector, Vector]:
    """Squared rectifier: a rectifier without the kink, found by a search among transformers.

    No exponential. Its gradient grows with the input and is zero on the left, where units may die.

    Examples
    --------
    >>> fa.squared_relu([-1.0, 0.0, 3.0])
    array([0., 0., 9.])
    >>> fa.squared_relu.derivative([-1.0, 0.0, 3.0])
    array([0., 0., 6.])
    """
    positive = select(x < 0, 0, x)
    return positive * positive, 2 * positive


@define(
    formula=r"\begin{cases} x & x > t \\ v & x \le t \end{cases}, \quad t = \text{threshold}, v = \text{value}",
    derivative=r"\begin{cases} 1 & x > t \\ 0 & x \le t \end{cases}",
    exact=lambda mp, x, threshold, value: [(x > threshold, x, 1), (True, value, 0)],
    kinks={"threshold": "0"},
    limits=("value", "inf"),
    errors=(0.0, 0.0),
    parameters_are={
        "threshold": "inputs up to here are replaced",
        "value": "what they are replaced by",
    },
    samples=({"threshold": 0.5, "value": -1.0}, {"threshold": -20.0, "value": 0.0}),
    elsewhere={"pytorch": "threshold", "keras": "threshold"},
    good_for="sparse codes with a fixed level below the threshold",
    not_for="training through it: the value jumps, and the gradient does not know of the jump",
    reference="R. Collobert, K. Kavukcuoglu, C. Farabet, Torch7: A Matlab-like Environment for Machine Learning, BigLearn workshop, NIPS 2011.",
)
def threshold(x: Vector, threshold: Vector, value: Vector) -> tuple[Vector, Vector]:
    """Threshold: the identity above it and a constant below, with a jump unless the two are equal.

    No exponential. Units at or below the threshold have no gradient.

    Examples
    --------
    >>> fa.threshold([-1.0, 0.5, 2.0], threshold=0.5, value=-3.0)
    array([-3., -3.,  2.])
    """
    return select(x <= threshold, value, x), _slope(x, 1, 0, threshold)


@define(
    formula=r"\begin{cases} x & x > \alpha \\ 0 & x \le \alpha \end{cases}",
    derivative=r"\begin{cases} 1 & x > \alpha \\ 0 & x \le \alpha \end{cases}",
    exact=lambda mp, x, alpha: [(x > alpha, x, 1), (True, 0, 0)],
    kinks={"alpha": "0"},
    limits=("0", "inf"),
    errors=(0.0, 0.0),
    parameters_are={"alpha": "inputs up to here are cut off"},
    samples=({"alpha": 0.25}, {"alpha": -1.0}),
    elsewhere={"onnx": "ThresholdedRelu"},
    good_for="autoencoders with zero bias",
    not_for="nets that should learn small inputs too: nothing below alpha passes",
    reference="K. Konda, R. Memisevic, D. Krueger, Zero-bias Autoencoders and the Benefits of Co-adapting Features, ICLR 2015.",
)
def thresholded_relu(x: Vector, alpha: Vector = 1.0) -> tuple[Vector, Vector]:
    """Thresholded rectifier: lets large inputs through unchanged, so that units need no bias.

    No exponential. It jumps by alpha; units at or below have no gradient.

    Examples
    --------
    >>> fa.thresholded_relu([0.5, 1.0, 2.0])
    array([0., 0., 2.])
    >>> fa.thresholded_relu([0.5, 1.0, 2.0], alpha=0.25)
    array([0.5, 1. , 2. ])
    """
    return select(x <= alpha, 0, x), _slope(x, 1, 0, alpha)


@define(
    formula=r"\begin{cases} x & x > 0 \\ s x & x \le 0 \end{cases}, \quad s = \text{negative slope}",
    derivative=r"\begin{cases} 1 & x > 0 \\ s & x \le 0 \end{cases}",
    exact=lambda mp, x, negative_slope: _exact_leaky(x, negative_slope),
    kinks={"0": "negative_slope"},
    limits=("-inf", "inf"),
    errors=(0.5, 0.0),
    parameters_are={"negative_slope": "slope on the left"},
    samples=tuple({"negative_slope": slope} for slope in (0.2, -0.5, 0.0, 1.7)),
    from_output=_leaky_from_output,
    from_output_needs=("negative_slope",),
    elsewhere={
        "pytorch": "leaky_relu",
        "jax": "leaky_relu",
        "keras": "leaky_relu",
        "onnx": "LeakyRelu",
        "chainer": "leaky_relu",
        "tensorflow": "leaky_relu",
    },
    is_homogeneous=True,
    good_for="hidden layers whose units die under relu, and discriminators of GANs",
    not_for="nets that rely on sparse activations: nothing is exactly zero",
    reference="A. Maas, A. Hannun, A. Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, ICML 2013.",
)
def leaky_relu(x: Vector, negative_slope: Vector = 0.01) -> tuple[Vector, Vector]:
    """Leaky rectifier: a small slope on the left, so that no unit dies.

    No exponential.

    Examples
    --------
    >>> fa.leaky_relu([-1.0, 0.0, 2.0])
    array([-0.01,  0.  ,  2.  ])
    >>> fa.leaky_relu.derivative([-1.0, 0.0, 2.0])
    array([0.01, 0.01, 1.  ])
    >>> fa.leaky_relu.derivative([-1.0, 0.0, 2.0], convention="jax")
    array([0.01, 1.  , 1.  ])
    """
    return _leaky(x, negative_slope)


@leaky_relu.convention("jax", kinks={"0": "1"})
def _leaky_relu_jax(x: Vector, negative_slope: Vector = 0.01) -> tuple[Vector, Vector]:
    return _leaky(x, negative_slope)[0], _slope_one_at_zero(x, negative_slope)


@leaky_relu.convention("tensorflow", "chainer", from_output=_leaky_from_output)
def _leaky_relu_tensorflow(x: Vector, negative_slope: Vector = 0.2) -> tuple[Vector, Vector]:
    return _leaky(x, negative_slope)


@define(
    formula=r"\begin{cases} x & x > 0 \\ w x & x \le 0 \end{cases}, \quad w = \text{weight}",
    derivative=r"\begin{cases} 1 & x > 0 \\ w & x \le 0 \end{cases}",
    exact=lambda mp, x, weight: _exact_leaky(x, weight),
    kinks={"0": "weight"},
    limits=("-inf", "inf"),
    errors=(0.5, 0.0),
    parameters_are={"weight": "learnable slope on the left: one number, or one for each channel"},
    samples=tuple({"weight": weight} for weight in (0.25, -0.3, 0.0, 1.7)),
    from_output=_leaky_from_output,
    from_output_needs=("weight",),
    learnable=("weight",),
    elsewhere={"pytorch": "prelu", "onnx": "PRelu", "chainer": "prelu"},
    is_homogeneous=True,
    good_for="deep convolutional nets with enough data to learn the slope as well",
    not_for="small data sets, where the slope adds to overfitting, and weight decay, which pulls it towards 0",
    reference="K. He, X. Zhang, S. Ren, J. Sun, Delving Deep into Rectifiers, ICCV 2015.",
)
def prelu(x: Vector, weight: Vector) -> tuple[Vector, Vector, Vector]:
    """Parametric rectifier: a leaky rectifier that learns its slope, one for each channel or for all.

    No exponential. The gradient by the weight is ``x`` where x <= 0, else 0.

    Examples
    --------
    >>> x = np.array([-2.0, 0.0, 1.0])
    >>> fa.prelu(x, 0.25)
    array([-0.5,  0. ,  1. ])
    >>> dx, dweight = fa.prelu.backward(np.ones(3), x, 0.25)
    >>> dx
    array([0.25, 0.25, 1.  ])
    >>> print(dweight)
    -2.0
    """
    return _leaky(x, weight) + (select(x > 0, 0, x),)


@prelu.convention("chainer", kinks={"0": "1"})
def _prelu_chainer(x: Vector, weight: Vector) -> tuple[Vector, Vector, Vector]:
    return _leaky(x, weight)[0], _slope_one_at_zero(x, weight), select(x > 0, 0, x)


@define(
    formula=r"\begin{cases} x & x > 0 \\ s x & x \le 0 \end{cases}, \quad s = \frac{\text{lower} + \text{upper}}{2}",
    derivative=r"\begin{cases} 1 & x > 0 \\ s & x \le 0 \end{cases}",
    exact=lambda mp, x, lower, upper: _exact_leaky(x, (lower + upper) / 2),
    kinks={"0": "(lower+upper)/2"},
    limits=("-inf", "inf"),
    errors=(0.6, 0.0),
    parameters_are={
        "lower": "the smallest slope on the left that is drawn",
        "upper": "the largest slope on the left that is drawn",
    },
    samples=({"lower": 0.25, "upper": 0.5},),
    from_output=_rrelu_from_output,
    from_output_needs=("lower", "upper"),
    drawn_between=("lower", "upper"),
    elsewhere={"pytorch": "rrelu", "chainer": "rrelu"},
    is_homogeneous=True,
    good_for="small data sets, on which its random slopes regularize",
    not_for="reproducible training without a fixed `rng`, and large data sets, where it gains little",
    reference="B. Xu, N. Wang, T. Chen, M. Li, Empirical Evaluation of Rectified Activations in Convolutional Network, arXiv:1505.00853 (2015).",
)
def rrelu(x: Vector, lower: Vector = 1 / 8, upper: Vector = 1 / 3) -> tuple[Vector, Vector]:
    """Randomized leaky rectifier: the mean of the slopes, as a trained net is used.

    No exponential. No unit dies. While the net is trained, each element has a slope of its own, drawn
    evenly between the two, which works against overfitting.

    Examples
    --------
    >>> x = np.array([-1.0, 0.0, 2.0])
    >>> fa.rrelu(x)
    array([-0.22916667,  0.        ,  2.        ])
    >>> y, slope = fa.rrelu(x, rng=np.random.default_rng(0))
    >>> np.array_equal(y, np.where(x > 0, x, slope * x))
    True
    >>> dx = fa.rrelu.backward(np.ones(3), x, slope=slope)
    """
    return _leaky(x, _mean(lower, upper))


@rrelu.convention("chainer", kinks={"0": "1"})
def _rrelu_chainer(
    x: Vector, lower: Vector = 1 / 8, upper: Vector = 1 / 3
) -> tuple[Vector, Vector]:
    slope = _mean(lower, upper)
    return _leaky(x, slope)[0], _slope_one_at_zero(x, slope)


@define(
    formula=r"\begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}",
    derivative=r"\begin{cases} 1 & x > 0 \\ \alpha e^x & x \le 0 \end{cases}",
    exact=lambda mp, x, alpha: [(x > 0, x, 1), (True, alpha * mp.expm1(x), alpha * mp.exp(x))],
    kinks={"0": "alpha"},
    limits=("-alpha", "inf"),
    errors=(1.1, 1.1),
    parameters_are={"alpha": "minus the limit on the left"},
    samples=tuple({"alpha": alpha} for alpha in (0.5, 2.0, 1.7, -1.0, 0.0)),
    is_scaled=True,
    is_monotone=True,
    from_output=_elu_from_output,
    from_output_needs=("alpha",),
    elsewhere={
        "pytorch": "elu",
        "jax": "elu",
        "keras": "elu",
        "onnx": "Elu",
        "chainer": "elu",
        "tensorflow": "elu",
    },
    good_for="hidden layers without normalization whose mean activations should be near zero",
    not_for="cheap inference: it has an exponential for what leaky_relu does with a product",
    reference="D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and Accurate Deep Network Learning by Exponential Linear Units, ICLR 2016.",
)
def elu(x: Vector, alpha: Vector = 1.0) -> tuple[Vector, Vector]:
    """Exponential linear unit: saturates smoothly on the left, so that mean activations are near zero.

    One exponential. For alpha = 1 the derivative is continuous; it vanishes far on the left only.

    Examples
    --------
    >>> fa.elu([-1.0, 0.0, 1.0])
    array([-0.63212056,  0.        ,  1.        ])
    >>> fa.elu([-1.0, 0.0, 1.0], alpha=0.5)
    array([-0.31606028,  0.        ,  1.        ])
    """
    value, left = _elu(x, alpha)
    return value, select(x > 0, 1, left)


@elu.convention("tensorflow", kinks={"0": "1"})
def _elu_tensorflow(x: Vector, alpha: Vector = 1.0) -> tuple[Vector, Vector]:
    value, left = _elu(x, alpha)
    return value, select(x >= 0, 1, left)
