"""Row functions: each result depends on all elements of its row.

They are computed from differences to the row's maximum, so that nothing overflows, and their gradients from sums over
the row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastact.catalogue.definition import define_on_exponentials, define_on_rows, define_on_simplex
from fastact.simd import any_lane, fold_to_double, isnan, largest_lane, select, sqrt, sum_lanes
from fastact.vecmath import exp
from fastact.vecmath.scaling import product, product_of_number, share_of

_BRIDLE = "J. S. Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships to Statistical Pattern Recognition, in: Neurocomputing, Springer 1990, 227-236."
_BLANCHARD = "P. Blanchard, D. J. Higham, N. J. Higham, Accurately Computing the Log-Sum-Exp and Softmax Functions, IMA Journal of Numerical Analysis 41 (2021), 2311-2330."


def _softmax(e: Any, dy: Any, row: Any) -> Any:
    y = share_of(e, row.total, row.total_low)
    return y, product(dy - row.weighted / row.total, y)


def _softmax_from_output(dy: Any, y: Any, row: Any) -> Any:
    return product(dy - row.weighted, y)


def _softmax_second_order(dy: Any, y: Any, g: Any, total: Any) -> Any:
    through_dy = g - total(y * g)
    return y * through_dy, dy * through_dy - g * total(y * dy)


def _log_softmax_from_output(dy: Any, y: Any, row: Any) -> Any:
    return dy - product_of_number(row.dy_sum, exp(y))


def _log_softmax_second_order(dy: Any, y: Any, g: Any, total: Any) -> Any:
    weighted = np.exp(y) * g
    return g - total(weighted), -total(dy) * weighted


def _logsumexp_second_order(dy: Any, shares: Any, g: Any, total: Any) -> Any:
    weighted = shares * g
    return weighted, dy * (weighted - shares * total(weighted))


@define_on_exponentials(
    formula=r"\frac{e^{x_i / T}}{\sum_j e^{x_j / T}}",
    derivative=r"\frac{1}{T} \, y_i \left( \delta_{ij} - y_j \right)",
    errors=(4.0, 4.0),
    from_output=_softmax_from_output,
    second_order=_softmax_second_order,
    elsewhere={
        "pytorch": "softmax",
        "jax": "softmax",
        "keras": "softmax",
        "onnx": "Softmax",
        "thinc": "softmax",
        "chainer": "softmax",
        "tensorflow": "softmax",
    },
    good_for="class probabilities, and attention",
    not_for="the loss of a classifier: softmax_cross_entropy takes logits, is more accurate and has the gradient; independent labels, which need sigmoid",
    reference=_BRIDLE,
)
def softmax(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Softmax: positive values that sum to 1; larger inputs have larger shares.

    One exponential per element.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0])
    >>> fa.softmax(x)
    array([0.09003057, 0.24472847, 0.66524096])
    >>> fa.softmax(x, temperature=2.0)
    array([0.18632372, 0.30719589, 0.50648039])
    >>> fa.softmax(x, where=[True, True, False])
    array([0.26894142, 0.73105858, 0.        ])
    >>> fa.softmax([x, x, x], scale=0.5, causal=True)
    array([[1.        , 0.        , 0.        ],
           [0.37754067, 0.62245933, 0.        ],
           [0.18632372, 0.30719589, 0.50648039]])
    """
    return _softmax(e, dy, row)


@define_on_exponentials(
    formula=r"x_i / T - \ln \sum_j e^{x_j / T}",
    derivative=r"\frac{1}{T} \left( \delta_{ij} - e^{y_j} \right)",
    errors=(4.0, 4.0),
    from_output=_log_softmax_from_output,
    second_order=_log_softmax_second_order,
    takes_logarithm=True,
    masked_value=-math.inf,
    elsewhere={
        "pytorch": "log_softmax",
        "jax": "log_softmax",
        "keras": "log_softmax",
        "onnx": "LogSoftmax",
        "chainer": "log_softmax",
        "tensorflow": "log_softmax",
    },
    good_for="products of probabilities, and losses on log-probabilities",
    not_for="the usual cross-entropy, which softmax_cross_entropy computes in one pass",
    reference=_BLANCHARD,
)
def log_softmax(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Logarithm of the softmax, accurate even where the softmax is close to 0 or 1.

    One exponential per element.

    Examples
    --------
    >>> fa.log_softmax([1.0, 2.0, 3.0])
    array([-2.40760596, -1.40760596, -0.40760596])
    >>> fa.log_softmax([0.0, 1000.0])
    array([-1000.,     0.])
    """
    return difference - row.log_total, dy - product_of_number(
        row.dy_sum, share_of(e, row.total, row.total_low)
    )


@define_on_exponentials(
    formula=r"\frac{e^{-x_i / T}}{\sum_j e^{-x_j / T}}",
    derivative=r"-\frac{1}{T} \, y_i \left( \delta_{ij} - y_j \right)",
    errors=(4.0, 4.0),
    from_output=_softmax_from_output,
    second_order=_softmax_second_order,
    of_minus_x=True,
    excluded=math.inf,
    elsewhere={"pytorch": "softmin"},
    good_for="weights by distance or cost, where smaller is better",
    not_for="scores where larger is better: that is softmax",
    reference=_BRIDLE,
)
def softmin(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Softmin: the softmax of the negated input, so that smaller inputs have larger shares.

    Examples
    --------
    >>> fa.softmin([1.0, 2.0, 3.0])
    array([0.66524096, 0.24472847, 0.09003057])
    """
    return _softmax(e, dy, row)


@define_on_exponentials(
    is_reduced=True,
    second_order=_logsumexp_second_order,
    formula=r"\ln \sum_j e^{x_j / T}",
    derivative=r"\frac{1}{T} \frac{e^{x_i / T}}{\sum_j e^{x_j / T}}",
    errors=(4.0, 4.0),
    elsewhere={
        "pytorch": "logsumexp",
        "jax": "logsumexp",
        "tensorflow": "reduce_logsumexp",
        "onnx": "ReduceLogSumExp",
        "chainer": "logsumexp",
    },
    good_for="normalizing constants, smooth maxima, and mixtures of log-probabilities",
    not_for="means of probabilities: logmeanexp divides by their number",
    reference=_BLANCHARD,
)
def logsumexp(sums: Any) -> Any:
    """Log-sum-exp: a smooth maximum, never below the maximum itself. One value per row.

    Minus infinity for an empty row, or one of minus infinities only. One exponential per element.

    Examples
    --------
    >>> fa.logsumexp([[0.0, 0.0], [99.0, 100.0]])
    array([  0.69314718, 100.31326169])
    """
    return sums.top + sums.log_total, 1 / sums.total


@define_on_exponentials(
    is_reduced=True,
    second_order=_logsumexp_second_order,
    formula=r"\ln \frac{1}{n} \sum_j e^{x_j / T}",
    derivative=r"\frac{1}{T} \frac{e^{x_i / T}}{\sum_j e^{x_j / T}}",
    errors=(4.0, 4.0),
    is_mean=True,
    elsewhere={"jax": "logmeanexp"},
    good_for="averages over samples in log space, as in importance-weighted bounds",
    not_for="sums, which are logsumexp",
    reference=_BLANCHARD,
)
def logmeanexp(sums: Any) -> Any:
    """Log-mean-exp: the logarithm of the mean exponential, between the mean and the maximum. One value per row.

    NaN for an empty row, as is its mean. Errors are relative to 1 where the result is smaller. One exponential per
    element.

    Examples
    --------
    >>> fa.logmeanexp([[0.0, 0.0], [99.0, 100.0]])
    array([ 0.        , 99.62011451])
    """
    return sums.top + sums.log_mean, 1 / sums.total


def _sparsemax_from_output(dy: Any, y: Any, mean: Any) -> Any:
    return select(y <= 0, 0, dy - mean + 0 * y)  # NaN where y is


@define_on_simplex(
    formula=r"\max(x_i / T - \tau, 0), \quad \sum_j \max(x_j / T - \tau, 0) = 1",
    derivative=r"\frac{1}{T} \left( \delta_{ij} - \frac{1}{|S|} \right) \text{ for } i, j \in S = \{k : y_k > 0\}",
    errors=(4.0, 4.0),
    from_output=_sparsemax_from_output,
    kinks={"the threshold": "0"},
    elsewhere={"keras": "sparsemax"},
    good_for="attention over few items, and choices that should be exactly zero elsewhere",
    not_for="losses with a logarithm of its result, which may be 0; very long rows, where softmax is faster",
    reference="A. F. T. Martins, R. F. Astudillo, From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification, ICML 2016.",
)
def sparsemax(difference: Any, threshold: Any, dy: Any, mean: Any) -> Any:
    """Sparsemax: the projection onto the simplex; values sum to 1 and most are exactly 0.

    No exponential; a handful of passes over a row in cache. Errors are relative to 1. Elements at the threshold have no gradient.

    Examples
    --------
    >>> fa.sparsemax([1.0, 0.5, -1.0])
    array([0.75, 0.25, 0.  ])
    """
    y = select(difference <= threshold, 0, difference - threshold)
    return y, _sparsemax_from_output(dy, y, mean)


@define_on_rows(
    formula=r"\max\left(\tfrac{x_i}{2T} - \tau, 0\right)^2, \quad \sum_j y_j = 1",
    derivative=r"\frac{1}{T} \left( \delta_{ij} \sqrt{y_i} - \frac{\sqrt{y_i y_j}}{\sum_k \sqrt{y_k}} \right)",
    errors=(4.0, 8.0),
    good_for="sparse attention that is smoother than sparsemax",
    not_for="losses with a logarithm of its result, which may be 0",
    reference="B. Peters, V. Niculae, A. F. T. Martins, Sparse Sequence-to-Sequence Models, ACL 2019.",
)
def entmax15(rows: Any) -> Any:
    """Entmax with alpha = 1.5: between softmax and sparsemax, smooth and with exact zeros.

    No exponential; a handful of passes over a row in cache. Errors are relative to 1.

    Examples
    --------
    >>> fa.entmax15([1.0, 0.0, -1.0])
    array([0.83071891, 0.16928109, 0.        ])
    """
    x_at, y_at, dy_at = (rows.index(name) for name in ("x", "y", "dy"))
    padding, outputs = rows.padding("x", -math.inf), 2 if rows.has("dx") else 1
    prepare, top_of = rows.prepare(padding), rows.largest("x", 1, padding)
    temperature_of, doubles = rows.scalar("temperature"), rows.doubles

    def root_of(arrays: Any, scaling: Any) -> Any:
        """Return the square root of the result: how far an element exceeds the threshold. NaN stays NaN."""
        if x_at < 0:
            return sqrt(arrays[y_at])
        top, scale, threshold = scaling
        difference = (arrays[x_at] - top) * scale - threshold
        return select(difference <= 0, 0, difference)

    def step(arrays: Any, begin: Any, sums: Any, scaling: Any) -> Any:
        root = root_of(arrays, scaling)
        total, squares = sums[0] + fold_to_double(root), sums[1] + fold_to_double(root * root)
        return total, squares, sums[2] + fold_to_double(root * arrays[dy_at])

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        scaling, mean, reciprocal = state
        root = root_of(arrays, scaling)
        dx = select(root <= 0, 0, root * (arrays[dy_at] - mean) * reciprocal)
        return (dx,) if x_at < 0 else (root * root, dx)[:outputs]

    fold, write = rows.fold(step, padding), rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        top, reciprocal, zero = top_of(row), 1 / temperature_of(row), doubles()
        threshold, before, excess, total, product = -1.0, math.inf, 1e300, 0.0, 0.0
        # Newton's method approaches the threshold from below, until rounding stops it.
        while 0 < excess < before:
            sums = fold(row, (zero, zero, zero), (top, 0.5 * reciprocal, threshold))
            total, product = sum_lanes(sums[0]), sum_lanes(sums[2])
            before, excess = excess, sum_lanes(sums[1]) - 1
            threshold += excess / (2 * total)
        write(row, ((top, 0.5 * reciprocal, threshold), product / total, reciprocal))

    return one_row


@define_on_rows(
    formula=r"1 \text{ for the first } x_i = \max_j x_j, \text{ else } 0",
    derivative="0",
    errors=(0.0, 0.0),
    parameters_are={
        "temperature": "without effect: hardmax is the limit of the softmax as it goes to 0"
    },
    kinks={"ties": "0"},
    elsewhere={"onnx": "Hardmax"},
    good_for="choices at inference",
    not_for="training: the derivative is 0; use gumbel_softmax or softmax",
    reference="ONNX Operators, https://onnx.ai/onnx/operators/onnx__Hardmax.html (2017).",
)
def hardmax(rows: Any) -> Any:
    """Hardmax: 1 for the row's maximum, the first in a tie, and 0 for the others.

    Its derivative is 0.

    Examples
    --------
    >>> fa.hardmax([[1.0, 3.0, 2.0], [2.0, 0.0, 2.0]])
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    zeros, x_at = rows.zeros, rows.index("x")
    padding = rows.padding("x", -math.inf)
    prepare = rows.prepare(padding)
    if x_at < 0:
        write_zeros = rows.write(lambda arrays, begin, state: (zeros(),))

        def no_gradient(row: Any) -> None:
            prepare(row)
            write_zeros(row, 0)

        return no_gradient
    has_gradient, top_of, positions = (
        rows.has("dy"),
        rows.largest("x", 1, padding),
        rows.positions_in_block,
    )

    def find(arrays: Any, begin: Any, found: Any, top: Any) -> Any:
        first, nothing = found
        x = arrays[x_at]
        if first < 0 and any_lane(x == top):
            first = begin - int(largest_lane(select(x == top, -positions(), -math.inf)))
        return first, nothing + select(isnan(x), x, 0)

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        first, nothing = state
        y = select(positions() == first - begin, 1, 0) + nothing
        return (y, zeros()) if has_gradient else (y,)

    fold, write = rows.fold(find, padding), rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        first, nothing = fold(row, (-1, zeros()), top_of(row))
        write(row, (first, sum_lanes(nothing)))

    return one_row


@define_on_exponentials(
    formula=r"\frac{e^{(x_i + g_i) / T}}{\sum_j e^{(x_j + g_j) / T}}, \quad g = -\ln(-\ln u)",
    derivative=r"\frac{1}{T} \, y_i \left( \delta_{ij} - y_j \right)",
    errors=(4.0, 4.0),
    from_output=_softmax_from_output,
    second_order=_softmax_second_order,
    is_random=True,
    elsewhere={"pytorch": "gumbel_softmax", "chainer": "gumbel_softmax"},
    good_for="sampling categories in a net that is trained, as in discrete autoencoders",
    not_for="inference, where hardmax or softmax is deterministic",
    reference="E. Jang, S. Gu, B. Poole, Categorical Reparameterization with Gumbel-Softmax, ICLR 2017; C. J. Maddison, A. Mnih, Y. W. Teh, The Concrete Distribution, ICLR 2017.",
)
def gumbel_softmax(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Gumbel-softmax: a differentiable sample from the categorical distribution with these logits.

    Standard Gumbel noise is added to each logit, and the sum is rounded to the type of the result; the stated errors
    are those of the softmax that follows. The position of the maximum is a sample of the distribution; the lower the
    temperature, the closer the result is to 1 there and to 0 elsewhere.

    Examples
    --------
    >>> fa.gumbel_softmax(np.zeros(3), rng=0)
    array([0.02952755, 0.96358749, 0.00688495])
    >>> fa.gumbel_softmax(np.zeros(3), rng=0, hard=True)
    array([0., 1., 0.])
    """
    return _softmax(e, dy, row)
