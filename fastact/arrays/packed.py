"""Views of arrays with two halves along an axis, in the layout that kernels take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_returned, copy_overlapping, float_type, outputs_for
from fastact.arrays.plans import Call, Plan, are_plain, taking
from fastact.runtime.output_pool import retry_without_pool

# Longer rows are split, since threads divide the rows among themselves.
_LONGEST_ROW = 16_384


@dataclass(frozen=True, eq=False, slots=True)
class PackedCall(Call):
    """A call of a `fastact.kernels.kernel.Packed` kernel on arrays of any layout.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    ufunc : numpy.ufunc
        The kernel's ufunc, whose operands have the core dimensions ``(2,n)`` or ``(n)``.
    arrays : dict of str to ndarray
        The inputs by name.
    shapes : tuple of tuple of int
        The shapes of the results; all shapes agree except along `axis`.
    packed : sequence of bool
        For each operand, whether it holds both halves.
    axis : int
        The axis of the halves, non-negative.
    out : ndarray or tuple, optional
        Where the results go.
    interleaved : bool
        Whether the halves are the even and the odd positions.
    second_first : bool
        Whether the ufunc takes the second half before the first.
    """

    caller: str
    ufunc: np.ufunc
    arrays: Mapping[str, NDArray[Any]]
    shapes: tuple[tuple[int, ...], ...]
    packed: Sequence[bool]
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
        for array, is_packed in zip(arrays, self.packed, strict=True):
            view = _rows(array, self.axis, is_packed, self.interleaved, merge)
            views.append(view[..., ::-1, :] if is_packed and self.second_first else view)
        length = views[0].shape[-1]
        whole = length - length % _LONGEST_ROW if length > _LONGEST_ROW else 0
        if whole:
            pieces = []
            for view, is_packed in zip(views, self.packed, strict=True):
                part = view[..., :whole]
                cut = part.reshape(*part.shape[:-1], whole // _LONGEST_ROW, _LONGEST_ROW)
                pieces.append(np.swapaxes(cut, -3, -2) if is_packed else cut)
            _call(self.ufunc, pieces)
        if whole < length:
            tail = [view[..., whole:] for view in views]
            _call(self.ufunc, tail)

    def plan(self, positions: Mapping[str, int]) -> Plan | None:
        """Return a plan for halves that are not interleaved and rows that are not split."""
        inputs = tuple(self.arrays.values())
        dtype, axis = inputs[0].dtype, self.axis
        if self.out is not None or self.interleaved or not are_plain(inputs, dtype):
            return None
        operands = [each.shape for each in inputs] + list(self.shapes)
        views = [
            (*shape[:axis], *((2,) if is_packed else ()), -1)
            for shape, is_packed in zip(operands, self.packed, strict=True)
        ]
        if math.prod(inputs[0].shape[axis:]) > _LONGEST_ROW:
            return None
        flips = [is_packed and self.second_first for is_packed in self.packed]
        ufunc, shapes, is_single = self.ufunc, self.shapes, len(self.shapes) == 1
        take = taking(positions[name] for name in self.arrays)

        def run(given: Sequence[Any]) -> Any:
            results = [np.empty(shape, dtype) for shape in shapes]
            arrays = (*take(given), *results)
            rows = [
                array.reshape(view)[..., ::-1, :] if flip else array.reshape(view)
                for array, view, flip in zip(arrays, views, flips, strict=True)
            ]
            ufunc(*rows)  # the last are the outputs
            return results[0] if is_single else tuple(results)

        return run


def _call(ufunc: np.ufunc, operands: list[NDArray[Any]]) -> None:
    inputs, outputs = operands[: ufunc.nin], tuple(operands[ufunc.nin :])
    try:
        ufunc(*inputs, out=outputs)
    except MemoryError:
        retry_without_pool(ufunc, *inputs, out=outputs)


def _rows(
    array: NDArray[Any], axis: int, is_packed: bool, interleaved: bool, merge: bool
) -> NDArray[Any]:
    """Return a view whose last dimension is a row, and for packed arrays the one before it the halves.

    With `merge`, for contiguous arrays, all that is contiguous becomes one row.
    """
    before, length, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    if not is_packed:
        if not merge:
            return np.moveaxis(array, axis, -1)
        tail = (-1,) if not interleaved or axis == array.ndim - 1 else (length, -1)
        return array.reshape(*before, *tail)
    split = (length // 2, 2) if interleaved else (2, length // 2)
    view = array.reshape(*before, *split, *after)  # splitting an axis is a view at any strides
    halves = axis + 1 if interleaved else axis
    if not merge:
        features = axis if interleaved else axis + 1
        return np.moveaxis(view, (halves, features), (-2, -1))
    if interleaved and not after:
        return np.moveaxis(view, halves, -2)
    return view.reshape(*view.shape[: halves + 1], -1)
