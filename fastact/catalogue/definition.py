"""What an activation is: one function and its metadata, from which everything else is derived."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

REQUIRED = inspect.Parameter.empty

# Whose choices an activation can follow where libraries differ; the first is the default.
CONVENTIONS = ("pytorch", "jax", "tensorflow", "thinc", "chainer")


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
    drawn_between : tuple of str
        Two parameters between which a random number is drawn for each element while a net is trained.
    elsewhere : dict of str to str
        What other libraries call it, by library: ``{"pytorch": "hardtanh", "onnx": "Clip"}``.
    roots : tuple of float
        Where the derivative changes its sign and its error is stated in absolute terms.
    choices : dict of str to (dict of str to Definition)
        Keywords that choose another definition, by value: ``{"approximate": {"tanh": gelu_tanh}}``.
        `convention` adds to it.
    """

    function: Callable[..., Any]
    formula: str = ""
    derivative: str = ""
    errors: tuple[float, float] | None = None
    limits: tuple[str, str] | None = None
    reference: str = ""
    parameters_are: Mapping[str, str] = field(default_factory=dict)
    kinks: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    from_output: Callable[..., Any] | None = None
    from_output_needs: tuple[str, ...] = ()
    learnable: tuple[str, ...] = ()
    drawn_between: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    roots: tuple[float, ...] = ()
    choices: dict[str, dict[str, Definition]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The activation's name."""
        return self.function.__name__.lstrip("_")

    @property
    def summary(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The default of each parameter, or `REQUIRED`."""
        _, *rest = inspect.signature(self.function).parameters.values()
        return MappingProxyType({parameter.name: parameter.default for parameter in rest})

    @property
    def on_vectors(self) -> Callable[..., Any]:
        """What kernels call."""
        return self.function

    @property
    def module(self) -> str:
        """The module where pickle finds the ufuncs."""
        return "fastact.ufuncs"

    def ufunc_name(self, operation: str) -> str:
        """Return the name of a ufunc in `module`: the activation's own for its value."""
        return self.name if operation == "forward" else f"{self.name}_{operation}"

    def kernel_name(self, loop: str) -> str | None:
        """Return what the cache calls a kernel, or None where it must not keep it."""
        return f"{self.name}.{loop}"

    def explain(self, error: BaseException) -> str:
        """Say what went wrong when it was compiled."""
        return f"{type(error).__name__}: {error}"

    @property
    def is_smooth(self) -> bool:
        """Whether the derivative is continuous everywhere, so that there is a second one."""
        return not self.kinks

    def convention(
        self, *libraries: str, **changes: Any
    ) -> Callable[[Callable[..., Any]], Definition]:
        """Make the function below this activation as other libraries have it.

        Parameters
        ----------
        *libraries : str
            Among `CONVENTIONS`.
        **changes
            The metadata that differs. What the output tells of the derivative is not taken over.
        """

        def register(function: Callable[..., Any]) -> Definition:
            function.__doc__ = function.__doc__ or self.function.__doc__
            found = replace(
                self, **{"function": function, "from_output": None, "choices": {}} | changes
            )
            self.choices.setdefault("convention", {}).update(dict.fromkeys(libraries, found))
            return found

        return register


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


@dataclass(frozen=True)
class RowDefinition(Definition):
    """A function of whole rows: of each number and of sums over its row.

    Its function takes the exponential of each number's difference to the largest one of the row, that
    difference, the gradient by the output, and the row's `fastact.kernels.algorithms.softmax.Sums`, and returns the value and the
    gradient by the input. Its `from_output` takes the gradient by the output, the value and the sums.

    Attributes
    ----------
    of_minus_x : bool
        Whether it is the function of the input's negative.
    takes_logarithm : bool
        Whether it needs the logarithm of the sum.
    is_random : bool
        Whether random numbers are added first.
    loop : str
        The name of the loop in `fastact.kernels`. Loops other than ``"normalized"`` say themselves what the function
        takes.
    """

    of_minus_x: bool = False
    takes_logarithm: bool = False
    is_random: bool = False
    loop: str = "normalized"
    is_reduced = False

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """What differences are divided by."""
        return MappingProxyType({"temperature": 1.0})


@dataclass(frozen=True)
class ReducedRowDefinition(RowDefinition):
    """A function that gives one number for each row.

    Its function takes the row's sums and returns the value, and what the exponentials are multiplied by to give
    the derivatives by the row's numbers.

    Attributes
    ----------
    is_mean : bool
        Whether it takes a mean, so that it counts how many numbers take part.
    """

    is_mean: bool = False
    is_reduced = True


def define_on_sums(**metadata: Any) -> Callable[[Callable[..., Any]], ReducedRowDefinition]:
    """Make a `ReducedRowDefinition` of the function below, with this metadata."""
    return lambda function: ReducedRowDefinition(function, takes_logarithm=True, **metadata)


def define_on_rows(**metadata: Any) -> Callable[[Callable[..., Any]], RowDefinition]:
    """Make a `RowDefinition` of the function below, with this metadata."""
    return lambda function: RowDefinition(function, **metadata)
