"""Bounded, smooth and monotone: gradients vanish where they saturate."""

from __future__ import annotations

from typing import Any

from fastact.definition import define
from fastact.vecmath import logistic_and_derivative, tanh_and_derivative


def _sigmoid_from_output(y: Any) -> Any:
    return y * (1 - y)


def _tanh_from_output(y: Any) -> Any:
    return (1 - y) * (1 + y)


@define(
    formula=r"\sigma(x) = \frac{1}{1 + e^{-x}}",
    derivative=r"\sigma(x) \, \sigma(-x)",
    limits=("0", "1"),
    errors=(1.6, 3.0),
    from_output=_sigmoid_from_output,
    aliases=("logistic", "expit"),
    reference="P.-F. Verhulst, Correspondance mathematique et physique 10 (1838), 113-121.",
)
def sigmoid(x: Any) -> Any:
    """Logistic sigmoid: maps the real line to (0, 1), a probability.

    One exponential. Its gradient is at most 1/4 and vanishes on both sides, so deep nets of sigmoids
    learn slowly; use it for gates and for the output of a binary classifier.
    """
    return logistic_and_derivative(x)


@define(
    formula=r"\tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}",
    derivative=r"\frac{1}{\cosh^2 x}",
    limits=("-1", "1"),
    errors=(1.8, 3.0),
    from_output=_tanh_from_output,
    reference="Y. LeCun, L. Bottou, G. Orr, K.-R. Mueller, Efficient BackProp (1998), section 4.4.",
)
def tanh(x: Any) -> Any:
    """Hyperbolic tangent: maps the real line to (-1, 1), centred on zero.

    One exponential. A sigmoid with its output centred on zero, which makes it the better hidden unit
    of the two; its gradient is 1 at zero and vanishes on both sides.
    """
    return tanh_and_derivative(x)
