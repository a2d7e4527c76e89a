"""Losses, each computed in one pass with its gradient."""

from __future__ import annotations

import math
from typing import Any

from fastact.catalogue.definition import (
    POSITIVE,
    CompositeDefinition,
    define_cross_entropy,
    define_elementwise_loss,
    define_softmax_cross_entropy,
)
from fastact.kernels.algorithms.cross_entropy import dense_cross_entropy, label_cross_entropy
from fastact.simd import Vector, copysign, isnan, select
from fastact.vecmath import log, softplus_and_derivative


@define_softmax_cross_entropy(
    formula=r"\sum_j w_j p_j \left( \ln \sum_k e^{x_k} - x_j \right)",
    dense=dense_cross_entropy,
    elsewhere={"onnx": "SoftmaxCrossEntropyLoss"},
    good_for="classifiers and language models",
    not_for="several labels at once, which need sigmoid_binary_cross_entropy; huge vocabularies, where linear_cross_entropy saves the logits",
    reference="J. S. Bridle, Training Stochastic Model Recognition Algorithms as Networks Can Lead to Maximum Mutual Information Estimation of Parameters, NIPS 1989; for label smoothing, C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, Rethinking the Inception Architecture for Computer Vision, CVPR 2016.",
)
def softmax_cross_entropy(rows: Any) -> Any:
    """Softmax cross-entropy of logits with labels or class probabilities.

    ``loss, dlogits = fa.softmax_cross_entropy.forward_backward(logits, labels)`` returns the loss and its gradient in
    one pass over the logits; `dlogits` may overwrite them.

    Notes
    -----
    For each row, ``loss = sum(w * p * (logsumexp(x) - x))`` and ``dx = sum(w * p) * softmax(x) - w * p``, where `p` is
    the given probabilities, or one-hot for a label, and `w` the class weights. Label smoothing replaces `p` by
    ``(1 - s) * p + s / classes``. This is PyTorch's ``cross_entropy``, whose classes are along axis 1, except that a
    class of probability 0 adds nothing even if its logit is minus infinity, where PyTorch gives NaN. With
    ``return_probabilities=True``, the same pass returns ``softmax(x)`` as well.

    Errors: losses and gradients are within 5 units in the last place of float32, relative to the terms that they sum.
    A loss near 0 is accurate, and so is the gradient of a confidently predicted label. A row that contains NaN or plus
    infinity, or only minus infinity, gives NaN. Results do not depend on the number of threads: losses are summed in
    float64, in an order that depends only on the shape.

    A ufunc cannot raise an error: when called directly, those in `ufuncs` give NaN as loss and gradient for a label out
    of range, and ignore rows with a negative label.

    Examples
    --------
    >>> logits, labels = np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0])
    >>> fa.softmax_cross_entropy(logits, labels, reduction="none")
    array([0.28768207, 0.22314355])
    >>> loss = fa.softmax_cross_entropy(logits, labels)
    >>> print(f"{loss:.6f}")
    0.255413
    """
    return label_cross_entropy(rows)


@define_cross_entropy(
    formula=r"-\sum_j w_j p_j x_j",
    input="log_probabilities",
    elsewhere={"onnx": "NegativeLogLikelihoodLoss"},
    good_for="models that compute log-probabilities anyway",
    not_for="logits: softmax_cross_entropy takes them in one pass",
    reference="C. M. Bishop, Pattern Recognition and Machine Learning, Springer 2006, section 4.3.4.",
)
def nll(x: Vector, weight: Vector) -> tuple[Vector, Vector]:
    """Negative log-likelihood of labels or class probabilities, given logarithms of probabilities.

    ``loss, dlog_probabilities = fa.nll.forward_backward(log_probabilities, labels)`` returns the loss and its gradient.
    With the logarithms of `fastact.log_softmax`, this is `fastact.softmax_cross_entropy`, which takes one pass for both.

    Notes
    -----
    For each row, ``loss = -sum(w * p * x)`` and ``dx = -w * p``, where `p` is the given probabilities, or one-hot for a
    label, and `w` the class weights. Label smoothing replaces `p` by ``(1 - s) * p + s / classes``. This is PyTorch's
    ``nll_loss``, whose classes are along axis 1 and which lacks class probabilities and label smoothing.

    Errors: losses and gradients are within 4 units in the last place of float32, relative to the terms that they sum.
    A class of weight or probability 0 adds nothing, and has gradient 0, whatever its element is; another that is NaN
    gives NaN in both. With a label, the loss reads one element of each row. Results do not depend on the number of
    threads: losses are summed in float64, in an order that depends only on the shape.

    A ufunc cannot raise an error: when called directly, those in `ufuncs` give NaN as loss and gradient for a label out
    of range, and ignore rows with a negative label.

    Examples
    --------
    >>> x, labels = np.log([[0.25, 0.75], [0.8, 0.2]]), np.array([1, 0])
    >>> fa.nll(x, labels, reduction="none")
    array([0.28768207, 0.22314355])
    >>> fa.nll.backward(1.0, x, labels)
    array([[ 0. , -0.5],
           [-0.5,  0. ]])
    """
    return -weight * x, select(isnan(x), x, -weight)


@define_cross_entropy(
    formula=r"-\sum_j w_j p_j \ln x_j",
    input="probabilities",
    good_for="models that compute probabilities, such as mixtures or sparsemax",
    not_for="logits: softmax_cross_entropy is faster and accurate for improbable labels too",
    reference="I. J. Good, Rational Decisions, Journal of the Royal Statistical Society B 14 (1952), 107-114.",
)
def cross_entropy(x: Vector, weight: Vector) -> tuple[Vector, Vector]:
    """Cross-entropy of probabilities, such as those of a softmax, with labels or class probabilities.

    ``loss, dprobabilities = fa.cross_entropy.forward_backward(probabilities, labels)`` returns the loss and its
    gradient. Given logits, `fastact.softmax_cross_entropy` is faster, and accurate for improbable labels too.

    Notes
    -----
    For each row, ``loss = -sum(w * p * log(x))`` and ``dx = -w * p / x``, where `p` is the given probabilities, or
    one-hot for a label, and `w` the class weights. Label smoothing replaces `p` by ``(1 - s) * p + s / classes``. Unlike
    PyTorch's ``cross_entropy``, which takes logits, this is ``nll_loss`` of ``log(x)``. Rows need not sum to 1.

    Errors: losses and gradients are within 5 units in the last place of float32, relative to the terms that they sum.
    A class of weight or probability 0 adds nothing, and has gradient 0, whatever its element is. Of the others, an
    element of 0 gives a loss of plus infinity and a gradient of minus infinity, one that is negative or NaN gives NaN
    in both. With a label, the loss reads one element of each row. Results do not depend on the number of threads:
    losses are summed in float64, in an order that depends only on the shape.

    A ufunc cannot raise an error: when called directly, those in `ufuncs` give NaN as loss and gradient for a label out
    of range, and ignore rows with a negative label.

    Examples
    --------
    >>> x, labels = np.array([[0.25, 0.75], [0.8, 0.2]]), np.array([1, 0])
    >>> fa.cross_entropy(x, labels, reduction="none")
    array([0.28768207, 0.22314355])
    >>> fa.cross_entropy.backward(1.0, x, labels)
    array([[ 0.        , -0.66666667],
           [-0.625     ,  0.        ]])
    """
    # The logarithm of a negative number is NaN, its reciprocal is not; and -0.0 is a probability of 0.
    return -weight * log(x), select(x < 0, math.nan, -weight / abs(x))


@define_elementwise_loss(
    formula=r"-w z \ln \sigma(x) - (1 - z) \ln \sigma(-x)",
    inputs=("logits", "targets"),
    parameters_are={
        "pos_weight": "The factor of the loss of positive targets: one number, or one for each class along `axis`."
    },
    good_for="binary classifiers, and several labels at once",
    not_for="labels that exclude each other: use softmax_cross_entropy",
    reference="D. R. Cox, The Regression Analysis of Binary Sequences, Journal of the Royal Statistical Society B 20 (1958), 215-242.",
)
def sigmoid_binary_cross_entropy(
    x: Vector, targets: Vector, pos_weight: Vector
) -> tuple[Vector, Vector]:
    """Sigmoid binary cross-entropy of logits with targets from 0 to 1.

    ``loss, dlogits = fa.sigmoid_binary_cross_entropy.forward_backward(logits, targets)`` returns the loss and its
    gradient in one pass over the logits; `dlogits` may overwrite them.

    Notes
    -----
    With targets `z` and the positive weight `w`, ``loss = w * z * softplus(-x) + (1 - z) * softplus(x)`` and
    ``dx = (1 - z) * sigmoid(x) - w * z * sigmoid(-x)``, as in PyTorch's ``binary_cross_entropy_with_logits``.

    Errors: losses and gradients are within 4 units in the last place of float32, relative to the terms that they sum.
    A loss near 0 is accurate. With a target of 0 or 1 the other term vanishes even if the logit is infinite, where
    PyTorch gives NaN. Results do not depend on the number of threads: losses are summed in float64 over blocks that
    depend only on the shape.

    Examples
    --------
    >>> logits, targets = np.array([0.0, 2.0]), np.array([1.0, 0.0])
    >>> loss = fa.sigmoid_binary_cross_entropy(logits, targets)
    >>> print(f"{loss:.6f}")
    1.410038
    >>> loss = fa.sigmoid_binary_cross_entropy(logits, targets, pos_weight=3.0)
    >>> print(f"{loss:.6f}")
    2.103185
    """
    # At -|x|, neither softplus nor the logistic function cancels; their values at |x| follow.
    softplus, logistic = softplus_and_derivative(-abs(x))
    is_positive = x > 0
    of_zero = select(is_positive, x + softplus, softplus)
    of_one = select(is_positive, softplus, softplus - x)
    complement = 1 - logistic
    others, positives = 1 - targets, pos_weight * targets
    # The loss of a target without weight may be infinite.
    loss = select(others == 0, 0, others * of_zero) + select(positives == 0, 0, positives * of_one)
    gradient = others * select(is_positive, complement, logistic) - positives * select(
        is_positive, logistic, complement
    )
    return loss, gradient


@define_elementwise_loss(
    formula="(x - z)^2",
    inputs=("predictions", "targets"),
    mean_by_weight=True,
    good_for="regression with errors of one scale",
    not_for="data with outliers (huber), and class probabilities, where the gradient vanishes when it is most needed",
    reference="A.-M. Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, Paris 1805.",
)
def mse(x: Vector, targets: Vector) -> tuple[Vector, Vector]:
    """Squared error, whose mean is the loss of least squares.

    ``loss, dpredictions = fa.mse.forward_backward(predictions, targets)`` returns the loss and its gradient in one
    pass.

    Notes
    -----
    The same as PyTorch's ``mse_loss``. The derivative is ``2 * (x - z)``. If the weights sum to 0, the mean and its
    gradient are NaN.

    Errors: the loss of an element is within 2 units in the last place, its derivative within 0.5. Losses are summed in
    float64 over blocks that depend only on the shape.

    Examples
    --------
    >>> x, targets = np.array([0.5, -2.0]), np.array([0.0, 1.0])
    >>> loss = fa.mse(x, targets)
    >>> print(loss)
    4.625
    >>> fa.mse(x, targets, weight=[3.0, 1.0], reduction="none")
    array([0.75, 9.  ])
    """
    error = x - targets
    return error * error, error + error


@define_elementwise_loss(
    formula=r"\begin{cases} \frac{1}{2} (x - z)^2 & \lvert x - z \rvert \le \delta \\ \delta (\lvert x - z \rvert - \frac{\delta}{2}) & \text{else} \end{cases}",
    inputs=("predictions", "targets"),
    parameters_are={
        "delta": "The error from which the loss is linear: one number, or one for each class along `axis`."
    },
    domains={"delta": POSITIVE},
    good_for="regression with outliers, and value functions in reinforcement learning",
    not_for="errors of which the tails matter: it estimates neither their mean nor their median",
    reference="P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35 (1964), 73-101.",
)
def huber(x: Vector, targets: Vector, delta: Vector) -> tuple[Vector, Vector]:
    """Huber loss: quadratic for small errors and linear for large ones, hence robust against outliers.

    ``loss, dpredictions = fa.huber.forward_backward(predictions, targets)`` returns the loss and its gradient in one
    pass.

    Notes
    -----
    The same as PyTorch's ``huber_loss``. At an error of plus or minus delta, both pieces have the same derivative.

    Errors: the loss of an element is within 4 units in the last place, its derivative within 0.5. Losses are summed in
    float64 over blocks that depend only on the shape.

    Examples
    --------
    >>> x, targets = np.array([0.5, -2.0]), np.array([0.0, 1.0])
    >>> loss = fa.huber(x, targets)
    >>> print(loss)
    1.3125
    >>> fa.huber(x, targets, delta=2.0, reduction="none")
    array([0.125, 4.   ])
    """
    error = x - targets
    size = abs(error)
    is_small = size <= delta
    loss = select(is_small, 0.5 * error * error, delta * (size - 0.5 * delta))
    slope = select(isnan(error), error, copysign(delta, error))
    return loss, select(is_small, error, slope)


linear_cross_entropy = CompositeDefinition(
    softmax_cross_entropy.function,
    called="linear_cross_entropy",
    said="""Linear layer fused with softmax cross-entropy: the loss of a classifier or a language model's head.

    ``loss, dx, dweight = fa.linear_cross_entropy.forward_backward(x, weight, labels)`` returns
    ``fa.softmax_cross_entropy`` of ``x @ weight.T`` and the gradients. It processes rows in chunks, so that the full
    logits and their gradient are never stored.

    Notes
    -----
    With ``logits = x @ weight.T + bias`` and their gradient `dlogits`, ``dx = dlogits @ weight``,
    ``dweight = dlogits.T @ x``, and `dbias` is the sum of `dlogits` over all rows. Products are computed by
    `numpy.matmul` in the common type of the arrays; float16 and bfloat16 are computed in float32, with copies of the
    weights and gradients. Apart from these and the results, a call allocates at most 64 MiB for the logits of a chunk,
    unless 64 rows need more, and 4 MiB for a block of `dweight`: for (8192, 768) by (50257, 768) in float32, 72 MB,
    where the full logits take 1.65 GB. BLAS allocates buffers of its own.

    Results depend on the chunk, which is chosen from the shapes alone, but not on fastact's threads. Whether BLAS
    threads change the last bits is up to BLAS. An ignored row has no gradient, but values in it that are not finite
    make `dweight` NaN, as in PyTorch. Errors are those of BLAS and of `fastact.softmax_cross_entropy`.

    Examples
    --------
    >>> x, labels = np.eye(2), np.array([1, 0])
    >>> weight = np.log([[1.0, 4.0], [3.0, 1.0]])
    >>> loss = fa.linear_cross_entropy(x, weight, labels)
    >>> print(f"{loss:.6f}")
    0.255413
    """,
    good_for="heads of language models, whose logits would not fit the memory",
    not_for="small numbers of classes: a matrix product and softmax_cross_entropy are simpler",
    reference="E. Wijmans, B. Huval, A. Hertzberg, V. Koltun, P. Krähenbühl, Cut Your Losses in Large-Vocabulary Language Models, ICLR 2025.",
)
