"""Functions that take and return arrays of another library, and what their adapters ask about a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fastact.catalogue.definition import (
    ChannelNormalizationDefinition,
    CompositeDefinition,
    Definition,
    ElementwiseLossDefinition,
    GroupDefinition,
    PackedDefinition,
)
from fastact.functions.fused import RESIDUAL
from fastact.functions.operation import Operation
from fastact.functions.options import LENGTHS


@dataclass(frozen=True, eq=False)
class Request:
    """A call of an operation, with arrays of any library.

    Attributes
    ----------
    function : Function
        The function.
    operation : Operation
        The operation.
    given : mapping of str to Any
        The arguments, without options that are None.
    """

    function: Any
    operation: Operation
    given: Mapping[str, Any]

    @property
    def caller(self) -> str:
        """The name of the operation in error messages."""
        caller: str = self.function.caller(self.operation.name)
        return caller

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.function, self.operation.name, dict(self.given))

    def option(self, name: str) -> Any:
        """Return an option, or its default; None if there is none."""
        argument = self.operation.arguments.get(name)
        return self.given.get(name, argument and argument.default)

    def updated(self, given: Mapping[str, Any]) -> Request:
        """Return the request with other values of some arguments."""
        return replace(self, given={**self.given, **given})

    def differentiable(self) -> list[str]:
        """Return the given arguments that have gradients of their own; that of a residual is `dy`."""
        arguments = self.operation.arguments.values()
        found = [each.name for each in arguments if each.is_differentiable and self.has(each.name)]
        return [name for name in found if name != RESIDUAL.name]

    def compute(self) -> tuple[Any, ...]:
        """Make the call on plain arrays, and return its results."""
        options = dict(self.given)
        arrays = [options.pop(name) for name in self.operation.inputs if name in options]
        name = self.operation.name
        method = self.function if name == "forward" else getattr(self.function, name)
        return as_tuple(method(*arrays, **options))

    def has(self, name: str) -> bool:
        """Whether an argument is given."""
        return self.given.get(name) is not None

    def results(self, count: int) -> list[str | None]:
        """Return the names of this many results; None for the last ones, if no operation declares them."""
        arguments = self.operation.arguments

        def is_there(name: str) -> bool:
            if f"return_{name}" in arguments:
                return bool(self.option(f"return_{name}"))
            of = name.removeprefix("d")
            return of not in arguments or self.has(of)

        found = [name for name in self.operation.outputs if is_there(name)]
        if any(each.is_gradient for each in self.operation.arrays):
            found += [f"d{name}" for name in self.differentiable() if f"d{name}" not in found]
        return [*found, *[None] * count][:count]


def _restored(function: Any, name: str, given: dict[str, Any]) -> Request:
    return Request(function, function.operations[name], given)


class Adapted:
    """A function of fastact for arrays of another library: calls of it and of its operations take and return them.

    Other attributes are those of the function.

    Parameters
    ----------
    function : Function
        The function.
    run : callable
        Takes a `Request`, and the adapter's own options by keyword; returns the results.
    own : tuple of str
        The names of the adapter's own options.
    """

    def __init__(self, function: Any, run: Callable[..., Any], own: tuple[str, ...] = ()) -> None:
        self._function, self._run, self._own = function, run, own
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute the value; see the function itself."""
        return self._call("forward", *args, **options)

    def bind(self, **parameters: Any) -> Adapted:
        """Return the function with other defaults of its parameters."""
        return Adapted(self._function.bind(**parameters), self._run, self._own)

    def _call(self, name: str, /, *args: Any, **options: Any) -> Any:
        own = {each: options.pop(each) for each in self._own if each in options}
        return self._run(requested(self._function, name, args, options), **own)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pickle looks up special names before any attribute is set
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        if name not in self._function.operations:
            return getattr(self._function, name)
        return partial(self._call, name)

    def __dir__(self) -> Iterable[str]:
        return sorted({*super().__dir__(), *self._function.operations})

    def __reduce__(self) -> tuple[Any, ...]:
        return Adapted, (self._function, self._run, self._own)

    def __repr__(self) -> str:
        return f"<{self._function!r} for {self._run.__module__.rpartition('.')[2]}>"


def requested(function: Any, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Request:
    """Return a call as a request, or raise an error unless the arguments match the signature."""
    function = function.choose(options)
    operation, caller = function.operations[name], function.caller(name)
    arguments = operation.arguments
    for each in [name for name, value in options.items() if value is None]:
        if each not in arguments or arguments[each].default is None:
            del options[each]  # None means omitted
    for each in options.keys() - arguments.keys():
        raise TypeError(operation.unknown(caller, each))
    try:
        given = operation.signature.bind(*args, **options).arguments
    except TypeError as error:
        raise TypeError(f"{caller}: {error}") from None
    return Request(function, operation, given)


def arrays_of(request: Request) -> dict[str, Any]:
    """Return the arguments that are arrays, of any library; lengths of rows are not."""
    found = {}
    for name, value in request.given.items():
        if name in request.operation.inputs and isinstance(value, list | tuple):
            value = np.asarray(value)
        is_own = isinstance(value, np.generic | np.ndarray)
        is_array = value.ndim > 0 if is_own else hasattr(value, "ndim")
        if is_array and name != LENGTHS.name:
            found[name] = value
    return found


def main_array(request: Request, arrays: Mapping[str, Any]) -> str:
    """Return the name of the input with the most dimensions, of those that a forward pass takes if possible."""
    names = [*request.operation.saved, *request.operation.inputs]
    names = [name for name in names if name in arrays]
    if not names:
        raise TypeError(f"{request.caller}: none of its inputs is an array")
    return max(names, key=lambda name: arrays[name].ndim)


def is_elementwise(definition: Definition) -> bool:
    """Whether results depend on no other elements than their own."""
    if isinstance(definition, GroupDefinition):
        return False
    is_loss = isinstance(definition, ElementwiseLossDefinition)
    return is_loss or definition.kind in ("activation", "dropout", "elementwise")


def keeps_lengths(definition: Definition) -> bool:
    """Whether results are as long as the input, along the axis of its features too."""
    is_packed = isinstance(definition, PackedDefinition | GroupDefinition)
    return not (is_packed or definition.kind == "cell")


def whole_axes(request: Request, dimensions: int) -> tuple[int, ...]:
    """Return the axes of the largest array along which a call needs all elements at once, without negative numbers."""
    definition, axis = request.function._definition, request.option("axis")
    if is_elementwise(definition):
        return ()
    axes: Any
    if isinstance(definition, CompositeDefinition):
        axis = -1
    axes = (
        range(dimensions) if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
    )
    for each in axes:
        if not -dimensions <= each < dimensions:
            raise ValueError(
                f"{request.caller}: axis {each} is out of bounds for {dimensions} dimensions"
            )
    whole = {each % dimensions for each in axes}
    if isinstance(definition, ChannelNormalizationDefinition):
        whole = set(range(dimensions)) - whole
    if request.option("causal"):
        whole.add(dimensions - 2)
    return tuple(sorted(whole))


def as_tuple(results: Any) -> tuple[Any, ...]:
    """Return one result or several as a tuple."""
    return results if isinstance(results, tuple) else (results,)


def unpacked(results: Iterable[Any]) -> Any:
    """Return results as functions do: one by itself, several as a tuple."""
    found = tuple(results)
    return found[0] if len(found) == 1 else found
