"""Row functions of exponentials and their sum: softmax, log-sum-exp, and their kin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastact.simd import PerDtype, any_above, bits, fold_to_double, select, sum_lanes, to_double
from fastact.vecmath.exponential import reduce
from fastact.vecmath.logarithm import log, log1p
from fastact.vecmath.relative_exponential import (
    at_least,
    exponential_of_top,
    reduced_quotient,
    relative_exponential,
    relative_to,
)
from fastact.vecmath.scaling import zero_below

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


class Relative(NamedTuple):
    """What the exponentials of a row are relative to: operands of `fastact.vecmath.relative_exponential`."""

    origin: Any
    least: Any
    exponent: Any
    shifted: Any
    temperature: Any
    reciprocal: Any


#: Sums over a row, or a chunk of it: of the exponentials, without those of the maximum if the logarithm is taken; the number
#: of those; of the exponentials times ``dy``; and of ``dy``.
TOTALS = ("others", "equal", "weighted", "dy_sum")


class Sums(NamedTuple):
    """Reductions of a row, from which its results are computed; exponentials are all relative to the same number.

    Attributes
    ----------
    top : float
        The maximum, divided by the temperature.
    excess : float
        The sum of the exponentials without that of the maximum; it may be tiny.
    total : float
        The whole sum.
    log_total : float
        The logarithm of `total`, without cancellation where it is small.
    log_mean : float
        The logarithm of the mean of the exponentials.
    weighted : float
        The sum of the exponentials times ``dy``.
    dy_sum : float
        The sum of ``dy``.
    total_low : float
        What is left of `total` when it is rounded to the type of the rows.
    """

    top: Any
    excess: Any
    total: Any
    log_total: Any
    log_mean: Any
    weighted: Any
    dy_sum: Any
    total_low: Any


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


# A value of a row that is smaller than this has no effect on its sums; its product with a gradient might be subnormal.
_LOW = PerDtype(float32=2.0**-80, float64=2.0**-600)


def _product(rows: RowAccess) -> Any:
    """Return a function that multiplies exponentials with gradients for a sum; of float32, exactly.

    The derivative of a saturated row is the rest of a difference of gradients, whose rounding errors it would show.
    """
    if rows.is_double:
        return rows.internal(lambda e, dy: zero_below(e, _LOW) * dy)
    return rows.internal(lambda e, dy: to_double(e) * to_double(dy))


# A row of numbers of at most this size needs no maximum: its exponentials may be relative to another power of two without
# a change of bits. To find the maximum of a short row takes as long as a third of the rest.
_NEAR = 16.0
_BITS_OF_NEAR = PerDtype(float32=0x41800000, float64=0x4030000000000000)


class Exponentials:
    """The pass over a row that computes exponentials of differences to the maximum, and their sums.

    Parameters
    ----------
    rows : RowAccess
        Access to the operands, among them ``x``.
    sign : int
        -1 to take exponentials of ``-x``, else 1.
    takes_logarithm : bool
        Whether the logarithm of the sum is needed as well.
    count : callable, optional
        Returns the number of a row's elements, for the mean; its length by default.

    Attributes
    ----------
    padding : list of float
        Padding whose exponentials are 0.
    relative_to : callable
        ``relative_to(top, temperature, reciprocal)`` returns the `Relative` of a row.
    exponential : callable
        ``exponential(x, relative)`` returns exponentials, and which elements are the maximum.
    top_of : callable
        ``top_of(row)`` returns the maximum of a row.
    count : callable
        The function given, or its default.
    are_given : bool
        Whether the sums are operands: those of a row of which the kernel sees a chunk.
    """

    def __init__(
        self, rows: RowAccess, sign: int, takes_logarithm: bool, count: Any = None
    ) -> None:
        self._rows = rows
        self.are_given = rows.has("count")
        if self.are_given:
            count = rows.scalar("count")
        self.count = count or rows.internal(lambda row: row.n)
        self._sign = sign
        self._takes_logarithm = takes_logarithm
        self.padding = rows.padding("x", -math.inf * sign)
        self.exponential = self._exponential()
        self.relative_to = self._relative_to()
        self.top_of = rows.largest("x", sign, self.padding)

    def _exponential(self) -> Any:
        sign = self._sign

        @self._rows.internal
        def exponential(x: Any, relative: Any) -> Any:
            origin, least, exponent, highest, temperature, reciprocal = relative
            shifted = sign * x - origin
            bounded = at_least(shifted, least)
            n, r = reduce(bounded)
            if temperature != 1:
                n, r = reduced_quotient(bounded, temperature, reciprocal)
            return relative_exponential(shifted, least, exponent, n, r), shifted == highest

        return exponential

    def _relative_to(self) -> Any:
        one = self._rows.one_lane(1.0)

        @self._rows.internal
        def of_row(top: Any, temperature: Any, reciprocal: Any) -> Any:
            origin, least, exponent, highest = relative_to(
                top * one(), temperature * one(), reciprocal * one()
            )
            return Relative(
                sum_lanes(origin),
                sum_lanes(least),
                sum_lanes(exponent),
                sum_lanes(highest),
                temperature,
                reciprocal,
            )

        return of_row

    def of_row(self) -> Any:
        """Return a function that returns maximum, `Relative` and `Sums` of a row: ``of_row(row, temperature)``.

        If they are operands, the row is a chunk of one: others than its own sums make its results.
        """
        if self.are_given:
            return self._given()
        relative_of, sums_of = self._relative_of_row(), self.sums()

        @self._rows.internal
        def of_row(row: Any, temperature: Any) -> Any:
            top, relative = relative_of(row, temperature)
            return top, relative, sums_of(row, top, relative)

        return of_row

    def _given(self) -> Any:
        """Return `of_row` for a maximum and totals that are operands."""
        top_at, totals_at = self._rows.scalar("top"), map(self._rows.scalar, TOTALS)
        others_at, equal_at, weighted_at, dy_sum_at = totals_at
        relative_to, sums_of = self.relative_to, self._sums_of_totals()

        @self._rows.internal
        def given(row: Any, temperature: Any) -> Any:
            top = top_at(row)
            relative = relative_to(top, temperature, 1 / temperature)
            totals = others_at(row), equal_at(row), weighted_at(row), dy_sum_at(row)
            return top, relative, sums_of(row, top, relative, totals)

        return given

    def _relative_of_row(self) -> Any:
        """Return a function that returns the maximum of a row, and the `Relative`: ``of_row(row, temperature)``.

        Without logarithms no result takes the maximum, and that of a short row is not looked for if all are near.
        """
        rows, x_at, relative_to = self._rows, self._rows.index("x"), self.relative_to
        top_of = self.top_of
        one, near = rows.one_lane(1.0), rows.one_lane(_NEAR)

        def step(arrays: Any, begin: Any, found: Any, state: Any) -> Any:
            return found or any_above(bits(abs(arrays[x_at])), _BITS_OF_NEAR)  # NaN is above

        find_far = rows.fold(step, [0.0] * rows.inputs)

        @rows.internal
        def by_maximum(row: Any, temperature: Any) -> Any:
            top = top_of(row)
            return top, relative_to(top, temperature, 1 / temperature)

        @rows.internal
        def of_near(row: Any, temperature: Any) -> Any:
            if temperature != 1 or find_far(row, False, 0):
                return by_maximum(row, temperature)
            top, number = sum_lanes(near()), sum_lanes(one())
            return top, relative_to(top, number, 1 / number)

        return of_near if rows.are_short and not self._takes_logarithm else by_maximum

    def again(self) -> Any:
        """Return a function for passes after `sums`, which loads cached exponentials or recomputes them."""
        exponential, x_at = self.exponential, self._rows.index("x")
        cached, load_cached = self._rows.cached.count, self._rows.cached.load
        if self.are_given:
            cached = 0

        @self._rows.internal
        def again(arrays: Any, begin: Any, relative: Any, row: Any) -> Any:
            if row.n <= cached:
                return load_cached(row.cache, begin)
            return exponential(arrays[x_at], relative)[0]

        return again

    def sums(self) -> Any:
        """Return a function that sums the exponentials of a row: ``sums(row, top, relative)``.

        They are cached unless the row is too long.
        """
        totals_of, sums_of = self.totals(caches=True), self._sums_of_totals()
        return self._rows.internal(
            lambda row, top, relative: sums_of(row, top, relative, totals_of(row, relative))
        )

    def totals(self, caches: bool) -> Any:
        """Return a function that computes the `TOTALS` of a row: ``totals(row, relative)``."""
        x_at, dy_at = self._rows.index("x"), self._rows.index("dy")
        takes_logarithm = self._takes_logarithm
        cached, store_cached = self._rows.cached.count, self._rows.cached.store
        exponential = self.exponential
        zeros, doubles = self._rows.zeros, self._rows.doubles
        add, product = adding(self._rows), _product(self._rows)

        def step(arrays: Any, begin: Any, sums: Any, state: Any) -> Any:
            others, equal, weighted, dy_sum = sums
            relative, memory = state
            e, is_top = exponential(arrays[x_at], relative)
            if caches:
                store_cached(memory, begin if begin < cached else 0, e)
            weighted = add(weighted, fold_to_double(product(e, arrays[dy_at])))
            dy_sum = add(dy_sum, fold_to_double(arrays[dy_at]))
            if takes_logarithm:
                equal += select(is_top, 1, 0)
                e = select(is_top, 0, e)
            others = add(others, fold_to_double(e))
            return others, equal, weighted, dy_sum

        fold = self._rows.fold(step, self.padding, prefetches=True)

        @self._rows.internal
        def totals(row: Any, relative: Any) -> Any:
            nothing = doubles(), doubles()
            start = nothing, zeros(), nothing, nothing
            others, equal, weighted, dy_sum = fold(row, start, (relative, row.cache))
            number = sum_lanes(fold_to_double(equal))
            return total_of(others), number, total_of(weighted), total_of(dy_sum)

        return totals

    def _sums_of_totals(self) -> Any:
        """Return a function from the `TOTALS` of a row to its `Sums`: ``sums(row, top, relative, totals)``."""
        takes_logarithm, count = self._takes_logarithm, self.count
        one, one_double = self._rows.one_lane(1.0), self._rows.one_double
        low_of = low_part(self._rows)

        @self._rows.internal
        def sums(row: Any, top: Any, relative: Any, totals: Any) -> Any:
            others, equal, weighted, dy_sum = totals
            excess = total = others
            log_total = log_mean = 0.0
            if takes_logarithm:
                # The exponential of the maximum is left out: the sum of the others may be tiny.
                of_top, low = exponential_of_top(
                    relative.shifted * one(),
                    relative.temperature * one(),
                    relative.reciprocal * one(),
                    relative.exponent * one(),
                )
                top_share = np.float64(sum_lanes(of_top))
                ratio = total / top_share
                equals = equal - 1
                ratio += equals - ratio * (sum_lanes(low) / top_share)
                excess += equals * top_share
                total = excess + top_share
                log_total = sum_lanes(log1p(ratio * one_double()))
                log_mean = sum_lanes(log((1 + ratio) / count(row) * one_double()))
            temperature = relative.temperature
            top = top if temperature == 1 else top / temperature
            rest = low_of(total)
            return Sums(top, excess, total, log_total, log_mean, weighted, dy_sum, rest)

        return sums


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
        return add(sums[0], fold_to_double(dy * zero_below(y, _LOW))), add(
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
