"""Calls as tapes record them: functions of their differentiable inputs alone, with gradients to the second order.

`TapedCall.vjp` returns the results and what computes the gradients later. `TapedCall.gradient` is the same for these
gradients, with the same methods: an adapter that records a call records its gradient with the same code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from typing import Any, cast

from fastact.arrays.random_numbers import new_key
from fastact.backends._pullback import Pullback
from fastact.backends._second_order import SecondPullback
from fastact.backends._second_order_of_rows import backward
from fastact.functions.options import OUT, RNG


@cache
def _names(kind: Hashable, count: int, options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of arguments in the order of a function's signature: so many by position, others by name."""
    signature = inspect.signature(kind)  # type: ignore[arg-type]
    return tuple(signature.bind_partial(*range(count), **dict.fromkeys(options)).arguments)


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
    wanted : callable, optional
        Takes an argument and tells whether its gradient is wanted; without it, all gradients are.

    Attributes
    ----------
    function : Function
        The function.
    inputs : dict of str to Any
        The differentiable inputs that are given and wanted, in the order of the signature.
    others : dict of str to Any
        The other arguments. Random numbers are those of one key: repeated, the call draws the same.

    Raises
    ------
    TypeError
        If the arguments do not match the signature, or a gradient is wanted that does not exist.
    """

    __slots__ = ("function", "inputs", "others")

    def __init__(
        self,
        function: Any,
        args: tuple[Any, ...],
        options: Mapping[str, Any],
        wanted: Callable[[Any], bool] | None = None,
    ) -> None:
        self.function, kind = function, cast(Hashable, type(function))
        try:
            names = _names(kind, len(args), tuple(options))
        except TypeError as error:
            raise TypeError(f"{function.name}: {error}") from None
        arguments = function.operations["forward"].arguments
        self.inputs: dict[str, Any] = {}
        self.others: dict[str, Any] = {}
        given = dict(zip(names, args, strict=False))
        for name in names:
            value = given[name] if name in given else options[name]
            if value is None and arguments[name].default is None:
                continue
            is_wanted = wanted is None or wanted(value)
            if arguments[name].is_differentiable and is_wanted:
                self.inputs[name] = value
            elif wanted is not None and is_wanted:
                raise TypeError(f"{function.name}: there is no gradient with respect to {name!r}")
            else:
                self.others[name] = value
        if OUT.name in self.others:
            raise TypeError(f"{function.name}: a call on a tape takes no {OUT.name!r}")
        is_random = RNG.name in self.others or "dropout" in self.others
        if RNG.name in arguments and (is_random or "dropout" not in arguments):
            self.others[RNG.name] = new_key(function.name, self.others.get(RNG.name))

    def __call__(self, *inputs: Any) -> Any:
        """Compute the results from arrays in the order of `inputs`."""
        arrays, options = self._arguments(inputs)
        results = self.function(*arrays, **options)
        draws_slopes = self.function._definition.drawn_between and RNG.name in options
        return results[0] if draws_slopes else results

    def vjp(self, *inputs: Any) -> tuple[tuple[Any, ...], Pullback]:
        """Compute the results from arrays in the order of `inputs`, and what computes the gradients later."""
        arrays, options = self._arguments(inputs)
        *results, vjp = self.function.vjp(*arrays, **options)
        return tuple(results), Pullback(self, vjp, inputs, results)

    @property
    def name(self) -> str:
        """The function's name."""
        name: str = self.function.name
        return name

    @property
    def gradient(self) -> TapedGradient:
        """The gradients, as a function of those with respect to the results and of `inputs`."""
        return TapedGradient(self)

    @property
    def gradient_of_output(self) -> TapedGradient | None:
        """The gradient, as a function of that with respect to the result and of the result, if it can be had so."""
        definition = self.function._definition
        is_known = getattr(definition, "second_order", None) and not definition.is_reduced
        return TapedGradient(self, True) if is_known and not self.others.get("hard") else None

    @property
    def is_reduced(self) -> bool:
        """Whether the result is one number for each row along an axis."""
        is_reduced: bool = getattr(self.function._definition, "is_reduced", False)
        return is_reduced and "lengths" not in self.others

    @property
    def has_second_order(self) -> bool:
        """Whether `gradient` can be differentiated."""
        if "derivative" in self.function.operations:
            return self.inputs.keys().isdisjoint(self.function.learnable)
        return getattr(self.function._definition, "second_order", None) is not None

    @property
    def is_diagonal(self) -> bool:
        """Whether each result depends on one element of each input, so that a `Pullback` is forward mode as well."""
        return [*self.inputs] == ["x"] and "derivative" in self.function.operations

    @property
    def differentiable(self) -> list[str]:
        """The names of all arguments that have gradients, wanted or not, in the order of the signature."""
        arguments = self.function.operations["forward"].arguments
        given = {*self.inputs, *self.others}
        return [n for n, each in arguments.items() if n in given and each.is_differentiable]

    def arguments(self, inputs: Iterable[Any]) -> dict[str, Any]:
        """Return all arguments by name, with these as inputs."""
        return {**dict(zip(self.inputs, inputs, strict=True)), **self.others}

    def _arguments(self, inputs: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arrays and the options of a call."""
        given = self.arguments(inputs)
        names = [n for n in self.function.operations["forward"].inputs if n in given]
        return tuple(given.pop(name) for name in names), given


class TapedGradient:
    """The gradients of a taped call, as a function of those with respect to its results and of its inputs.

    Attributes
    ----------
    call : TapedCall
        The call.
    is_of_output : bool
        Whether it is a function of the result instead of the inputs.
    """

    __slots__ = ("call", "is_of_output")
    has_second_order = False  # third derivatives have no kernels

    def __init__(self, call: TapedCall, is_of_output: bool = False) -> None:
        self.call, self.is_of_output = call, is_of_output

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Compute the gradients from those with respect to the results, followed by the inputs."""
        return self.vjp(*inputs)[0]

    def vjp(self, *inputs: Any) -> tuple[tuple[Any, ...], SecondPullback]:
        """Compute the gradients, and a function that computes what is propagated through them."""
        if self.is_of_output:
            return (backward(self.call, *inputs),), SecondPullback(self, inputs)
        count = len(inputs) - len(self.call.inputs)
        _, pullback = self.call.vjp(*inputs[count:])
        return pullback(*inputs[:count]), SecondPullback(self, inputs)

    @property
    def name(self) -> str:
        """As in `TapedCall`, and so is `is_diagonal`."""
        return self.call.name

    @property
    def gradient(self) -> Any:
        """Raise an error: there are no kernels of third derivatives."""
        raise NotImplementedError(f"{self.call.name}: there is no third derivative")

    @property
    def is_diagonal(self) -> bool:
        return self.call.is_diagonal
