"""Functions of whole rows, such as the softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.activations.base import (
    Activation,
    as_axis,
    as_real_array,
    dtype_of,
    dtypes,
    outputs_for,
    parameters_in,
)
from fastact.definition import RowDefinition
from fastact.output_cache import empty

if TYPE_CHECKING:
    from fastact.kernels import LoopFunction


@dataclass(frozen=True)
class _Operation:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    core_signature: str
    summary: str


# The core dimension n runs over a row.
_OPERATIONS = {
    "forward": _Operation(("x",), ("y",), "(n),()->(n)", "the value"),
    "backward": _Operation(
        ("dy", "y"), ("dx",), "(n),(n),()->(n)", "the gradient by the input, from the value"
    ),
    "forward_backward": _Operation(
        ("x", "dy"),
        ("y", "dx"),
        "(n),(n),()->(n),(n)",
        "the value and the gradient by the input, in one pass",
    ),
}


class RowActivation(Activation):
    """A function of whole rows: each result depends on all numbers of its row.

    Its ufuncs are generalized: their last dimension is the row, and the temperature follows the arrays.
    """

    def __init__(self, definition: RowDefinition) -> None:
        super().__init__(definition, list(_OPERATIONS), lambda name: _make(definition, name))

    def __call__(
        self,
        x: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Of any shape; a real type. float16, bfloat16, float32 and float64 are kept, integers and bools become
            the float type that NumPy's own functions choose for them.
        axis : int, sequence of int or None, default -1
            The axis, or the axes, along which a row runs; None takes all numbers as one row.
        temperature : float, optional
            What the numbers are divided by; positive. The default is 1.
        where : array_like of bool, optional
            The numbers that take part; it broadcasts with `x`. The others count as minus infinity. A row of
            which none takes part gives zeros, in the logarithm minus infinity.
        out : ndarray, optional
            Where the result goes; it may be `x` itself.

        Returns
        -------
        ndarray
            Of the shape of `x`. A row that holds a NaN or plus infinity, or nothing but minus infinity, gives
            NaN, as in PyTorch.

        Raises
        ------
        TypeError
            If `x` is not real, or `axis` is no integer.
        ValueError
            If `axis` is out of bounds, the temperature is not positive, or `out` does not fit.
        """
        return self._run("forward", (x,), axis, temperature, where, out)

    def backward(
        self,
        dy: Any,
        y: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the gradient by the input from the value.

        Parameters
        ----------
        dy : array_like
            The gradient by the output, of the shape of `y`.
        y : array_like
            What the forward call returned.
        axis, temperature, out
            As for a call.

        Returns
        -------
        ndarray
            Of the shape of `y`. Sums over a row are taken in float64.
        """
        return self._run("backward", (dy, y), axis, temperature, None, out)

    def forward_backward(
        self,
        x: Any,
        dy: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute the value and the gradient by the input in one pass; see the call and `backward`.

        Returns
        -------
        y, dx : ndarray
            Of the shape of `x`. Where `where` leaves numbers out, their gradient is 0.
        """
        return self._run("forward_backward", (x, dy), axis, temperature, where, out)

    def _run(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        axis: Any,
        temperature: Any,
        where: Any,
        out: Any,
    ) -> Any:
        """Call a ufunc with the rows last, and bring its results back into place."""
        name = self._where(operation)
        names = _OPERATIONS[operation].inputs
        inputs = [as_real_array(name, *each) for each in zip(names, arrays, strict=True)]
        shape = inputs[0].shape
        for other_name, other in zip(names[1:], inputs[1:], strict=True):
            if other.shape != shape:
                raise ValueError(
                    f"{name}: {other_name} has shape {other.shape}, {names[0]} has {shape}"
                )
        degree = self._as_temperature(name, temperature)
        axes = _as_axes(name, axis, len(shape))
        ufunc = self.ufuncs[operation]
        dtype = _float_type(inputs)
        outputs = outputs_for(name, out, (shape,) * ufunc.nout, (dtype,) * ufunc.nout)
        mask = None if where is None else _as_mask(name, where, shape)
        if mask is not None:
            lowest = math.inf if self._is_of_minus_x else -math.inf
            inputs[0] = np.where(mask, inputs[0], dtype.type(lowest))
        # The loop keeps exponentials in y before it has done with dy.
        inputs[1:] = [
            other.copy() if np.may_share_memory(other, outputs[0]) else other
            for other in inputs[1:]
        ]
        rows = [_rows_last(array, axes) for array in inputs]
        results = [_rows_of_output(array, axes) for array in outputs]
        types = tuple(map(dtype_of, _operand_types(operation, dtype.name)))
        ufunc(*rows, degree, out=tuple(results), casting="same_kind", signature=types)
        for output, result in zip(outputs, results, strict=True):
            if not np.shares_memory(output, result):
                output[...] = _rows_back(result, axes, shape)
        if mask is not None:
            self._leave_out(outputs, mask, axes)
        return outputs[0] if len(outputs) == 1 else outputs

    @property
    def _is_of_minus_x(self) -> bool:
        assert isinstance(self._definition, RowDefinition)
        return self._definition.of_minus_x

    def _as_temperature(self, where: str, temperature: Any) -> float:
        value = self.parameters["temperature"] if temperature is None else temperature
        number = as_real_array(where, "temperature", value)
        if number.ndim or not 0 < number < math.inf:
            raise ValueError(f"{where}: temperature must be a positive number, got {value!r}")
        return float(number)

    def _leave_out(
        self, outputs: tuple[NDArray[Any], ...], mask: NDArray[np.bool_], axes: tuple[int, ...]
    ) -> None:
        """Give the rows in which nothing takes part the value of what takes no part, and no gradient."""
        nothing = ~mask.any(axis=axes, keepdims=True)
        if nothing.any():
            none = self(np.array([0.0, math.inf if self._is_of_minus_x else -math.inf]))[1]
            np.copyto(outputs[0], none, where=nothing, casting="same_kind")
        for gradient in outputs[1:]:
            np.copyto(gradient, 0, where=~mask)


def _float_type(arrays: list[NDArray[Any]]) -> np.dtype[Any]:
    """Return the type of the results: what NumPy's own float functions would choose."""
    kinds = [array.dtype for array in arrays]
    if all(kind.kind in "iub" for kind in kinds):
        kinds.append(np.dtype(np.float16))
    found: np.dtype[Any] = np.result_type(*kinds)
    return found.newbyteorder("=")


def _operand_types(operation: str, dtype: str) -> list[str]:
    """Return the types of the operands beside arrays of one type."""
    arrays, outputs = len(_OPERATIONS[operation].inputs), len(_OPERATIONS[operation].outputs)
    return [dtype] * arrays + [parameters_in(dtype)] + [dtype] * outputs


def _as_axes(where: str, axis: Any, dimensions: int) -> tuple[int, ...]:
    """Return the axes of a row as indices from the front, or raise an error that names them."""
    if axis is None:
        return tuple(range(dimensions))
    given = axis if isinstance(axis, Sequence) else (axis,)
    axes = tuple(as_axis(where, each, dimensions) for each in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{where}: axis {axis!r} names one axis twice")
    return axes


def _as_mask(where: str, mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{where}: where must hold bools, got {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{where}: where has shape {array.shape}, which does not broadcast with x of shape {shape}"
        ) from None


def _rows_last(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Return the array with its rows along the last axis: a view where there is one axis."""
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(array, axes, last)
    outer = moved.shape[: moved.ndim - len(axes)]
    return moved.reshape(*outer, math.prod(moved.shape[moved.ndim - len(axes) :]))


def _rows_of_output(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of an output with its rows last, or memory for them where there is no such view."""
    rows = _rows_last(array, axes)
    return rows if np.shares_memory(rows, array) else empty(rows.shape, rows.dtype)


def _rows_back(rows: NDArray[Any], axes: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """Undo `_rows_last`."""
    moved = [shape[axis] for axis in range(len(shape)) if axis not in axes]
    split = rows.reshape(*moved, *(shape[axis] for axis in axes))
    return np.moveaxis(split, tuple(range(-len(axes), 0)), axes)


def _make(definition: RowDefinition, name: str) -> np.ufunc:
    from fastact.ufunc import Loop, make_ufunc

    operation = _OPERATIONS[name]
    loops = [
        Loop(
            [dtype_of(each) for each in _operand_types(name, dtype)],
            definition.kernel_name(f"{name}.{dtype}"),
            partial(_build_loop, definition, name, dtype),
        )
        for dtype in dtypes()
    ]
    return make_ufunc(
        definition.module,
        definition.ufunc_name(name),
        f"Compute {operation.summary}, of {definition.name!r} over rows.",
        (*operation.inputs, "temperature"),
        operation.outputs,
        loops,
        operation.core_signature,
    )


def _build_loop(definition: RowDefinition, name: str, dtype: str) -> LoopFunction:
    from fastact import loops
    from fastact.kernels import make_compilable
    from fastact.vecmath.logarithm import log1p
    from fastact.vecmath.products import difference_and_exp

    for function in (definition.function, definition.from_output, log1p, difference_and_exp):
        assert function is not None
        make_compilable(function)
    return loops.rows(definition, name, dtype)
