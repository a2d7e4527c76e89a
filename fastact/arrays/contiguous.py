"""Arrays of any layout, given to generalized ufuncs as contiguous blocks in C order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import copy_overlapping
from fastact.runtime.output_pool import empty, retry_without_pool

# Elements of one block. Blocks depend on the shape alone, so that sums over them do not depend on the number
# of threads; one block is at least one task of a thread.
BLOCK = 16_384
# The operands that come before all others where random numbers are drawn.
RANDOM_OPERANDS = ("random_key", "random_index", "random_threshold")


def as_contiguous(
    arrays: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return inputs and outputs in C order and of this type, whose elements do not overlap; see `copy_back`."""
    arrays = copy_overlapping(arrays, outputs)
    try:
        inputs = [np.require(array, dtype, ["C", "A"]) for array in arrays]
    except MemoryError:
        inputs = [retry_without_pool(np.require, array, dtype, ["C", "A"]) for array in arrays]
    buffers = [
        array if array.dtype == dtype and array.flags.carray else empty(array.shape, dtype)
        for array in outputs
    ]
    return inputs, buffers


def copy_back(outputs: Sequence[NDArray[Any]], buffers: Sequence[NDArray[Any]]) -> None:
    """Copy what went to other arrays than the outputs to these."""
    for output, array in zip(outputs, buffers, strict=True):
        if output is not array:
            np.copyto(output, array, casting="same_kind")


def parts(length: int, block: int) -> list[tuple[int, int, int]]:
    """Cut a length into whole blocks and a rest: (start, stop, block) of each part."""
    whole = length - length % block
    parts = [(0, whole, block), (whole, length, length - whole)]
    return [part for part in parts if part[0] < part[1]]


def computed_dtype(
    ufunc: np.ufunc, arrays: Sequence[NDArray[Any]], numbers: Sequence[Any]
) -> np.dtype[Any]:
    """Return the type that NumPy finds for a ufunc's arrays; Python's numbers do not change it."""
    first = ufunc.nin - len(arrays) - len(numbers)  # whole numbers, where it draws
    kinds: list[Any] = [np.dtype(np.int64)] * first + [array.dtype for array in arrays]
    kinds += [type(n) if type(n) in (int, float) else np.asanyarray(n).dtype for n in numbers]
    found: np.dtype[Any] = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))[first]
    return found


def run_contiguous(
    ufunc: np.ufunc,
    key_and_threshold: tuple[np.int64, np.int64] | None,
    arrays: Sequence[NDArray[Any]],
    numbers: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
    dtype: np.dtype[Any],
) -> None:
    """Run a `fastact.kernels.kernel.Contiguous` kernel on arrays of any layout.

    Parameters
    ----------
    ufunc : numpy.ufunc
        Around that loop.
    key_and_threshold : tuple of int64 or None
        Key and threshold, if it draws; see `fastact.arrays.random_numbers.key_and_threshold`.
    arrays : sequence of ndarray
        Of one shape.
    numbers : sequence of ndarray
        The parameters.
    outputs : sequence of ndarray
        Where the results go, of the arrays' shape.
    dtype : dtype
        What the arrays are computed as.
    """
    inputs, buffers = as_contiguous(arrays, outputs, dtype)
    flat = [array.reshape(-1) for array in (*inputs, *buffers)]
    for start, stop, length in parts(flat[0].size, BLOCK):
        views = [array[start:stop].reshape(-1, length) for array in flat]
        draws: tuple[Any, ...] = ()
        if key_and_threshold is not None:
            key, threshold = key_and_threshold
            draws = key, np.arange(start, stop, length, dtype=np.int64), threshold
        ufunc(*draws, *views[: len(inputs)], *numbers, out=tuple(views[len(inputs) :]))
    with np.errstate(over="ignore"):
        copy_back(outputs, buffers)
