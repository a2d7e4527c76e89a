"""Arrays with channels, and a parameter with one value per channel whose gradient is summed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_axis,
    as_returned,
    copy_overlapping,
    outputs_for,
    weak_for_integers,
)
from fastact.arrays.contiguous import (
    BLOCK,
    RANDOM_OPERANDS,
    as_contiguous,
    computed_dtype,
    copy_back,
    parts,
)
from fastact.runtime.dtypes import has_loop, inner_type

# Partial sums of all blocks: at most half a MiB, unless there are more channels than that.
_MAX_SUMS = 65_536
# Random numbers depend on indices in the whole array, where the channels of a block may be further apart.
CHANNEL_RANDOM_OPERANDS = (*RANDOM_OPERANDS, "channel_stride")


def channel_axis(caller: str, name: str, x: NDArray[Any], value: Any, axis: Any) -> int | None:
    """Return the axis along which a parameter varies, or None if it has one value."""
    if np.ndim(value) > 1:
        raise ValueError(f"{caller}: {name} must be a number or 1-d, got shape {np.shape(value)}")
    if np.size(value) == 1:
        return None
    try:
        found = as_axis(caller, axis, x.ndim)
    except ValueError as error:
        raise ValueError(f"{error}; it is the axis of the channels of {name}") from None
    if x.shape[found] != np.size(value):
        raise ValueError(
            f"{caller}: {name} has {np.size(value)} values, but x has "
            f"{x.shape[found]} channels along axis {found}"
        )
    return found


def call_on_channels(
    caller: str,
    ufunc: np.ufunc,
    arrays: tuple[NDArray[Any], ...],
    parameters: Sequence[Any],
    axis: int | None,
    out: Any,
    key_and_threshold: tuple[np.int64, np.int64] | None = None,
    *,
    has_sums: bool,
) -> Any:
    """Call the ufunc of a `fastact.kernels.kernel.Channels` kernel with NumPy's type promotion.

    Parameters
    ----------
    caller : str
        The operation's name in error messages.
    ufunc : numpy.ufunc
        All its results but the sums have the arrays' shape.
    arrays : tuple of ndarray
        Of one shape.
    parameters : sequence of scalar or ndarray
        The first has one value, or one for each channel; the others are numbers.
    axis : int or None
        The axis of the channels.
    out : ndarray or tuple, optional
        Where the results go.
    key_and_threshold : tuple of int64, optional
        As in `run_on_channels`.
    has_sums : bool
        Whether the last result is the summed gradient of the first parameter, of its shape.
    """
    parameters = weak_for_integers(arrays, list(parameters))
    dtype = computed_dtype(ufunc, arrays, parameters)
    count = ufunc.nout - has_sums
    shapes, types = (arrays[0].shape,) * count, (dtype,) * count
    if has_sums:
        first = parameters[0]
        is_weak = type(first) in (int, float)
        shapes += (np.shape(first),)
        types += (dtype if is_weak else np.promote_types(dtype, np.asarray(first).dtype),)
    results = outputs_for(caller, out, shapes, types)
    inner = inner_type(dtype)
    values = copy_overlapping([np.require(each, inner, ["C", "A"]) for each in parameters], results)
    sums = results[count] if has_sums else None
    run_on_channels(ufunc, arrays, values, results[:count], sums, axis, dtype, key_and_threshold)
    return as_returned(results, out)


def call_on_one_block(ufunc: np.ufunc, arrays: tuple[NDArray[Any], ...], weight: float) -> Any:
    """Call the ufunc of a kernel with sums once, on arrays as they are: 12 us instead of 30.

    Return None unless the arrays are small, contiguous and of one dtype.
    """
    first = arrays[0]
    if not 0 < first.size <= BLOCK or not has_loop(first.dtype):
        return None
    for each in arrays:
        if each.dtype != first.dtype or not (each.flags.c_contiguous and each.flags.aligned):
            return None
    outputs = [np.empty(first.shape, first.dtype) for _ in range(ufunc.nout - 1)]
    total = np.empty(1)
    ufunc(
        *(each.reshape(1, 1, -1) for each in arrays),
        np.array([weight], inner_type(first.dtype)),
        out=(*(output.reshape(1, 1, -1) for output in outputs), total),
    )
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        return tuple(each if each.ndim else each[()] for each in outputs) + (
            total.astype(first.dtype)[0],
        )


def run_on_channels(
    ufunc: np.ufunc,
    arrays: tuple[NDArray[Any], ...],
    parameters: tuple[NDArray[Any], ...],
    outputs: tuple[NDArray[Any], ...],
    sums: NDArray[Any] | None,
    axis: int | None,
    dtype: np.dtype[Any],
    key_and_threshold: tuple[np.int64, np.int64] | None = None,
) -> None:
    """Run a `fastact.kernels.kernel.Channels` kernel on arrays of any layout.

    Parameters
    ----------
    ufunc : numpy.ufunc
        The kernel's ufunc.
    arrays : tuple of ndarray
        Of one shape.
    parameters : tuple of ndarray
        The first has one value, or one for each channel; the others are numbers.
    outputs : tuple of ndarray
        Arrays for the results, of the arrays' shape.
    sums : ndarray or None
        The array for the sums, if the kernel has any: one, or one per channel.
    axis : int or None
        The axis of the channels.
    dtype : dtype
        The dtype of the kernel's arrays.
    key_and_threshold : tuple of int64, optional
        See `fastact.arrays.random_numbers.key_and_threshold`; only if the kernel has random operands.
    """
    inputs, buffers = as_contiguous(arrays, outputs, dtype)
    partials = _run_in_blocks(
        ufunc,
        inputs,
        (np.atleast_1d(parameters[0]), *parameters[1:]),
        buffers,
        axis,
        sums is not None,
        key_and_threshold,
    )
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        copy_back(outputs, buffers)
        if sums is not None:
            total = np.concatenate(partials).sum(axis=0) if partials else np.zeros(sums.size)
            np.copyto(sums, total.reshape(sums.shape), casting="same_kind")


def _run_in_blocks(
    ufunc: np.ufunc,
    inputs: list[NDArray[Any]],
    parameters: tuple[NDArray[Any], ...],
    outputs: list[NDArray[Any]],
    axis: int | None,
    has_sums: bool,
    key_and_threshold: tuple[np.int64, np.int64] | None,
) -> list[NDArray[np.float64]]:
    """Run the kernel block by block and return the per-channel sums of each block, if any."""
    shape = inputs[0].shape
    if axis is None:
        rows, channels, length = 1, 1, math.prod(shape)
    else:
        rows, channels, length = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if inputs[0].size == 0:
        return []
    shape_of_all = rows, channels, length
    arrays = [array.reshape(shape_of_all) for array in (*inputs, *outputs)]
    block_length = min(length, BLOCK)
    fewest_rows = -(-rows * channels * -(-length // block_length) // _MAX_SUMS)
    block_rows = max(1, min(rows, max(fewest_rows, BLOCK // (channels * block_length))))
    partials = []
    for row_part in parts(rows, block_rows):
        for part in parts(length, block_length):
            views = [_blocks(array, row_part, part) for array in arrays]
            results = views[len(inputs) :]
            if has_sums:
                sums = np.empty((*views[0].shape[:2], channels))
                partials.append(sums.reshape(-1, channels))
                results.append(sums)
            draws: tuple[Any, ...] = ()
            if key_and_threshold is not None:
                key, threshold = key_and_threshold
                draws = (
                    key,
                    _first_indices(shape_of_all, row_part, part),
                    threshold,
                    np.int64(length),
                )
            ufunc(*draws, *views[: len(inputs)], *parameters, out=tuple(results))
    return partials


def _first_indices(
    shape: tuple[int, int, int], rows: tuple[int, int, int], lengths: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Return the index in C order of the first element of each block: (row blocks, length blocks)."""
    _, channels, length = shape
    of_rows = np.arange(*rows, dtype=np.int64)[:, None] * (channels * length)
    return of_rows + np.arange(*lengths, dtype=np.int64)


def _blocks(
    array: NDArray[Any], rows: tuple[int, int, int], lengths: tuple[int, int, int]
) -> NDArray[Any]:
    """Return a view of shape (row blocks, length blocks, rows, channels, length)."""
    (first, last, row), (start, stop, length) = rows, lengths
    part = array[first:last, :, start:stop]
    split = part.reshape(
        (last - first) // row, row, array.shape[1], (stop - start) // length, length
    )
    return split.transpose(0, 3, 1, 2, 4)
