"""Functions of whole rows: each result is taken in relation to the others.

They are computed from the differences to the row's largest number, so that nothing overflows, and their
gradients from sums over the row.
"""

from __future__ import annotations

from typing import Any

from fastact.definition import define_on_rows
from fastact.vecmath import exp

_TEMPERATURE = {
    "temperature": "what the numbers are divided by: above 1 it makes results more alike"
}


def _softmax(e: Any, dy: Any, row: Any) -> Any:
    share = 1 / row.total
    y = e * share
    return y, y * (dy - row.weighted * share)


def _softmax_from_output(dy: Any, y: Any, row: Any) -> Any:
    return y * (dy - row.weighted)


def _log_softmax_from_output(dy: Any, y: Any, row: Any) -> Any:
    return dy - exp(y) * row.dy_sum


@define_on_rows(
    formula=r"\frac{e^{x_i / T}}{\sum_j e^{x_j / T}}",
    derivative=r"\frac{1}{T} \, y_i \left( \delta_{ij} - y_j \right)",
    errors=(4.0, 4.0),
    parameters_are=_TEMPERATURE,
    from_output=_softmax_from_output,
    elsewhere={
        "pytorch": "softmax",
        "jax": "softmax",
        "keras": "softmax",
        "onnx": "Softmax",
        "thinc": "softmax",
        "chainer": "softmax",
        "tensorflow": "softmax",
    },
    reference="J. S. Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships to Statistical Pattern Recognition, in: Neurocomputing, Springer 1990, 227-236.",
)
def softmax(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Softmax: positive numbers that add up to 1, the larger the input the larger its share.

    One exponential for each number. Use it for probabilities of classes and for attention.
    """
    return _softmax(e, dy, row)


@define_on_rows(
    formula=r"x_i / T - \ln \sum_j e^{x_j / T}",
    derivative=r"\frac{1}{T} \left( \delta_{ij} - e^{y_j} \right)",
    errors=(4.0, 4.0),
    parameters_are=_TEMPERATURE,
    from_output=_log_softmax_from_output,
    takes_logarithm=True,
    elsewhere={
        "pytorch": "log_softmax",
        "jax": "log_softmax",
        "keras": "log_softmax",
        "onnx": "LogSoftmax",
        "chainer": "log_softmax",
        "tensorflow": "log_softmax",
    },
)
def log_softmax(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Logarithm of the softmax, which keeps its digits where the softmax is next to 0 or to 1.

    One exponential for each number. Use it where probabilities are multiplied, and for the cross-entropy.
    """
    return difference - row.log_total, dy - e * (row.dy_sum / row.total)


@define_on_rows(
    formula=r"\frac{e^{-x_i / T}}{\sum_j e^{-x_j / T}}",
    derivative=r"-\frac{1}{T} \, y_i \left( \delta_{ij} - y_j \right)",
    errors=(4.0, 4.0),
    parameters_are=_TEMPERATURE,
    from_output=_softmax_from_output,
    of_minus_x=True,
    elsewhere={"pytorch": "softmin"},
)
def softmin(e: Any, difference: Any, dy: Any, row: Any) -> Any:
    """Softmin: the softmax of the negative input, so the smaller the input the larger its share."""
    return _softmax(e, dy, row)
