"""A multilayer perceptron, layer by layer: the same code for the functions of fastact and of the NumPy baseline.

Layers have ``forward``, which takes the input and returns the value, and ``backward``, which takes the gradient with
respect to the value, keeps those of its parameters, and returns that of its input.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastact import baseline
from fastact.cli.training.timing import Clock, Stopwatch

Array: TypeAlias = NDArray[Any]

CLASSES = 10
#: Inputs of each unit of functions that reduce groups, such as maxout and logsumexp.
GROUP = 2
#: In what the time of a step goes.
PARTS = ("matrix products", "activations", "loss", "optimizer")


@dataclass(frozen=True)
class Settings:
    """The net, and how it is trained.

    Attributes
    ----------
    activation : str
        The name of the hidden layers' activation.
    width, layers : int
        The number of units in a hidden layer, and the number of hidden layers.
    dtype : str
        "float32" or "float64".
    epochs, batch_size : int
        The number of passes over the images, and the number of images in a step.
    learning_rate, momentum : float
        The parameters of gradient descent.
    most_norm : float
        Longer gradients are shortened to this norm.
    seed : int
        Determines the test set, the initial weights and the order of the images.
    """

    activation: str = "gelu"
    width: int = 256
    layers: int = 3
    dtype: str = "float32"
    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 0.05
    momentum: float = 0.9
    most_norm: float = 1.0
    seed: int = 0


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


@dataclass
class Hidden:
    """What the activation of a hidden layer needs besides the function: the same for all variants.

    Attributes
    ----------
    name : str
        The activation's name.
    settings : Settings
        The net.
    """

    name: str
    settings: Settings

    def __post_init__(self) -> None:
        from fastact import get

        definition = get(self.name)._definition
        required = {**definition.required_parameters}
        self.options: dict[str, Any] = {
            key: value for key, value in required.items() if key not in definition.learnable
        }
        if self.name == "maxout":
            self.options["pieces"] = GROUP
        self.learned = {
            key: np.full(self.settings.width, value, self.settings.dtype)
            for key, value in required.items()
            if key in definition.learnable
        }
        self.is_reduced = getattr(definition, "is_reduced", False)

    def shape(self, x: Array) -> Array:
        """Return the input in groups, if the function reduces the last axis."""
        return x.reshape(len(x), -1, GROUP) if self.is_reduced else x

    def layer(self, function: Any) -> Activation:
        """Return the layer."""
        return Activation(function, self.options, self.learned, self.shape)

    @property
    def inputs(self) -> int:
        """How many columns the matrix product before it has: gated units take two for each unit, crelu a half."""
        probe = np.ones((1, 2 * GROUP), self.settings.dtype)
        learned = dict.fromkeys(self.learned, 0.5)
        outputs: Array = baseline.get(self.name)(self.shape(probe), **self.options, **learned)
        return self.settings.width * probe.size // outputs.size


class Net:
    """The net: hidden layers, softmax cross-entropy, and gradient descent with momentum.

    Parameters
    ----------
    settings : Settings
        The net.
    weights : list of ndarray
        Those to start from.
    activation, loss : Function or Baseline
        fastact's functions or NumPy's.
    clock : callable
        Measures the parts.
    """

    def __init__(
        self,
        settings: Settings,
        weights: list[Array],
        activation: Any,
        loss: Any,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.settings, self.loss = settings, loss
        hidden = Hidden(settings.activation, settings)
        self.layers: list[Layer] = []
        for array in weights[:-1]:
            self.layers += [Linear(array, not self.layers), hidden.layer(activation)]
        self.layers.append(Linear(weights[-1], not self.layers))
        self.parameters = [each for layer in self.layers for each in layer.parameters]
        self.clocks = {part: Stopwatch(clock) for part in PARTS}

    def forward(self, x: Array) -> Array:
        """Return the logits."""
        for layer in self.layers:
            with self.clocks[layer.part]:
                x = layer.forward(x)
        return x

    def step(self, images: Array, labels: Array) -> float:
        """Update all parameters by one step of gradient descent, and return the loss before it."""
        logits = self.forward(images)
        with self.clocks["loss"]:
            loss, vjp = self.loss.vjp(logits, labels)
            dy = vjp()
        for layer in reversed(self.layers):
            with self.clocks[layer.part]:
                dy = layer.backward(dy)
        with self.clocks["optimizer"]:
            self.update()
        return float(loss)

    def update(self) -> None:
        """Take a step of gradient descent."""
        gradients = (each.gradient.ravel() for each in self.parameters)
        norm = math.sqrt(sum(float(each @ each) for each in gradients))
        rate = self.settings.learning_rate * min(1.0, self.settings.most_norm / (norm + 1e-6))
        for parameter in self.parameters:
            parameter.update(rate, self.settings.momentum)

    def seconds(self) -> dict[str, float]:
        """Return the seconds in each part since the last call."""
        return {part: clock.reset() for part, clock in self.clocks.items()}


def initial_weights(settings: Settings, images: Array) -> list[Array]:
    """Return random weights whose products have unit variance on these images.

    This is LSUV initialization, which suits every activation: no other knows them all.
    """
    random = np.random.default_rng(settings.seed)
    hidden, x = Hidden(settings.activation, settings), images
    weights: list[Array] = []
    activation = hidden.layer(baseline.get(settings.activation))
    for _ in range(settings.layers):
        z = _add_layer(weights, random, x, hidden.inputs)
        x = activation.forward(z)
    _add_layer(weights, random, x, CLASSES)
    return weights


def _add_layer(weights: list[Array], random: np.random.Generator, x: Array, columns: int) -> Array:
    """Append weights, and return their products with x."""
    new = random.standard_normal((x.shape[1], columns)).astype(x.dtype)
    new /= np.std(x @ new)
    weights.append(new)
    products: Array = x @ new
    return products
