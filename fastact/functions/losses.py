"""What losses share: operations, reductions, and the gradient with respect to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array, outputs_for
from fastact.functions.function import Function
from fastact.functions.operation import Family, Operation
from fastact.functions.options import DLOSS, Argument, gradient
from fastact.functions.vjp import by_backward, by_derivative
from fastact.kernels.kernel import Kernel
from fastact.runtime.dtypes import largest

REDUCTIONS = ("mean", "sum", "none")
_OPERATIONS = {
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


def loss_family(
    arrays: tuple[Argument, ...],
    options: tuple[Argument, ...],
    gradients: dict[str, str],
    run: Any,
    examples: Mapping[str, str],
    ufuncs: tuple[str, ...],
    kernel: Callable[[Any], Kernel],
) -> Family:
    """Return the family of a loss, given its arrays, options and gradients, and what `Family` and `Operation` take."""
    operations = {
        name: Operation(
            name,
            summary,
            {
                "backward": (gradient("dloss", DLOSS.text), *arrays),
                "forward_backward": (*arrays, DLOSS),
            }.get(name, arrays),
            options,
            {"forward": _LOSS, "backward": gradients}.get(name, _LOSS | gradients),
            run,
            _RAISES,
            example=examples.get(name, ""),
        )
        for name, summary in _OPERATIONS.items()
    }
    return Family(operations, ufuncs, kernel, vjp=_vjp, vjp_example=examples["vjp"])


def _vjp(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run the operation `vjp`: a loss with a reduction leaves its gradients, the other what they need."""
    if options.get("reduction") == "none":
        return by_backward(function, operation, arrays, options)
    return by_derivative(function, arrays, options, "forward_backward", 1.0)


def loss_shape(caller: str, reduction: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a loss after reduction, given its shape before, or raise an error."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"{caller}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return shape if reduction == "none" else ()


def loss_outputs(
    operation: str,
    caller: str,
    out: Any,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: Any,
) -> tuple[tuple[NDArray[Any], ...], NDArray[Any] | None, tuple[NDArray[Any], ...]]:
    """Return the outputs of an operation, and which of them are the loss and the gradient.

    `shapes` are those of the loss and of the gradient.
    """
    wanted = {"forward": shapes[:1], "backward": shapes[1:]}.get(operation, shapes)
    results = outputs_for(caller, out, wanted, (dtype,) * len(wanted))
    loss = None if operation == "backward" else results[0]
    return results, loss, () if operation == "forward" else results[-1:]


def planned_results(operation: str, dtype: np.dtype[Any], divisor: float) -> Callable[..., Any]:
    """Return a function from a sum of losses and a gradient to an operation's results, None if the loss overflows."""
    most, to_loss = largest(dtype), dtype.type

    def results(total: float, *gradient: Any) -> Any:
        loss = total / divisor
        if not abs(loss) <= most:
            return None
        if operation == "backward":
            return gradient[0]
        return (to_loss(loss), *gradient) if gradient else to_loss(loss)

    return results


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
