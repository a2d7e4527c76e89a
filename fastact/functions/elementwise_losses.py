"""Elementwise losses, such as the binary cross-entropy of a sigmoid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from fastact.arrays.channels import (
    channel_axis,
    run_in_blocks,
    run_on_channels,
    total_of_blocks,
)
from fastact.arrays.contiguous import BLOCK, broadcast_in_parts
from fastact.arrays.plans import Call, KernelPlan, Plan, are_plain, shaped, taking
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
from fastact.runtime.output_pool import empty
from fastact.runtime.replays import Input, Output
from fastact.simd import select

_AXIS = Argument("axis", "int, default -1", "The axis of the classes.", -1, "int")
_WEIGHT = (
    "The factor of each element's loss, converted to the dtype of `{x}`, of any shape that broadcasts to that of `{x}`. "
    "It has no gradient. An element of weight 0 adds nothing, whatever it is. The mean divides by {divisor}, as in "
    "PyTorch."
)
_SUMMED, _WEIGHTED = "summed_", "weighted_"
# The results of each kernel, the summed one last.
_RESULTS = {
    "forward": "loss(n,c,s)",
    "forward_backward": "loss(n,c,s), dx(n,c,s)",
    "summed_forward": "sum(c): float64",
    "summed_forward_backward": "dx(n,c,s), sum(c): float64",
}
_KERNELS = (*_RESULTS, *(_WEIGHTED + name for name in _RESULTS))
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
    x, targets = definition.inputs
    arrays = (
        array(x, "The input, of any shape and a real dtype."),
        array(
            targets,
            f"The targets, with the shape of `{x}`, converted to its dtype.",
            is_differentiable=False,
        ),
    )
    parameters = [
        Argument(
            name,
            f"float or array_like, default {definition.default:g}",
            definition.parameters_are[name],
            annotation="ArrayLike | None",
        )
        for name in definition.class_parameters
    ]
    divisor = "the total weight" if definition.mean_by_weight else "the number of elements"
    weight = Argument(
        "weight",
        "array_like, optional",
        _WEIGHT.format(x=x, divisor=divisor),
        annotation="ArrayLike | None",
    )
    axis = (_AXIS,) if parameters else ()
    options = (*parameters, *axis, weight, REDUCTION, OUT)
    gradients = {f"d{x}": f"The gradient with respect to `{x}`, with its shape."}
    kernel = partial(_kernel, definition)
    return loss_family(arrays, options, gradients, _run, _EXAMPLES, _KERNELS, kernel)


def _kernel(definition: ElementwiseLossDefinition, name: str) -> Kernel:
    arrays = ["x", "targets", *(["weight"] if name.startswith(_WEIGHTED) else [])]
    inputs = [
        *(f"{each}(n,c,s)" for each in arrays),
        *(f"{each}(c): parameter" for each in definition.class_parameters),
        "scale: parameter",
    ]
    results = _RESULTS[name.removeprefix(_WEIGHTED)]
    return Kernel.of(
        f"{', '.join(inputs)} -> {results}", Channels(partial(_compute, definition, name))
    )


def _compute(definition: ElementwiseLossDefinition, name: str) -> Callable[..., Any]:
    of_elements = definition.function
    count, is_summed = len(definition.class_parameters), _SUMMED in name

    def plain(x: Any, targets: Any, *numbers: Any) -> Any:
        return of_elements(x, targets, *numbers[:count])

    def weighted(x: Any, targets: Any, weight: Any, *numbers: Any) -> Any:
        loss, derivative = of_elements(x, targets, *numbers[:count])
        # An element without weight adds nothing, whatever it is.
        is_absent = weight == 0
        return select(is_absent, 0, weight * loss), select(is_absent, 0, weight * derivative)

    loss_and_derivative = weighted if name.startswith(_WEIGHTED) else plain

    def loss_alone(*operands: Any) -> Any:
        return (loss_and_derivative(*operands)[0],)

    def both(*operands: Any) -> Any:
        loss, derivative = loss_and_derivative(*operands)
        dx = derivative * operands[-1]
        return (dx, loss) if is_summed else (loss, dx)

    return both if name.endswith("backward") else loss_alone


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> LossCall:
    caller, definition = function.caller(operation.name), function._definition
    assert isinstance(definition, ElementwiseLossDefinition)
    values = dict(zip(operation.inputs, arrays, strict=True))
    dloss = values.pop("dloss", 1.0)
    x, targets = (as_real_array(caller, *each) for each in values.items())
    same_shape(caller, definition.inputs, (x, targets))
    dtype = float_type((values[definition.inputs[0]],), [x])
    parameter, axis = None, None
    for name in definition.class_parameters:
        given = options.get(name)
        parameter = as_real_array(caller, name, definition.default if given is None else given)
        check_domains(function, caller, {name: parameter})
        axis = channel_axis(caller, name, x, parameter, options.get("axis", -1))
    weight = _weight_of(caller, options.get("weight"), definition.inputs[0], x, dtype)
    reduction, out = options.get("reduction", "mean"), options.get("out")
    shape = loss_shape(caller, reduction, x.shape)
    gradient = gradient_by_loss(caller, dloss, shape)
    return LossCall(
        function,
        operation,
        x,
        targets,
        weight,
        parameter,
        axis,
        dtype,
        gradient,
        dloss,
        reduction,
        out,
    )


def _weight_of(
    caller: str, weight: Any, name: str, x: NDArray[Any], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Return the weights of elements in the dtype of the call, or raise an error; None without weights."""
    if weight is None:
        return None
    given = as_real_array(caller, "weight", weight)
    try:
        fits = np.broadcast_shapes(given.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{caller}: weight has shape {given.shape}, which does not broadcast to {name} of shape {x.shape}"
        )
    return _rounded(given, dtype)


def _rounded(weight: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return weights in a dtype, in which they may be infinite."""
    with np.errstate(over="ignore"):
        return weight.astype(dtype, copy=False)


@dataclass(eq=False, repr=False)
class LossCall(Call):
    """A call of the kernel of losses, or of that of their sum.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    x, targets : ndarray
        The arrays, of one shape.
    weight : ndarray or None
        The weights of elements, whose shape broadcasts to theirs.
    parameter : ndarray or None
        The parameter if there is one, one number or one for each channel.
    axis : int or None
        The axis of the channels.
    dtype : dtype
        The dtype of the results.
    gradient : ndarray
        The gradient with respect to the loss, of its shape.
    dloss : Any
        The same as the caller gave it.
    reduction : str
        The reduction.
    out : ndarray or tuple, optional
        Where the results go.
    """

    function: Function
    operation: Operation
    x: NDArray[Any]
    targets: NDArray[Any]
    weight: NDArray[Any] | None
    parameter: NDArray[Any] | None
    axis: int | None
    dtype: np.dtype[Any]
    gradient: NDArray[Any]
    dloss: Any
    reduction: str
    out: Any

    @property
    def _is_summed(self) -> bool:
        return self.reduction != "none"

    @property
    def _ufunc(self) -> np.ufunc:
        kernel = "forward" if self.operation.name == "forward" else "forward_backward"
        kernel = _SUMMED + kernel if self._is_summed else kernel
        return self.function.kernels[kernel if self.weight is None else _WEIGHTED + kernel]

    @property
    def _divides_by_weight(self) -> bool:
        definition = self.function._definition
        assert isinstance(definition, ElementwiseLossDefinition)
        return self.weight is not None and definition.mean_by_weight and self.reduction == "mean"

    @property
    def _divisor(self) -> float:
        """The divisor of the sum of losses."""
        if self.weight is not None and self._divides_by_weight:
            return _total(self.weight, self.x.size)
        return float(self.x.size) if self.reduction == "mean" else 1.0

    def __call__(self) -> Any:
        """Make the call and return the results."""
        caller, name = self.function.caller(self.operation.name), self.operation.name
        dtype, inner, is_summed = self.dtype, inner_type(self.dtype), self._is_summed
        shapes = {"loss": self.gradient.shape, "dx": self.x.shape}
        results = loss_outputs(name, caller, self.out, shapes, dtype)
        loss, dx = results.get("loss"), results.get("dx")
        outputs = [] if dx is None else [dx]
        if not is_summed:  # the kernel computes it even for `backward`
            outputs.insert(0, np.empty(self.x.shape, dtype) if loss is None else loss)
        parameters = [] if self.parameter is None else [np.ravel(self.parameter).astype(inner)]
        weights = [] if self.weight is None else [self.weight]
        x, targets, gradient, *weights = copy_overlapping(
            [self.x, self.targets, self.gradient, *weights], tuple(results.values())
        )
        total = 0.0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            divisor = np.float64(self._divisor)
            scale = np.asarray(gradient / divisor if is_summed else 1, inner)
            for part, *weight in broadcast_in_parts(self.x.shape, weights):
                of_part = [self._of_part(each, part) for each in parameters]
                sums = np.empty([each.size for each in of_part]) if is_summed else None
                run_on_channels(
                    self._ufunc,
                    (x[part], targets[part], *weight),
                    (*of_part, scale),
                    tuple(each[part] for each in outputs),
                    sums,
                    self.axis,
                    dtype,
                )
                total += 0.0 if sums is None else float(sums.sum())
            if is_summed and loss is not None:
                loss[...] = total / divisor
            elif dx is not None and not is_summed and not np.all(np.asarray(self.dloss) == 1):
                np.multiply(dx, gradient, out=dx, casting="same_kind")
        return as_returned(tuple(results.values()), self.out)

    def _of_part(self, parameter: NDArray[Any], part: tuple[slice, ...]) -> NDArray[Any]:
        """Return the values of a parameter in a part of the array."""
        return parameter if self.axis is None else parameter[part[self.axis]]

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for contiguous arrays, unless their loss overflows."""
        dtype, definition = self.dtype, self.function._definition
        assert isinstance(definition, ElementwiseLossDefinition)
        if self.out is not None or not are_plain((self.x, self.targets), dtype, any_size=True):
            return None
        if not positions.keys().isdisjoint({"dloss", *definition.class_parameters}):
            return None
        weight_at = positions.get("weight")
        if self.weight is not None and weight_at is None:
            return None
        inner = inner_type(dtype)
        parameters = [] if self.parameter is None else [np.array([self.parameter], inner)]
        scale = np.asarray(self.dloss / self._divisor if self._is_summed else 1, inner)
        places = [positions[each] for each in definition.inputs]
        if weight_at is None and self.x.size <= BLOCK:
            return self._plan_of_block(places, (*parameters, scale))
        ufunc, shape, size, is_summed = self._ufunc, self.x.shape, self.x.size, self._is_summed
        dloss, divides_by_weight = np.asarray(self.dloss), self._divides_by_weight
        divisor, take = 1.0 if divides_by_weight else self._divisor, taking(places)
        finish = self._planned_sum() if is_summed else self._planned_losses()

        def run(given: Sequence[Any]) -> Any:
            inputs = list(take(given))
            by, numbers = divisor, (*parameters, scale)
            if weight_at is not None:
                weight = given[weight_at]
                if weight.dtype is not dtype:
                    weight = _rounded(weight, dtype)
                if divides_by_weight:
                    by = _total(weight, size)
                    if not by:
                        return None
                    numbers = (*parameters, np.asarray(dloss / by, inner))
                if weight.shape != shape:  # np.broadcast_to takes 4 us
                    weight, some = empty(shape, dtype), weight
                    weight[...] = some
                inputs.append(np.require(weight, None, ["C", "A"]))
            outputs = [empty(shape, dtype) for _ in range(ufunc.nout - is_summed)]
            partials = run_in_blocks(ufunc, inputs, numbers, outputs, None, int(is_summed), None)
            if is_summed:
                outputs.append(total_of_blocks(partials[0], 1))
            return finish(outputs, by)

        return run

    def _plan_of_block(self, places: Sequence[int], numbers: Sequence[NDArray[Any]]) -> KernelPlan:
        """Return the plan of one block without weights, with x and targets at these places."""
        shape, ufunc, divisor = self.x.shape, self._ufunc, self._divisor
        view, outputs = shaped((1, 1, self.x.size)), [Output(shape, self.dtype)] * ufunc.nout
        outputs = [replace(each, view=view) for each in outputs]
        finish = self._planned_losses()
        if self._is_summed:
            outputs[-1] = Output((1,), np.dtype(np.float64), from_float64=True)
            finish = self._planned_sum()
        inputs = [*(Input(k, view) for k in places), *map(Input, numbers)]
        first = -ufunc.nout
        return KernelPlan(ufunc, inputs, outputs, lambda *given: finish(given[first:], divisor))

    def _planned_sum(self) -> Callable[..., Any]:
        """Return a function from the gradients and the sum of losses, and the divisor, to the results."""
        finish = planned_results(self.operation.name, self.dtype)

        def results(found: Sequence[Any], divisor: float) -> Any:
            *gradients, sums = found
            return finish(sums.item() / divisor, gradients)

        return results

    def _planned_losses(self) -> Callable[..., Any]:
        """Return the same without a reduction."""
        name, dloss = self.operation.name, np.asarray(self.dloss)
        is_scaled = bool(dloss != 1)

        def results(found: Sequence[Any], divisor: float) -> Any:
            loss, *gradients = found
            if is_scaled and gradients:
                with np.errstate(invalid="ignore", over="ignore"):
                    np.multiply(gradients[0], dloss, out=gradients[0], casting="same_kind")
            if name == "forward_backward":
                return loss, gradients[0]
            return gradients[0] if name == "backward" else loss

        return results


def _total(weight: NDArray[Any], elements: int) -> float:
    """Return the total of weights that are broadcast to so many elements."""
    in_order = weight.ravel()  # the rounding of a sum depends on the order
    return float(np.add.reduce(in_order, dtype=np.float64)) * (elements / max(1, weight.size))
