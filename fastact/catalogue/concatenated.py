"""Activations of `x` concatenated with those of `-x`."""

from __future__ import annotations

from fastact.catalogue.definition import ConcatenatedDefinition
from fastact.catalogue.rectified import relu

crelu = ConcatenatedDefinition(
    relu.function,
    r"(\max(x, 0), \, \max(-x, 0))",
    called="crelu",
    said="""Concatenated relu: ``concatenate([relu(x), relu(-x)])`` along an axis, in one pass.

    It preserves all information except the sign of zero, at the cost of twice the features.

    Notes
    -----
    Value and gradient are exact. NaN gives NaN in both halves, and in the gradient. The derivative at 0 is 0, as
    relu's is.

    Examples
    --------
    >>> fa.crelu([-1.0, 3.0])
    array([0., 3., 1., 0.])
    """,
    good_for="first layers of convolutional nets, whose filters come in pairs of opposite sign",
    not_for="nets short of memory: it doubles the features",
    reference="W. Shang, K. Sohn, D. Almeida, H. Lee, Understanding and Improving Convolutional Neural Networks via Concatenated Rectified Linear Units, ICML 2016.",
)
