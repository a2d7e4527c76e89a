"""Who competes, and for what: the calls that all benchmarks make, derived from the registry."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact import baseline

#: The activations that there is something to compare with for.
ACTIVATIONS = baseline.names()
OPERATIONS = ("forward", "backward", "forward_backward")
#: These two are always there.
IMPLEMENTATIONS = ("fastact", "numpy")
#: What stands for each parameter that has no default.
REQUIRED_PARAMETERS = {"weight": 0.25, "pieces": 2}

Call = Callable[..., Any]


def required_parameters(name: str) -> dict[str, Any]:
    """Return what a call of the activation `name` cannot do without."""
    return {
        parameter: REQUIRED_PARAMETERS[parameter]
        for parameter, default in fa.get(name).parameters.items()
        if default is inspect.Parameter.empty
    }


def installed_implementations() -> tuple[str, ...]:
    """Return all implementations that can be measured here."""
    return IMPLEMENTATIONS + ("torch",) * (find_spec("torch") is not None)


class Case:
    """One activation and the arrays that everybody computes it on.

    Parameters
    ----------
    name : str
        The activation's name.
    elements : int
        The length of the input, rounded up to whole groups where there are groups.
    dtype : str
        The type of all arrays.

    Attributes
    ----------
    x, dy : ndarray
        The input, normal deviates times 4, and the gradient by the output. No two runs differ.
    parameters : dict
        The parameters that have no default.
    """

    def __init__(self, name: str, elements: int, dtype: str = "float32") -> None:
        self.name = name
        self.parameters = required_parameters(name)
        pieces = self.parameters.get("pieces", 1)
        groups = -(-elements // pieces)
        random = np.random.default_rng(20)
        self.x, self.dy = (
            random.standard_normal(length, dtype=dtype)  # type: ignore[call-overload]
            for length in (groups * pieces, groups)
        )
        self.x *= 4

    def call(self, implementation: str, operation: str, given_outputs: bool = False) -> Call:
        """Return a call without arguments, warmed up: its kernel is compiled.

        Parameters
        ----------
        implementation : str
            One of `installed_implementations`.
        operation : str
            One of `OPERATIONS`.
        given_outputs : bool
            Whether results go to arrays that exist already, each time the same. PyTorch's gradients
            have no such thing: its call does not change.

        Raises
        ------
        NotImplementedError
            If the implementation lacks the activation. To asv, this says: skip it.
        """
        if implementation == "torch":
            call = self._torch_call(operation)
        elif implementation == "numpy":
            call = self._array_call(baseline.get(self.name), operation)
        else:
            call = self._array_call(fa.get(self.name), operation)
        results = call()
        if given_outputs and implementation != "torch":
            return partial(call, out=_as_outputs(results))
        return call

    def _array_call(self, activation: Any, operation: str) -> partial[Any]:
        """Return the call of an object whose methods are those of fastact's activations."""
        arrays: tuple[NDArray[Any], ...]
        if operation == "forward":
            function, arrays = getattr(activation, "forward", activation), (self.x,)
        elif operation == "forward_backward":
            function, arrays = activation.forward_backward, (self.x, self.dy)
        elif hasattr(activation, "forward_with_index"):  # its gradient needs to know the choice
            _, which = activation.forward_with_index(self.x, **self.parameters)
            function, arrays = activation.backward, (self.dy, which)
        else:
            function, arrays = activation.backward, (self.dy, self.x)
        return partial(function, *arrays, **self.parameters)

    def _torch_call(self, operation: str) -> Call:
        """Return what a user of PyTorch writes, with its automatic differentiation."""
        torch: Any = importlib.import_module("torch")
        function = _torch_function(torch, self.name)
        if function is None:
            raise NotImplementedError(f"PyTorch has no {self.name}")
        x, dy = torch.from_numpy(self.x).requires_grad_(), torch.from_numpy(self.dy)
        parameters = {
            name: value if isinstance(value, int) else x.new_tensor([value], requires_grad=True)
            for name, value in self.parameters.items()
        }
        learnable = [value for value in parameters.values() if not isinstance(value, int)]
        forward = partial(function, x, **parameters)

        def forward_alone() -> Any:
            with torch.no_grad():
                return forward()

        def forward_backward() -> Any:
            y = forward()
            return y.detach(), *torch.autograd.grad(y, (x, *learnable), dy)

        if operation == "forward":
            return forward_alone
        if operation == "forward_backward":
            return forward_backward
        backward = partial(torch.autograd.grad, forward(), (x, *learnable), dy, retain_graph=True)
        return backward if learnable else lambda: backward()[0]


def _as_outputs(results: Any) -> Any:
    """Return results as the ``out`` of another call; a number cannot be one."""
    if isinstance(results, tuple):
        return tuple(result if isinstance(result, np.ndarray) else None for result in results)
    return results


def _torch_function(torch: Any, name: str) -> Callable[..., Any] | None:
    """Return PyTorch's function of this name, or None."""
    if name == "maxout":  # not there, but easily written
        return lambda x, pieces: x.unflatten(-1, (-1, pieces)).max(-1).values
    for module in (torch, torch.nn.functional):
        if hasattr(module, name):
            return getattr(module, name)  # type: ignore[no-any-return]
    return None
