"""Elementwise functions of several arrays with several results, and their gradients by each array."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar

from fastact.arrays.arguments import as_real_array
from fastact.arrays.broadcast import BroadcastCall
from fastact.catalogue.definition import Definition
from fastact.functions.function import Function
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, Argument, array, gradient
from fastact.functions.pointwise import (
    RAISES,
    UFUNC_OPTIONS,
    ElementwiseCall,
    constants_of,
    parameter_arguments,
)
from fastact.kernels.kernel import Elementwise, Kernel, Operand, parameters
from fastact.simd import dual, isnan, select, values_of, weighted_derivative_of


@dataclass(frozen=True, eq=False, repr=False)
class ElementwiseDefinition(Definition):
    """A function that takes one vector for each array and each parameter, and returns one or several.

    Attributes
    ----------
    arrays : tuple of str
        Its arguments that have gradients; the others are parameters.
    nout : int
        The number of its results.
    """

    arrays: tuple[str, ...] = ()
    nout: int = 1
    kind: ClassVar[str] = "elementwise"
    family: ClassVar[str] = "elementwise"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The default of each parameter."""
        found = inspect.signature(self.function).parameters
        rest = {name: each.default for name, each in found.items() if name not in self.arrays}
        return MappingProxyType(rest)

    @cached_property
    def results(self) -> tuple[str, ...]:
        """The names of the results."""
        return ("y",) if self.nout == 1 else tuple(f"y{k}" for k in range(self.nout))

    @cached_property
    def gradients(self) -> tuple[str, ...]:
        """The names of the gradients with respect to the results, none of which is an array's."""
        prefix = "d"
        while any(prefix + each in self.arrays for each in self.results):
            prefix += "d"
        return tuple(prefix + each for each in self.results)


_SUMMARIES = {
    "forward": "the value",
    "backward": "the gradient with respect to each array",
    "forward_backward": "the value and the gradient with respect to each array in one pass",
}


def family(definition: ElementwiseDefinition) -> Family:
    """Return the family of a definition."""
    return Family(
        {name: _operation(definition, name) for name in _SUMMARIES},
        tuple(_SUMMARIES),
        partial(_kernel, definition),
        constants=constants_of,
    )


def _operation(definition: ElementwiseDefinition, name: str) -> Operation:
    arrays = [array(each, "An array; all of them broadcast.") for each in definition.arrays]
    gradients = [
        gradient(each, f"The gradient with respect to `{result}`.")
        for each, result in zip(definition.gradients, definition.results, strict=True)
    ]
    values = dict.fromkeys(
        definition.results, "A result, of the shape to which the arrays broadcast."
    )
    by_array = {
        f"d{each}": f"The gradient with respect to `{each}`, summed to its shape."
        for each in definition.arrays
    }
    taken, returns = {
        "forward": (arrays, values),
        "backward": ([*gradients, *arrays], by_array),
        "forward_backward": ([*arrays, *gradients], values | by_array),
    }[name]
    options: tuple[Argument, ...] = UFUNC_OPTIONS if name == "forward" else (OUT,)
    # A parameter may share its name with an option, and then takes precedence.
    options = tuple(each for each in options if each.name not in definition.parameters)
    options = (*parameter_arguments(definition), *options)
    run = _run_forward if name == "forward" else _run_gradients
    return Operation(name, _SUMMARIES[name], tuple(taken), options, returns, run, RAISES)


def _run_forward(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> ElementwiseCall:
    """Return the call of the ufunc."""
    return ElementwiseCall(function, operation.name, arrays, options)


def _run_gradients(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> BroadcastCall:
    """Return the call of the ufunc, with gradients of the arrays' own shapes."""
    caller, definition = function.caller(operation.name), function._definition
    assert isinstance(definition, ElementwiseDefinition)
    given = dict(zip(operation.inputs, arrays, strict=True))
    values = {name: options.get(name, default) for name, default in function.parameters.items()}
    for name, value in values.items():
        as_real_array(caller, name, value)
    inputs = {
        each: as_real_array(caller, each, given[each])
        for each in (*definition.gradients, *definition.arrays)
    }
    results = function._family.kernel(operation.name).outputs
    of = [each.name[1:] if each.name not in definition.results else None for each in results]
    ufunc, out = function.kernels[operation.name], options.get("out")
    return BroadcastCall(caller, ufunc, inputs, of, range(len(of)), out, values)


# Kernels -----------------------------------------------------------------------------------------


def _kernel(definition: ElementwiseDefinition, name: str) -> Kernel:
    """Return the kernel of an operation, whose inputs are gradients, arrays and parameters."""
    gradients = () if name == "forward" else definition.gradients
    inputs = (*map(Operand, (*gradients, *definition.arrays)), *parameters(definition.parameters))
    results = () if name == "backward" else definition.results
    by_array = () if name == "forward" else (f"d{each}" for each in definition.arrays)
    schedule = Elementwise(partial(_compute, definition, name))
    return Kernel(inputs, tuple(map(Operand, (*results, *by_array))), schedule)


def _compute(definition: ElementwiseDefinition, name: str) -> Callable[..., Any]:
    """Return the function on vectors behind an operation."""
    function, nout = definition.on_vectors, definition.nout
    if name == "forward":
        return _values(function, nout)
    gradients = _gradients(function, len(definition.arrays))
    if name == "backward":
        return lambda *given: gradients(given[:nout], given[nout:])
    values = _values(function, nout)
    return lambda *given: values(*given[nout:]) + gradients(given[:nout], given[nout:])


def _values(f: Any, nout: int) -> Callable[..., Any]:
    return lambda *inputs: values_of(f(*inputs), inputs[0], nout)


def _gradients(f: Any, count: int) -> Callable[..., Any]:
    """Return a function of output gradients and inputs that returns the gradient by each of the first `count` inputs."""
    first, *others = (_gradient(f, k) for k in range(count))

    def gradients(weights: Any, inputs: Any) -> Any:
        return (first(weights, inputs),)

    for each in others:
        gradients = _followed_by(gradients, each)
    return gradients


def _followed_by(gradients: Any, last: Any) -> Callable[..., Any]:
    return lambda weights, inputs: gradients(weights, inputs) + (last(weights, inputs),)


def _gradient(f: Any, k: int) -> Callable[..., Any]:
    """Return a function of output gradients and inputs that returns the gradient by the k-th input.

    The compiler merges what the calls of `f` for all inputs have in common.
    """
    after = k + 1

    def gradient(weights: Any, inputs: Any) -> Any:
        x = inputs[k]
        seed = (dual(x, select(isnan(x), x, 1)),)
        return weighted_derivative_of(f(*(inputs[:k] + seed + inputs[after:])), weights)

    return gradient
