"""Normalizations of rows, such as layer normalization, with the gradients of weight and bias."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_number,
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
    outputs_for,
    same_shape,
)
from fastact.arrays.contiguous import BLOCK
from fastact.arrays.rows import RowArray, axes_of, run_in_blocks_of_rows, run_on_rows
from fastact.catalogue.definition import NormalizationDefinition, RowNormalizationDefinition
from fastact.functions.function import Function, check_domains
from fastact.functions.operation import SUMMARIES, Family, Operation
from fastact.functions.options import DY, OUT, ROW_AXIS, Argument, X
from fastact.kernels.kernel import Kernel, Rows
from fastact.runtime.dtypes import has_loop, inner_type
from fastact.runtime.output_pool import MIN_POOLED_BYTES, empty, with_output_pool

_SUMS = "_with_sums"
_INPUTS = {"forward": "x", "backward": "dy x", "forward_backward": "x dy"}
_OUTPUTS = {"forward": "y", "backward": "dx", "forward_backward": "y dx"}
_ARRAYS = {"x": X, "dy": DY}
_RETURNS = {
    "y": "The value, with the shape of `x`.",
    "dx": "The gradient with respect to `x`, with its shape.",
    "dweight": "Only if `weight` is passed: its gradient, of its shape, summed in float64.",
    "dbias": "Only if `bias` is passed: its gradient, of its shape, summed in float64.",
}
_RAISES = {
    "TypeError": "If an input is not real, or `axis` is not an integer.",
    "ValueError": "If `axis` is out of bounds, `eps` is negative, shapes do not match, or `out` does not match.",
}
EXAMPLES = {
    "vjp": """\
>>> x = np.array([[1.0, 2.0], [5.0, 4.0]])
>>> dy = np.array([[1.0, 0.0], [0.0, 3.0]])
>>> y, vjp = {f}.vjp(x, weight=np.ones(2))
>>> dx, dweight = vjp(dy)
>>> np.allclose(dweight, (dy * y).sum(0))
True""",
    "backward": """\
>>> x = np.array([[1.0, 2.0], [5.0, 4.0]])
>>> dy = np.array([[1.0, 0.0], [0.0, 3.0]])
>>> w = np.ones(2)
>>> found = {f}.backward(dy, x, weight=w)
>>> _, *expected = {f}.forward_backward(x, dy, weight=w)
>>> all(map(np.allclose, found, expected))
True""",
    "forward_backward": """\
>>> x = np.array([[1.0, 2.0], [5.0, 4.0]])
>>> dy = np.array([[1.0, 0.0], [0.0, 3.0]])
>>> w = np.ones(2)
>>> y, dx, dweight = {f}.forward_backward(x, dy, weight=w)
>>> np.allclose(dweight, (dy * y).sum(0))
True""",
}
EPS = Argument(
    "eps",
    "float, default 1e-5",
    "A number that is added to the variance, at least 0.",
    1e-5,
    "float",
)
_WEIGHT = Argument(
    "weight",
    "array_like, optional",
    "The factor of each element of a row, with the shape of the axes.",
    annotation="ArrayLike | None",
)
_BIAS = Argument(
    "bias",
    "array_like, optional",
    "A term for each element of a row, with the shape of the axes.",
    annotation="ArrayLike | None",
)


def family(definition: RowNormalizationDefinition) -> Family:
    """Return the family of a definition."""
    options = (ROW_AXIS, _WEIGHT, *((_BIAS,) if definition.has_bias else ()), EPS, OUT)
    operations = {
        name: normalization_operation(definition, name, options, _run) for name in _INPUTS
    }
    with_sums = tuple(name + _SUMS for name in _INPUTS if name != "forward")
    return Family(
        operations,
        tuple(_INPUTS),
        partial(_kernel, definition),
        vjp_example=EXAMPLES["vjp"],
        others=with_sums,
        constants=lambda function: lambda dtype: np.asarray(function.parameters["eps"], np.float64),
    )


def normalization_operation(
    definition: NormalizationDefinition, name: str, options: tuple[Argument, ...], run: Any
) -> Operation:
    """Return an operation of a normalization, given its options."""
    arrays = tuple(_ARRAYS[each] for each in _INPUTS[name].split())
    outputs = [*_OUTPUTS[name].split(), *(sums_of(definition) if name != "forward" else ())]
    returns = {each: _RETURNS[each] for each in outputs}
    example = EXAMPLES.get(name, "")
    return Operation(name, SUMMARIES[name], arrays, options, returns, run, _RAISES, example=example)


def sums_of(definition: NormalizationDefinition) -> list[str]:
    """Return the names of the gradients that are sums."""
    return ["dweight", *(["dbias"] if definition.has_bias else [])]


def _kernel(definition: RowNormalizationDefinition, key: str) -> Kernel:
    name, has_sums = key.removesuffix(_SUMS), key.endswith(_SUMS)
    row = "(r,n)" if has_sums else "(n)"
    inputs = [f"{each}{row}" for each in _INPUTS[name].split()]
    outputs = [f"{each}{row}" for each in _OUTPUTS[name].split()]
    inputs += [f"{each}(n): parameter" for each in _parameters(definition, name)]
    if has_sums:
        outputs += [f"{each}(n): float64" for each in sums_of(definition)]
    signature = f"{', '.join(inputs)}, eps: float64 -> {', '.join(outputs)}"
    return Kernel.of(signature, Rows(lambda: definition.function))


def _parameters(definition: NormalizationDefinition, name: str) -> list[str]:
    """Return the names of the parameters that an operation computes with: the gradient does not take the bias."""
    return ["weight", *(["bias"] if definition.has_bias and name != "backward" else [])]


def checked_arguments(
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: Mapping[str, Any],
) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any]], np.dtype[Any], float]:
    """Return the arrays, the parameters that are given, the dtype of the results, and eps, or raise an error."""
    caller = function.caller(operation.name)
    given = [as_real_array(caller, *each) for each in zip(operation.inputs, arrays, strict=True)]
    same_shape(caller, operation.inputs, given)
    parameters = {
        name: as_real_array(caller, name, options[name])
        for name in ("weight", "bias")
        if options.get(name) is not None
    }
    dtype = float_type(arrays, given)
    inner = inner_type(dtype)
    # Parameters are in the type of the computation, so those of float32 do not widen arrays of float16.
    if any(
        each.dtype != inner and not np.can_cast(each.dtype, inner) for each in parameters.values()
    ):
        dtype = np.dtype(np.float64)
    eps = as_number(caller, "eps", options.get("eps", function.parameters["eps"]))
    check_domains(function, caller, {"eps": eps})
    return given, parameters, dtype, eps


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    caller, name, definition = function.caller(operation.name), operation.name, function._definition
    assert isinstance(definition, NormalizationDefinition)
    results = _run_as_they_are(function, name, definition, arrays, options)
    if results is not None:
        return results
    given, parameters, dtype, eps = checked_arguments(function, operation, arrays, options)
    shape, out = given[0].shape, options.get("out")
    axis = options.get("axis", -1)
    layout = axes_of(caller, None if shape == () and axis in (-1, 0) else axis, shape)
    for each, array in parameters.items():
        if array.shape != layout.row_shape:
            raise ValueError(
                f"{caller}: {each} has shape {array.shape}, expected {layout.row_shape}"
            )
    sums = _wanted_sums(definition, name, parameters)
    of_x = _OUTPUTS[name].split()
    results = outputs_for(
        caller,
        out,
        (shape,) * len(of_x) + tuple(parameters[each[1:]].shape for each in sums),
        (dtype,) * len(of_x)
        + tuple(np.promote_types(dtype, parameters[each[1:]].dtype) for each in sums),
    )
    key = name + _SUMS if sums else name
    inner, length = inner_type(dtype), math.prod(layout.row_shape)
    values = [
        np.require(parameters[each], inner, ["C", "A"]).reshape(-1)
        if each in parameters
        else _neutral(each, length, inner)
        for each in _parameters(definition, name)
    ]
    values = list(copy_overlapping(values, results))
    given = list(copy_overlapping(given, results))
    call = partial(
        function.kernels[key],
        casting="same_kind",
        signature=function._family.kernel(key).types(dtype),
    )
    operands = (*values, np.float64(eps))
    totals: dict[str, NDArray[np.float64]] = {}

    def run(inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        if not sums:
            call(*inputs, *operands, out=tuple(outputs))
            return
        found = run_in_blocks_of_rows(call, inputs, operands, outputs, len(sums_of(definition)))
        totals.update(zip(sums_of(definition), found, strict=True))

    run_on_rows(
        layout,
        run,
        [RowArray(each, True) for each in given],
        [RowArray(each, True) for each in results[: len(of_x)]],
    )
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        for each, result in zip(sums, results[len(of_x) :], strict=True):
            np.copyto(result, totals[each].reshape(result.shape), casting="same_kind")
    return as_returned(results, out)


def _wanted_sums(
    definition: NormalizationDefinition, name: str, parameters: Container[str]
) -> list[str]:
    return [] if name == "forward" else [s for s in sums_of(definition) if s[1:] in parameters]


def _run_as_they_are(
    function: Function,
    name: str,
    definition: NormalizationDefinition,
    arrays: tuple[Any, ...],
    options: Mapping[str, Any],
) -> Any:
    """Run an operation on arrays that are what its kernel takes, with rows along the last axis: 10 us instead of 60.

    Return None if they are not.
    """
    first, axis, eps = arrays[0], options.get("axis", -1), options.get("eps")
    if type(first) is not np.ndarray or not first.ndim or not has_loop(first.dtype):
        return None
    dtype, shape, inner = first.dtype, first.shape, inner_type(first.dtype)
    for each in arrays:
        if type(each) is not np.ndarray or each.dtype is not dtype or each.shape != shape:
            return None
    if axis != -1 or options.get("out") is not None:
        return None
    if eps is None:
        eps = function.constants[first.dtype]
    elif type(eps) is not float or not eps >= 0:
        return None
    given = {each: options[each] for each in ("weight", "bias") if options.get(each) is not None}
    for each in given.values():
        if type(each) is not np.ndarray or each.dtype is not inner or each.shape != shape[-1:]:
            return None
    values = [
        given[each] if each in given else _neutral(each, shape[-1], inner)
        for each in _parameters(definition, name)
    ]
    sums = _wanted_sums(definition, name, given)
    if not sums:
        call = function.kernels[name]
        if first.nbytes < MIN_POOLED_BYTES:
            return call(*arrays, *values, eps)
        return with_output_pool(call, *arrays, *values, eps)
    call, every_sum = function.kernels[name + _SUMS], sums_of(definition)
    if 0 < first.size <= BLOCK:
        blocks = 1, -1, shape[-1]
        results = call(*[each.reshape(blocks) for each in arrays], *values, eps)
        outputs = [each.reshape(shape) for each in results[: -len(every_sum)]]
        totals = [each[0] for each in results[-len(every_sum) :]]
    else:
        outputs = [empty(shape, dtype) for _ in _OUTPUTS[name].split()]
        totals = run_in_blocks_of_rows(call, arrays, (*values, eps), outputs, len(every_sum))
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        found = [
            total.astype(inner)
            for each, total in zip(every_sum, totals, strict=True)
            if each in sums
        ]
    return (*outputs, *found)


@lru_cache(16)
def _neutral(name: str, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a parameter without effect: adding -0.0 keeps the sign of zeros."""
    array = np.full(length, 1.0 if name == "weight" else -0.0, dtype)
    array.flags.writeable = False
    return array
