"""Sums over the elements of a row, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastact.simd import sum_lanes

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


def low_part(rows: RowAccess) -> Any:
    """Return a function that returns what is left of a number of float64 when it is rounded to the type of the rows."""
    if rows.is_double:
        return rows.internal(lambda number: 0.0)
    return rows.internal(lambda number: number - np.float64(np.float32(number)))


def adding(rows: RowAccess) -> Any:
    """Return the accumulator update: a float64 vector sum, with Knuth's compensation where rows are float64.

    Sums of float32 elements are exact enough without.
    """
    is_compensated = rows.is_double

    @rows.internal
    def add(accumulator: Any, x: Any) -> Any:
        before, low = accumulator
        total = before + x
        if is_compensated:  # D. E. Knuth's sum of two
            part = total - before
            low += (before - (total - part)) + (x - part)
        return total, low

    return add


def total_of(accumulator: Any) -> Any:
    """Return the sum over the lanes of an accumulator of `adding`."""
    return sum_lanes(accumulator[0]) + sum_lanes(accumulator[1])
