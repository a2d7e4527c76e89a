"""Normalizations: layers whose results have mean 0 and variance 1, or mean square 1, before scale and shift."""

from __future__ import annotations

from typing import Any

from fastact.catalogue.definition import define_row_normalization
from fastact.kernels.algorithms.normalization import normalized


@define_row_normalization(
    formula=r"w_i \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + b_i",
    reference="J. L. Ba, J. R. Kiros, G. E. Hinton, Layer Normalization, arXiv:1607.06450 (2016).",
)
def layer_norm(rows: Any) -> Any:
    """Layer normalization: each row shifted and scaled to mean 0 and variance 1, then by a weight and a bias.

    ``y, dx, dweight, dbias = fa.layer_norm.forward_backward(x, dy, weight=weight, bias=bias)`` returns the value and
    all gradients in one pass; for gradients later, ``fa.layer_norm.backward(dy, x, weight=weight, bias=bias)``.

    Notes
    -----
    PyTorch's ``layer_norm``, whose ``normalized_shape`` is that of the axes. The variance is that of the row as a whole
    population: its divisor is the length. The backward pass needs only the input: computing mean and variance again,
    in the pass that sums the gradient, is cheaper than storing them.

    Errors: values are within 4 units in the last place of the dtype and gradients within 6, relative to the terms that
    they sum, for numbers of any magnitude: squares neither overflow nor vanish, and a mean far larger than the deviation
    costs no digits. Sums along a row are in float64, and compensated for float64. A row that contains NaN or infinity gives NaN.
    The gradients of weight and bias are summed in float64, in an order that depends only on the shape, so results do
    not depend on the number of threads.
    """
    return normalized(rows, is_centered=True)


@define_row_normalization(
    formula=r"w_i \frac{x_i}{\sqrt{\frac{1}{n} \sum_j x_j^2 + \varepsilon}}",
    has_bias=False,
    reference="B. Zhang, R. Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019.",
)
def rms_norm(rows: Any) -> Any:
    """Root mean square normalization: each row scaled to mean square 1, then by a weight; the mean stays.

    ``y, dx, dweight = fa.rms_norm.forward_backward(x, dy, weight=weight)`` returns the value and all gradients in one
    pass; for gradients later, ``fa.rms_norm.backward(dy, x, weight=weight)``.

    Notes
    -----
    PyTorch's ``rms_norm``, except for the default of `eps`: it is 1e-5 for every dtype, as in ``layer_norm`` and in
    most language models, where PyTorch's is the dtype's machine epsilon. The backward pass needs only the input.

    Errors: values are within 4 units in the last place of the dtype and gradients within 6, relative to the terms that
    they sum, for numbers of any magnitude. Sums along a row are in float64, and compensated for float64. A row that contains NaN
    gives NaN; one that contains infinity gives NaN there and 0 elsewhere. The gradient of the weight is summed in
    float64, in an order that depends only on the shape, so results do not depend on the number of threads.
    """
    return normalized(rows, is_centered=False)
