"""What the ufuncs of activations do to units: what quantities they take, and the units of their results."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastact.catalogue.definition import GroupDefinition
from fastact.functions.registry import functions


class Rule(NamedTuple):
    """The units of a ufunc.

    Attributes
    ----------
    inputs : tuple of str
        The names of its inputs: ``"dy"`` is a gradient, of any unit; parameters are numbers.
    outputs : tuple of str
        The names of its outputs: ``"y"``, ``"d"`` or ``"dx"``.
    is_homogeneous : bool
        Whether the value has the unit of the input; otherwise both are numbers.
    order : int
        That of the derivative ``"d"``.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_homogeneous: bool
    order: int

    def takes_unit(self, name: str) -> bool:
        """Whether an input may have a unit."""
        return name == "dy" or (self.is_homogeneous and name in ("x", "y"))

    def results(self, units: dict[str, Any], one: Any) -> tuple[Any, ...]:
        """Return the units of the outputs, given those of the inputs and that of a number."""
        of_x = next((units[name] for name in ("x", "y") if name in units), one)
        if not self.is_homogeneous:
            of_x = one
        # The slope of a homogeneous function is a number, as is that of a function of numbers.
        of_d = one if self.order == 1 else of_x**-1
        return tuple({"y": of_x, "d": of_d, "dx": units.get("dy", one)}[k] for k in self.outputs)


def ufunc_names() -> tuple[str, ...]:
    """Return the names of the ufuncs of all activations in the registry."""
    found = filter(_is_pointwise, functions())
    return tuple(each.ufunc_name(operation) for each in found for operation in each.ufuncs)


@cache
def rules() -> dict[np.ufunc, Rule]:
    """Return the ufuncs of all activations in the registry, which are created for that, with their rules."""
    found = filter(_is_pointwise, functions())
    return {ufunc: rule for each in found for ufunc, rule in rules_of(each).items()}


def rules_of(function: Any) -> dict[np.ufunc, Rule]:
    """Return the ufuncs of an activation with their rules.

    Raises
    ------
    TypeError
        If the function is not an activation of elements.
    """
    if not _is_pointwise(function):
        raise TypeError(f"{function.name}: units are for activations of elements only")
    return {function.ufuncs[name]: _rule(function, name) for name in function.ufuncs}


def _is_pointwise(function: Any) -> bool:
    definition = function._definition
    return definition.kind == "activation" and not isinstance(definition, GroupDefinition)


def _rule(function: Any, operation: str) -> Rule:
    kernel = function._family.kernel(operation)
    return Rule(
        tuple(each.name for each in kernel.inputs),
        tuple(each.name for each in kernel.outputs),
        function._definition.is_homogeneous,
        2 if operation == "second_derivative" else 1,
    )
