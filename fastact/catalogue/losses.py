"""Losses, each with its gradient in the same pass."""

from __future__ import annotations

from typing import Any

from fastact.catalogue.definition import (
    POSITIVE,
    CompositeDefinition,
    define_cross_entropy,
    define_elementwise_loss,
)
from fastact.kernels.algorithms.cross_entropy import dense_cross_entropy, label_cross_entropy
from fastact.simd import Vector, copysign, isnan, select
from fastact.vecmath import softplus_and_derivative


@define_cross_entropy(
    formula=r"\sum_j w_j p_j \left( \ln \sum_k e^{x_k} - x_j \right)",
    dense=dense_cross_entropy,
)
def softmax_cross_entropy(rows: Any) -> Any:
    """Softmax cross-entropy: how far logits are from labels, or from probabilities of the classes.

    ``loss, dlogits = fa.softmax_cross_entropy.forward_backward(logits, labels)`` gives the loss and its gradient
    in one pass over the logits; `dlogits` may overwrite them.

    Notes
    -----
    For each row, ``loss = sum(w * p * (logsumexp(x) - x))`` and ``dx = sum(w * p) * softmax(x) - w * p``, where `p`
    is 1 for the label and 0 else, or given, and `w` are the weights of the classes. Label smoothing makes
    ``(1 - s) * p + s / classes`` of `p`. It is what PyTorch's ``cross_entropy`` computes, whose classes are along
    axis 1; but a class of no probability adds nothing even where its logit is minus infinity, which gives NaN there.

    Errors: losses and gradients are within 5 units in the last place of float32, at the scale of the terms that
    they are sums of. A loss near 0 keeps its digits, and so does the gradient of a label of which the net is sure.
    A row that holds a NaN or plus infinity, or nothing but minus infinity, gives NaN. Results do not depend on the
    number of threads: losses are summed in float64, in an order that depends on the shape alone.

    A ufunc cannot raise an error: called themselves, those in `ufuncs` give NaN, loss and gradient, for a label that is
    no class's, and ignore a row whose label is negative.
    """
    return label_cross_entropy(rows)


@define_elementwise_loss(
    formula=r"-w z \ln \sigma(x) - (1 - z) \ln \sigma(-x)",
    inputs=("logits", "targets"),
    parameters_are={
        "pos_weight": "What the losses of positive targets are multiplied by: one number, or one for each class along "
        "`axis`."
    },
)
def sigmoid_binary_cross_entropy(
    x: Vector, targets: Vector, pos_weight: Vector
) -> tuple[Vector, Vector]:
    """Sigmoid binary cross-entropy: how far logits are from yes or no, or from a probability between.

    ``loss, dlogits = fa.sigmoid_binary_cross_entropy.forward_backward(logits, targets)`` gives the loss and its
    gradient in one pass over the logits; `dlogits` may overwrite them.

    Notes
    -----
    With targets `z` and the positive weight `w`, ``loss = w * z * softplus(-x) + (1 - z) * softplus(x)`` and
    ``dx = (1 - z) * sigmoid(x) - w * z * sigmoid(-x)``: what PyTorch's ``binary_cross_entropy_with_logits`` computes.

    Errors: losses and gradients are within 4 units in the last place of float32, at the scale of the terms that
    they are sums of. A loss near 0 keeps its digits. A target of 0 or 1 takes nothing from the other term, not
    even where the logit is infinite, which gives NaN in PyTorch. Results do not depend on the number of threads:
    losses are summed in float64 over blocks that depend on the shape alone.
    """
    # Of -|x|, neither softplus nor logistic function have cancellation; those of |x| follow.
    softplus, logistic = softplus_and_derivative(-abs(x))
    is_positive = x > 0
    of_zero = select(is_positive, x + softplus, softplus)
    of_one = select(is_positive, softplus, softplus - x)
    complement = 1 - logistic
    others, positives = 1 - targets, pos_weight * targets
    # A loss may be infinite for a target that has no share.
    loss = select(others == 0, 0, others * of_zero) + select(positives == 0, 0, positives * of_one)
    gradient = others * select(is_positive, complement, logistic) - positives * select(
        is_positive, logistic, complement
    )
    return loss, gradient


@define_elementwise_loss(
    formula=r"\begin{cases} \frac{1}{2} (x - z)^2 & \lvert x - z \rvert \le \delta \\ \delta (\lvert x - z \rvert - \frac{\delta}{2}) & \text{else} \end{cases}",
    inputs=("predictions", "targets"),
    parameters_are={
        "delta": "Where the parabola becomes a line: one number, or one for each class along `axis`."
    },
    domains={"delta": POSITIVE},
    reference="P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35 (1964), 73-101.",
)
def huber(x: Vector, targets: Vector, delta: Vector) -> tuple[Vector, Vector]:
    """Huber loss: a parabola for small errors and a line for large ones, which outliers do not rule.

    ``loss, dpredictions = fa.huber.forward_backward(predictions, targets)`` gives the loss and its gradient in one
    pass.

    Notes
    -----
    What PyTorch's ``huber_loss`` computes. Losses are summed in float64 over blocks that depend on the shape alone.
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
    said="""Linear layer with softmax cross-entropy: the loss of a classifier, or of a language model's last layer.

    ``loss, dx, dweight = fa.linear_cross_entropy.forward_backward(x, weight, labels)`` gives what
    ``fa.softmax_cross_entropy`` does of ``x @ weight.T``, and the gradients. It takes rows in chunks, so that neither
    all logits nor their gradients are ever stored.

    Notes
    -----
    With ``logits = x @ weight.T + bias``, and `dlogits` the gradient by them: ``dx = dlogits @ weight``,
    ``dweight = dlogits.T @ x``, and `dbias` is the sum of `dlogits` over all rows. The products are those of
    `numpy.matmul`, in the type that the arrays have together; float16 and bfloat16 are computed in float32, with
    copies of the weights and of the gradients. Beside them and the results, a call takes at most 64 MiB for the
    logits of a chunk, unless 64 rows take more, and 4 MiB for a block of `dweight`: for (8192, 768) by (50257, 768) in
    float32, 72 MB where all logits are 1.65 GB. BLAS has memory of its own.

    Results depend on the chunk, which is chosen from the shapes alone, and not on fastact's threads. Whether the
    threads of BLAS change the last bits is up to BLAS. A row that is ignored has no gradient, but what is not
    finite in it spoils `dweight`, as in PyTorch.
    """,
)
