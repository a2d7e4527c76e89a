"""A tape: it notes what is computed, and plays it backward for the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.nets.numpy_parts import Array, Vjp


@dataclass(eq=False, slots=True)
class Variable:
    """An array, and the gradient of the loss with respect to it."""

    value: Array
    gradient: Any = None


class Tape:
    """Calls of parts, in their order.

    Parameters
    ----------
    parameters : dict of str to Array
        The arrays whose gradients are wanted.
    """

    def __init__(self, parameters: dict[str, Array]) -> None:
        self.parameters = {name: Variable(value) for name, value in parameters.items()}
        self.records: list[tuple[Variable, Vjp, tuple[Variable, ...]]] = []

    def __getitem__(self, name: str) -> Variable:
        return self.parameters[name]

    def __call__(self, part: Callable[..., Any], *inputs: Variable, **options: Any) -> Variable:
        """Call a part, and note how gradients go back through it."""
        value, vjp = part(*(each.value for each in inputs), **options)
        output = Variable(value)
        self.records.append((output, vjp, inputs))
        return output

    def backward(self, output: Variable, gradient: Array) -> dict[str, Array]:
        """Return the gradients of all parameters, from that of an output."""
        output.gradient = gradient
        for each, vjp, inputs in reversed(self.records):
            gradients = vjp(each.gradient)
            if len(inputs) == 1:
                gradients = (gradients,)
            for variable, new in zip(inputs, gradients, strict=True):
                old = variable.gradient
                variable.gradient = new if old is None else old + new
        return {name: variable.gradient for name, variable in self.parameters.items()}


# Parts that are the same for all ----------------------------------------------------------------


def product(x: Array, w: Array) -> tuple[Array, Vjp]:
    """Return x w."""
    return x @ w, lambda dy: (dy @ w.T, x.T @ dy)


def product_with(x: Array) -> Callable[[Array], tuple[Array, Vjp]]:
    """Return the part that multiplies data by weights: nothing asks for the gradient of data."""
    return lambda w: (x @ w, lambda dy: x.T @ dy)


def add(x: Array, y: Array) -> tuple[Array, Vjp]:
    """Return x + y; `y` may be a bias."""
    if x.shape == y.shape:
        return x + y, lambda dy: (dy, dy)
    return x + y, lambda dy: (dy, dy.sum(axis=0))
