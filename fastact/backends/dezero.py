"""Functions of DeZero: every function takes its variables, and DeZero's `backward` computes the gradients.

``fastact.backends.dezero.gelu(x, bias=b)`` takes what ``fastact.gelu`` takes, variables among it, and returns a variable.
Inputs, learnable parameters and biases have gradients. With ``create_graph=True`` these are differentiable themselves, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastact.backends._exports import exports
from fastact.backends._graph import gradients_of, name_after
from fastact.backends._requirements import require
from fastact.backends._tape import TapedCall

require(__name__)

try:
    from dezero import Config, Function, Variable, as_variable
except AttributeError as error:
    raise ImportError(
        f"{__name__}: DeZero fails to import ({str(error).splitlines()[0]}); releases 0.0.12 and 0.0.13 need numpy.int, "
        "which NumPy 1.24 removed: set it to int first, or install dezero==0.0.11"
    ) from error


class Call(Function):
    """A call of a function, or the gradients of one, as a node of DeZero's graph.

    Parameters
    ----------
    call : TapedCall or TapedGradient
        The call.
    count : int, optional
        The number of results that are nodes; the others go to `others`. All by default.
    """

    def __init__(self, call: Any, count: int | None = None) -> None:
        super().__init__()
        self.call, self.count = call, count
        self.others: tuple[Any, ...] = ()

    def forward(self, *arrays: Any) -> tuple[Any, ...]:
        """Return the values."""
        if Config.enable_backprop:
            results, self.pullback = self.call.vjp(*arrays)
        else:
            found = self.call(*arrays)
            results = found if isinstance(found, tuple) else (found,)
        nodes = results[: self.count]
        self.others = results[len(nodes) :]
        return tuple(map(np.asarray, nodes))

    def backward(self, *gradients: Any) -> tuple[Any, ...]:
        """Return the gradients with respect to the inputs, as variables that are differentiable if they have to be."""
        if Config.enable_backprop:
            pairs = zip(gradients, self.outputs, strict=True)
            each = [self._zero(output) if dy is None else dy for dy, output in pairs]
            found = Call(self.call.gradient)(*each, *self.inputs)
            return tuple(found) if isinstance(found, list) else (found,)
        found = self.pullback(*[None if dy is None else dy.data for dy in gradients])
        pairs = zip(found, self.inputs, strict=True)
        return tuple(
            Variable(np.zeros_like(x.data) if each is None else np.asarray(each))
            for each, x in pairs
        )

    @staticmethod
    def _zero(output: Any) -> Any:
        return Variable(np.zeros_like(output().data))


def wrap(function: Any) -> Callable[..., Any]:
    """Return a function of variables."""

    def operation(*args: Any, **options: Any) -> Any:
        call = TapedCall(function, args, options)
        call.others = {name: _without_graph(each) for name, each in call.others.items()}
        node = Call(call, gradients_of(function))
        result = node(*map(_as_variable, call.inputs.values()))
        results = result if isinstance(result, list) else [result]
        return (*results, *node.others) if len(results) + len(node.others) > 1 else result

    name_after(function, operation, "variables of DeZero")
    return operation


def _as_variable(value: Any) -> Any:
    return value if isinstance(value, Variable) else as_variable(np.asarray(value))


def _without_graph(value: Any) -> Any:
    return value.data if isinstance(value, Variable) else value


__getattr__, __dir__ = exports(__name__, wrap)
