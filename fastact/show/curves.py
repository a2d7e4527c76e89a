"""What plots show of a function, as arrays: its curves, its Jacobian, its value on a plane, or its loss."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastact.catalogue.definition import (
    REQUIRED,
    CrossEntropyDefinition,
    ElementwiseLossDefinition,
    GateDefinition,
    GroupDefinition,
    RowDefinition,
    RowNormalizationDefinition,
)
from fastact.functions import Function

Array = NDArray[np.float64]

#: An activation is saturated where its derivative is smaller than this in magnitude.
SATURATED = 0.05
#: What a curve shows, in this order.
QUANTITIES = ("value", "derivative", "second derivative")


def picture_of(function: Function) -> str | None:
    """Return what there is a picture of: a function's curve, Jacobian, plane or loss; None if it has none."""
    match function._definition:
        case _ if has_curve(function):
            return "curve"
        case RowDefinition(is_random=False) | RowNormalizationDefinition():
            return "jacobian"
        case GateDefinition() | GroupDefinition():
            return "plane"
        case ElementwiseLossDefinition() | CrossEntropyDefinition():
            return "loss"
    return None


@dataclass(frozen=True)
class Curve:
    """The value and derivatives of an activation, sampled for a plot.

    Attributes
    ----------
    x, value, derivative, second_derivative : ndarray
        The samples, in order of `x`. NaN separates the two sides of a kink, where the derivative
        jumps.
    kinks, kink_values, kink_derivatives : ndarray
        The kinks, with the derivative chosen there.
    """

    x: Array
    value: Array
    derivative: Array
    second_derivative: Array
    kinks: Array
    kink_values: Array
    kink_derivatives: Array

    def samples(self, quantity: str) -> Array:
        """Return the samples of one of `QUANTITIES`.

        NaN replaces large ones: poles and exponentials would flatten the rest of the plot.
        """
        y: Array = getattr(self, quantity.replace(" ", "_"))
        largest = max(10.0, 2 * float(np.nanmax(np.abs(self.x))))
        return np.where(np.abs(y) <= largest, y, np.nan)

    def at_kinks(self, quantity: str) -> Array:
        """Return the same at the kinks, where there is no second derivative."""
        at = {"value": self.kink_values, "derivative": self.kink_derivatives}
        return at.get(quantity, np.full_like(self.kinks, np.nan))

    def saturated(self) -> Iterator[tuple[float, float]]:
        """Yield the intervals in which the activation is saturated.

        Where the derivative merely changes its sign, as at the minimum of SiLU, it is not.
        """
        padded = np.concatenate([[np.nan], self.derivative, [np.nan]])
        small = np.abs(padded) < SATURATED
        edges = np.flatnonzero(small[1:] != small[:-1])
        for before, last in zip(edges[::2], edges[1::2], strict=True):
            changes_sign = padded[before] * padded[last + 1] < 0
            if last - before > 1 and not changes_sign:
                yield float(self.x[before]), float(self.x[last - 1])


def curve(activation: Function, x: ArrayLike | None = None) -> Curve:
    """Sample the value and the derivatives of an activation, on both sides of its kinks too.

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
    if not has_curve(activation):
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
    step = aside / 2  # no difference reaches across a kink
    _, right = pointwise.value_and_derivative(x + step)
    _, left = pointwise.value_and_derivative(x - step)
    second = (right - left) / (2 * step) if step else np.full_like(x, np.nan)
    return Curve(x, value, derivative, second, kinks, *pointwise.value_and_derivative(kinks))


def has_curve(function: Function) -> bool:
    """Whether it is a function of one number."""
    return "value_and_derivative" in function.operations


def value_range(activation: Function) -> str:
    """Return the interval of an activation's values, such as ``[-0.17, ∞)``; nothing if there are gaps between them."""
    kinks = kink_positions(activation)
    # Further out, values round to limits that they do not reach.
    reach = max([10, *(1 + abs(at) for at in kinks)])
    x = np.sort(np.concatenate([np.linspace(-reach, reach, 200_001), kinks]))
    pointwise: Any = activation
    y = pointwise(x)
    y = y[~np.isnan(y)]
    finite = y[np.isfinite(y)]
    if np.any(np.abs(np.diff(finite)) > 0.1 * (1 + np.abs(finite[1:]))):  # a jump
        return ""
    ends = [_number(each, activation.parameters) for each in activation.limits or ()]
    ends = [each for each in ends if not np.isnan(each)]
    low, high = np.min(y), np.max(y)
    least, most = min([low, *ends]), max([high, *ends])
    opening = "[" if least == low > -np.inf else "("
    closing = "]" if most == high < np.inf else ")"
    return f"{opening}{least:.3g}, {most:.3g}{closing}".replace("inf", "∞")


def _number(expression: str, parameters: Mapping[str, Any]) -> float:
    """Return the value of an expression in the parameters, such as a limit; NaN for ``"none"``."""
    try:
        return float(expression)
    except ValueError:
        pass
    try:
        return float(_evaluate(ast.parse(expression, mode="eval").body, parameters))
    except KeyError:
        return float("nan")


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


def surface(function: Function, x: ArrayLike | None = None) -> tuple[Array, Array, tuple[str, str]]:
    """Return the points, the value at all pairs of them, and what stands on the two axes."""
    x = np.linspace(-5, 5, 201) if x is None else np.sort(np.ravel(np.asarray(x, np.float64)))
    pairs = np.stack(np.meshgrid(x, x), axis=-1)
    evaluated: Any = function
    if isinstance(function._definition, GateDefinition):
        is_first = function._definition.gate == "first"
        y = evaluated(pairs if is_first else pairs[..., ::-1])
        return x, y[..., 0], ("gate", "value")
    pieces = function.parameters["pieces"]
    if pieces not in (REQUIRED, 2):
        raise TypeError(f"{function.name}: there is a picture of 2 pieces, not of {pieces:g}")
    return x, evaluated(pairs, 2)[..., 0], ("first piece", "second piece")


def jacobian(function: Function, row: ArrayLike | None = None) -> tuple[Array, Array, Array]:
    """Return a row, the results of a function of rows, and their derivatives: a row for each result.

    Parameters
    ----------
    function : Function
        A row function that is not random, or a normalization of rows.
    row : array_like, optional
        From -2 to 2 in steps of 0.5 by default.
    """
    x = np.linspace(-2, 2, 9) if row is None else np.ravel(np.asarray(row, np.float64))
    rows: Any = function
    y = np.atleast_1d(rows(x))
    dy = np.eye(x.size) if y.size == x.size else np.ones(1)
    _, dx = rows.forward_backward(np.tile(x, (y.size, 1)), dy)
    return x, y, dx


def losses(
    function: Function, x: ArrayLike | None = None
) -> tuple[Array, dict[str, tuple[Array, Array]], str]:
    """Return the points, the loss and its derivative for each target, and what the points are.

    Losses of elements have the targets 0 and 1 if their inputs are logits, and else 0. Of the losses of classes the
    input of the target's class is drawn: the one other class has the input 0.
    """
    loss: Any = function
    definition = function._definition
    if isinstance(definition, ElementwiseLossDefinition):
        name, _ = definition.inputs
        x = np.linspace(-5, 5, 501) if x is None else np.sort(np.ravel(np.asarray(x, np.float64)))
        found = {
            f"target {target}": loss.forward_backward(
                x, np.full(x.size, float(target)), reduction="none"
            )
            for target in ((0, 1) if name == "logits" else (0,))
        }
        return x, found, name
    assert isinstance(definition, CrossEntropyDefinition)
    ends = {"probabilities": (0.01, 1), "log_probabilities": (-5, 0)}.get(definition.input, (-5, 5))
    x = np.linspace(*ends, 501) if x is None else np.sort(np.ravel(np.asarray(x, np.float64)))
    rows = np.stack([x, np.zeros(x.size)], axis=-1)
    y, dx = loss.forward_backward(rows, np.zeros(x.size, int), reduction="none")
    return x, {"": (y, dx[:, 0])}, f"{definition.input} of the label's class".replace("_", "-")


def title(activation: Function) -> str:
    """Return the name and the bound parameters."""
    bound = [f"{name}={value!r}" for name, value in activation._bound.items()]
    return ", ".join([activation.name, *bound])
