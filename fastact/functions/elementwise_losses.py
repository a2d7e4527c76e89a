"""Elementwise losses, such as the binary cross-entropy of a sigmoid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
    same_shape,
)
from fastact.arrays.channels import channel_axis, run_on_channels
from fastact.arrays.contiguous import BLOCK
from fastact.arrays.plans import Call, Plan, are_plain, taking
from fastact.catalogue.definition import ElementwiseLossDefinition
from fastact.functions.function import Function, check_domains
from fastact.functions.losses import (
    gradient_by_loss,
    loss_family,
    loss_outputs,
    loss_shape,
    planned_results,
)
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
    "vjp": """\
>>> x, z = np.array([0.5, -2.0]), np.array([1.0, 0.0])
>>> loss, vjp = {f}.vjp(x, z)
>>> dx = {f}.backward(1.0, x, z)
>>> np.array_equal(vjp(), dx)
True""",
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


def family(definition: ElementwiseLossDefinition) -> Family:
    """Return the family of a definition."""
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
    options = (parameter, _AXIS, REDUCTION, OUT)
    gradients = {f"d{x}": f"The gradient with respect to `{x}`, with its shape."}
    kernel = partial(_kernel, definition)
    return loss_family(arrays, options, gradients, _run, _EXAMPLES, tuple(_KERNELS), kernel)


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
) -> LossCall:
    caller, definition = function.caller(operation.name), function._definition
    assert isinstance(definition, ElementwiseLossDefinition)
    values = dict(zip(operation.inputs, arrays, strict=True))
    dloss = values.pop("dloss", 1.0)
    x, targets = (as_real_array(caller, *each) for each in values.items())
    same_shape(caller, (definition.inputs[0], definition.inputs[1]), (x, targets))
    dtype = float_type((values[definition.inputs[0]],), [x])
    name = definition.parameter
    given = options.get(name)
    parameter = as_real_array(caller, name, definition.default if given is None else given)
    check_domains(function, caller, {name: parameter})
    axis = channel_axis(caller, name, x, parameter, options.get("axis", -1))
    reduction, out = options.get("reduction", "mean"), options.get("out")
    shape = loss_shape(caller, reduction, x.shape)
    gradient = gradient_by_loss(caller, dloss, shape)
    divisor = {"mean": float(x.size), "sum": 1.0}.get(reduction)
    return LossCall(
        function,
        operation,
        x,
        targets,
        parameter,
        given,
        axis,
        dtype,
        gradient,
        dloss,
        divisor,
        out,
    )


@dataclass(eq=False, repr=False)
class LossCall(Call):
    """A call of the kernel of losses, or of that of their sum.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    x, targets : ndarray
        The arrays, of one shape.
    parameter : ndarray
        The parameter, one number or one for each channel.
    given_parameter : Any
        The same as the caller gave it.
    axis : int or None
        The axis of the channels.
    dtype : dtype
        The dtype of the results.
    gradient : ndarray
        The gradient with respect to the loss, of its shape.
    dloss : Any
        The same as the caller gave it.
    divisor : float or None
        The divisor of the sum; None without a reduction.
    out : ndarray or tuple, optional
        Where the results go.
    """

    function: Function
    operation: Operation
    x: NDArray[Any]
    targets: NDArray[Any]
    parameter: NDArray[Any]
    given_parameter: Any
    axis: int | None
    dtype: np.dtype[Any]
    gradient: NDArray[Any]
    dloss: Any
    divisor: float | None
    out: Any

    @property
    def _ufunc(self) -> np.ufunc:
        kernel = "forward" if self.operation.name == "forward" else "forward_backward"
        return self.function.kernels[kernel if self.divisor is None else _SUMMED + kernel]

    def __call__(self) -> Any:
        """Make the call and return the results."""
        caller, name = self.function.caller(self.operation.name), self.operation.name
        x, dtype, gradient = self.x, self.dtype, self.gradient
        inner, is_summed, shapes = (
            inner_type(dtype),
            self.divisor is not None,
            (gradient.shape, x.shape),
        )
        results, loss, gradients = loss_outputs(name, caller, self.out, shapes, dtype)
        losses: tuple[NDArray[Any], ...] = ()
        if not is_summed:  # the kernel computes it even for `backward`
            losses = (np.empty(gradient.shape, dtype) if loss is None else loss,)
        sums = np.empty(self.parameter.shape) if is_summed else None
        parameter, gradient = copy_overlapping(
            [np.require(self.parameter, inner, ["C", "A"]), gradient], results
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scale = gradient / np.float64(self.divisor) if is_summed else 1
            run_on_channels(
                self._ufunc,
                (x, self.targets),
                (parameter, np.asarray(scale, inner)),
                (*losses, *gradients),
                sums,
                self.axis,
                dtype,
            )
            if sums is not None and loss is not None:
                loss[...] = sums.sum() / np.float64(self.divisor)
            elif gradients and not is_summed and not np.all(np.asarray(self.dloss) == 1):
                np.multiply(gradients[0], gradient, out=gradients[0], casting="same_kind")
        return as_returned(results, self.out)

    def plan(self, positions: Mapping[str, int]) -> Plan | None:
        """Return a plan for a reduction of arrays that fit one block, unless the loss overflows."""
        name, dtype, arrays = self.operation.name, self.dtype, (self.x, self.targets)
        if self.out is not None or self.divisor is None or "dloss" in positions:
            return None
        if type(self.given_parameter) not in (int, float, type(None)):
            return None
        if self.x.size > BLOCK or not are_plain(arrays, dtype):
            return None
        inner, shape, ufunc, divisor = inner_type(dtype), self.x.shape, self._ufunc, self.divisor
        numbers = np.array([self.parameter], inner), np.asarray(self.gradient / divisor, inner)
        core, finish = (1, 1, self.x.size), planned_results(name, dtype, divisor)
        take = taking(positions[each] for each in self.operation.inputs if each != "dloss")

        def run(given: Sequence[Any]) -> Any:
            results = ufunc(*[each.reshape(core) for each in take(given)], *numbers)
            *gradients, sums = results if type(results) is tuple else (results,)
            return finish(sums.item(), *(each.reshape(shape) for each in gradients))

        return run
