"""Arrays of any layout as rows: along axes, or ragged rows concatenated along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_array, as_axis
from fastact.arrays.contiguous import BLOCK, most_sums, parts
from fastact.runtime.output_pool import POOLED, empty, with_output_pool

# The number of elements of ragged rows that are gathered at a time.
_GATHERED = 2**16


class RowArray(NamedTuple):
    """An array, and whether it holds rows; otherwise it holds a value for each row, or one for all."""

    array: NDArray[Any]
    is_row: bool


class RowShape(NamedTuple):
    """The shape of a result, and whether it holds rows."""

    shape: tuple[int, ...]
    is_row: bool


#: Takes inputs and outputs whose last axis is the row, or which have been reduced along it.
Run = Callable[[list[NDArray[Any]], list[NDArray[Any]]], None]


def run_on_rows(
    layout: Axes | Segments, run: Run, inputs: Sequence[RowArray], outputs: Sequence[RowArray]
) -> None:
    """Run a function on all rows; temporaries for large arrays come from the output pool."""
    if max(each.array.nbytes for each in inputs) >= POOLED.min_bytes:
        with_output_pool(layout.run, run, inputs, outputs)
    else:
        layout.run(run, inputs, outputs)


class Axes:
    """Rows along one axis or several.

    Parameters
    ----------
    axes : tuple of int
        The axes, non-negative.
    shape : tuple of int
        The shape of the arrays that hold rows.

    Attributes
    ----------
    is_last : bool
        Whether the last axis is the row.
    row_shape : tuple of int
        The lengths of the axes.
    """

    def __init__(self, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self._axes = axes
        self._shape = shape
        self._others = tuple(length for axis, length in enumerate(shape) if axis not in axes)
        self.is_last = axes == (len(shape) - 1,)
        self.row_shape = tuple(shape[axis] for axis in axes)

    def reduced_shape(self, keepdims: bool) -> tuple[int, ...]:
        """Return the shape of an array with one value for each row."""
        if not keepdims:
            return self._others
        return tuple(1 if axis in self._axes else n for axis, n in enumerate(self._shape))

    @property
    def rows_last(self) -> tuple[int, ...] | None:
        """The order of the axes with the row last, if it is one axis."""
        if len(self._axes) != 1:
            return None
        return (*(k for k in range(len(self._shape)) if k not in self._axes), *self._axes)

    def view(self, is_row: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Return a function that views an array in the layout of a kernel; the row is one axis."""
        order, others = self.rows_last, self._others
        assert order is not None
        return lambda array: array.transpose(order) if is_row else array.reshape(others)

    def run(self, run: Run, inputs: Sequence[RowArray], outputs: Sequence[RowArray]) -> None:
        """Run a function on all rows."""
        given = [self._rows_last(*each) for each in inputs]
        results = [self._rows_of_output(*each) for each in outputs]
        run(given, results)
        for (output, is_row), result in zip(outputs, results, strict=True):
            if is_row and result is not output and not np.shares_memory(output, result):
                output[...] = self._rows_back(result)

    def _rows_last(self, array: NDArray[Any], is_row: bool) -> NDArray[Any]:
        """Return the array with its rows along the last axis: a view if there is one row axis."""
        if not is_row:
            return array.reshape(self._others) if array.ndim else array
        if self.is_last:  # np.moveaxis takes 5 us even if there is nothing to move
            return array
        moved = np.moveaxis(array, self._axes, tuple(range(-len(self._axes), 0)))
        return moved.reshape(*self._others, math.prod(moved.shape[len(self._others) :]))

    def _rows_of_output(self, array: NDArray[Any], is_row: bool) -> NDArray[Any]:
        """Return a view of an output with its rows last, or a buffer if there is no such view."""
        rows = self._rows_last(array, is_row)
        is_view = rows is array or np.shares_memory(rows, array)
        return rows if is_view else empty(rows.shape, rows.dtype)

    def _rows_back(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Undo `_rows_last`."""
        split = rows.reshape(*self._others, *(self._shape[axis] for axis in self._axes))
        return np.moveaxis(split, tuple(range(-len(self._axes), 0)), self._axes)


class Segments:
    """Ragged rows, concatenated along an axis.

    Parameters
    ----------
    lengths : ndarray of int
        The lengths of the rows, which add up to that of the axis.
    axis : int
        The axis, non-negative.
    shape : tuple of int
        The shape of the arrays that hold rows.
    """

    def __init__(self, lengths: NDArray[np.intp], axis: int, shape: tuple[int, ...]) -> None:
        self._lengths = lengths
        self._starts = np.cumsum(lengths) - lengths
        self._axis = axis
        self._shape = shape

    def reduced_shape(self, keepdims: bool) -> tuple[int, ...]:
        """Return the shape of an array with one value for each row, along the same axis."""
        return (*self._shape[: self._axis], len(self._lengths), *self._shape[self._axis + 1 :])

    def run(self, run: Run, inputs: Sequence[RowArray], outputs: Sequence[RowArray]) -> None:
        """Run a function on all rows, on those of the same length together."""
        given = [RowArray(np.moveaxis(each.array, self._axis, -1), each.is_row) for each in inputs]
        results = [
            RowArray(np.moveaxis(each.array, self._axis, -1), each.is_row) for each in outputs
        ]
        for rows, positions in self._batches():
            parts = [array[..., positions if is_row else rows] for array, is_row in given]
            found = [array[..., positions if is_row else rows] for array, is_row in results]
            run(parts, found)
            for (array, is_row), part in zip(results, found, strict=True):
                array[..., positions if is_row else rows] = part

    def _batches(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the indices of rows of one length, and the positions of their elements along the axis."""
        others = max(1, math.prod(self._shape) // max(1, self._shape[self._axis]))
        for length in np.unique(self._lengths):
            of_this_length = np.flatnonzero(self._lengths == length)
            most = max(1, _GATHERED // max(1, length * others))
            for first in range(0, len(of_this_length), most):
                rows = of_this_length[first : first + most]
                yield rows, self._starts[rows, None] + np.arange(length)


def row_parts(rows: tuple[int, ...], most: int) -> Iterator[Any]:
    """Yield indices of parts of rows of this shape along the first axis, with at most `most` rows if possible."""
    if not rows:
        yield ...
        return
    step = max(1, most // max(1, math.prod(rows[1:])))
    for first in range(0, rows[0], step):
        yield slice(first, first + step)


def run_in_blocks_of_rows(
    call: Callable[..., Any],
    inputs: Sequence[NDArray[Any]],
    operands: Sequence[Any],
    outputs: Sequence[NDArray[Any]],
    sums: int,
) -> list[NDArray[np.float64]]:
    """Run a kernel that also sums over rows, and return its sums.

    It runs block by block, on blocks that depend only on the shape, so that sums do not depend on the number of threads.

    Parameters
    ----------
    call : callable
        Calls the ufunc of a kernel with rows ``(r,n)`` and sums ``(n)``.
    inputs, outputs : sequence of ndarray
        Their last axis is the row.
    operands : sequence
        The operands between them.
    sums : int
        The number of sums.
    """
    length = inputs[0].shape[-1]
    shape = count, _ = math.prod(inputs[0].shape[:-1]), length
    given, found = ([each.reshape(shape) for each in some] for some in (inputs, outputs))
    fewest = -(-count * length // most_sums(count * length))
    partials = []
    for start, stop, rows in parts(count, max(1, min(count, max(fewest, BLOCK // max(1, length))))):
        blocks = (stop - start) // rows, rows, length
        partials.append([np.empty((blocks[0], length)) for _ in range(sums)])
        results = (*(each[start:stop].reshape(blocks) for each in found), *partials[-1])
        call(*(each[start:stop].reshape(blocks) for each in given), *operands, out=results)
    for output, result in zip(outputs, found, strict=True):
        if result.base is not output and not np.shares_memory(output, result):
            output[...] = result.reshape(output.shape)
    if not partials:
        return [np.zeros(length)] * sums
    return [np.concatenate(each).sum(axis=0) for each in zip(*partials, strict=True)]


def layout_of(caller: str, axis: Any, lengths: Any, shape: tuple[int, ...]) -> Axes | Segments:
    """Return the row layout of an array, or raise an error that names the argument at fault.

    Parameters
    ----------
    caller : str
        The operation's name in error messages.
    axis : int, sequence of int or None
        One axis or several; None for all.
    lengths : array_like of int or None
        The lengths of ragged rows along one axis.
    shape : tuple of int
        The shape of the array.
    """
    if lengths is None:
        return axes_of(caller, axis, shape)
    axes = _as_axes(caller, axis, len(shape))
    array = as_array(caller, "lengths", lengths)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(
            f"{caller}: lengths must be a 1-d array of integers, got {array.dtype} of shape {array.shape}"
        )
    if len(axes) != 1:
        raise ValueError(f"{caller}: with lengths, axis must be one axis, got {axis!r}")
    if array.size and array.min() < 0:
        index = int(array.argmin())
        raise ValueError(f"{caller}: lengths[{index}] is negative: {array[index]}")
    # The sum of Python integers does not wrap.
    total, length = sum(array.tolist()), shape[axes[0]]
    if total != length:
        raise ValueError(
            f"{caller}: the lengths add up to {total}, but axis {axes[0]} has {length} elements"
        )
    return Segments(array.astype(np.intp), axes[0], shape)


def axes_of(caller: str, axis: Any, shape: tuple[int, ...]) -> Axes:
    """Return the layout of rows along axes; see `layout_of`."""
    return Axes(_as_axes(caller, axis, len(shape)), shape)


def _as_axes(caller: str, axis: Any, dimensions: int) -> tuple[int, ...]:
    """Return the axes of a row normalized to be non-negative, or raise an error that names them."""
    if axis is None:
        return tuple(range(dimensions))
    given = axis if isinstance(axis, Sequence) else (axis,)
    axes = tuple(as_axis(caller, each, dimensions) for each in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{caller}: axis {axis!r} repeats an axis")
    return axes


def as_mask(caller: str, mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask broadcast to the shape of an array, or raise an error."""
    array = as_array(caller, "where", mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{caller}: where must hold bools, got {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{caller}: where has shape {array.shape}, which does not broadcast with x of shape {shape}"
        ) from None
