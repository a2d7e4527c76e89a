"""What losses have in common: reductions, and the gradients by them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array

REDUCTIONS = ("mean", "sum", "none")


def loss_shape(where: str, reduction: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a loss that has this shape without a reduction, or raise an error."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"{where}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return shape if reduction == "none" else ()


def gradient_by_loss(where: str, dloss: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the gradient by a loss in its shape, or raise an error that names both."""
    gradient = as_real_array(where, "dloss", dloss)
    if gradient.shape == shape:  # NumPy's function takes 4 us where there is nothing to do
        return gradient
    try:
        return np.broadcast_to(gradient, shape)
    except ValueError:
        raise ValueError(
            f"{where}: dloss has shape {gradient.shape}, the loss has {shape}"
        ) from None
