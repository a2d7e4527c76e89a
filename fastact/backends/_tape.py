"""Calls as tapes record them: functions of their differentiable inputs alone, with gradients to the second order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastact.functions.fused import RESIDUAL


class TapedCall:
    """A call of a function, as a function of those of its arguments that have gradients.

    Parameters
    ----------
    function : Function
        The function.
    args : tuple
        The positional arguments of the call.
    options : mapping of str to Any
        The keyword arguments.

    Attributes
    ----------
    function : Function
        The function.
    inputs : dict of str to Any
        The differentiable inputs that are given, in the order of the signature.
    others : dict of str to Any
        The other arguments.

    Raises
    ------
    TypeError
        If the arguments do not match the signature.
    """

    __slots__ = ("function", "inputs", "others")

    def __init__(self, function: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self.function = function
        operation = function.operations["forward"]
        try:
            bound = operation.signature.bind_partial(*args, **options)
        except TypeError as error:
            raise TypeError(f"{function.name}: {error}") from None
        given = {name: value for name, value in bound.arguments.items() if value is not None}
        arguments = operation.arguments
        self.inputs = {n: value for n, value in given.items() if arguments[n].is_differentiable}
        self.others = {n: value for n, value in given.items() if n not in self.inputs}

    def __call__(self, *inputs: Any) -> Any:
        """Compute the results from arrays in the order of `inputs`."""
        arrays, options = self._arguments(inputs)
        return self.function(*arrays, **options)

    def vjp(self, *inputs: Any) -> tuple[tuple[Any, ...], Callable[..., tuple[Any, ...]]]:
        """Compute the results and a function that computes the gradients.

        Parameters
        ----------
        *inputs : ndarray
            Arrays in the order of `inputs`.

        Returns
        -------
        results : tuple
            The results.
        gradients : callable
            Takes the gradient with respect to each result, None if it is 0, and returns those with respect to each
            input. Results that have no gradient, such as running averages, are ignored.
        """
        arrays, options = self._arguments(inputs)
        *results, vjp = self.function.vjp(*arrays, **options)
        has_residual = RESIDUAL.name in self.inputs

        def gradients(*given: Any) -> tuple[Any, ...]:
            pairs = zip(given, results[: len(vjp.gradients)], strict=False)
            each = [np.zeros_like(result) if dy is None else dy for dy, result in pairs]
            found = vjp(*each)
            found = found if isinstance(found, tuple) else (found,)
            if not has_residual:
                return found
            by_name = dict(zip([n for n in self.inputs if n != RESIDUAL.name], found, strict=True))
            return tuple(by_name.get(name, each[0]) for name in self.inputs)

        return tuple(results), gradients

    def _arguments(self, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arrays and the options of a call."""
        given = {**dict(zip(self.inputs, inputs, strict=True)), **self.others}
        names = [n for n in self.function.operations["forward"].inputs if n in given]
        return tuple(given.pop(name) for name in names), given
