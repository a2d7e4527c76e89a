"""The exponentials of a row relative to its maximum, and their sums: what softmax, log-sum-exp and cross-entropy need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastact.kernels.algorithms.sums import adding, low_part, total_of
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


# A value of a row that is smaller than this has no effect on its sums; its product with a gradient might be subnormal.
NEGLIGIBLE = PerDtype(float32=2.0**-80, float64=2.0**-600)


def _product(rows: RowAccess) -> Any:
    """Return a function that multiplies exponentials with gradients for a sum; of float32, exactly.

    The derivative of a saturated row is the rest of a difference of gradients, whose rounding errors it would show.
    """
    if rows.is_double:
        return rows.internal(lambda e, dy: zero_below(e, NEGLIGIBLE) * dy)
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
