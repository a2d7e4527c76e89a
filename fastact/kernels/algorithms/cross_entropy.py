"""Row algorithms of the softmax cross-entropy: losses, and their gradients with respect to the logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastact.kernels.algorithms.exponentials import Exponentials
from fastact.kernels.algorithms.sums import adding, low_part, total_of
from fastact.simd import fold_to_double, select, sum_lanes
from fastact.vecmath.scaling import product_of_number, share_of

if TYPE_CHECKING:
    from fastact.kernels.rows import RowAccess

#: The label of rows to ignore; no other negative label is valid.
IGNORED = int(np.iinfo(np.intp).min)


class _Softmax:
    """The softmax passes that both algorithms share; exponentials are recomputed if the row is too long to cache them."""

    def __init__(self, rows: RowAccess) -> None:
        self._rows = rows
        exponentials = Exponentials(rows, sign=1, takes_logarithm=True)
        self.padding = exponentials.padding
        self.prepare = rows.prepare(self.padding)
        self.top_of = rows.largest("x", 1, self.padding)
        self.sums_of = exponentials.sums()
        exponential, relative_to = exponentials.exponential, exponentials.relative_to
        self.exponential_again = exponentials.again()
        one, nothing = rows.one_lane(1.0), rows.one_lane(0.0)
        self.zero = rows.internal(lambda: sum_lanes(nothing()))
        self.relative_to = rows.internal(lambda top: relative_to(top, 1.0, 1.0))
        of_row = exponentials.of_row()
        self.are_given, self.of_row = (
            exponentials.are_given,
            rows.internal(lambda row: of_row(row, 1.0)),
        )
        self.exponential_of = rows.internal(
            lambda x, relative: sum_lanes(exponential(x * one(), relative)[0])
        )
        self.has_gradient, self.has_probabilities = rows.has("dx"), rows.has("probabilities")

    def write(self, gradient: Callable[..., Any]) -> Any:
        """Return a function that writes the gradient, the softmax or both: ``write(row, state)``, None without either.

        Its state is what exponentials are relative to, their sum, whether the row is ignored, the state of
        `gradient`, and the row.

        Parameters
        ----------
        gradient : callable
            Takes a block of exponentials, a block of each input row, the block's start and a state.
        """
        if not (self.has_gradient or self.has_probabilities):
            return None
        exponential_again, zeros, has_gradient = (
            self.exponential_again,
            self._rows.zeros,
            self.has_gradient,
        )
        gradient_of, low_of = self._rows.internal(gradient), low_part(self._rows)

        def gradients(arrays: Any, begin: Any, state: Any) -> Any:
            relative, _, is_ignored, of_gradient, row = state
            if is_ignored:
                return (zeros(),)
            e = exponential_again(arrays, begin, relative, row)
            return (gradient_of(e, arrays, begin, of_gradient),)

        def with_probabilities(arrays: Any, begin: Any, state: Any) -> Any:
            relative, total, is_ignored, of_gradient, row = state
            e = exponential_again(arrays, begin, relative, row)
            if not has_gradient:
                return (share_of(e, total, low_of(total)),)
            dx = zeros() if is_ignored else gradient_of(e, arrays, begin, of_gradient)
            return dx, share_of(e, total, low_of(total))

        return self._rows.write(with_probabilities if self.has_probabilities else gradients)


def label_cross_entropy(rows: RowAccess) -> Callable[..., None]:
    """Return the function that computes the loss of one row of logits with a label.

    Inputs are the row ``x`` and the scalars ``label`` (`IGNORED` to ignore the row), ``weight`` and ``scale``. Outputs
    are the scalar ``loss``, ``weight (ln sum exp x - x[label])``, and optionally the rows ``dx``, the gradient times
    ``scale``, and ``probabilities``, the softmax, also of an ignored row. A label out of range gives NaN in all: an
    inner loop cannot raise an error, and must not read outside the row.

    If the row is a chunk of one, its sums are operands, and so is the ``logit`` of the label, which counts from the begin of
    the chunk and need not be in it.
    """
    softmax = _Softmax(rows)
    prepare, of_row, are_given = softmax.prepare, softmax.of_row, softmax.are_given
    relative_to, zero = softmax.relative_to, softmax.zero
    exponential_of, has_probabilities = softmax.exponential_of, softmax.has_probabilities
    label_of = rows.integer("label")
    weight_of, scale_of = rows.scalar("weight"), rows.scalar("scale")
    set_loss = rows.set_scalar("loss")
    logit_at, address_of = rows.element_at, rows.address_of
    logit_of = rows.internal(
        lambda row, label: logit_at(address_of(row.base[0]) + label * row.core[0])
    )
    if are_given:
        given_logit = rows.scalar("logit")
        logit_of = rows.internal(lambda row, label: given_logit(row))
    positions = rows.positions_in_block

    def gradient(e: Any, arrays: Any, begin: Any, state: Any) -> Any:
        factor, label, at_label = state
        return select(positions() == label - begin, at_label, product_of_number(factor, e))

    write = softmax.write(gradient)
    writes = write is not None

    def one_row(row: Any) -> None:
        label = label_of(row)
        is_ignored = label == IGNORED
        loss = factor = at_label = total = 0.0
        relative = relative_to(zero())
        if not are_given and (label >= row.n or (label < 0 and not is_ignored)):
            loss = factor = total = math.nan
        elif not is_ignored or has_probabilities:
            prepare(row)
            top, relative, sums = of_row(row)
            total = sums.total
            if not is_ignored:
                logit = logit_of(row, label)
                weight = weight_of(row)
                # A class without weight adds nothing, even if its logit is infinite.
                difference = np.float64(logit) - top if weight != 0 else 0.0
                loss = weight * (sums.log_total - difference)
                factor = scale_of(row) * weight / sums.total
                # One minus the label's probability, without cancellation.
                others = (
                    sums.excess if logit == top else sums.total - exponential_of(logit, relative)
                )
                at_label = -factor * others
        set_loss(row, loss)
        if writes:
            write(row, (relative, total, is_ignored, (factor, label, at_label), row))

    return one_row


def dense_cross_entropy(rows: RowAccess) -> Callable[..., None]:
    """Return the function that computes the loss of one row of logits with a weight for every class.

    Inputs are the rows ``x``, ``targets`` and ``weights``, and the scalars ``label``, ``spike``, ``keep``, ``uniform``
    and ``scale``. Classes have the weights ``weights (keep targets + uniform)``, plus ``spike`` for the label unless it
    is -1. A row whose label is `IGNORED` is ignored. Outputs are those of `label_cross_entropy`, also for a label
    out of range.
    """
    softmax = _Softmax(rows)
    prepare, top_of, sums_of = softmax.prepare, softmax.top_of, softmax.sums_of
    relative_to, zero = softmax.relative_to, softmax.zero
    padding, has_probabilities = softmax.padding, softmax.has_probabilities
    label_of = rows.integer("label")
    spike_of, keep_of, uniform_of, scale_of = (
        rows.scalar(name) for name in ("spike", "keep", "uniform", "scale")
    )
    set_loss = rows.set_scalar("loss")
    positions, doubles = rows.positions_in_block, rows.doubles
    x_at, targets_at, weights_at = (rows.index(name) for name in ("x", "targets", "weights"))
    add, logit_at, address_of = adding(rows), rows.element_at, rows.address_of
    low_of = low_part(rows)

    @rows.internal
    def weights_in(arrays: Any, keep: Any, uniform: Any) -> Any:
        """Return the weight of each class, without the spike of the label."""
        return arrays[weights_at] * (keep * arrays[targets_at] + uniform)

    def step(arrays: Any, begin: Any, sums: Any, state: Any) -> Any:
        top, keep, uniform = state
        weights = weights_in(arrays, keep, uniform)
        # A class without weight adds nothing, even if its logit is infinite.
        products = select(weights == 0, 0, weights * (arrays[x_at] - top))
        return add(sums[0], fold_to_double(weights)), add(sums[1], fold_to_double(products))

    def gradient(e: Any, arrays: Any, begin: Any, state: Any) -> Any:
        label, spike, keep, uniform, weight, total = state
        weights = weights_in(arrays, keep, uniform)
        weights = select(positions() == label - begin, weights + spike, weights)
        return product_of_number(weight, share_of(e, total, low_of(total))) - weights

    fold, write = rows.fold(step, padding), softmax.write(gradient)
    writes = write is not None

    def one_row(row: Any) -> None:
        label = label_of(row)
        is_ignored = label == IGNORED or (label == -1 and row.n == 0)
        spike, keep, uniform, scale = spike_of(row), keep_of(row), uniform_of(row), scale_of(row)
        loss = factor = total = 0.0
        relative = relative_to(zero())
        if label >= row.n or (label < -1 and not is_ignored):
            loss = factor = total = math.nan
        elif not is_ignored or has_probabilities:
            prepare(row)
            top = top_of(row)
            relative = relative_to(top)
            sums = sums_of(row, top, relative)
            total = sums.total
            if not is_ignored:
                nothing = doubles(), doubles()
                total_weight, products = fold(row, (nothing, nothing), (top, keep, uniform))
                weight, product = total_of(total_weight), total_of(products)
                if product != product:  # the compensation of an infinite sum is NaN
                    product = sum_lanes(products[0])
                loss = weight * sums.log_total - product
                if label >= 0:
                    logit = logit_at(address_of(row.base[x_at]) + label * row.core[x_at])
                    difference = np.float64(logit) - top if spike != 0 else 0.0
                    loss += spike * (sums.log_total - difference)
                    weight += spike
                factor = scale * weight
        set_loss(row, loss)
        if writes:
            # Scaled in float64, before rounding to the row's type.
            weighting = label, scale * spike, scale * keep, scale * uniform, factor, total
            write(row, (relative, total, is_ignored, weighting, row))

    return one_row
