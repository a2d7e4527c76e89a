"""Plots of activations: value and derivative, with their kinks."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact.catalogue.definition import REQUIRED
from fastact.functions import Function

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The value and derivative of an activation, sampled for a plot.

    Attributes
    ----------
    x, value, derivative : ndarray
        The samples, in order of `x`. NaN separates the two sides of a kink, where the derivative
        jumps.
    kinks, kink_values, kink_derivatives : ndarray
        The kinks, with the derivative chosen there.
    """

    x: Array
    value: Array
    derivative: Array
    kinks: Array
    kink_values: Array
    kink_derivatives: Array

    def clipped(self, y: Array) -> Array:
        """Replace large values by NaN: poles and exponentials would flatten the rest of the plot."""
        largest = max(10.0, 2 * float(np.nanmax(np.abs(self.x))))
        return np.where(np.abs(y) <= largest, y, np.nan)


def curve(activation: Function, x: ArrayLike | None = None) -> Curve:
    """Sample the value and the derivative of an activation, on both sides of its kinks too.

    Parameters
    ----------
    activation : Function
        Its required parameters must be bound.
    x : array_like, optional
        The points; from -5 to 5 by default.

    Raises
    ------
    TypeError
        If the activation is not pointwise, or a parameter has no value.
    """
    if "value_and_derivative" not in activation.operations:
        raise TypeError(f"{activation.name}: a function of several inputs has no curve")
    missing = [name for name, value in activation.parameters.items() if value is REQUIRED]
    if missing:
        raise TypeError(f"{activation.name}: its curve depends on {', '.join(missing)}")
    x = np.linspace(-5, 5, 501) if x is None else np.sort(np.ravel(np.asarray(x, np.float64)))
    kinks = np.array([at for at in kink_positions(activation) if x[0] <= at <= x[-1]])
    aside = 1e-6 * (x[-1] - x[0])
    x = x[np.all(np.abs(np.subtract.outer(x, kinks)) > aside, axis=1)]
    sides = np.add.outer(kinks, [-aside, np.nan, aside])
    x = np.insert(x, np.repeat(np.searchsorted(x, kinks), 3), sides.ravel())
    pointwise: Any = activation
    value, derivative = pointwise.value_and_derivative(x)
    return Curve(x, value, derivative, kinks, *pointwise.value_and_derivative(kinks))


def kink_positions(activation: Function) -> list[float]:
    """Return where the derivative jumps for the activation's parameters.

    Definitions give the positions in terms of these, such as ``-beta/alpha``.
    """
    found = []
    for at in activation.kinks:
        # A user's own activation may describe them in words.
        with suppress(SyntaxError, KeyError):
            found.append(float(_evaluate(ast.parse(at, mode="eval").body, activation.parameters)))
    return sorted(found)


_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _evaluate(node: ast.AST, parameters: Mapping[str, Any]) -> Any:
    """Evaluate an arithmetic expression in the parameters; raise a KeyError if it is not one."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return parameters[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, parameters)
        case ast.BinOp(left=left, op=sign, right=right):
            operands = _evaluate(left, parameters), _evaluate(right, parameters)
            return _OPERATORS[type(sign)](*operands)
    raise KeyError(ast.unparse(node))


def plot(activation: Function, x: ArrayLike | None = None, ax: Axes | None = None) -> Axes:
    """Plot the value and the derivative of an activation: see `fastact.functions.Function.plot`."""
    if ax is None:
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'plotting needs matplotlib: pip install "fastact[plot]"', name=error.name
            ) from None
        ax = pyplot.gca()
    sampled = curve(activation, x)
    ax.axhline(0, color="gray", linewidth=0.8)
    ax.axvline(0, color="gray", linewidth=0.8)
    styles: list[tuple[str, Array, Array, dict[str, Any]]] = [
        ("value", sampled.value, sampled.kink_values, {"color": "#1f4e79", "linewidth": 2}),
        ("derivative", sampled.derivative, sampled.kink_derivatives, {"color": "#d9782d"}),
    ]
    for label, y, at_kinks, style in styles:
        ax.plot(sampled.x, sampled.clipped(y), label=label, **style)
        ax.plot(sampled.kinks, at_kinks, "o", markersize=5, color=style["color"])
    ax.set_xlabel("x")
    ax.set_title(title(activation))
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def compare(activations: Sequence[Function], figure: Figure, x: ArrayLike | None = None) -> None:
    """Plot the values of several activations, and their derivatives beside them."""
    for what, ax in zip(("value", "derivative"), figure.subplots(1, 2), strict=True):
        ax.axhline(0, color="gray", linewidth=0.8)
        ax.axvline(0, color="gray", linewidth=0.8)
        for each in activations:
            sampled = curve(each, x)
            ax.plot(sampled.x, sampled.clipped(getattr(sampled, what)), label=title(each))
        ax.set_xlabel("x")
        ax.set_title(what)
        ax.grid(alpha=0.3)
        ax.legend()


def title(activation: Function) -> str:
    """Return the name and the bound parameters."""
    bound = [f"{name}={value!r}" for name, value in activation._bound.items()]
    return ", ".join([activation.name, *bound])
