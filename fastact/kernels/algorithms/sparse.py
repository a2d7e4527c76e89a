"""The projection of rows onto the simplex, whose results are mostly zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastact.simd import fold_to_double, select, sum_lanes

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


def projected(definition: Any, rows: RowAccess) -> Callable[..., None]:
    """Return the function that projects one row onto the simplex.

    Operands are those of `fastact.kernels.algorithms.softmax.exponentials`. The threshold is found by C. Michelot's
    iteration (J. Optim. Theory Appl. 50, 1986): the mean of the elements above it, minus the reciprocal of their
    number, until no more drop out. These are Newton steps on a convex function, so the threshold rises
    monotonically, and a handful suffice.
    """
    return (_from_input if rows.index("x") >= 0 else _from_output)(definition, rows)


def _from_input(definition: Any, rows: RowAccess) -> Callable[..., None]:
    has_gradient = rows.has("dy")
    x_at, dy_at = rows.index("x"), rows.index("dy")
    padding = rows.padding("x", -math.inf)
    prepare, top_of = rows.prepare(padding), rows.largest("x", 1, padding)
    temperature_of = rows.scalar("temperature")
    doubles, zeros = rows.doubles, rows.zeros
    compute = rows.internal(definition.function)

    def step(arrays: Any, begin: Any, sums: Any, state: Any) -> Any:
        total, count, dy_sum = sums
        top, reciprocal, threshold = state
        difference = (arrays[x_at] - top) * reciprocal
        is_out = difference <= threshold  # false for NaN, which thus enters the sum
        total += fold_to_double(select(is_out, 0, difference))
        dy_sum += fold_to_double(select(is_out, 0, arrays[dy_at]))
        return total, count + select(is_out, 0, 1), dy_sum

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        top, reciprocal, threshold, mean = state
        difference = (arrays[x_at] - top) * reciprocal
        y, dx = compute(difference, threshold, arrays[dy_at], mean)
        return (y, dx * reciprocal) if has_gradient else (y,)

    fold, write = rows.fold(step, padding), rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        reciprocal = 1 / temperature_of(row)
        top = top_of(row)
        threshold, before, number, mean = -1.0, math.inf, row.n + 1.0, 0.0
        # The count falls until no element drops out. At a negative temperature it could oscillate for ever, hence `<`.
        while number < before:
            before = number
            total, count, dy_sum = fold(
                row, (doubles(), zeros(), doubles()), (top, reciprocal, threshold)
            )
            number = sum_lanes(fold_to_double(count))
            threshold = (sum_lanes(total) - 1) / number
            mean = sum_lanes(dy_sum) / number
        write(row, (top, reciprocal, threshold, mean))

    return one_row


def _from_output(definition: Any, rows: RowAccess) -> Callable[..., None]:
    padding = rows.padding("y", 0.0)
    prepare, temperature_of = rows.prepare(padding), rows.scalar("temperature")
    doubles, zeros = rows.doubles, rows.zeros
    compute = rows.internal(definition.from_output)

    def step(arrays: Any, begin: Any, sums: Any, state: Any) -> Any:
        dy, y = arrays
        dy_sum, count = sums
        is_in = y > 0
        return dy_sum + fold_to_double(select(is_in, dy, 0)), count + select(is_in, 1, 0)

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        mean, reciprocal = state
        dy, y = arrays
        return (compute(dy, y, mean) * reciprocal,)

    fold, write = rows.fold(step, padding), rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        dy_sum, count = fold(row, (doubles(), zeros()), 0)
        mean = sum_lanes(dy_sum) / sum_lanes(fold_to_double(count))
        write(row, (mean, 1 / temperature_of(row)))

    return one_row
