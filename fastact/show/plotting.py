"""Curves of activations: the value and the derivative, with their kinks."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact.catalogue.definition import REQUIRED
from fastact.functions import Function

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What there is to draw.

    Attributes
    ----------
    x, value, derivative : ndarray
        Points in order. NaN separates the two sides of a kink, where the derivative jumps.
    kinks, kink_values, kink_derivatives : ndarray
        The kinks themselves, with the derivative that is chosen there.
    """

    x: Array
    value: Array
    derivative: Array
    kinks: Array
    kink_values: Array
    kink_derivatives: Array

    def shown(self, y: Array) -> Array:
        """Cut off the tops of poles and exponentials, which would flatten all the rest."""
        largest = max(10.0, 2 * float(np.nanmax(np.abs(self.x))))
        return np.where(np.abs(y) <= largest, y, np.nan)


def curve(activation: Function, x: ArrayLike | None = None) -> Curve:
    """Compute the value and the derivative of an activation, on both sides of its kinks too.

    Parameters
    ----------
    activation : Function
        With all parameters bound that have no default.
    x : array_like, optional
        Where; between -5 and 5 unless given.

    Raises
    ------
    TypeError
        If the activation takes groups of features, or a parameter has no value.
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
    value_and_derivative = pointwise.value_and_derivative
    value, derivative = value_and_derivative(x)
    return Curve(x, value, derivative, kinks, *value_and_derivative(kinks))


def kink_positions(activation: Function) -> list[float]:
    """Return where the derivative jumps, with the parameters that the activation has.

    The definitions say it in terms of these: at ``-beta/alpha``, for instance.
    """
    found = []
    for at in activation.kinks:
        # Your own may say in words where they are.
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
    """Evaluate an arithmetic expression in the parameters; a KeyError tells that it is none."""
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
    """Draw the value and the derivative of an activation.

    Parameters
    ----------
    activation : Function
        With all parameters bound that have no default: ``fa.prelu.bind(weight=0.25)``.
    x : array_like, optional
        Where; between -5 and 5 unless given.
    ax : matplotlib.axes.Axes, optional
        Where to draw; pyplot's current axes unless given.

    Returns
    -------
    matplotlib.axes.Axes
        Where it is drawn. Dots mark kinks, and the derivative that is chosen there.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    TypeError
        If the activation takes groups of features, or a parameter has no value.
    """
    if ax is None:
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'plotting needs matplotlib: pip install "fastact[plot]"', name=error.name
            ) from None
        ax = pyplot.gca()
    found = curve(activation, x)
    ax.axhline(0, color="gray", linewidth=0.8)
    ax.axvline(0, color="gray", linewidth=0.8)
    styles: list[tuple[str, Array, Array, dict[str, Any]]] = [
        ("value", found.value, found.kink_values, {"color": "#1f4e79", "linewidth": 2}),
        ("derivative", found.derivative, found.kink_derivatives, {"color": "#d9782d"}),
    ]
    for label, y, at_kinks, style in styles:
        ax.plot(found.x, found.shown(y), label=label, **style)
        ax.plot(found.kinks, at_kinks, "o", markersize=5, color=style["color"])
    ax.set_xlabel("x")
    ax.set_title(title(activation))
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def title(activation: Function) -> str:
    """Return the name, with the parameters that are bound."""
    bound = [f"{name}={value!r}" for name, value in activation._bound.items()]
    return ", ".join([activation.name, *bound])
