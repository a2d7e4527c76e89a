"""What all nets have in common, and training them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, ClassVar, TypeAlias

import numpy as np

from benchmarks.nets.numpy_parts import Array, Keep, NumpyParts

#: The parameters by name, or their gradients; PyTorch's tensors in its version of a net.
Parameters: TypeAlias = dict[str, Array]
#: Returns the loss of a batch and the gradients of the parameters.
Gradients: TypeAlias = Callable[..., tuple[float, Parameters]]
#: Different batches; a run returns to the first after the last.
BATCHES = 4
#: The arrays that each optimizer keeps for each parameter.
STATES = {"sgd": 0, "momentum": 1, "adam": 2}


@dataclass(frozen=True, kw_only=True)
class Net(ABC):
    """A net and how it is trained: the same in NumPy, with fastact and in PyTorch.

    Attributes
    ----------
    batch_size : int
        The number of examples in a step.
    dtype : str
        The type of parameters and inputs.
    optimizer : str
        One of `STATES`.
    rate : float
        The learning rate.
    """

    batch_size: int
    dtype: str = "float32"
    optimizer: str = "sgd"
    rate: float = 0.1
    #: Sizes for tests.
    tiny: ClassVar[dict[str, Any]]

    @abstractmethod
    def parameters(self, random: np.random.Generator) -> Parameters:
        """Return the parameters to start from."""

    @abstractmethod
    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        """Return examples and what the net should make of them."""

    @abstractmethod
    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        """Return a function from a batch to its loss and the gradients of the parameters."""

    @abstractmethod
    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        """Return the loss in PyTorch, for its automatic differentiation."""

    def shrunk(self, dtype: str) -> Net:
        """Return the net in sizes for tests, and in one type."""
        return replace(self, dtype=dtype, **self.tiny)

    def normal(self, random: np.random.Generator, *shape: int) -> Array:
        """Return normal deviates."""
        x: Array = random.standard_normal(shape).astype(self.dtype)
        return x

    def weights(self, random: np.random.Generator, inputs: int, outputs: int) -> Array:
        """Return random weights that preserve variance through a rectifier (He initialization)."""
        weights: Array = self.normal(random, inputs, outputs) * (2 / inputs) ** 0.5
        return weights

    def zeros(self, *shape: int) -> Array:
        """Return zeros."""
        return np.zeros(shape, self.dtype)


class Run:
    """A net in training: in NumPy, or with fastact."""

    def __init__(self, net: Net, parts: NumpyParts) -> None:
        random = np.random.default_rng(0)
        self.net, self.parts = net, parts
        self.parameters = net.parameters(random)
        self.batches = cycle([net.batch(random) for _ in range(BATCHES)])
        self.gradients = net.build(parts, self.parameters)
        self.states = {
            name: [np.zeros_like(each) for _ in range(STATES[net.optimizer])]
            for name, each in self.parameters.items()
        }
        self.steps = 0

    def step(self) -> float:
        """Take one step, and return the loss before it."""
        self.steps += 1
        loss, gradients = self.gradients(*next(self.batches))
        update = getattr(self.parts, self.net.optimizer)
        for name, parameter in self.parameters.items():
            state = self.states[name]
            update(parameter, gradients[name], *state, rate=self.net.rate, step=self.steps)
        return loss


class TorchRun:
    """The same net in PyTorch: eager, on the CPU."""

    def __init__(self, net: Net, keep: Keep | None = None) -> None:
        import torch

        random = np.random.default_rng(0)
        self.net = net
        self.tensors = {
            name: torch.from_numpy(each).requires_grad_()
            for name, each in net.parameters(random).items()
        }
        self.parameters = {name: each.detach().numpy() for name, each in self.tensors.items()}
        self.batches = cycle(
            [tuple(map(torch.from_numpy, net.batch(random))) for _ in range(BATCHES)]
        )
        variables = list(self.tensors.values())
        if net.optimizer == "adam":
            self.optimizer: Any = torch.optim.Adam(variables, net.rate)
        else:
            momentum = 0.9 if net.optimizer == "momentum" else 0.0
            self.optimizer = torch.optim.SGD(variables, net.rate, momentum)
        self.dropout: Callable[..., Any] = torch.nn.functional.dropout
        if keep is not None:
            self.dropout = lambda x, p: x * torch.from_numpy(keep(tuple(x.shape), p)) / (1 - p)

    def step(self) -> float:
        """Take one step, and return the loss before it."""
        self.optimizer.zero_grad()
        loss = self.net.torch_loss(self.tensors, self.dropout, *next(self.batches))
        loss.backward()
        self.optimizer.step()
        return float(loss.item())
