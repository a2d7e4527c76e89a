"""The class of layers: a function, the options and parameters that a layer holds, and its last gradient."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastact.functions.fused import RESIDUAL
from fastact.functions.options import OUT, RNG
from fastact.functions.pointwise import UFUNC_OPTIONS
from fastact.functions.registry import get


class Layer:
    """A function as a layer.

    Parameters
    ----------
    function : str or Function
        A name, or a function such as ``fa.get("elu", alpha=0.5)`` or one of your own.
    *args, **options
        Its parameters and options. Those that have a gradient, such as a bias, become attributes, and their gradients
        attributes with a `d` in front: ``layer.bias``, ``layer.dbias``. So do results beside the first, such as
        ``layer.running_mean``.

    Attributes
    ----------
    vjp : Vjp
        The gradient of the last `forward`, with what it keeps.

    Examples
    --------
    >>> import numpy as np
    >>> from fastact.backends.layers import Layer
    >>> layer = Layer("leaky_relu", negative_slope=0.1)
    >>> layer.forward(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    >>> layer.backward(np.array([1.0, 1.0]))
    array([0.1, 1. ])
    """

    def __init__(self, function: Any, *args: Any, **options: Any) -> None:
        self.function = get(function) if isinstance(function, str) else function
        self.vjp: Any = None
        operation = self.function.operations["vjp"]
        try:
            given = signature_of(operation).bind(*args, **options).arguments
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        arguments, self._positional = operation.arguments, operation.inputs
        self._differentiable = [n for n in arguments if arguments[n].is_differentiable]
        self._learned = [n for n in arguments if _is_learned(operation, n)]
        self._arrays = [n for n in operation.inputs if n not in self._learned]
        self._others = operation.outputs[1:-1]
        self._held = [*self._learned, *(n for n in self._others if n in arguments)]
        for name in self._learned:
            setattr(self, f"d{name}", None)
        for name in self._held:
            setattr(self, name, given.pop(name, None))
        self.options = {name: value for name, value in given.items() if value is not None}
        self._draws = _draws(self.function, self.options)

    def forward(self, *inputs: Any, train_flg: bool = True) -> Any:
        """Return the value.

        Parameters
        ----------
        *inputs : ndarray
            The input; two for a loss, or for a gated unit whose halves are separate arrays.
        train_flg : bool, default True
            Whether dropout drops, random slopes are drawn and a batch is normalized by its own statistics. It may be
            passed by position after the inputs.
        """
        if len(inputs) > len(self._arrays):
            *inputs, train_flg = inputs  # type: ignore[assignment]
        given = dict(zip(self._arrays, inputs, strict=False))
        given.update(self.options if train_flg else self._inference_options())
        for name in self._held:
            if (value := getattr(self, name)) is not None:
                given[name] = value
        if self._draws and train_flg:
            # As in the book, numpy.random.seed determines what is drawn.
            given.setdefault(RNG.name, np.random.mtrand._rand)
        self._inputs = [name for name in self._differentiable if name in given]
        arrays = [given.pop(name) for name in self._positional if name in given]
        result, *others, self.vjp = self.function.vjp(*arrays, **given)
        for name, value in zip(self._others, others, strict=False):
            setattr(self, name, value)
        return result

    def backward(self, dout: Any = 1) -> Any:
        """Return the gradient with respect to the input, a tuple if there are several.

        Parameters
        ----------
        dout : ndarray or float, default 1
            The gradient with respect to the value.
        """
        found = self.vjp(dout)
        if len(self._inputs) == 1:
            return found
        gradients = dict(zip(self._inputs, found, strict=True))
        for name in self._learned:
            setattr(self, f"d{name}", gradients.pop(name, None))
        rest = tuple(gradients.values())
        return rest if len(rest) > 1 else rest[0]

    def _inference_options(self) -> dict[str, Any]:
        """Return the options without what happens in training only."""
        known, options = self.function.operations["vjp"].option_names, dict(self.options)
        if self.function.kind == "dropout":
            options["p"] = 0.0
        if "training" in known:
            options["training"] = False
        if "dropout" in known:
            for name in ("dropout", RNG.name):
                options.pop(name, None)
        return options

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"<layer {self.function.name!r}{given}>"


def _is_learned(operation: Any, name: str) -> bool:
    """Whether an argument is one that a layer holds, and has a gradient."""
    argument, first = operation.arguments[name], operation.inputs[0]
    is_optional_array = name in operation.inputs and argument.default is None
    is_input = name in (first, RESIDUAL.name) or is_optional_array
    return argument.is_differentiable and not is_input


def _draws(function: Any, options: Mapping[str, Any]) -> bool:
    """Whether a call in training draws random numbers."""
    known = function.operations["vjp"].option_names
    if RNG.name not in known:
        return False
    return (
        "dropout" not in known or "dropout" in options or bool(function._definition.drawn_between)
    )


def signature_of(operation: Any) -> inspect.Signature:
    """Return the signature of a layer: what it holds of the arguments of an operation."""
    kinds = inspect.Parameter
    left_out = {*operation.inputs, RESIDUAL.name, OUT.name}
    left_out |= {name for name, each in operation.arguments.items() if each in UFUNC_OPTIONS}
    held = [
        each.replace(kind=kinds.POSITIONAL_OR_KEYWORD)
        if each.kind is kinds.POSITIONAL_ONLY
        else each
        for name, each in operation.signature.parameters.items()
        if name not in left_out or _is_learned(operation, name)
    ]
    return inspect.Signature(held)
