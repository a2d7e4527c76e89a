"""Gradients of gradients, in NumPy over the kernels: what a tape propagates through a backward pass.

They are plain formulas with temporary arrays: nets seldom need them, and then for penalties and curvature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.channels import as_sums, channel_axis, sum_of_channels
from fastact.backends._pullback import Kind
from fastact.backends._second_order_of_rows import backward, through_rows
from fastact.catalogue.dropouts import dropout
from fastact.functions.function import function_of
from fastact.functions.fused import BIAS, RESIDUAL

Array = NDArray[Any]


class SecondPullback:
    """What is propagated through the gradient of a taped call.

    Attributes
    ----------
    count, options
        As in `fastact.backends._pullback.Pullback`.
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
            return through_rows(call, *given, *gradients)
        wanted = dict(zip(call.inputs, gradients, strict=True))
        if "derivative" in function.operations:
            dy, *inputs = given
            found = _through_elements(function, dy, call.arguments(inputs), wanted)
            return tuple(found.get(name) for name in ("dy", *wanted))
        if getattr(definition, "second_order", None) is None:
            raise NotImplementedError(f"{function.name}: there is no second derivative")
        dy, x = given
        if definition.is_reduced:
            return through_rows(call, dy, x, *gradients)
        soft = {name: value for name, value in call.others.items() if name != "hard"}
        y = function(x, **soft)
        ddy, of_y = through_rows(call, dy, y, *gradients)
        return ddy, backward(call, of_y, y)


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
