"""Row functions, such as softmax, and reductions of rows, such as log-sum-exp."""

from __future__ import annotations

import math
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
    outputs_for,
)
from fastact.arrays.contiguous import RANDOM_OPERANDS, run_contiguous
from fastact.arrays.plans import Call, Plan, are_plain
from fastact.arrays.random_numbers import key_and_threshold, key_of
from fastact.arrays.rows import (
    Axes,
    RowArray,
    RowShape,
    Run,
    Segments,
    as_mask,
    layout_of,
    row_parts,
    run_on_rows,
)
from fastact.catalogue.definition import RowDefinition
from fastact.catalogue.normalized import hardmax
from fastact.functions.function import Function, family_of, function_of
from fastact.functions.operation import SUMMARIES, Family, Operation
from fastact.functions.options import (
    DY,
    KEEPDIMS,
    LENGTHS,
    OUT,
    RNG,
    ROW_AXIS,
    WHERE,
    Argument,
    X,
    array,
)
from fastact.functions.vjp import by_backward
from fastact.kernels.kernel import Contiguous, Kernel, Rows
from fastact.runtime.dtypes import dtype_of, has_loop, inner_type
from fastact.runtime.output_pool import MIN_POOLED_BYTES
from fastact.simd import uniform
from fastact.vecmath import log

# Masked rows are copied, at most this many elements at a time.
_COPIED = 2**18

_SIGNATURES = {
    "forward": "x(n), temperature: parameter -> y(n)",
    "backward": "dy(n), y(n), temperature: parameter -> dx(n)",
    "forward_backward": "x(n), dy(n), temperature: parameter -> y(n), dx(n)",
}
_REDUCED_SIGNATURES = {
    "forward": "x(n), temperature: parameter -> y",
    "backward": "dy, x(n), temperature: parameter -> dx(n)",
    "forward_backward": "x(n), dy, temperature: parameter -> y, dx(n)",
}
_PERTURB = f"{', '.join(f'{name}: int64' for name in RANDOM_OPERANDS)}, x(n) -> y(n)"
_HARD = Argument(
    "hard",
    "bool, default False",
    "Whether the value is one-hot: 1 for the maximum of each row and 0 for the others. The gradient is that of the soft "
    "value (straight-through estimator).",
    False,
    "bool",
)
_ARRAYS = {
    "x": X,
    "y": array("y", "The result of the forward call."),
    "dy": DY,
}
_RETURNS = {
    "y": "The value, with the shape and dtype of `x`. A row that contains NaN or plus infinity, or only minus infinity, gives "
    "NaN, as in PyTorch.",
    "dx": "The gradient with respect to the input, with its shape. Sums over a row are accumulated in float64.",
}
_REDUCED_VALUE = {
    "y": "The value, with the shape of `x` without the reduced axes; with `lengths`, one value for each row along the "
    "axis. A row that contains NaN gives NaN, otherwise one that contains plus infinity gives plus infinity."
}
_RAISES = {
    "TypeError": "If an input is not real, or `axis` or `lengths` are not integers.",
    "ValueError": "If `axis` is out of bounds, the temperature is not positive, the lengths do not add up to that of "
    "the axis, shapes do not match, or `out` does not match.",
}
_EXAMPLES = {
    "vjp": """\
>>> x, dy = np.array([1.0, 2.0, 2.5]), {dy}
>>> y, vjp = {{f}}.vjp(x{rng})
>>> _, dx = {{f}}.forward_backward(x, dy{rng})
>>> np.allclose(vjp(dy), dx)
True""",
    "backward": """\
>>> x, dy = np.array([1.0, 2.0, 2.5]), {dy}
>>> y = {{f}}(x{rng})
>>> dx = {{f}}.backward(dy, {saved})
>>> np.allclose(dx, {{f}}.forward_backward(x, dy{rng})[1])
True""",
    "forward_backward": """\
>>> x, dy = np.array([1.0, 2.0, 2.5]), {dy}
>>> y, dx = {{f}}.forward_backward(x, dy{rng})
>>> h = np.array([1e-6, 0.0, -1e-6])
>>> rise = {{f}}(x + h{rng})
>>> rise -= {{f}}(x - h{rng})
>>> np.allclose(np.sum(dy * rise) / 2e-6, dx[0] - dx[2])
True""",
}


@family_of.register
def _(definition: RowDefinition) -> Family:
    others = ("perturb",) if definition.is_random else ()
    return Family(
        {name: _operation(definition, name) for name in _SIGNATURES},
        (*_SIGNATURES, *others),
        partial(_kernel, definition),
        vjp=_random_vjp if definition.is_random else None,
        vjp_example=_example(definition, "vjp"),
        constants=_constants_of,
    )


def _operation(definition: RowDefinition, name: str) -> Operation:
    kernel = _kernel(definition, name)
    draws = definition.is_random and name != "backward"
    temperature = Argument(
        "temperature",
        "float, default 1",
        definition.parameters_are["temperature"],
        annotation="float | None",
    )
    options = (
        ROW_AXIS,
        *((RNG,) if draws else ()),
        temperature,
        *((_HARD,) if draws else ()),
        WHERE,
        LENGTHS,
        *((KEEPDIMS,) if definition.is_reduced else ()),
        OUT,
    )
    arrays = tuple(_ARRAYS[each.name] for each in kernel.inputs if each.name != "temperature")
    texts = _RETURNS | (_REDUCED_VALUE if definition.is_reduced else {})
    returns = {each.name: texts[each.name] for each in kernel.outputs}
    run, plain = (_run_random, None) if draws else (_run, _plain_call(kernel, name))
    example = _example(definition, name)
    return Operation(name, SUMMARIES[name], arrays, options, returns, run, _RAISES, plain, example)


def _example(definition: RowDefinition, name: str) -> str:
    return _EXAMPLES.get(name, "").format(
        dy="-2.0" if definition.is_reduced else "np.array([1.0, 0.0, -1.0])",
        saved="x" if definition.is_reduced else "y",
        rng=", rng=0" if definition.is_random else "",
    )


def _kernel(definition: RowDefinition, name: str) -> Kernel:
    if name == "perturb":
        return Kernel.of(_PERTURB, Contiguous(lambda: _perturbed))
    signatures = _REDUCED_SIGNATURES if definition.is_reduced else _SIGNATURES
    return Kernel.of(signatures[name], Rows(lambda: definition.algorithm))


def _perturbed(words: Any, threshold: Any, x: Any) -> Any:
    return (x - log(-log(uniform(words))),)


def _constants_of(function: Function) -> Callable[[np.dtype[Any]], NDArray[Any]]:
    """Return a function from a dtype to the temperature as an operand for that dtype."""
    name = function.name
    return partial(_as_operand, name, _as_temperature(name, function.parameters["temperature"]))


def _as_operand(caller: str, temperature: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    inner = inner_type(dtype)
    limits = np.finfo(inner)
    # Outside, the reciprocal would overflow or vanish.
    if not float(limits.tiny) <= temperature <= float(limits.max):
        raise ValueError(
            f"{caller}: temperature must be from {limits.tiny:.3g} to {limits.max:.3g} in {inner}, "
            f"got {temperature:.3g}"
        )
    return np.asarray(temperature, inner)


def _as_temperature(caller: str, temperature: Any) -> float:
    number = as_real_array(caller, "temperature", temperature)
    if number.ndim or not 0 < number < math.inf:
        raise ValueError(f"{caller}: temperature must be a positive number, got {temperature!r}")
    return float(number)


def _plain_call(kernel: Kernel, name: str) -> Callable[..., Any]:
    """Return the shortcut for small arrays of one dtype with rows along the last axis: a single ufunc call."""
    inputs = [each for each in kernel.inputs if each.kind == "array"]
    whole = next(k for k, each in enumerate(inputs) if each.core)
    others = [(k, bool(each.core)) for k, each in enumerate(inputs) if k != whole]

    def plain(function: Function, *arrays: Any, out: Any = None) -> Any:
        x = arrays[whole]
        if out is not None:
            pass
        elif type(x) is np.ndarray and x.ndim and x.nbytes < MIN_POOLED_BYTES and has_loop(x.dtype):
            for k, is_row in others:
                array = arrays[k]
                if type(array) is not np.ndarray or array.dtype is not x.dtype:
                    break
                if array.shape != (x.shape if is_row else x.shape[:-1]):
                    break
            else:  # 2 us instead of 16
                return function.kernels[name](*arrays, function.constants[x.dtype])
        return _run(function, function.operations[name], arrays, {"out": out})()

    return plain


def _run_random(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run an operation on logits with Gumbel noise."""
    hard, rng = options.pop("hard", False), options.pop("rng", None)
    axis, where, lengths = (options.get(name) for name in ("axis", "where", "lengths"))
    key = key_of(function.caller(operation.name), rng)
    results = _run(function, operation, arrays, options, partial(_perturb, function, key))()
    if hard:
        y = results[0] if isinstance(results, tuple) else results
        axis = options.get("axis", -1)
        of_largest: Any = function_of(hardmax)
        of_largest(y, axis, where=where, lengths=lengths, out=y)
    return results


def _random_vjp(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run the operation `vjp`: also with a hard value, the gradient is that of the soft one, which is kept."""
    hard, out = (
        options.pop("hard", False),
        options.pop("out", None) if options.get("hard") else None,
    )
    y, vjp = by_backward(function, operation, arrays, options)
    if hard:
        of_largest: Any = function_of(hardmax)
        given = {name: options.get(name) for name in ("where", "lengths")}
        y = of_largest(y, options.get("axis", -1), **given, out=out)
    return y, vjp


def _perturb(function: Function, key: int, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Write x plus noise into y; softmax then runs in place."""
    draws = key_and_threshold(key, 0.0)
    run_contiguous(function.kernels["perturb"], draws, (x,), (), (y,), dtype_of(y.dtype.name))
    return y


def _run(
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    replace: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None,
) -> RowsCall:
    """Return the call of the ufunc on all rows, for any layout."""
    caller, kernel = function.caller(operation.name), function._family.kernel(operation.name)
    axis, temperature = options.get("axis", -1), options.get("temperature")
    lengths, where = options.get("lengths"), options.get("where")
    are_rows = [bool(each.core) for each in kernel.inputs[:-1]]
    whole = are_rows.index(True)
    given = [as_real_array(caller, *each) for each in zip(operation.inputs, arrays, strict=True)]
    shape = given[whole].shape
    if shape == () and axis in (-1, 0):
        axis = None  # one element is a row
    layout = layout_of(caller, axis, lengths, shape)
    reduced = layout.reduced_shape(bool(options.get("keepdims", False)))
    for k, is_row in enumerate(are_rows):
        given[k] = _fitting(
            caller, operation.inputs[k], given[k], shape if is_row else reduced, is_row
        )
    dtype = float_type(arrays, given)
    if temperature is None:
        temperature_operand = function.constants[dtype]
    else:
        temperature_operand = _as_operand(caller, _as_temperature(caller, temperature), dtype)
    mask = None if where is None else as_mask(caller, where, shape)
    return RowsCall(
        function,
        operation,
        [RowArray(*each) for each in zip(given, are_rows, strict=True)],
        [RowShape(shape if each.core else reduced, bool(each.core)) for each in kernel.outputs],
        layout,
        dtype,
        temperature_operand,
        mask,
        options.get("out"),
        replace,
    )


@dataclass(frozen=True, eq=False, slots=True)
class RowsCall(Call):
    """A call of a kernel over rows.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    inputs : list of RowArray
        The arrays.
    outputs : list of RowShape
        The shapes of the results.
    layout : Axes or Segments
        Where the rows are.
    dtype : dtype
        The dtype of the results.
    temperature : ndarray
        The operand of the temperature.
    mask : ndarray of bool, optional
        The elements to include.
    out : ndarray or tuple, optional
        Where the results go.
    replace : callable, optional
        Takes the first input and the first output, and returns the new first input.
    """

    function: Function
    operation: Operation
    inputs: list[RowArray]
    outputs: list[RowShape]
    layout: Axes | Segments
    dtype: np.dtype[Any]
    temperature: NDArray[Any]
    mask: NDArray[np.bool_] | None
    out: Any
    replace: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] | None

    def __call__(self) -> Any:
        """Make the call and return the results."""
        caller, definition = self.function.caller(self.operation.name), self.function._definition
        assert isinstance(definition, RowDefinition)
        shapes = tuple(each.shape for each in self.outputs)
        results = outputs_for(caller, self.out, shapes, (self.dtype,) * len(shapes))
        given = list(copy_overlapping([each.array for each in self.inputs], results))
        if self.replace is not None:
            given[0] = self.replace(given[0], results[0])
        named = zip(given, self.inputs, strict=True)
        inputs = [RowArray(array, each.is_row) for array, each in named]
        found = zip(results, self.outputs, strict=True)
        outputs = [RowArray(array, each.is_row) for array, each in found]
        run: Run = self._run
        if self.mask is not None:
            (mask,) = copy_overlapping([self.mask], results)
            inputs.append(RowArray(mask, True))
            run = partial(_run_masked, definition, self.operation, run)
        run_on_rows(self.layout, run, inputs, outputs)
        return as_returned(results, self.out)

    def _run(self, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        name = self.operation.name
        types = self.function._family.kernel(name).types(self.dtype)
        self.function.kernels[name](
            *inputs, self.temperature, out=tuple(outputs), casting="same_kind", signature=types
        )

    def plan(self, positions: Mapping[str, int]) -> Plan | None:
        """Return a plan for rows along one axis."""
        if self.mask is not None or self.out is not None or self.replace is not None:
            return None
        layout = self.layout
        if not isinstance(layout, Axes) or layout.rows_last is None:
            return None
        if any(name not in positions for name in self.operation.inputs):
            return None
        if not are_plain([each.array for each in self.inputs], self.dtype):
            return None
        shapes, are_rows = zip(*((each.shape, each.is_row) for each in self.outputs), strict=True)
        if () in shapes:
            return None
        ufunc, temperature = self.function.kernels[self.operation.name], self.temperature
        count, dtype, is_single = len(self.inputs), self.dtype, len(shapes) == 1
        if layout.is_last and all(are_rows):
            return lambda given: ufunc(*given[:count], temperature)
        view, of_inputs = layout.view(), [each.is_row for each in self.inputs]

        def run(given: Sequence[Any]) -> Any:
            results = [np.empty(shape, dtype) for shape in shapes]
            inputs = [view(*each) for each in zip(given, of_inputs, strict=False)]
            outputs = [view(*each) for each in zip(results, are_rows, strict=True)]
            ufunc(*inputs, temperature, out=tuple(outputs))
            return results[0] if is_single else tuple(results)

        return run


def _run_masked(
    definition: RowDefinition,
    operation: Operation,
    run: Callable[..., None],
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[Any]],
) -> None:
    """Run with neutral values for the elements that the mask, the last input, excludes."""
    counts_as = {"x": definition.excluded, "y": definition.fully_masked_value}
    *rows, length = inputs[-1].shape
    for part in row_parts(tuple(rows), _COPIED // max(1, length)):
        *arrays, mask = (array[part] for array in inputs)
        results = [array[part] for array in outputs]
        for k, name in enumerate(operation.inputs):
            if name in counts_as:
                arrays[k] = np.where(mask, arrays[k], arrays[k].dtype.type(counts_as[name]))
        run(arrays, results)
        for name, result in zip(operation.outputs, results, strict=True):
            if name == "dx":
                np.copyto(result, 0, where=~mask)
            else:
                _correct_masked(definition, result, mask)


def _correct_masked(definition: RowDefinition, y: NDArray[Any], mask: NDArray[np.bool_]) -> None:
    """Fill fully masked rows, and correct a mean for the number of unmasked elements."""
    if not definition.is_reduced:
        nothing = ~mask.any(axis=-1, keepdims=True)
        if nothing.any():
            np.copyto(y, definition.fully_masked_value, where=nothing, casting="same_kind")
    elif definition.is_mean:
        with np.errstate(divide="ignore", invalid="ignore"):
            y += np.log(mask.shape[-1] / mask.sum(axis=-1, dtype=float)).astype(y.dtype)


def _fitting(
    caller: str, name: str, array: NDArray[Any], shape: tuple[int, ...], is_row: bool
) -> NDArray[Any]:
    """Return an input broadcast to the expected shape, or raise an error that names both."""
    if array.shape == shape:
        return array
    if not is_row:
        try:
            return np.broadcast_to(array, shape)
        except ValueError:
            pass
    raise ValueError(f"{caller}: {name} has shape {array.shape}, expected {shape}") from None
