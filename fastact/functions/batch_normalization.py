"""Batch normalization: statistics of channels, running averages, and the gradients of weight and bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
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
from fastact.arrays.channels import core_shape, run_on_contiguous_channels
from fastact.arrays.contiguous import ONE_CALL, as_contiguous, copy_back
from fastact.arrays.plans import Call, KernelPlan, Plan, are_plain, shaped
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
from fastact.kernels.kernel import Channels, Elementwise, Kernel
from fastact.runtime.dtypes import inner_type
from fastact.runtime.replays import Input, Output

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
_SUMS = "total, squares, dy_sum, products"
_STATISTICS = (
    f"{_SUMS}, origin, weight, bias, count: parameter, eps: parameter, splitter: parameter -> mean, rstd, scale, shift, "
    "dy_mean, product_mean, whole_mean, variance, dweight, distance"
)
# Veltkamp's factor for the digits of each type.
_SPLITTER = {"float32": 2.0**29 + 1, "float64": 1.0}
# Differences are taken from a number near the mean: that of so many elements of each channel, as far as there are.
_NEAREST = {"float32": (1, 1), "float64": (8, 2)}
# The largest square of its distance to the mean, in variances, at which no digits are lost: float32 has more in float64.
_DISTANCE = {"float32": 2.0**20, "float64": 4.0}
_PASSES = 3
_RUNNING = ("running_mean", "running_var")


def _of_channels(name: str, text: str, is_differentiable: bool = False) -> Argument:
    return Argument(
        name,
        "array_like, optional",
        text,
        annotation="ArrayLike | None",
        is_differentiable=is_differentiable,
    )


_AXIS = Argument(
    "axis", "int, default 1", "The axis of the channels.", 1, "int", is_positional=True
)
_OPTIONS = (
    _AXIS,
    _of_channels("weight", "The factor of each channel.", True),
    _of_channels("bias", "A term for each channel.", True),
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
    others = (*(each for each in _KERNELS if each not in names), "statistics")
    kernel = partial(_kernel, definition)
    return Family(operations, names, kernel, others=others, vjp_example=EXAMPLES["vjp"])


def _kernel(definition: ChannelNormalizationDefinition, name: str) -> Kernel:
    if name == "statistics":
        return Kernel.of(_STATISTICS, Elementwise(lambda: definition.function(name)))
    return Kernel.of(_KERNELS[name], Channels(lambda: definition.function(name)))


class _Statistics(NamedTuple):
    """What is known of each channel, in float64: see the kernel.

    Attributes
    ----------
    mean : ndarray
        The mean, cut to the digits of the type of the computation.
    rstd : ndarray
        The reciprocal of the standard deviation.
    scale, shift : ndarray
        The value is the deviation from `mean` times `scale` plus `shift`.
    dy_mean, product_mean : ndarray
        The mean of `dy`, and that of `dy` times the normalized input.
    whole_mean, variance : ndarray
        The moments.
    dweight : ndarray
        The gradient of the weight.
    distance : ndarray
        The square of the distance between the mean and the number that differences were taken from.
    """

    mean: NDArray[Any]
    rstd: NDArray[Any]
    scale: NDArray[Any]
    shift: NDArray[Any]
    dy_mean: NDArray[Any]
    product_mean: NDArray[Any]
    whole_mean: NDArray[Any]
    variance: NDArray[Any]
    dweight: NDArray[Any]
    distance: NDArray[Any]


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

    @cached_property
    def count(self) -> int:
        """The number of elements of a channel."""
        first = self.arrays[0]
        return int(first.size // max(1, first.shape[self.axis]))

    @property
    def _inner(self) -> np.dtype[Any]:
        return inner_type(self.dtype)

    @cached_property
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
        shape, dtype, types = self.arrays[0].shape, self.dtype, self._types
        of_x = self._names[0]
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
            of_channels = self._of_batch if self.training else self._of_running
            found, dy_sum = of_channels(inputs, small)
            if self.training:
                self._run(self.operation.name, inputs, buffers, *self._numbers(found))
            else:
                self._write_by_running(inputs, buffers, found)
            copy_back(results[: len(of_x)], buffers)
            last = self._sums_and_averages(found, dy_sum, small)
            for each, result in zip(last, results[len(of_x) :], strict=True):
                np.copyto(result, each, casting="same_kind")
        return as_returned(results, self.out)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for training on a contiguous batch that one thread computes."""
        small, dtype, x = self.parameters | self.running, self.dtype, self.arrays[0]
        if self.out is not None or not self.training:
            return None
        if not are_plain(self.arrays, dtype) or x.size > ONE_CALL:
            return None
        if not {*self.operation.inputs, *small} <= positions.keys():
            return None
        return self._without_elements()._plan({each: positions[each] for each in small})

    def _without_elements(self) -> BatchNormalizationCall:
        """Return the call of arrays of the same shapes, which take no memory."""
        parameters, running = (
            {name: _like(each) for name, each in some.items()}
            for some in (self.parameters, self.running)
        )
        arrays = [*map(_like, self.arrays)]
        return replace(self, arrays=arrays, parameters=parameters, running=running)

    def _plan(self, places: Mapping[str, int]) -> Plan:
        """Return the plan, given the positions of parameters and running averages."""
        has_gradient = self.operation.name != "forward"
        moments = self._plan_of("gradient_moments" if has_gradient else "moments")
        statistics, write = self._plan_of("statistics"), self._plan_of(self.operation.name)
        (of_x, _, _), types, count = self._names, self._types, len(self.arrays)
        is_single, inner, limit = len(of_x) == 1, self._inner, _DISTANCE[self._inner.name]

        def run(given: Sequence[Any]) -> Any:
            small, inputs = {each: given[at] for each, at in places.items()}, given[:count]
            with np.errstate(all="ignore"):
                gradient_first = self._gradient_first(inputs)
                origin = self._near_mean(gradient_first[-1])
                sums = moments.run(*gradient_first, origin)
                if (
                    sums is None
                ):  # a replay asks for the same dtype object, which unpickling does not give
                    return None
                found = _Statistics(*statistics.run(*self._operands(origin, sums, small)))
                if (found.distance > limit * found.variance).any():
                    return None
                numbers = [each.astype(inner, copy=False) for each in self._numbers(found)]
                results = write.run(*inputs, *numbers)
                last = self._sums_and_averages(found, sums[-2], small)
                pairs = zip(last, types, strict=True)
                last = [each.astype(kind, copy=False) for each, kind in pairs]
            if not last:
                return results
            return (results, *last) if is_single else (*results, *last)

        return run

    def _plan_of(self, kernel: str) -> KernelPlan:
        """Return the plan of a kernel, which takes its operands in their order."""
        shape, double = self.arrays[0].shape, np.dtype(np.float64)
        operands = self.function._family.kernel(kernel)
        view = shaped(core_shape(shape, self.axis))
        are_rows = [len(each.core) > 1 for each in operands.operands]
        inputs = [Input(k, view if are_rows[k] else None) for k in range(len(operands.inputs))]
        outputs = [
            Output(shape, self.dtype, view)
            if is_row
            else Output((shape[self.axis],), double, None, True)
            for is_row in are_rows[len(inputs) :]
        ]
        return KernelPlan(self.function.kernels[kernel], inputs, outputs)

    def _operands(
        self,
        origin: NDArray[Any],
        sums: Sequence[NDArray[Any]],
        small: Mapping[str, NDArray[Any]],
    ) -> Sequence[NDArray[Any]]:
        """Return the operands of the kernel `statistics`."""
        double, (zeros, ones) = np.float64, self._neutral
        weight, bias = small.get("weight", ones), small.get("bias", zeros)
        return (
            *sums,
            *(zeros,) * (4 - len(sums)),
            origin.astype(double, copy=False),
            weight.astype(double, copy=False),
            bias.astype(double, copy=False),
            *self._scalars,
        )

    @cached_property
    def _neutral(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """A bias and a weight without effect: adding -0.0 keeps the sign of zeros."""
        channels = self.arrays[0].shape[self.axis]
        return _constant(channels, -0.0), _constant(channels, 1.0)

    @cached_property
    def _scalars(self) -> tuple[NDArray[Any], ...]:
        """The number of elements of a channel, epsilon, and Veltkamp's factor."""
        numbers = max(1, self.count), self.eps, _SPLITTER[self._inner.name]
        return tuple(np.asarray(each, np.float64) for each in numbers)

    def _numbers(self, found: _Statistics) -> Sequence[NDArray[Any]]:
        """Return the parameters of the kernel that writes the results."""
        if self.operation.name == "forward":
            return found.mean, found.scale, found.shift
        shift = (found.shift,) if self.operation.name == "forward_backward" else ()
        return found.mean, found.rstd, found.scale, *shift, found.dy_mean, found.product_mean

    def _run(
        self,
        kernel: str,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
        *values: Any,
        sums: int = 0,
    ) -> Any:
        """Run a kernel of channels, and return its sums."""
        parameters = tuple(np.asarray(each, self._inner) for each in values)
        ufunc = self.function.kernels[kernel]
        return run_on_contiguous_channels(ufunc, inputs, parameters, outputs, self.axis, sums)

    def _gradient_first(self, inputs: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Return ``dy, x``, or x only."""
        return inputs[::-1] if self.operation.name == "forward_backward" else inputs

    def _near_mean(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return a number near the mean of each channel, in the type of the computation."""
        core, rows, elements, inner = self._nearest
        few = x.reshape(core)[:rows, :, :elements] if x.size else np.zeros((1, core[1], 1))
        if few.size == core[1]:
            return np.array(few, inner).reshape(-1)
        total = few.sum(axis=(0, 2), dtype=np.float64)
        origin: NDArray[Any] = (total / (few.size / core[1])).astype(inner)
        return origin

    @cached_property
    def _nearest(self) -> tuple[tuple[int, int, int], int, int, np.dtype[Any]]:
        """The shape of the arrays as rows, channels and lengths, of how many elements the mean is near, and its type."""
        core = core_shape(self.arrays[0].shape, self.axis)
        return core, *_NEAREST[self._inner.name], self._inner

    def _of_batch(
        self, inputs: Sequence[NDArray[Any]], small: Mapping[str, NDArray[Any]]
    ) -> tuple[_Statistics, Any]:
        """Return the statistics of a batch: in one pass, or more if the numbers that it starts from are far off.

        With them, the sum of `dy` if there is one.
        """
        has_gradient, limit = self.operation.name != "forward", _DISTANCE[self._inner.name]
        kernel = "gradient_moments" if has_gradient else "moments"
        given = self._gradient_first(inputs)
        origin = self._near_mean(given[-1])
        for _ in range(_PASSES):
            sums = self._run(kernel, given, [], origin, sums=4 if has_gradient else 2)
            found = self._found(origin, sums, small)
            nearer = np.where(found.distance > limit * found.variance, found.mean, origin)
            if (nearer == origin).all() or np.isnan(found.variance).any():
                break
            origin = nearer.astype(origin.dtype)
        return found, sums[-2]

    def _found(
        self,
        origin: NDArray[Any],
        sums: Sequence[NDArray[Any]],
        small: Mapping[str, NDArray[Any]],
    ) -> _Statistics:
        return _Statistics(
            *self.function.kernels["statistics"](*self._operands(origin, sums, small))
        )

    def _of_running(
        self, inputs: Sequence[NDArray[Any]], small: Mapping[str, NDArray[Any]]
    ) -> tuple[_Statistics, Any]:
        """Return the running averages as statistics, as if they were found in a batch."""
        whole, count = small["running_mean"], max(1, self.count)
        mean = whole.astype(self._inner)
        rest = whole - mean
        sums = [rest * count, (small["running_var"] + rest * rest) * count]
        if self.operation.name != "forward":
            given = self._gradient_first(inputs)
            sums += self._run("gradient_moments", given, [], mean, sums=4)[2:]
        return self._found(mean, sums, small), sums[-2]

    def _write_by_running(
        self,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
        found: _Statistics,
    ) -> None:
        """Write the value and the gradient, to which the statistics are constants."""
        if self.operation.name != "backward":
            value = found.mean, found.scale, found.shift
            self._run("forward", inputs[:1], outputs[:1], *value)
        if self.operation.name != "forward":
            zero = np.zeros_like(found.scale)
            dy = self._gradient_first(inputs)[:1]
            self._run("forward", dy, outputs[-1:], zero, found.scale, -zero)

    def _sums_and_averages(
        self, found: _Statistics, dy_sum: Any, small: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Return the gradients of weight and bias, and the new running averages, if they are results."""
        _, sums, updated = self._names
        if not (sums or updated):
            return []
        gradients = {"weight": found.dweight, "bias": dy_sum}
        averages = [self._updated(each, small[each], found) for each in updated]
        return [*(gradients[each] for each in sums), *averages]

    def _updated(self, name: str, old: NDArray[Any], found: _Statistics) -> NDArray[Any]:
        """Return the new running average of the mean or the unbiased variance."""
        count = self.count
        if not count:
            return old
        new = found.whole_mean
        if name == "running_var":
            new = found.variance * (count / (count - 1))
        updated: NDArray[Any] = old + self.momentum * (new - old)
        return updated


def _like(array: NDArray[Any]) -> NDArray[Any]:
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


@lru_cache(16)
def _constant(channels: int, value: float) -> NDArray[Any]:
    """Return a number for each channel."""
    array = np.full(channels, value)
    array.flags.writeable = False
    return array
