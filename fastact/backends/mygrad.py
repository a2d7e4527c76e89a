"""Operations of MyGrad: every function takes its tensors, and MyGrad's `backward` computes the gradients.

``fastact.backends.mygrad.gelu(x, bias=b)`` takes what ``fastact.gelu`` takes, tensors among it, and returns a tensor. Inputs,
learnable parameters and biases have gradients. MyGrad has no gradients of gradients.
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

from mygrad import Tensor, execute_op
from mygrad._utils import graph_tracking
from mygrad.operation_base import Operation


class Call(Operation):
    """A call of a function, as a node of MyGrad's graph."""

    _found: tuple[Any, ...] | None = None

    def __call__(self, *tensors: Any, call: TapedCall, others: list[Any]) -> Any:
        """Return the value; several with gradients, such as a cell's states, are one array with an axis more.

        Parameters
        ----------
        *tensors : Tensor
            The differentiable inputs.
        call : TapedCall
            The call.
        others : list
            Where results without a gradient go, such as running averages.
        """
        self.variables = tensors
        arrays = [each.data for each in tensors]
        if graph_tracking.TRACK_GRAPH and not all(each.constant for each in tensors):
            results, self._gradients = call.vjp(*arrays)
        else:
            found = call(*arrays)
            results = found if isinstance(found, tuple) else (found,)
        self._count = gradients_of(call.function)
        others.extend(results[self._count :])
        return results[0] if self._count == 1 else np.stack(results[: self._count])

    def backward(self, grad: Any, **kwargs: Any) -> None:
        """Compute the gradients of all inputs at once, and pass them on."""
        self._found = self._all(grad)
        try:
            super().backward(grad, **kwargs)
        finally:
            self._found = None

    def backward_var(self, grad: Any, index: int, **kwargs: Any) -> Any:
        """Return the gradient with respect to an input."""
        found = self._found or self._all(grad)
        return np.asarray(found[index])

    def _all(self, grad: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._gradients(*([grad] if self._count == 1 else grad))
        return found


def wrap(function: Any) -> Callable[..., Any]:
    """Return a function of tensors."""

    def operation(*args: Any, constant: bool | None = None, **options: Any) -> Any:
        call = TapedCall(function, args, options)
        call.others = {name: _without_graph(each) for name, each in call.others.items()}
        others: list[Any] = []
        kwargs = {"call": call, "others": others}
        result = execute_op(Call, *call.inputs.values(), op_kwargs=kwargs, constant=constant)
        count = gradients_of(function)
        results = [result] if count == 1 else [result[k] for k in range(count)]
        return (*results, *others) if len(results) + len(others) > 1 else result

    name_after(function, operation, "tensors of MyGrad", constant=None)
    return operation


def _without_graph(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


__getattr__, __dir__ = exports(__name__, wrap)
