"""The layers of a net, for the functions of fastact and of the NumPy baseline alike.

They have ``forward``, which takes the input and returns the value, and ``backward``, which takes the gradient with respect
to the value, keeps those of its parameters, and returns that of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass
class Parameter:
    """An array that is trained, its gradient, and its velocity in gradient descent with momentum."""

    value: Array
    gradient: Array = field(init=False)
    velocity: Array = field(init=False)

    def __post_init__(self) -> None:
        self.gradient, self.velocity = np.zeros_like(self.value), np.zeros_like(self.value)

    def update(self, learning_rate: float, momentum: float) -> None:
        """Take a step of gradient descent."""
        self.velocity *= momentum
        self.gradient *= learning_rate
        self.velocity -= self.gradient
        self.value += self.velocity


class Layer(Protocol):
    """A layer.

    Attributes
    ----------
    part : str
        One of `PARTS`.
    parameters : list of Parameter
        What is trained.
    """

    part: str
    parameters: list[Parameter]

    def forward(self, x: Array) -> Array:
        """Return the value."""

    def backward(self, dy: Array) -> Array:
        """Return the gradient with respect to the input."""


class Linear:
    """A matrix product and a bias; the first layer's input is data, whose gradient nothing asks for."""

    part = "matrix products"

    def __init__(self, weights: Array, is_first: bool) -> None:
        bias = np.zeros(weights.shape[1], weights.dtype)
        self.weights, self.bias = self.parameters = [Parameter(weights.copy()), Parameter(bias)]
        self.is_first = is_first

    def forward(self, x: Array) -> Array:
        """Return x w + b."""
        self.x = x
        y: Array = x @ self.weights.value
        y += self.bias.value
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy wᵀ."""
        np.matmul(self.x.T, dy, out=self.weights.gradient)
        np.sum(dy, axis=0, out=self.bias.gradient)
        return dy if self.is_first else dy @ self.weights.value.T


class Activation:
    """An activation.

    Parameters
    ----------
    function : Function or Baseline
        ``fa.gelu``, or the same in plain NumPy: both compute the value now and the gradient later.
    options : dict
        Arguments of the function that stay what they are.
    learned : dict
        Those that are trained, by name: the weights of prelu.
    shape : callable
        Brings the input into the function's shape.
    """

    part = "activations"

    def __init__(
        self,
        function: Any,
        options: dict[str, Any],
        learned: dict[str, Array],
        shape: Callable[[Array], Array],
    ) -> None:
        self.function, self.options, self.shape = function, options, shape
        self.learned = {name: Parameter(value.copy()) for name, value in learned.items()}
        self.parameters = list(self.learned.values())

    def forward(self, x: Array) -> Array:
        """Return the value, and keep the function that computes the gradient."""
        learned = {name: parameter.value for name, parameter in self.learned.items()}
        y: Array
        y, self.vjp = self.function.vjp(self.shape(x), **self.options, **learned)
        return y

    def backward(self, dy: Array) -> Array:
        """Return the gradient."""
        gradients = self.vjp(dy)
        if self.parameters:
            gradients, *others = gradients
            for parameter, gradient in zip(self.parameters, others, strict=True):
                parameter.gradient[...] = gradient
        dx: Array = gradients.reshape(len(dy), -1)
        return dx
