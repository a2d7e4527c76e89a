"""What an activation is: one function and its metadata, from which everything else is derived."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Definition:
    """One activation.

    Attributes
    ----------
    function : callable
        Takes a vector `x`, and one vector for each parameter, and returns the value and the derivative;
        after these, the derivative by each learnable parameter. Its name, its signature and its
        docstring are the activation's.
    formula, derivative : str
        In TeX.
    errors : tuple of (float, float)
        The stated errors of value and derivative in float32, in units in the last place.
    limits : tuple of (str, str)
        The values at minus and plus infinity.
    reference : str
        Who proposed it, and where.
    parameters_are : dict of str to str
        What each parameter means.
    kinks : dict of str to str
        For each point where the derivative jumps, the derivative chosen there.
    aliases : tuple of str
        Other names that `fastact.get` takes.
    from_output : callable, optional
        Takes the value and the parameters and returns the derivative, where that is a function of
        the value.
    from_output_needs : tuple of str
        The parameters that must not be negative for `from_output` to hold.
    learnable : tuple of str
        The parameters that have gradients.
    """

    function: Callable[..., Any]
    formula: str
    derivative: str
    errors: tuple[float, float]
    limits: tuple[str, str]
    reference: str
    parameters_are: Mapping[str, str] = field(default_factory=dict)
    kinks: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    from_output: Callable[..., Any] | None = None
    from_output_needs: tuple[str, ...] = ()
    learnable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The activation's name."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The default of each parameter, or `REQUIRED`."""
        _, *rest = inspect.signature(self.function).parameters.values()
        return MappingProxyType({parameter.name: parameter.default for parameter in rest})


def define(**metadata: Any) -> Callable[[Callable[..., Any]], Definition]:
    """Make a `Definition` of the function below, with this metadata."""
    return lambda function: Definition(function, **metadata)


@dataclass(frozen=True)
class GroupDefinition(Definition):
    """An activation that takes one number of each group.

    Its function takes the vector of the best so far and a vector of candidates, and returns the mask of
    the candidates that are better.
    """

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The size of a group, which has no default."""
        return MappingProxyType({"pieces": REQUIRED})


def define_on_groups(**metadata: Any) -> Callable[[Callable[..., Any]], GroupDefinition]:
    """Make a `GroupDefinition` of the function below, with this metadata."""
    return lambda function: GroupDefinition(function, **metadata)
