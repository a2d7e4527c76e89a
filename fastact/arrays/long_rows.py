"""Rows too long for one thread, in chunks: sums of each chunk, which are combined, and then the results of each chunk.

A row is long by its length alone, and so are its chunks: neither the number of threads nor that of rows changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.contiguous import parts

#: Rows with more elements than this are long.
LONG = 2**18
# A chunk of float64 and its exponentials fit a core's cache. Rows are eight chunks or more.
_CHUNK = 2**15

#: Calls a kernel: takes inputs, and outputs if there are any.
Call = Callable[..., Any]


def run_in_chunks(
    sums_of: Call,
    results_of: Call,
    exp: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    temperature: float,
    inputs: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
) -> None:
    """Run the kernels of chunks on rows along the last axis.

    Parameters
    ----------
    sums_of : callable
        Takes a list of chunks of each input with rows, and returns `fastact.kernels.algorithms.softmax.CHUNK_SUMS`.
    results_of : callable
        Takes a list of inputs, these sums of the row, its length, and a tuple of outputs.
    exp : callable
        The exponential function.
    temperature : float
        The temperature.
    inputs, outputs : sequence of ndarray
        Arrays that hold rows have one axis more than those that hold a value for each row.
    """
    *shape, length = max((each.shape for each in inputs), key=len)
    pieces, writes_rows = parts(length, _CHUNK), any(each.ndim > len(shape) for each in outputs)
    for at in np.ndindex(*shape):
        given, results = [each[at] for each in inputs], [each[(*at, ...)] for each in outputs]
        rows = [each for each in given if each.ndim]
        found = [sums_of([_chunks(each, piece) for each in rows]) for piece in pieces]
        sums = _combined([np.concatenate(each) for each in zip(*found, strict=True)], exp, temperature)
        for piece in pieces if writes_rows else [(0, 1, 1)]:
            chunks = [_chunks(each, piece) if each.ndim else each for each in given]
            count = (piece[1] - piece[0]) // piece[2]
            into = [
                _chunks(each, piece) if each.ndim else np.empty(count, each.dtype)
                for each in results
            ]
            results_of(chunks, sums, length, tuple(into))
            for result, each in zip(results, into, strict=True):
                if not result.ndim:
                    result[...] = each[0]


def _chunks(row: NDArray[Any], piece: tuple[int, int, int]) -> NDArray[Any]:
    """Return a view of a part of a row as chunks."""
    start, stop, size = piece
    return row[start:stop].reshape(-1, size)


def _combined(
    sums: Sequence[NDArray[Any]],
    exp: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    temperature: float,
) -> tuple[Any, ...]:
    """Return the sums of a row, given those of its chunks."""
    tops, excesses, weighted, dy_sums = sums
    first = int(tops.argmax())
    with np.errstate(all="ignore"):
        differences = (tops.astype(np.float64) - tops[first]) / temperature
        shares = exp(np.where(tops == tops[first], 0.0, differences))
        terms = (1 + excesses) * shares
        terms[first] = excesses[first]  # without the maximum itself, next to which the others may be tiny
        return tops[first], terms.sum(), (weighted * shares).sum(), dy_sums.sum()
