"""Batch normalization: statistics of channels, running averages, and the gradients of weight and bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_axis,
    as_number,
    as_real_array,
    as_returned,
    copy_overlapping,
    outputs_for,
)
from fastact.arrays.channels import run_on_contiguous_channels
from fastact.arrays.contiguous import BLOCK, as_contiguous, copy_back
from fastact.catalogue.definition import ChannelNormalizationDefinition
from fastact.functions.function import Function, check_domains
from fastact.functions.normalizations import (
    EPS,
    EXAMPLES,
    checked_arguments,
    normalization_operation,
)
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, Argument
from fastact.kernels.algorithms.normalization import normalized_channel
from fastact.kernels.kernel import Channels, Kernel, Rows
from fastact.runtime.dtypes import has_loop, inner_type

_X, _DY = "x(n,c,s)", "dy(n,c,s)"
_OF_CHANNEL = "mean(c): parameter, rstd(c): parameter, scale(c): parameter"
_OF_GRADIENT = "dy_mean(c): parameter, product_mean(c): parameter"
_MOMENTS = "total(c): float64, squares(c): float64"
_KERNELS = {
    "forward": f"{_X}, mean(c): parameter, scale(c): parameter, shift(c): parameter -> y(n,c,s)",
    "backward": f"{_DY}, {_X}, {_OF_CHANNEL}, {_OF_GRADIENT} -> dx(n,c,s)",
    "forward_backward": f"{_X}, {_DY}, {_OF_CHANNEL}, shift(c): parameter, {_OF_GRADIENT} -> y(n,c,s), dx(n,c,s)",
    "moments": f"{_X}, origin(c): parameter -> {_MOMENTS}",
    "gradient_moments": f"{_DY}, {_X}, origin(c): parameter -> {_MOMENTS}, dy_sum(c): float64, products(c): float64",
}
_ROW = "weight: parameter, bias: parameter, eps: float64"
_OF_ROW = "mean: float64, variance: float64"
_SUMS_OF_ROW = "dweight: float64, dbias: float64"
# The same in one call for small arrays, each channel a row.
_ROW_KERNELS = {
    "small_forward": f"x(n), {_ROW} -> y(n), {_OF_ROW}",
    "small_backward": f"dy(n), x(n), weight: parameter, eps: float64 -> dx(n), {_SUMS_OF_ROW}",
    "small_forward_backward": f"x(n), dy(n), {_ROW} -> y(n), dx(n), {_OF_ROW}, {_SUMS_OF_ROW}",
}
# Differences are taken from a number near the mean, of at most so many elements of a channel.
_ROWS, _ELEMENTS = 8, 2
# The largest square of its distance to the mean, in variances, at which no digits are lost: float32 has more in float64.
_DISTANCE = {"float32": 2.0**20, "float64": 4.0}
_PASSES = 3
_RUNNING = ("running_mean", "running_var")


def _of_channels(name: str, text: str) -> Argument:
    return Argument(name, "array_like, optional", text, annotation="ArrayLike | None")


_AXIS = Argument(
    "axis", "int, default 1", "The axis of the channels.", 1, "int", is_positional=True
)
_OPTIONS = (
    _AXIS,
    _of_channels("weight", "The factor of each channel."),
    _of_channels("bias", "A term for each channel."),
    _of_channels("running_mean", "The running average of the mean of each channel."),
    _of_channels("running_var", "That of the variance."),
    Argument(
        "training",
        "bool, default True",
        "Whether to normalize by the statistics of the batch; otherwise by the running averages.",
        True,
        "bool",
    ),
    Argument(
        "momentum",
        "float, default 0.1",
        "The share of the batch in the new running averages.",
        0.1,
        "float",
    ),
    EPS,
    OUT,
)
_RETURNS = {
    each: f"Only if `{each}` is passed, and in training: the new running average, of its shape."
    for each in _RUNNING
}


def family(definition: ChannelNormalizationDefinition) -> Family:
    """Return the family of a definition."""
    operations = {}
    for name in ("forward", "backward", "forward_backward"):
        found = normalization_operation(definition, name, _OPTIONS, _run)
        if name != "backward":
            found = replace(found, returns={**found.returns, **_RETURNS})
        operations[name] = found
    names = tuple(operations)
    others = tuple(each for each in (*_KERNELS, *_ROW_KERNELS) if each not in names)
    kernel = partial(_kernel, definition)
    return Family(operations, names, kernel, others=others, vjp_example=EXAMPLES["vjp"])


def _kernel(definition: ChannelNormalizationDefinition, name: str) -> Kernel:
    if name in _ROW_KERNELS:
        return Kernel.of(_ROW_KERNELS[name], Rows(lambda: normalized_channel))
    return Kernel.of(_KERNELS[name], Channels(lambda: definition.function(name)))


class _Statistics(NamedTuple):
    """What is known of each channel, in float64.

    Attributes
    ----------
    mean, low : ndarray
        The mean rounded to the type of the computation, and the rest.
    variance : ndarray
        The variance.
    dy_sum, products : ndarray
        The sum of `dy`, and that of `dy` times the deviation from the mean; 0 if there is no `dy`.
    """

    mean: NDArray[Any]
    low: NDArray[Any]
    variance: NDArray[Any]
    dy_sum: Any = 0.0
    products: Any = 0.0


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    caller, name = function.caller(operation.name), operation.name
    quick = _run_as_they_are(function, operation, arrays, options)
    if quick is not None:
        return quick
    given, parameters, dtype, eps = checked_arguments(function, operation, arrays, options)
    shape, inner = given[0].shape, inner_type(dtype)
    axis = as_axis(caller, options.get("axis", 1), len(shape))
    channels, count = shape[axis], given[0].size // max(1, shape[axis])
    running = {
        each: as_real_array(caller, each, options[each])
        for each in _RUNNING
        if options.get(each) is not None
    }
    for each, array in (parameters | running).items():
        if array.shape != (channels,):
            raise ValueError(f"{caller}: {each} has shape {array.shape}, expected {(channels,)}")
    momentum = as_number(
        caller, "momentum", options.get("momentum", function.parameters["momentum"])
    )
    check_domains(function, caller, {"momentum": momentum})
    training = bool(options.get("training", True))
    if not training and len(running) < 2:
        raise ValueError(f"{caller}: running_mean and running_var are required unless training")
    if training and count == 1:
        raise ValueError(f"{caller}: a batch of shape {shape} has one element for each channel")
    of_x = [each for each in ("y", "dx") if each in operation.returns]
    sums = [each for each in parameters if name != "forward"]
    updated = [each for each in running if training and each in operation.returns]
    types = [np.promote_types(dtype, parameters[each].dtype) for each in sums]
    types += [
        running[each].dtype if running[each].dtype.kind not in "iub" else dtype for each in updated
    ]
    results = outputs_for(
        caller,
        options.get("out"),
        (shape,) * len(of_x) + ((channels,),) * (len(sums) + len(updated)),
        ((dtype,) * len(of_x) + tuple(types)),
    )
    small = {
        each: array.astype(np.float64) for each, array in (parameters | running).items()
    }  # copies, which may be overwritten
    inputs, buffers = as_contiguous(copy_overlapping(given, results), results[: len(of_x)], dtype)
    with np.errstate(all="ignore"):
        if training and 0 < given[0].size <= BLOCK:
            last = _small(function, name, inputs, buffers, axis, small, eps, dtype)
        else:
            last = _large(function, name, inputs, buffers, axis, small, eps, training, inner)
        copy_back(results[: len(of_x)], buffers)
        last |= {each: _updated(each, small[each], last, momentum, count) for each in updated}
        for each, result in zip((*sums, *updated), results[len(of_x) :], strict=True):
            np.copyto(result, last[each], casting="same_kind")
    return as_returned(results, options.get("out"))


def _updated(
    name: str, old: NDArray[Any], found: dict[str, Any], momentum: float, count: int
) -> NDArray[Any]:
    """Return the new running average of the mean or the unbiased variance."""
    if not count:
        return old
    new = found["mean"] if name == "running_mean" else found["variance"] * (count / (count - 1))
    updated: NDArray[Any] = old + momentum * (new - old)
    return updated


def _run_as_they_are(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Train on a small batch of arrays that are what the kernel takes, channels along axis 1: 25 us instead of 120.

    Return None if they are not.
    """
    first, name = arrays[0], operation.name
    if type(first) is not np.ndarray or first.ndim < 2 or not 0 < first.size <= BLOCK:
        return None
    dtype, shape = first.dtype, first.shape
    channels = shape[1]
    count = first.size // channels
    if not has_loop(dtype) or count == 1 or options.get("out") is not None:
        return None
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
            return None
    if options.get("axis", 1) != 1 or options.get("training", True) is not True:
        return None
    inner, given = inner_type(dtype), {}
    for each in ("weight", "bias", *_RUNNING):
        array = options.get(each)
        if array is not None:
            if type(array) is not np.ndarray or array.dtype is not inner:
                return None
            if array.shape != (channels,):
                return None
            given[each] = array
    eps, momentum = (options.get(each, function.parameters[each]) for each in ("eps", "momentum"))
    if type(eps) is not float or type(momentum) is not float or not (eps >= 0 and momentum >= 0):
        return None
    found = _on_rows(function, name, arrays, 1, given, eps, dtype)
    results = [
        np.ascontiguousarray(np.moveaxis(found[each].reshape(_split(shape, 1)), 0, 1))
        for each in ("y", "dx")
        if each in found
    ]
    if name != "forward":
        results += [found[each].astype(inner) for each in ("weight", "bias") if each in given]
    if name != "backward":
        results += [
            _updated(each, given[each], found, momentum, count).astype(inner)
            for each in _RUNNING
            if each in given
        ]
    return results[0] if len(results) == 1 else tuple(results)


def _split(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return a shape with the axis of the channels first."""
    return (shape[axis], *shape[:axis], *shape[axis + 1 :])


def _on_rows(
    function: Function,
    name: str,
    arrays: Sequence[NDArray[Any]],
    axis: int,
    given: dict[str, NDArray[Any]],
    eps: float,
    dtype: np.dtype[Any],
) -> dict[str, Any]:
    """Return the results of a small batch by name, those of the shape of x as one row for each channel."""
    key, inner = f"small_{name}", inner_type(dtype)
    kernel = function._family.kernel(key)
    rows = [
        np.ascontiguousarray(np.moveaxis(each, axis, 0)).reshape(each.shape[axis], -1)
        for each in arrays
    ]
    weight = np.asarray(given.get("weight", 1.0), inner)
    numbers = (
        [weight] if name == "backward" else [weight, np.asarray(given.get("bias", -0.0), inner)]
    )
    results = function.kernels[key](
        *rows, *numbers, np.float64(eps), signature=kernel.types(dtype), casting="same_kind"
    )
    names = {"dweight": "weight", "dbias": "bias"}
    return {
        names.get(each.name, each.name): result
        for each, result in zip(kernel.outputs, results, strict=True)
    }


def _small(
    function: Function,
    name: str,
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[Any]],
    axis: int,
    given: dict[str, NDArray[Any]],
    eps: float,
    dtype: np.dtype[Any],
) -> dict[str, Any]:
    """Write the value and the gradient of a small batch, and return what is found of each channel."""
    found = _on_rows(function, name, inputs, axis, given, eps, dtype)
    rows = [found[each] for each in ("y", "dx") if each in found]
    for output, result in zip(outputs, rows, strict=True):
        output[...] = np.moveaxis(result.reshape(_split(output.shape, axis)), 0, axis)
    return found


def _large(
    function: Function,
    name: str,
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[Any]],
    axis: int,
    given: dict[str, NDArray[Any]],
    eps: float,
    training: bool,
    inner: np.dtype[Any],
) -> dict[str, Any]:
    """Write the value and the gradient, and return what is found of each channel."""
    count = max(1, inputs[0].size // max(1, inputs[0].shape[axis]))
    if training:
        found = _of_batch(function, name, inputs, axis, count, inner)
    else:
        found = _of_running(function, name, inputs, axis, given, inner)
    rstd = 1 / np.sqrt(found.variance + eps)
    _write(function, name, inputs, outputs, axis, count, found, rstd, given, training, inner)
    return {
        "mean": found.mean + found.low,
        "variance": found.variance,
        "weight": rstd * found.products,
        "bias": found.dy_sum,
    }


def _of_batch(
    function: Function,
    name: str,
    inputs: list[NDArray[Any]],
    axis: int,
    count: int,
    inner: np.dtype[Any],
) -> _Statistics:
    """Return the statistics of a batch: in one pass, or more if the numbers that it starts from are far off."""
    kernel = "moments" if name == "forward" else "gradient_moments"
    x = inputs[-1] if name == "backward" else inputs[0]
    given = inputs if name != "forward_backward" else inputs[::-1]
    channels = np.moveaxis(x, axis, 0).shape[0]
    few = x.reshape(-1 if x.size else 0, channels, int(np.prod(x.shape[axis + 1 :])))
    origin = np.zeros(channels, inner)
    if x.size:
        origin = few[:_ROWS, :, :_ELEMENTS].mean(axis=(0, 2), dtype=np.float64).astype(inner)
    for _ in range(_PASSES):
        total, squares, *others = run_on_contiguous_channels(
            function.kernels[kernel], given, (origin,), [], axis, 2 if name == "forward" else 4
        )
        shift = total / count
        variance = np.maximum(squares / count - shift * shift, 0)
        is_far = shift * shift > _DISTANCE[inner.name] * variance
        nearer = np.where(is_far, origin + shift, origin).astype(inner)
        if (nearer == origin).all() or np.isnan(shift).any():
            break
        origin = nearer
    mean = (origin + shift).astype(inner)
    low = (origin.astype(np.float64) - mean) + shift
    if not others:
        return _Statistics(mean, low, variance)
    dy_sum, products = others
    return _Statistics(mean, low, variance, dy_sum, products - shift * dy_sum)


def _of_running(
    function: Function,
    name: str,
    inputs: list[NDArray[Any]],
    axis: int,
    running: dict[str, NDArray[Any]],
    inner: np.dtype[Any],
) -> _Statistics:
    """Return the running averages as statistics."""
    mean = running["running_mean"].astype(inner)
    found = _Statistics(mean, running["running_mean"] - mean, running["running_var"])
    if name == "forward":
        return found
    given = inputs if name == "backward" else inputs[::-1]
    kernel = function.kernels["gradient_moments"]
    _, _, dy_sum, products = run_on_contiguous_channels(kernel, given, (mean,), [], axis, 4)
    return found._replace(dy_sum=dy_sum, products=products - found.low * dy_sum)


def _write(
    function: Function,
    name: str,
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[Any]],
    axis: int,
    count: int,
    found: _Statistics,
    rstd: NDArray[Any],
    small: dict[str, NDArray[Any]],
    training: bool,
    inner: np.dtype[Any],
) -> None:
    """Write the value and the gradient."""
    scale = rstd * small.get("weight", 1.0)
    shift = small.get("bias", -0.0) - found.low * scale

    def run(kernel: str, some: list[NDArray[Any]], to: list[NDArray[Any]], *values: Any) -> None:
        parameters = tuple(np.asarray(each, inner) for each in values)
        run_on_contiguous_channels(function.kernels[kernel], some, parameters, to, axis)

    if name == "forward":
        run("forward", inputs, outputs, found.mean, scale, shift)
    elif training:
        product_mean = found.products * rstd / count
        dy_mean = found.dy_sum / count - found.low * rstd * product_mean
        shifts = (shift,) if name == "forward_backward" else ()
        gradient = found.mean, rstd, scale, *shifts, dy_mean, product_mean
        run(name, inputs, outputs, *gradient)
    else:
        dy = inputs[0] if name == "backward" else inputs[1]
        zero = np.zeros_like(scale)
        if name == "forward_backward":
            run("forward", inputs[:1], outputs[:1], found.mean, scale, shift)
        run("forward", [dy], outputs[-1:], zero, scale, -zero)
