"""Views of arrays with several parts along an axis, such as two halves, in the layout that kernels take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_returned, copy_overlapping, float_type, outputs_for
from fastact.arrays.plans import Call, KernelPlan, Plan, are_plain
from fastact.runtime.output_pool import retry_without_pool
from fastact.runtime.replays import Input, Output

# Longer rows are split, since threads divide the rows among themselves.
_LONGEST_ROW = 16_384


@dataclass(eq=False, repr=False)
class PackedCall(Call):
    """A call of a `fastact.kernels.kernel.Packed` kernel on arrays of any layout.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    ufunc : numpy.ufunc
        The kernel's ufunc, whose operands have the core dimensions ``(p,n)`` or ``(n)``.
    arrays : dict of str to ndarray
        The inputs by name.
    shapes : tuple of tuple of int
        The shapes of the results; all shapes agree except along `axis`.
    parts : sequence of int
        For each operand, the number of parts that it holds.
    axis : int
        The axis of the parts, non-negative.
    out : ndarray or tuple, optional
        Where the results go.
    interleaved : bool
        Whether the parts take turns, as two at the even and the odd positions.
    second_first : bool
        Whether the ufunc takes the second of two halves before the first.
    """

    caller: str
    ufunc: np.ufunc
    arrays: Mapping[str, NDArray[Any]]
    shapes: tuple[tuple[int, ...], ...]
    parts: Sequence[int]
    axis: int
    out: Any
    interleaved: bool = False
    second_first: bool = False

    def __call__(self) -> Any:
        """Make the call and return the results."""
        inputs = tuple(self.arrays.values())
        types = (float_type(inputs, inputs),) * len(self.shapes)
        results = outputs_for(self.caller, self.out, self.shapes, types)
        if inputs[0].size:
            self._run((*copy_overlapping(inputs, results), *results))
        return as_returned(results, self.out)

    def _run(self, arrays: tuple[NDArray[Any], ...]) -> None:
        merge = all(array.flags.c_contiguous for array in arrays)
        views = []
        for array, parts in zip(arrays, self.parts, strict=True):
            view = _rows(array, self.axis, parts, self.interleaved, merge)
            views.append(view[..., ::-1, :] if parts > 1 and self.second_first else view)
        length = views[0].shape[-1]
        whole = length - length % _LONGEST_ROW if length > _LONGEST_ROW else 0
        if whole:
            pieces, count = [], whole // _LONGEST_ROW
            for view, parts in zip(views, self.parts, strict=True):
                part = view[..., :whole]
                cut = part.reshape(*part.shape[:-1], count, _LONGEST_ROW)
                rows = view.shape[: -2 if parts > 1 else -1]
                cut = np.swapaxes(cut, -3, -2) if parts > 1 else cut
                # Threads divide the last dimension: that of the pieces, or if those are few that of the rows.
                pieces.append(np.moveaxis(cut, len(rows), 0) if math.prod(rows) > count else cut)
            _call(self.ufunc, pieces, order="C")
        if whole < length:
            tail = [view[..., whole:] for view in views]
            _call(self.ufunc, tail)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for rows that are not split, and parts that are interleaved along the last axis if at all."""
        inputs = tuple(self.arrays.values())
        dtype, axis, wanted = inputs[0].dtype, self.axis, list(self.shapes)
        if self.out is not None or not are_plain(inputs, dtype, any_layout=True):
            return None
        if math.prod(inputs[0].shape[axis:]) > _LONGEST_ROW:
            return None
        if self.interleaved and axis < inputs[0].ndim - 1:
            return None
        shapes = [*(each.shape for each in inputs), *wanted]
        views = [
            _view_of_rows(shape, axis, parts, self.interleaved, self.second_first)
            for shape, parts in zip(shapes, self.parts, strict=True)
        ]
        count = len(inputs)
        return KernelPlan(
            self.ufunc,
            [Input(positions[name], view) for name, view in zip(self.arrays, views, strict=False)],
            [Output(shape, dtype, view) for shape, view in zip(wanted, views[count:], strict=True)],
        )


def _view_of_rows(
    shape: tuple[int, ...], axis: int, parts: int, interleaved: bool, second_first: bool
) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Return a function that views contiguous arrays of this shape as rows, or None if they are rows already."""
    length = math.prod(shape[axis:]) // parts
    if parts == 1:
        row: tuple[int, ...] = (*shape[:axis], length)
        return None if row == shape else lambda array: array.reshape(row)
    row = (*shape[:axis], length, parts) if interleaved else (*shape[:axis], parts, length)
    if interleaved:
        last = slice(None, None, -1) if second_first else slice(None)
        return lambda array: array.reshape(row)[..., last].swapaxes(-1, -2)
    if second_first:
        return lambda array: array.reshape(row)[..., ::-1, :]
    return lambda array: array.reshape(row)


def _call(ufunc: np.ufunc, operands: list[NDArray[Any]], order: Literal["C", "K"] = "K") -> None:
    inputs, outputs = operands[: ufunc.nin], tuple(operands[ufunc.nin :])
    try:
        ufunc(*inputs, out=outputs, order=order)
    except MemoryError:
        retry_without_pool(ufunc, *inputs, out=outputs, order=order)


def _rows(
    array: NDArray[Any], axis: int, parts: int, interleaved: bool, merge: bool
) -> NDArray[Any]:
    """Return a view whose last dimension is a row, and for packed arrays the one before it the parts.

    With `merge`, for contiguous arrays, all that is contiguous becomes one row.
    """
    before, length, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    if parts == 1:
        if not merge:
            return np.moveaxis(array, axis, -1)
        tail = (-1,) if not interleaved or axis == array.ndim - 1 else (length, -1)
        return array.reshape(*before, *tail)
    split = (length // parts, parts) if interleaved else (parts, length // parts)
    view = array.reshape(*before, *split, *after)  # splitting an axis is a view at any strides
    place = axis + 1 if interleaved else axis
    if not merge:
        features = axis if interleaved else axis + 1
        return np.moveaxis(view, (place, features), (-2, -1))
    if interleaved and not after:
        return np.moveaxis(view, place, -2)
    return view.reshape(*view.shape[: place + 1], -1)
