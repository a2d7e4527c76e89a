"""A multilayer perceptron, written once: with the functions of fastact or with those of the NumPy baseline."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastact as fa
from fastact import baseline
from fastact.cli.training.layers import Activation, Array, Layer, Linear
from fastact.cli.training.timing import Clock, Stopwatch

CLASSES = 10
#: Inputs of each unit of functions that reduce rows, such as logsumexp: the sample of maxout has as many.
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


class Hidden:
    """What the activation of a hidden layer needs besides the function: the same for all variants.

    Attributes
    ----------
    options : dict
        Arguments of the function that stay what they are.
    learned : dict
        Those that are trained, by name, with their values before.
    """

    def __init__(self, settings: Settings) -> None:
        definition = fa.get(settings.activation)._definition
        self.settings = settings
        self.options: dict[str, Any] = {}
        self.learned: dict[str, Array] = {}
        for name, value in definition.required_parameters.items():
            if name in definition.learnable:
                self.learned[name] = np.full(settings.width, value, settings.dtype)
            else:
                self.options[name] = value
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
        function = baseline.get(self.settings.activation)
        outputs: Array = function(self.shape(probe), **self.options, **learned)
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
        hidden = Hidden(settings)
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
    hidden, x = Hidden(settings), images
    activation = hidden.layer(baseline.get(settings.activation))
    weights: list[Array] = []
    for columns in [hidden.inputs] * settings.layers + [CLASSES]:
        if weights:
            x = activation.forward(x @ weights[-1])
        new = random.standard_normal((x.shape[1], columns)).astype(x.dtype)
        weights.append(new / np.std(x @ new))
    return weights
