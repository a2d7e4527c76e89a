"""The same net in PyTorch: eager, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastact.bench.peers import torch_function
from fastact.bench.workloads import Workload
from fastact.cli.training.layers import Array
from fastact.cli.training.net import Hidden, Settings


def check_torch(activation: str) -> None:
    """Raise an error that says in one line why PyTorch cannot take part."""
    try:
        torch_function(Workload.of(activation, (2, 4)))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ValueError(
            "--torch needs PyTorch, which is not installed: pip install torch"
        ) from None
    except NotImplementedError:
        raise ValueError(f"--torch: PyTorch has no {activation}") from None


class TorchNet:
    """The net, with the same interface as `fastact.cli.training.net.Net`."""

    def __init__(self, settings: Settings, weights: list[Array], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch: Any = torch
        hidden = Hidden(settings)
        self.function = torch_function(Workload.of(settings.activation, (2, 4)))
        self.constants = list(hidden.options.values())

        def parameter(array: Array) -> Any:
            return torch.from_numpy(array.copy()).requires_grad_()

        self.linear = [
            (parameter(each), parameter(np.zeros(each.shape[1], each.dtype))) for each in weights
        ]
        self.learned = [[parameter(each) for each in hidden.learned.values()] for _ in weights[:-1]]
        self.variables = [each for group in (*self.linear, *self.learned) for each in group]
        self.optimizer = torch.optim.SGD(self.variables, settings.learning_rate, settings.momentum)
        self.most_norm = settings.most_norm

    def _logits(self, images: Array) -> Any:
        x, addmm = self.torch.from_numpy(images), self.torch.addmm
        *hidden, (last, last_bias) = self.linear
        for (weights, bias), learned in zip(hidden, self.learned, strict=True):
            x = self.function(addmm(bias, x, weights), *self.constants, *learned)
        return addmm(last_bias, x, last)

    def forward(self, x: Array) -> Array:
        """Return the logits."""
        with self.torch.no_grad():
            logits: Array = self._logits(x).numpy()
        return logits

    def step(self, images: Array, labels: Array) -> float:
        """Update all parameters by one step of gradient descent, and return the loss before it."""
        self.optimizer.zero_grad()
        logits = self._logits(images)
        loss = self.torch.nn.functional.cross_entropy(logits, self.torch.from_numpy(labels))
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.variables, self.most_norm)
        self.optimizer.step()
        return float(loss.item())

    def seconds(self) -> dict[str, float]:
        """Return nothing: autograd runs all parts at once."""
        return {}
