"""What losses share: operations, reductions, and the gradient with respect to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array, float_type, outputs_for
from fastact.functions.function import Function
from fastact.functions.operation import Family, Operation
from fastact.functions.options import DLOSS, Argument, gradient
from fastact.functions.vjp import by_backward, by_derivative
from fastact.kernels.kernel import Kernel
from fastact.runtime.dtypes import inner_type, largest

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
    returning: Mapping[str, tuple[Argument, str]] | None = None,
) -> Family:
    """Return the family of a loss, given its arrays, options and gradients, and what `Family` and `Operation` take.

    `returning` has further results of the forward pass by name: the option that asks for each, and its description.
    """
    further = returning or {}
    asking = tuple(option for option, _ in further.values())
    described = {name: text for name, (_, text) in further.items()}
    operations = {
        name: Operation(
            name,
            summary,
            {
                "backward": (gradient("dloss", DLOSS.text), *arrays),
                "forward_backward": (*arrays, DLOSS),
            }.get(name, arrays),
            options if name == "backward" else (*options, *asking),
            {"forward": _LOSS | described, "backward": gradients}.get(
                name, _LOSS | gradients | described
            ),
            run,
            _RAISES,
            example=examples.get(name, ""),
        )
        for name, summary in _OPERATIONS.items()
    }
    vjp = partial(_vjp, tuple(option.name for option in asking))
    return Family(operations, ufuncs, kernel, vjp=vjp, vjp_example=examples["vjp"])


def _vjp(
    asking: tuple[str, ...],
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """Run the operation `vjp`: a loss with a reduction leaves its gradients, the other what they need."""
    caller, x = function.caller(operation.name), arrays[0]
    dtype = float_type((x,), [as_real_array(caller, operation.inputs[0], x)])
    # In half precision, the gradients of a mean would vanish before a large `dloss` scales them.
    if options.get("reduction") == "none" or inner_type(dtype) is not dtype:
        return by_backward(function, operation, arrays, options)
    results = 1 + sum(bool(options.get(option)) for option in asking)
    return by_derivative(function, arrays, options, "forward_backward", 1.0, results=results)


def loss_shape(caller: str, reduction: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a loss after reduction, given its shape before, or raise an error."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"{caller}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return shape if reduction == "none" else ()


def loss_outputs(
    operation: str,
    caller: str,
    out: Any,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: Any,
) -> dict[str, NDArray[Any]]:
    """Return the outputs of an operation by name, given the shapes of all: gradients have names in d."""
    names = [
        name
        for name in shapes
        if operation == "forward_backward" or name.startswith("d") == (operation == "backward")
    ]
    outputs = outputs_for(caller, out, tuple(shapes[name] for name in names), (dtype,) * len(names))
    return dict(zip(names, outputs, strict=True))


def planned_results(operation: str, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """Return a function from the loss and further results to those of an operation, None if the loss overflows."""
    most, to_loss = largest(dtype), dtype.type
    if operation == "backward":
        return lambda loss, arrays: arrays[0] if abs(loss) <= most else None

    def results(loss: float, arrays: Sequence[Any]) -> Any:
        if not abs(loss) <= most:
            return None
        return (to_loss(loss), *arrays) if arrays else to_loss(loss)

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
