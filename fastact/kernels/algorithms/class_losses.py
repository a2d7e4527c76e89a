"""Row algorithms of losses that are sums over classes, of labels or with a weight for every class."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastact.kernels.algorithms.cross_entropy import IGNORED
from fastact.kernels.algorithms.sums import adding, total_of
from fastact.simd import fold_to_double, select, sum_lanes

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess


def label_loss(of_classes: Callable[..., Any], rows: RowAccess) -> Callable[..., None]:
    """Return the function that computes the loss of one row with a label, of whose elements it reads one.

    Parameters
    ----------
    of_classes : callable
        Takes a vector of classes and their weights, and returns losses and derivatives.
    rows : RowAccess
        Operands as those of `fastact.kernels.algorithms.cross_entropy.label_cross_entropy`, with the same results for
        ignored rows and labels out of range.
    """
    label_of = rows.integer("label")
    weight_of, scale_of = rows.scalar("weight"), rows.scalar("scale")
    set_loss, has_gradient = rows.set_scalar("loss"), rows.has("dx")
    element_at, address_of, one = rows.element_at, rows.address_of, rows.one_lane(1.0)
    positions, zeros, compute = rows.positions_in_block, rows.zeros, rows.internal(of_classes)

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        label, at_label, elsewhere = state
        return (select(positions() == label - begin, at_label, zeros() + elsewhere),)

    write: Any = rows.write(results, reads=False) if has_gradient else None

    def one_row(row: Any) -> None:
        label = label_of(row)
        loss = at_label = elsewhere = 0.0
        if label >= row.n or (label < 0 and label != IGNORED):
            loss = elsewhere = math.nan
        elif label >= 0:
            weight = weight_of(row)
            # A class without weight adds nothing, whatever the row holds.
            if weight != 0:
                x = element_at(address_of(row.base[0]) + label * row.core[0]) * one()
                loss = sum_lanes(compute(x, weight * one())[0])
                if has_gradient:
                    scaled = scale_of(row) * weight
                    at_label = sum_lanes(compute(x, scaled * one())[1])
        set_loss(row, loss)
        if has_gradient:
            write(row, (label, at_label, elsewhere))

    return one_row


def dense_loss(of_classes: Callable[..., Any], rows: RowAccess) -> Callable[..., None]:
    """Return the function that computes the loss of one row with a weight for every class.

    Parameters
    ----------
    of_classes : callable
        Takes a vector of classes and their weights, and returns losses and derivatives.
    rows : RowAccess
        Operands as those of `fastact.kernels.algorithms.cross_entropy.dense_cross_entropy`, with the same results for
        ignored rows and labels out of range.
    """
    padding = rows.padding("x", 0.0)
    prepare, label_of = rows.prepare(padding), rows.integer("label")
    spike_of, keep_of, uniform_of, scale_of = (
        rows.scalar(name) for name in ("spike", "keep", "uniform", "scale")
    )
    set_loss, has_gradient = rows.set_scalar("loss"), rows.has("dx")
    positions, zeros, doubles = rows.positions_in_block, rows.zeros, rows.doubles
    x_at, targets_at, weights_at = (rows.index(name) for name in ("x", "targets", "weights"))
    add, compute = adding(rows), rows.internal(of_classes)

    @rows.internal
    def weights_in(arrays: Any, begin: Any, weighting: Any) -> Any:
        """Return the weight of each class."""
        label, spike, keep, uniform = weighting
        weights = arrays[weights_at] * (keep * arrays[targets_at] + uniform)
        return select(positions() == label - begin, weights + spike, weights)

    # A class without weight adds nothing, whatever the row holds.
    def step(arrays: Any, begin: Any, total: Any, weighting: Any) -> Any:
        weights = weights_in(arrays, begin, weighting)
        losses, _ = compute(arrays[x_at], weights)
        return add(total, fold_to_double(select(weights == 0, 0, losses)))

    def results(arrays: Any, begin: Any, state: Any) -> Any:
        scale, absent, is_ignored, weighting = state
        if is_ignored:
            return (zeros(),)
        weights = weights_in(arrays, begin, weighting)
        _, derivatives = compute(arrays[x_at], weights * scale)
        return (select(weights == 0, absent, derivatives),)

    fold = rows.fold(step, padding)
    write: Any = rows.write(results) if has_gradient else None

    def one_row(row: Any) -> None:
        label, scale = label_of(row), scale_of(row)
        is_ignored = label == IGNORED or (label == -1 and row.n == 0)
        weighting = label, spike_of(row), keep_of(row), uniform_of(row)
        loss = absent = 0.0
        if label >= row.n or (label < -1 and not is_ignored):
            loss = absent = scale = math.nan
        elif not is_ignored:
            prepare(row)
            total = fold(row, (doubles(), doubles()), weighting)
            loss = total_of(total)
            if loss != loss:  # the compensation of an infinite sum is NaN
                loss = sum_lanes(total[0])
        set_loss(row, loss)
        if has_gradient:
            write(row, (scale, absent, is_ignored, weighting))

    return one_row
