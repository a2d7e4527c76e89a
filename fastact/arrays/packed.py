"""Views of arrays with two halves along an axis, in the layout that kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import copy_overlapping
from fastact.runtime.output_pool import retry_without_pool

# Longer rows are split, since threads divide the rows among themselves.
_LONGEST_ROW = 16_384


def call_on_rows(
    ufunc: np.ufunc,
    arrays: Sequence[NDArray[Any]],
    packed: Sequence[bool],
    axis: int,
    interleaved: bool = False,
    second_first: bool = False,
) -> None:
    """Run a `fastact.kernels.kernel.Packed` kernel on arrays of any layout.

    Parameters
    ----------
    ufunc : numpy.ufunc
        The kernel's ufunc, whose operands have the core dimensions ``(2,n)`` or ``(n)``.
    arrays : sequence of ndarray
        All operands, whose shapes agree except along `axis`.
    packed : sequence of bool
        For each operand, whether it holds both halves.
    axis : int
        The axis of the halves, non-negative.
    interleaved : bool
        Whether the halves are the even and the odd positions.
    second_first : bool
        Whether the ufunc takes the second half before the first.
    """
    if not arrays[0].size:
        return
    inputs, outputs = arrays[: ufunc.nin], arrays[ufunc.nin :]
    arrays = (*copy_overlapping(inputs, outputs), *outputs)
    merge = all(array.flags.c_contiguous for array in arrays)
    views = []
    for array, is_packed in zip(arrays, packed, strict=True):
        view = _rows(array, axis, is_packed, interleaved, merge)
        views.append(view[..., ::-1, :] if is_packed and second_first else view)
    length = views[0].shape[-1]
    whole = length - length % _LONGEST_ROW if length > _LONGEST_ROW else 0
    if whole:
        pieces = []
        for view, is_packed in zip(views, packed, strict=True):
            part = view[..., :whole]
            cut = part.reshape(*part.shape[:-1], whole // _LONGEST_ROW, _LONGEST_ROW)
            pieces.append(np.swapaxes(cut, -3, -2) if is_packed else cut)
        _call(ufunc, pieces)
    if whole < length:
        tail = [view[..., whole:] for view in views]
        _call(ufunc, tail)


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
