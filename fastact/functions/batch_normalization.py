"""Batch normalization: statistics of channels, running averages, and the gradients of weight and bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from fastact.arrays.plans import Call, Plan
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

# Batches of at most so many elements are transposed for one call: (128, 256) in float32 takes 89 us instead of 163, but
# (256, 256) no less (Zen 4).
_SMALL = 3 * BLOCK
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
) -> BatchNormalizationCall:
    """Return the call on channels along any axis."""
    caller = function.caller(operation.name)
    given, parameters, dtype, eps = checked_arguments(function, operation, arrays, options)
    shape = given[0].shape
    axis = as_axis(caller, options.get("axis", 1), len(shape))
    running = {
        each: as_real_array(caller, each, options[each])
        for each in _RUNNING
        if options.get(each) is not None
    }
    for each, array in (parameters | running).items():
        if array.shape != shape[axis : axis + 1]:
            raise ValueError(
                f"{caller}: {each} has shape {array.shape}, expected {shape[axis : axis + 1]}"
            )
    momentum = as_number(
        caller, "momentum", options.get("momentum", function.parameters["momentum"])
    )
    check_domains(function, caller, {"momentum": momentum})
    training = bool(options.get("training", True))
    if not training and len(running) < 2:
        raise ValueError(f"{caller}: running_mean and running_var are required unless training")
    out = options.get("out")
    call = BatchNormalizationCall(
        function, operation, given, parameters, running, axis, dtype, eps, momentum, training, out
    )
    if training and call.count == 1:
        raise ValueError(f"{caller}: a batch of shape {shape} has one element for each channel")
    return call


@dataclass(eq=False, repr=False)
class BatchNormalizationCall(Call):
    """A call on channels along any axis.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    arrays : list of ndarray
        The arrays, of one shape.
    parameters, running : dict of str to ndarray
        Weight and bias, and the running averages, if given.
    axis : int
        The axis of the channels.
    dtype : dtype
        The dtype of the results.
    eps, momentum : float
        The number added to the variance, and the share of the batch in the new running averages.
    training : bool
        Whether the statistics are those of the batch.
    out : ndarray or tuple, optional
        Where the results go.
    """

    function: Function
    operation: Operation
    arrays: list[NDArray[Any]]
    parameters: dict[str, NDArray[Any]]
    running: dict[str, NDArray[Any]]
    axis: int
    dtype: np.dtype[Any]
    eps: float
    momentum: float
    training: bool
    out: Any

    @property
    def count(self) -> int:
        """The number of elements of a channel."""
        first = self.arrays[0]
        return int(first.size // max(1, first.shape[self.axis]))

    @property
    def _inner(self) -> np.dtype[Any]:
        return inner_type(self.dtype)

    @property
    def _is_small(self) -> bool:
        """Whether the statistics are those of a batch that one call computes."""
        return self.training and 0 < self.arrays[0].size <= _SMALL

    @property
    def _names(self) -> tuple[list[str], list[str], list[str]]:
        """The results: those of the shape of x, the sums by their parameters, and the new running averages."""
        of_x = [each for each in ("y", "dx") if each in self.operation.returns]
        sums = [] if self.operation.name == "forward" else list(self.parameters)
        has_running = self.training and _RUNNING[0] in self.operation.returns
        return of_x, sums, list(self.running) if has_running else []

    @property
    def _types(self) -> tuple[np.dtype[Any], ...]:
        """The dtypes of the sums and the new running averages."""
        _, sums, updated = self._names
        types = [np.promote_types(self.dtype, self.parameters[each].dtype) for each in sums]
        kinds = (self.running[each].dtype for each in updated)
        return (*types, *(each if each.kind not in "iub" else self.dtype for each in kinds))

    def __call__(self) -> Any:
        """Make the call and return the results."""
        shape, dtype, (of_x, sums, updated) = self.arrays[0].shape, self.dtype, self._names
        types = self._types
        results = outputs_for(
            self.function.caller(self.operation.name),
            self.out,
            (shape,) * len(of_x) + (shape[self.axis : self.axis + 1],) * len(types),
            (dtype,) * len(of_x) + types,
        )
        small = {
            each: array.astype(np.float64)
            for each, array in (self.parameters | self.running).items()
        }  # copies, which may be overwritten
        given = copy_overlapping(self.arrays, results)
        inputs, buffers = as_contiguous(given, results[: len(of_x)], dtype)
        with np.errstate(all="ignore"):
            if self._is_small:
                last = self._rows_of_channels()(inputs, small)
                for output, name in zip(buffers, of_x, strict=True):
                    output[...] = last[name]
            else:
                last = self._large(inputs, buffers, small)
            copy_back(results[: len(of_x)], buffers)
            last |= {
                each: _updated(each, small[each], last, self.momentum, self.count)
                for each in updated
            }
            for each, result in zip((*sums, *updated), results[len(of_x) :], strict=True):
                np.copyto(result, last[each], casting="same_kind")
        return as_returned(results, self.out)

    def plan(self, positions: Mapping[str, int]) -> Plan | None:
        """Return a plan for training on a small batch."""
        small, dtype, types = self.parameters | self.running, self.dtype, self._types
        if self.out is not None or not self._is_small or not has_loop(dtype):
            return None
        if any(each.dtype is not dtype for each in self.arrays):
            return None
        if not {*self.operation.inputs, *small} <= positions.keys():
            return None
        run_on_rows, (of_x, sums, updated) = self._rows_of_channels(), self._names
        count, size, momentum = len(self.arrays), self.count, self.momentum
        places = {each: positions[each] for each in small}

        def run(given: Sequence[Any]) -> Any:
            with np.errstate(all="ignore"):
                small = {each: given[at] for each, at in places.items()}
                last = run_on_rows(given[:count], small)
                found = [last[each] for each in sums]
                found += [_updated(each, small[each], last, momentum, size) for each in updated]
                results = [np.ascontiguousarray(last[each]) for each in of_x]
                results += map(np.ndarray.astype, found, types)
            return results[0] if len(results) == 1 else tuple(results)

        return run

    def _rows_of_channels(
        self,
    ) -> Callable[[Sequence[NDArray[Any]], Mapping[str, NDArray[Any]]], dict[str, Any]]:
        """Return a function that computes a small batch in one call, each channel as a row.

        It takes arrays and parameters, and returns the results by name, sums under the names of their parameters.
        """
        key, axis, inner = f"small_{self.operation.name}", self.axis, self._inner
        kernel, ufunc = self.function._family.kernel(key), self.function.kernels[key]
        shape, types, eps = self.arrays[0].shape, kernel.types(self.dtype), np.float64(self.eps)
        order = (axis, *(k for k in range(len(shape)) if k != axis))
        inverse, channels_first = np.argsort(order).tolist(), [shape[k] for k in order]
        rows = shape[axis], -1
        takes_bias = any(each.name == "bias" for each in kernel.inputs)
        names = {"dweight": "weight", "dbias": "bias"}
        names = {each.name: names.get(each.name, each.name) for each in kernel.outputs}

        def run(
            arrays: Sequence[NDArray[Any]], given: Mapping[str, NDArray[Any]]
        ) -> dict[str, Any]:
            inputs = [np.ascontiguousarray(each.transpose(order)).reshape(rows) for each in arrays]
            numbers = [np.asarray(given.get("weight", 1.0), inner)]
            if takes_bias:
                numbers.append(np.asarray(given.get("bias", -0.0), inner))
            results = ufunc(*inputs, *numbers, eps, signature=types, casting="same_kind")
            found = dict(zip(names.values(), results, strict=True))
            for each in found.keys() & {"y", "dx"}:
                found[each] = found[each].reshape(channels_first).transpose(inverse)
            return found

        return run

    def _large(
        self,
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
        small: dict[str, NDArray[Any]],
    ) -> dict[str, Any]:
        """Write the value and the gradient, and return what is found of each channel."""
        found = self._of_batch(inputs) if self.training else self._of_running(inputs, small)
        rstd = 1 / np.sqrt(found.variance + self.eps)
        self._write(inputs, outputs, found, rstd, small)
        return {
            "mean": found.mean + found.low,
            "variance": found.variance,
            "weight": rstd * found.products,
            "bias": found.dy_sum,
        }

    def _run(
        self,
        kernel: str,
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
        *values: Any,
        sums: int = 0,
    ) -> Any:
        """Run a kernel of channels, and return its sums."""
        parameters = tuple(np.asarray(each, self._inner) for each in values)
        ufunc = self.function.kernels[kernel]
        return run_on_contiguous_channels(ufunc, inputs, parameters, outputs, self.axis, sums)

    def _gradient_first(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return ``dy, x``, or x only."""
        return inputs[::-1] if self.operation.name == "forward_backward" else inputs

    def _of_batch(self, inputs: list[NDArray[Any]]) -> _Statistics:
        """Return the statistics of a batch: in one pass, or more if the numbers that it starts from are far off."""
        has_gradient, inner, axis = self.operation.name != "forward", self._inner, self.axis
        kernel, count = "gradient_moments" if has_gradient else "moments", max(1, self.count)
        given = self._gradient_first(inputs)
        x = given[-1]
        channels = x.shape[axis]
        few = x.reshape(-1 if x.size else 0, channels, int(np.prod(x.shape[axis + 1 :])))
        origin = np.zeros(channels, inner)
        if x.size:
            origin = few[:_ROWS, :, :_ELEMENTS].mean(axis=(0, 2), dtype=np.float64).astype(inner)
        for _ in range(_PASSES):
            sums = 4 if has_gradient else 2
            total, squares, *others = self._run(kernel, given, [], origin, sums=sums)
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
        self, inputs: list[NDArray[Any]], running: dict[str, NDArray[Any]]
    ) -> _Statistics:
        """Return the running averages as statistics."""
        mean = running["running_mean"].astype(self._inner)
        found = _Statistics(mean, running["running_mean"] - mean, running["running_var"])
        if self.operation.name == "forward":
            return found
        given = self._gradient_first(inputs)
        _, _, dy_sum, products = self._run("gradient_moments", given, [], mean, sums=4)
        return found._replace(dy_sum=dy_sum, products=products - found.low * dy_sum)

    def _write(
        self,
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
        found: _Statistics,
        rstd: NDArray[Any],
        small: dict[str, NDArray[Any]],
    ) -> None:
        """Write the value and the gradient."""
        name, count = self.operation.name, max(1, self.count)
        scale = rstd * small.get("weight", 1.0)
        shift = small.get("bias", -0.0) - found.low * scale
        if name == "forward":
            self._run("forward", inputs, outputs, found.mean, scale, shift)
        elif self.training:
            product_mean = found.products * rstd / count
            dy_mean = found.dy_sum / count - found.low * rstd * product_mean
            shifts = (shift,) if name == "forward_backward" else ()
            gradient = found.mean, rstd, scale, *shifts, dy_mean, product_mean
            self._run(name, inputs, outputs, *gradient)
        else:
            zero = np.zeros_like(scale)
            if name == "forward_backward":
                self._run("forward", inputs[:1], outputs[:1], found.mean, scale, shift)
            dy = self._gradient_first(inputs)[:1]
            self._run("forward", dy, outputs[-1:], zero, scale, -zero)


def _updated(
    name: str, old: NDArray[Any], found: dict[str, Any], momentum: float, count: int
) -> NDArray[Any]:
    """Return the new running average of the mean or the unbiased variance."""
    if not count:
        return old
    new = found["mean"] if name == "running_mean" else found["variance"] * (count / (count - 1))
    updated: NDArray[Any] = old + momentum * (new - old)
    return updated
