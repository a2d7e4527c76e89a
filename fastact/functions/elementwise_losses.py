"""Elementwise losses, such as the binary cross-entropy of a sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastact.arrays.arguments import (
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
    outputs_for,
    same_shape,
)
from fastact.arrays.channels import channel_axis, run_on_channels
from fastact.catalogue.definition import ElementwiseLossDefinition
from fastact.functions.function import Function, check_domains, family_of
from fastact.functions.losses import LOSS_OPERATIONS, gradient_by_loss, loss_operation, loss_shape
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, REDUCTION, Argument, array
from fastact.kernels.kernel import Channels, Kernel
from fastact.runtime.dtypes import inner_type

_AXIS = Argument("axis", "int, default -1", "The axis of the classes.", -1, "int")
_SUMMED = "summed_"
# The results of each kernel, the summed one last.
_KERNELS = {
    "forward": "loss(n,c,s)",
    "forward_backward": "loss(n,c,s), dx(n,c,s)",
    "summed_forward": "sum(c): float64",
    "summed_forward_backward": "dx(n,c,s), sum(c): float64",
}
_EXAMPLES = {
    "backward": """\
>>> x, z = np.array([0.5, -2.0]), np.array([1.0, 0.0])
>>> one = {f}.backward(1.0, x, z)
>>> two = {f}.backward(2.0, x, z)
>>> np.allclose(two, 2 * one)
True""",
    "forward_backward": """\
>>> x, z = np.array([0.5, -2.0]), np.array([1.0, 0.0])
>>> loss, dx = {f}.forward_backward(x, z)
>>> h = np.array([1e-6, 0.0])
>>> rise = {f}(x + h, z)
>>> rise -= {f}(x - h, z)
>>> np.allclose(rise / 2e-6, dx[0])
True""",
}


@family_of.register
def _(definition: ElementwiseLossDefinition) -> Family:
    parameter = Argument(
        definition.parameter,
        f"float or array_like, default {definition.default:g}",
        definition.parameters_are[definition.parameter],
        annotation="ArrayLike | None",
    )
    x, targets = definition.inputs
    arrays = (
        array(x, "The input, of any shape and a real dtype."),
        array(targets, f"The targets, with the shape of `{x}`, converted to its dtype."),
    )
    operations = {
        name: loss_operation(
            name,
            arrays,
            (parameter, _AXIS, REDUCTION, OUT),
            {f"d{x}": f"The gradient with respect to `{x}`, with its shape."},
            _run,
            _EXAMPLES,
        )
        for name in LOSS_OPERATIONS
    }
    return Family(operations, tuple(_KERNELS), partial(_kernel, definition))


def _kernel(definition: ElementwiseLossDefinition, name: str) -> Kernel:
    inputs = f"x(n,c,s), targets(n,c,s), {definition.parameter}(c): parameter, scale: parameter"
    return Kernel.of(f"{inputs} -> {_KERNELS[name]}", Channels(partial(_compute, definition, name)))


def _compute(definition: ElementwiseLossDefinition, name: str) -> Callable[..., Any]:
    loss_and_gradient = definition.function

    def loss(x: Any, targets: Any, parameter: Any, scale: Any) -> Any:
        return (loss_and_gradient(x, targets, parameter)[0],)

    def both(x: Any, targets: Any, parameter: Any, scale: Any) -> Any:
        loss, gradient = loss_and_gradient(x, targets, parameter)
        return loss, gradient * scale

    def gradient_and_loss(x: Any, targets: Any, parameter: Any, scale: Any) -> Any:
        loss, gradient = loss_and_gradient(x, targets, parameter)
        return gradient * scale, loss

    if not name.endswith("backward"):
        return loss
    return gradient_and_loss if name.startswith(_SUMMED) else both


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    caller, definition = function.caller(operation.name), function._definition
    assert isinstance(definition, ElementwiseLossDefinition)
    values = dict(zip(operation.inputs, arrays, strict=True))
    dloss = values.pop("dloss", 1.0)
    x, targets = (as_real_array(caller, *each) for each in values.items())
    same_shape(caller, (definition.inputs[0], definition.inputs[1]), (x, targets))
    dtype = float_type((values[definition.inputs[0]],), [x])
    inner = inner_type(dtype)
    name = definition.parameter
    given = options.get(name)
    parameter = as_real_array(caller, name, definition.default if given is None else given)
    check_domains(function, caller, {name: parameter})
    axis = channel_axis(caller, name, x, parameter, options.get("axis", -1))
    reduction, out = options.get("reduction", "mean"), options.get("out")
    shape = loss_shape(caller, reduction, x.shape)
    gradient = gradient_by_loss(caller, dloss, shape)
    divisor = np.float64(x.size if reduction == "mean" else 1)
    is_summed, has_gradient = reduction != "none", operation.name != "forward"
    wanted = {"forward": [shape], "backward": [x.shape]}.get(operation.name, [shape, x.shape])
    results = list(outputs_for(caller, out, tuple(wanted), (dtype,) * len(wanted)))
    kernel = "forward_backward" if has_gradient else "forward"
    gradients = results[-1:] if has_gradient else []
    loss = None if operation.name == "backward" else results[0]
    losses = []
    if not is_summed:  # the kernel computes it even for `backward`
        losses = [np.empty(shape, dtype) if loss is None else loss]
    sums = np.empty(parameter.shape) if is_summed else None
    parameter, gradient = copy_overlapping(
        [np.require(parameter, inner, ["C", "A"]), gradient], results
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        run_on_channels(
            function.kernels[_SUMMED + kernel if is_summed else kernel],
            (x, targets),
            (parameter, np.asarray(gradient / divisor if is_summed else 1, inner)),
            (*losses, *gradients),
            sums,
            axis,
            dtype,
        )
        if sums is not None and loss is not None:
            loss[...] = sums.sum() / divisor
        elif gradients and not is_summed and not np.all(np.asarray(dloss) == 1):
            np.multiply(gradients[0], gradient, out=gradients[0], casting="same_kind")
    return as_returned(results, out)
