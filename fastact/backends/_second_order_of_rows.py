"""Gradients of gradients of row functions, from what the catalogue declares as `second_order`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def backward(call: Any, dy: Array, saved: Array) -> Any:
    """Return the gradient of a row function from what its backward pass saves."""
    known = call.function.operations["backward"].option_names
    options = {name: value for name, value in call.others.items() if name in known}
    return call.function.backward(dy, saved, **options)


def through_rows(call: Any, dy: Array, saved: Array, g: Array) -> tuple[Array, Array]:
    """Return what is propagated through ``backward(dy, saved)`` to both, given the gradient with respect to its result."""
    function, options = call.function, call.others
    definition, rows = function._definition, _Rows(saved, options)
    temperature = options.get("temperature", function.parameters["temperature"])
    factor = options.get("scale", 1 / temperature) * (-1 if definition.of_minus_x else 1)
    g = _without(rows.masked, g)
    # The gradient of a logarithm takes the sum of all dy, those that `where` excludes among them.
    excluded = rows.causal if definition.masked_value else rows.masked
    with np.errstate(all="ignore"):
        if definition.is_reduced:
            ones = np.ones_like(dy)
            shares = backward(call, ones, saved) / factor
            of_rows = rows.spread(dy)
            summands, of_x = definition.second_order(of_rows, shares, g, rows.total)
            ddy = rows.sum(summands).reshape(np.shape(dy))
            return factor * ddy, factor * factor * of_x
        dy = _without(excluded, dy)
        ddy, of_y = definition.second_order(dy, saved, g, rows.total)
    ddy = _without(excluded, np.broadcast_to(ddy, saved.shape))
    return factor * ddy, (factor * of_y).astype(saved.dtype, copy=False)


class _Rows:
    """The rows of an array, as the options of a row function tell them.

    Attributes
    ----------
    shape : list of int
        The shape of an array with one value for each row.
    masked : ndarray of bool, optional
        The elements that take no part.
    causal : ndarray of bool, optional
        Those of them that `causal` excludes.
    """

    def __init__(self, array: Array, options: Mapping[str, Any]) -> None:
        axis, lengths = options.get("axis", -1), options.get("lengths")
        self.axis: Any = tuple(range(array.ndim)) if axis is None or not array.ndim else axis
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.shape = list(array.shape)
        for each in self.axis if isinstance(self.axis, tuple) else (self.axis,):
            self.shape[each] = 1 if self.lengths is None else len(self.lengths)
        self.causal = self.masked = None
        if options.get("causal"):
            n, m = array.shape[-2:]
            self.causal = self.masked = ~np.tri(n, m, m - n, dtype=bool)
        if options.get("where") is not None:
            left_out = ~np.asarray(options["where"], bool)
            self.masked = left_out if self.causal is None else left_out | self.causal

    def sum(self, values: Array) -> Array:
        """Return the sum of each row, an array of `shape`."""
        if self.lengths is None:
            total: Any = np.sum(values, self.axis, np.float64, keepdims=True)
            return np.asarray(total)
        sums, full = np.zeros(self.shape), self.lengths > 0
        starts = (np.cumsum(self.lengths) - self.lengths)[full]
        at = (slice(None),) * (self.axis % len(self.shape)) + (full,)
        sums[at] = np.add.reduceat(values, starts, self.axis, np.float64)
        return sums

    def spread(self, values: Array) -> Array:
        """Return one value for each row in a shape that broadcasts with the array."""
        values = np.reshape(values, self.shape)
        return values if self.lengths is None else np.repeat(values, self.lengths, self.axis)

    def total(self, values: Array) -> Array:
        """Return the sum of the row of each element, in a shape that broadcasts with the array."""
        return self.spread(self.sum(values))


def _without(mask: Array | None, values: Array) -> Array:
    """Return values with 0 where a mask is true."""
    return values if mask is None else np.where(mask, 0, values)
