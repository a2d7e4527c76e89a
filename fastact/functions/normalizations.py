"""Normalizations of rows, such as layer normalization, with the gradients of weight and bias."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from fastact.arrays.plans import MAX_BYTES, Call, KernelPlan, Plan, shaped
from fastact.arrays.rows import Axes, RowArray, axes_of, run_in_blocks_of_rows, run_on_rows
from fastact.catalogue.definition import NormalizationDefinition, RowNormalizationDefinition
from fastact.functions.function import Function, check_domains
from fastact.functions.operation import SUMMARIES, Family, Operation
from fastact.functions.options import DY, OUT, ROW_AXIS, Argument, X
from fastact.kernels.kernel import Kernel, Rows
from fastact.runtime.dtypes import has_loop, inner_type
from fastact.runtime.output_pool import empty, with_output_pool
from fastact.runtime.replays import Input, Output

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
    is_differentiable=True,
)
_BIAS = Argument(
    "bias",
    "array_like, optional",
    "A term for each element of a row, with the shape of the axes.",
    annotation="ArrayLike | None",
    is_differentiable=True,
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
) -> NormalizationCall:
    """Return the call of the kernel on all rows, for any layout."""
    caller = function.caller(operation.name)
    given, parameters, dtype, eps = checked_arguments(function, operation, arrays, options)
    shape, axis = given[0].shape, options.get("axis", -1)
    layout = axes_of(caller, None if shape == () and axis in (-1, 0) else axis, shape)
    for each, array in parameters.items():
        if array.shape != layout.row_shape:
            raise ValueError(
                f"{caller}: {each} has shape {array.shape}, expected {layout.row_shape}"
            )
    return NormalizationCall(
        function, operation, given, parameters, layout, dtype, np.float64(eps), options.get("out")
    )


@dataclass(eq=False, repr=False)
class NormalizationCall(Call):
    """A call of the kernel of a normalization of rows, or of that with sums over rows.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    arrays : list of ndarray
        The arrays, of one shape.
    parameters : dict of str to ndarray
        Weight and bias, if given.
    layout : Axes
        Where the rows are.
    dtype : dtype
        The dtype of the results.
    eps : numpy.float64
        The number added to the variance.
    out : ndarray or tuple, optional
        Where the results go.
    """

    function: Function
    operation: Operation
    arrays: list[NDArray[Any]]
    parameters: dict[str, NDArray[Any]]
    layout: Axes
    dtype: np.dtype[Any]
    eps: np.float64
    out: Any

    @property
    def _definition(self) -> NormalizationDefinition:
        definition = self.function._definition
        assert isinstance(definition, NormalizationDefinition)
        return definition

    @property
    def _sums(self) -> list[str]:
        """The names of the gradients of the parameters."""
        is_value = self.operation.name == "forward"
        wanted = () if is_value else sums_of(self._definition)
        return [each for each in wanted if each[1:] in self.parameters]

    def _type_of(self, gradient: str) -> np.dtype[Any]:
        """Return the dtype of the gradient of a parameter."""
        return np.promote_types(self.dtype, self.parameters[gradient[1:]].dtype)

    @property
    def _kernel(self) -> str:
        return self.operation.name + (_SUMS if self._sums else "")

    def __call__(self) -> Any:
        """Make the call and return the results."""
        shape, dtype, sums, inner = self.arrays[0].shape, self.dtype, self._sums, self._inner
        of_x = _OUTPUTS[self.operation.name].split()
        results = outputs_for(
            self.function.caller(self.operation.name),
            self.out,
            (shape,) * len(of_x) + (self.layout.row_shape,) * len(sums),
            (dtype,) * len(of_x) + tuple(map(self._type_of, sums)),
        )
        length = math.prod(self.layout.row_shape)
        values = [
            np.require(self.parameters[each], inner, ["C", "A"]).reshape(-1)
            if each in self.parameters
            else _neutral(each, length, inner)
            for each in _parameters(self._definition, self.operation.name)
        ]
        operands = (*copy_overlapping(values, results), self.eps)
        given = copy_overlapping(self.arrays, results)
        every_sum, key = sums_of(self._definition), self._kernel
        types = self.function._family.kernel(key).types(dtype)
        call = partial(self.function.kernels[key], casting="same_kind", signature=types)
        totals: dict[str, NDArray[np.float64]] = {}

        def run(inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
            if not sums:
                call(*inputs, *operands, out=tuple(outputs))
                return
            found = run_in_blocks_of_rows(call, inputs, operands, outputs, len(every_sum))
            totals.update(zip(every_sum, found, strict=True))

        run_on_rows(
            self.layout,
            run,
            [RowArray(each, True) for each in given],
            [RowArray(each, True) for each in results[: len(of_x)]],
        )
        with np.errstate(over="ignore"):  # a sum may be too large for the type
            for each, result in zip(sums, results[len(of_x) :], strict=True):
                np.copyto(result, totals[each].reshape(result.shape), casting="same_kind")
        return as_returned(results, self.out)

    @property
    def _inner(self) -> np.dtype[Any]:
        return inner_type(self.dtype)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for rows along the last axis, of any size."""
        first, dtype, inner, given = self.arrays[0], self.dtype, self._inner, self.parameters
        if self.out is not None or not self.layout.is_last or not has_loop(first.dtype):
            return None
        if not {*self.operation.inputs, *given} <= positions.keys():
            return None
        if any(each.dtype is not dtype or not each.flags.c_contiguous for each in self.arrays):
            return None
        shape, length, count, eps = first.shape, first.shape[-1], len(self.arrays), self.eps
        names = _parameters(self._definition, self.operation.name)
        places = [(positions.get(each), _neutral(each, length, inner)) for each in names]
        ufunc, sums, every_sum = (
            self.function.kernels[self._kernel],
            self._sums,
            sums_of(self._definition),
        )
        count_of_x = len(_OUTPUTS[self.operation.name].split())
        is_block = first.nbytes < MAX_BYTES if not sums else 0 < first.size <= BLOCK
        are_alike = all(each.dtype is inner is dtype for each in given.values())
        if is_block and are_alike:
            view = shaped((1, -1, length)) if sums else None
            inputs = [
                *(Input(k, view) for k in range(count)),
                *(Input(value if at is None else at) for at, value in places),
                Input(np.asarray(eps)),
            ]
            outputs = [Output(shape, dtype, view)] * count_of_x
            if not sums:
                return KernelPlan(ufunc, inputs, outputs)
            for each in every_sum:
                kind = self._type_of(each) if each in sums else np.dtype(np.float64)
                outputs.append(Output((length,), kind, shaped((1, length)), from_float64=True))
            wanted = [*range(count_of_x), *(count_of_x + every_sum.index(each) for each in sums)]
            kept_at = [k - len(outputs) for k in wanted]
            finish = None
            if sums != every_sum:

                def finish(*given: Any) -> Any:
                    return tuple([given[k] for k in kept_at])

            return KernelPlan(ufunc, inputs, outputs, finish)

        def operands(given: Sequence[Any]) -> Sequence[Any]:
            return *[
                value if at is None else given[at].astype(inner, copy=False) for at, value in places
            ], eps

        if not sums:
            return lambda given: with_output_pool(ufunc, *given[:count], *operands(given))
        kept = [(every_sum.index(each), self._type_of(each)) for each in sums]

        def run(given: Sequence[Any]) -> Any:
            outputs = [empty(shape, dtype) for _ in range(count_of_x)]
            totals = run_in_blocks_of_rows(
                ufunc, given[:count], operands(given), outputs, len(every_sum)
            )
            with np.errstate(over="ignore"):  # a sum may be too large for the type
                return (*outputs, *[totals[k].astype(kind) for k, kind in kept])

        return run


@lru_cache(16)
def _neutral(name: str, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a parameter without effect: adding -0.0 keeps the sign of zeros."""
    array = np.full(length, 1.0 if name == "weight" else -0.0, dtype)
    array.flags.writeable = False
    return array
