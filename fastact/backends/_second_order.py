"""Gradients of gradients, in NumPy over the kernels: what a tape propagates through a backward pass.

They are plain formulas with temporary arrays: nets seldom need them, and then for penalties and curvature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.channels import as_sums, channel_axis, sum_of_channels
from fastact.catalogue.dropouts import dropout
from fastact.functions.function import function_of
from fastact.functions.fused import BIAS, RESIDUAL

Array = NDArray[Any]


class Kind(NamedTuple):
    """The shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Any) -> Kind:
        """Return those of an array or a number."""
        array = array if hasattr(array, "dtype") else np.asarray(array)
        return cls(array.shape, array.dtype)

    def zeros(self) -> Array:
        """Return an array of zeros."""
        return np.zeros(self.shape, self.dtype)

    def fit(self, gradient: Any) -> Any:
        """Return a gradient of this shape, and of this dtype unless that holds integers."""
        if gradient.dtype != self.dtype and self.dtype.kind not in "iub":
            gradient = gradient.astype(self.dtype)
        return gradient if gradient.shape == self.shape else gradient.reshape(self.shape)


class SecondPullback:
    """What is propagated through the gradient of a taped call.

    Attributes
    ----------
    count, options
        As in `fastact.backends._tape.Pullback`.
    saved : tuple of ndarray
        The inputs of the gradient, to be treated as there.
    """

    __slots__ = ("_gradient", "count", "options", "saved")

    def __init__(self, gradient: Any, inputs: tuple[Any, ...]) -> None:
        self._gradient, self.saved = gradient, inputs
        self.count = len(gradient.call.inputs)
        self.options: dict[str, Any] = {}

    def __call__(self, *gradients: Any, saved: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """Compute the gradients with respect to the inputs of the gradient; None where they are 0.

        Parameters
        ----------
        *gradients : ndarray or None
            The gradient with respect to each gradient of the call; None for 0.
        saved : tuple of ndarray, optional
            What `saved` was.

        Raises
        ------
        NotImplementedError
            If there is no second derivative.
        """
        given = self.saved if saved is None else saved
        pairs = zip(given, self._propagate(given, gradients), strict=True)
        return tuple([None if each is None else Kind.of(x).fit(each) for x, each in pairs])

    def _propagate(self, given: tuple[Any, ...], gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        call = self._gradient.call
        function, definition = call.function, call.function._definition
        if self._gradient.is_of_output:
            return _through_rows(call, *given, *gradients)
        wanted = dict(zip(call.inputs, gradients, strict=True))
        if "derivative" in function.operations:
            dy, *inputs = given
            found = _through_elements(function, dy, call.arguments(inputs), wanted)
            return tuple(found.get(name) for name in ("dy", *wanted))
        if getattr(definition, "second_order", None) is None:
            raise NotImplementedError(f"{function.name}: there is no second derivative")
        dy, x = given
        if definition.is_reduced:
            return _through_rows(call, dy, x, *gradients)
        soft = {name: value for name, value in call.others.items() if name != "hard"}
        y = function(x, **soft)
        ddy, of_y = _through_rows(call, dy, y, *gradients)
        return ddy, backward(call, of_y, y)


def backward(call: Any, dy: Array, saved: Array) -> Any:
    """Return the gradient of a row function from what its backward pass saves."""
    known = call.function.operations["backward"].option_names
    options = {name: value for name, value in call.others.items() if name in known}
    return call.function.backward(dy, saved, **options)


# Activations of elements -------------------------------------------------------------------------


def _through_elements(
    function: Any, dy: Array, given: Mapping[str, Any], g: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is propagated through the gradients of ``residual + dropout(scale * f(x + bias))``."""
    caller, options = function.caller("backward"), dict(given)
    for name in function.learnable:
        if name in g:
            raise NotImplementedError(
                f"{function.name}: there is no second derivative with respect to {name!r}"
            )
    x, residual = options.pop("x"), options.pop(RESIDUAL.name, None)
    has_bias, axis = BIAS.name in g or _has(function, options, BIAS.name), options.get("axis", -1)
    inner, total = x, np.zeros_like(x) if g.get("x") is None else g["x"]
    if has_bias:
        bias = options[BIAS.name]
        along = channel_axis(caller, BIAS.name, x, bias, axis) if np.ndim(bias) else None
        inner = x + _along(along, x, bias)
        if g.get(BIAS.name) is not None:
            total = total + _along(along, x, g[BIAS.name])
    ddy = function.backward(total, x, **options)
    found = {"dy": ddy[0] if isinstance(ddy, tuple) else ddy}
    if residual is not None and g.get(RESIDUAL.name) is not None:
        found["dy"] = found["dy"] + g[RESIDUAL.name]
    with np.errstate(all="ignore"):
        factor = dy * total
        if _has(function, options, "scale"):
            factor *= options["scale"]
        if _has(function, options, "dropout"):
            of_same_elements: Any = function_of(dropout)
            factor = of_same_elements(factor, options["dropout"], rng=options["rng"])
        found["x"] = factor * _second_derivative(function, inner, options)
    if BIAS.name in g:
        sums = sum_of_channels(found["x"], along)
        found[BIAS.name] = as_sums(sums, np.shape(bias), np.asarray(bias).dtype)
    return found


def _has(function: Any, options: Mapping[str, Any], name: str) -> bool:
    """Tell whether a call has a fused option: a parameter of the function may have its name."""
    return name in options and name not in function.parameters


def _along(axis: int | None, x: Array, values: Any) -> Array:
    """Return a parameter in a shape that broadcasts along the axis of its channels."""
    shape = () if axis is None else (np.size(values),) + (1,) * (x.ndim - axis - 1)
    return np.reshape(values, shape)


def _second_derivative(function: Any, x: Array, options: dict[str, Any]) -> Array:
    """Return the second derivative, almost everywhere: 0 for functions of straight pieces."""
    chosen, caller = function.choose(options), function.caller("backward")
    if "slope" in options:
        options |= dict.fromkeys(chosen._definition.drawn_between, options["slope"])
    values = [options.get(name, default) for name, default in chosen.parameters.items()]
    for k, name in enumerate(chosen.parameters):
        if name in chosen.learnable and np.ndim(values[k]):
            axis = channel_axis(caller, name, x, values[k], options.get("axis", 1))
            values[k] = _along(axis, x, values[k])
    found: Array = chosen.kernels["second_derivative"](x, *values)
    return found


# Rows --------------------------------------------------------------------------------------------


def _through_rows(call: Any, dy: Array, saved: Array, g: Array) -> tuple[Array, Array]:
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
