"""Row functions of exponentials and their sum: softmax, log-sum-exp, and their kin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastact.kernels.algorithms.exponentials import NEGLIGIBLE, TOTALS, Exponentials, Sums
from fastact.kernels.algorithms.sums import adding, total_of
from fastact.simd import fold_to_double
from fastact.vecmath.scaling import zero_below

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


def exponentials(definition: Any, rows: RowAccess) -> Callable[..., None]:
    """Return the function that computes one row of a function of exponentials and their sum.

    Parameters
    ----------
    definition : ExponentialsDefinition
        The function of each element and of the sums.
    rows : RowAccess
        Operands ``x -> y``, ``x, dy -> y, dx`` or ``dy, y -> dx``, and a temperature.
    """
    return (_from_input if rows.index("x") >= 0 else _from_output)(definition, rows)


def _from_input(definition: Any, rows: RowAccess) -> Callable[..., None]:
    sign = -1 if definition.of_minus_x else 1
    has_gradient = rows.has("dy")
    exponentials = Exponentials(rows, sign, definition.takes_logarithm)
    prepare, of_row = rows.prepare(exponentials.padding), exponentials.of_row()
    exponential_again = exponentials.again()
    x_at, dy_at = rows.index("x"), rows.index("dy")
    temperature_of = rows.scalar("temperature")
    compute = rows.internal(definition.function)

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        sums, top, relative, row = state
        temperature, reciprocal = relative.temperature, relative.reciprocal
        x, dy = arrays[x_at], arrays[dy_at]
        e = exponential_again(arrays, begin, relative, row)
        difference = sign * x - top
        if temperature != 1:
            difference = difference * reciprocal
        y, dx = compute(e, difference, dy, sums)
        if has_gradient:
            dx = sign * dx
            return y, dx * reciprocal if temperature != 1 else dx
        return (y,)

    write = rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        top, relative, sums = of_row(row, temperature_of(row))
        write(row, (sums, top, relative, row))

    return one_row


def _sums_of_output(rows: RowAccess) -> Any:
    """Return a function that returns the sums of ``dy y`` and of ``dy`` of a row, or those given: ``of_row(row)``."""
    if rows.has("count"):
        weighted_at, dy_sum_at = rows.scalar("weighted"), rows.scalar("dy_sum")
        return rows.internal(lambda row: (weighted_at(row), dy_sum_at(row)))
    add, doubles = adding(rows), rows.doubles

    def step(arrays: Any, begin: Any, sums: Any, state: Any) -> Any:
        dy, y = arrays
        return add(sums[0], fold_to_double(dy * zero_below(y, NEGLIGIBLE))), add(
            sums[1], fold_to_double(dy)
        )

    fold = rows.fold(step, rows.padding("y", 0.0))

    @rows.internal
    def of_row(row: Any) -> Any:
        nothing = doubles(), doubles()
        weighted, dy_sum = fold(row, (nothing, nothing), 0)
        return total_of(weighted), total_of(dy_sum)

    return of_row


def _from_output(definition: Any, rows: RowAccess) -> Callable[..., None]:
    sign = -1 if definition.of_minus_x else 1
    padding = rows.padding("y", 0.0)
    prepare = rows.prepare(padding)
    temperature_of = rows.scalar("temperature")
    compute, of_row = rows.internal(definition.from_output), _sums_of_output(rows)

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        sums, temperature, reciprocal = state
        dy, y = arrays
        dx = sign * compute(dy, y, sums)
        return (dx * reciprocal if temperature != 1 else dx,)

    write = rows.write(results)

    def one_row(row: Any) -> None:
        prepare(row)
        temperature = temperature_of(row)
        weighted, dy_sum = of_row(row)
        sums = Sums(0.0, 0.0, 1.0, 0.0, 0.0, weighted, dy_sum, 0.0)
        write(row, (sums, temperature, 1 / temperature))

    return one_row


def reduced_exponentials(definition: Any, rows: RowAccess) -> Callable[..., None]:
    """Return the function that reduces one row to a function of the sum of its exponentials."""
    is_mean = definition.is_mean
    exponentials = Exponentials(
        rows, 1, takes_logarithm=True, count=rows.count() if is_mean else None
    )
    count = exponentials.count
    prepare, of_row = rows.prepare(exponentials.padding), exponentials.of_row()
    exponential_again = exponentials.again()
    has_nan = rows.has_nan("x", exponentials.padding)
    if exponentials.are_given:  # the kernel does not see the whole row
        others_at = rows.scalar("others")
        has_nan = rows.internal(lambda row: others_at(row) != others_at(row))
    temperature_of = rows.scalar("temperature")
    has_value, has_gradient = rows.has("y"), rows.has("dx")
    dy_of = rows.scalar("dy") if has_gradient else temperature_of
    set_y: Any = rows.set_scalar("y") if has_value else None
    value_and_factor = rows.internal(definition.function)

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        factor, relative, row = state
        return (exponential_again(arrays, begin, relative, row) * factor,)

    write: Any = rows.write(results) if has_gradient else None

    def one_row(row: Any) -> None:
        prepare(row)
        top, relative, sums = of_row(row, temperature_of(row))
        value, derivative_factor = value_and_factor(sums)
        if has_value:
            # Differences to an infinite maximum are NaN.
            is_infinite = abs(top) == math.inf
            if is_mean:  # of nothing it is NaN
                is_infinite = is_infinite and count(row) > 0
            set_y(row, top if is_infinite and not has_nan(row) else value)
        if has_gradient:
            factor = dy_of(row) * derivative_factor * relative.reciprocal
            write(row, (factor, relative, row))

    return one_row


def largest_of_chunk(definition: Any, rows: RowAccess) -> Callable[..., None]:
    """Return the function that finds the maximum of a chunk of a row, ignoring NaN."""
    exponentials = _exponentials_of(definition, rows)
    prepare, top_of, set_top = (
        rows.prepare(exponentials.padding),
        exponentials.top_of,
        rows.set_scalar("top"),
    )

    def one_chunk(row: Any) -> None:
        prepare(row)
        set_top(row, top_of(row))

    return one_chunk


def totals_of_chunk(definition: Any, rows: RowAccess) -> Callable[..., None]:
    """Return the function that computes the `TOTALS` of a chunk, relative to the maximum of the row."""
    set_others, set_equal, set_weighted, set_dy_sum = map(rows.set_scalar, TOTALS)
    has_x, has_gradient = rows.index("x") >= 0, rows.has("dy")
    exponentials = _exponentials_of(definition, rows)
    prepare = rows.prepare(exponentials.padding if has_x else rows.padding("y", 0.0))
    top_at, temperature_of = rows.scalar("top"), rows.scalar("temperature")
    relative_to, of_input = exponentials.relative_to, exponentials.totals(caches=False)
    of_output = _sums_of_output(rows)

    def one_chunk(row: Any) -> None:
        prepare(row)
        others = equal = weighted = dy_sum = 0.0
        if has_x:
            temperature = temperature_of(row)
            relative = relative_to(top_at(row), temperature, 1 / temperature)
            others, equal, weighted, dy_sum = of_input(row, relative)
        else:
            weighted, dy_sum = of_output(row)
        set_others(row, others)
        set_equal(row, equal)
        set_weighted(row, weighted if has_gradient else 0.0)
        set_dy_sum(row, dy_sum if has_gradient else 0.0)

    return one_chunk


def _exponentials_of(definition: Any, rows: RowAccess) -> Exponentials:
    takes_logarithm = definition.takes_logarithm or definition.is_reduced
    return Exponentials(rows, -1 if definition.of_minus_x else 1, takes_logarithm)
