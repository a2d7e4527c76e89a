"""What losses share: operations, reductions, and the gradient with respect to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array
from fastact.functions.function import Function
from fastact.functions.operation import Operation
from fastact.functions.options import DLOSS, Argument, array
from fastact.functions.vjp import by_backward, by_derivative

REDUCTIONS = ("mean", "sum", "none")
LOSS_OPERATIONS = {
    "forward": "the loss",
    "backward": "the gradient",
    "forward_backward": "the loss and the gradient in one pass",
}
_LOSS = {
    "loss": "The loss, in the dtype of the input; without a reduction, one value for each element or row."
}
_RAISES = {
    "TypeError": "If an input is not real, or labels are not integers.",
    "ValueError": "If a label is out of range (the message gives its position), shapes do not match, or the value of "
    "an option is invalid.",
}


def loss_operation(
    name: str,
    arrays: tuple[Argument, ...],
    options: tuple[Argument, ...],
    gradients: dict[str, str],
    run: Any,
    examples: Mapping[str, str],
) -> Operation:
    """Return an operation of a loss, given its arrays, options, gradients and examples."""
    if name == "backward":
        arrays = (array("dloss", DLOSS.text), *arrays)
    elif name == "forward_backward":
        arrays = (*arrays, DLOSS)
    returns = {"forward": _LOSS, "backward": gradients}.get(name, _LOSS | gradients)
    summary, example = LOSS_OPERATIONS[name], examples.get(name, "")
    return Operation(name, summary, arrays, options, returns, run, _RAISES, example=example)


def loss_vjp(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run the operation `vjp`: a loss with a reduction leaves its gradients, the other what they need."""
    if options.get("reduction") == "none":
        return by_backward(function, operation, arrays, options)
    return by_derivative(function, arrays, options, "forward_backward", "dloss")


def loss_shape(caller: str, reduction: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a loss after reduction, given its shape before, or raise an error."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"{caller}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return shape if reduction == "none" else ()


def gradient_by_loss(caller: str, dloss: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the gradient with respect to a loss, broadcast to its shape, or raise an error that names both."""
    gradient = as_real_array(caller, "dloss", dloss)
    if gradient.shape == shape:  # np.broadcast_to takes 4 us even if there is nothing to do
        return gradient
    try:
        return np.broadcast_to(gradient, shape)
    except ValueError:
        raise ValueError(
            f"{caller}: dloss has shape {gradient.shape}, the loss has {shape}"
        ) from None
