"""Rows too long for one thread, in chunks: totals of each chunk, which are added up, and then the results of each.

A row is long by its length alone, and so are its chunks: neither the number of threads nor that of rows changes a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.contiguous import parts

#: Rows with more elements than this are long. The calls of three kernels cost 50 to 90 us more than that of one: as much as
#: two threads gain on half so many elements (Emerald Rapids).
LONG = 2**19
# A chunk of float64 fits a core's cache, and a long row has chunks for 16 threads or more.
_CHUNK = 2**15


def run_in_chunks(
    largest_of: Callable[..., NDArray[Any]] | None,
    totals_of: Callable[..., Sequence[NDArray[np.float64]]],
    results_of: Callable[..., Any],
    inputs: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
) -> None:
    """Run kernels of chunks on rows along the last axis, row by row.

    Parameters
    ----------
    largest_of : callable, optional
        Takes chunks of the first input, and returns their maxima; without it, the maximum counts as 0.
    totals_of : callable
        Takes chunks of all inputs with rows, and the maximum of the row; returns totals of each chunk.
    results_of : callable
        Takes chunks of all inputs, the maximum and the totals of the row; begin, end and step of the chunks, and outputs.
    inputs, outputs : sequence of ndarray
        Arrays that hold rows have one axis more than those that hold a value for each row.
    """
    *shape, length = max((each.shape for each in inputs), key=len)
    pieces, writes_rows = parts(length, _CHUNK), any(each.ndim > len(shape) for each in outputs)
    for at in np.ndindex(*shape):
        given, results = [each[at] for each in inputs], [each[(*at, ...)] for each in outputs]
        rows = [each for each in given if each.ndim]
        top: Any = 0.0
        if largest_of is not None:
            top = max(largest_of(_chunks(rows[0], piece)).max() for piece in pieces)
        if np.isinf(top):  # of the totals, it only matters whether they are NaN
            totals = [math.nan if np.isnan(rows[0]).any() else 0.0, 0.0, 0.0, 0.0]
        else:
            found = [totals_of(*(_chunks(row, piece) for row in rows), top) for piece in pieces]
            totals = [_total(np.concatenate(each)) for each in zip(*found, strict=True)]
        for piece in pieces if writes_rows else [(0, 1, 1)]:
            count = (piece[1] - piece[0]) // piece[2]
            into = [
                _chunks(each, piece) if each.ndim else np.empty(count, each.dtype)
                for each in results
            ]
            chunks = (_chunks(each, piece) if each.ndim else each for each in given)
            results_of(*chunks, top, totals, piece, into)
            for result, each in zip(results, into, strict=True):
                if not result.ndim:
                    result[...] = each[0]


def _chunks(row: NDArray[Any], piece: tuple[int, int, int]) -> NDArray[Any]:
    """Return a view of a part of a row as chunks."""
    start, stop, size = piece
    return row[start:stop].reshape(-1, size)


def _total(terms: NDArray[np.float64]) -> float:
    """Return the sum of totals, correctly rounded if it is finite."""
    try:
        return math.fsum(terms)
    except (OverflowError, ValueError):  # infinities of both signs
        return float(terms.sum())
