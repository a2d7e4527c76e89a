"""What an activation is: one function and its metadata, from which everything else is derived."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from fastact.kernels.algorithms.softmax import exponentials, reduced_exponentials
from fastact.kernels.algorithms.sparse import projected

_D = TypeVar("_D", bound="Definition")

REQUIRED = inspect.Parameter.empty

# What `Definition.exact` works with: mpmath has no annotations.
Context = Any
Number = Any
Pair = tuple[Number, Number]  # value and derivative
Pieces = Iterable[tuple[Any, Number, Number]]  # condition, value and derivative

#: What the catalogue holds: activations of an element or of a group, functions of rows, gated units and others whose
#: arrays hold two halves, dropouts, losses.
KINDS = ("activation", "row", "packed", "dropout", "loss")

# Whose choices an activation can follow where libraries differ; the first is the default.
CONVENTIONS = ("pytorch", "jax", "tensorflow", "thinc", "chainer")


@dataclass(frozen=True)
class Domain:
    """The values that a parameter may have.

    Attributes
    ----------
    text : str
        What follows "must be" in the error.
    excludes : callable
        Takes an array and returns whether each element lies outside; not so a NaN, which makes NaN.
    """

    text: str
    excludes: Callable[[Any], Any]


NOT_NEGATIVE = Domain("at least 0", lambda x: x < 0)
POSITIVE = Domain("positive", lambda x: x <= 0)
NOT_ZERO = Domain("other than 0", lambda x: x == 0)


@dataclass(frozen=True)
class Definition:
    """One activation, and what all that the catalogue holds have in common.

    Attributes
    ----------
    function : callable
        Takes a vector `x`, and one vector for each parameter, and returns the value and the derivative;
        after these, the derivative by each learnable parameter. Its name, its signature and its
        docstring are the activation's.
    formula, derivative : str
        In TeX.
    exact : callable
        The textbook formula that tests check the function against. Takes mpmath's context, one of its numbers and
        the parameters, and returns a tuple of value and derivative, or a list of pieces: triples of condition, value
        and derivative, where the first condition that holds counts. Tests evaluate it on arrays too, so it branches
        by pieces only, and an intermediate result may overflow only to the right infinity or zero.
    samples : tuple of dict
        Parameters to test with beside the defaults. Pictures and benchmarks take the first where a parameter has no
        default.
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
    near_root : callable, optional
        Takes what `exact` takes and returns whether x is near a root, where that is not within 0.4 of `roots`.
    is_monotone : bool
        Whether the computed value is promised never to fall from one float to the next.
    is_scaled : bool
        Whether a parameter is a factor of the result and `errors` are those for 1: the significand of a product may
        be half as large, so the same error is up to twice as many units in the last place, plus half a unit.
    domains : dict of str to Domain
        The values that a parameter may have, where not all make sense.
    called, said : str
        Its name and its text, where they are not the function's.
    kind : str
        Among `KINDS`.
    choices : dict of str to (dict of str to Definition)
        Keywords that choose another definition, by value: ``{"approximate": {"tanh": gelu_tanh}}``.
        `convention` adds to it.
    """

    function: Callable[..., Any]
    formula: str = ""
    derivative: str = ""
    exact: Callable[..., Pair | Pieces] | None = None
    samples: tuple[Mapping[str, float], ...] = ()
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
    near_root: Callable[..., Any] | None = None
    is_monotone: bool = False
    is_scaled: bool = False
    domains: Mapping[str, Domain] = field(default_factory=dict)
    called: str = ""
    said: str = ""
    choices: dict[str, dict[str, Definition]] = field(default_factory=dict)
    kind: ClassVar[str] = "activation"

    @property
    def name(self) -> str:
        """What it is called: ``fastact.<name>``."""
        return self.called or self.function.__name__.lstrip("_")

    @property
    def summary(self) -> str:
        """What it is, up to the first section of its text."""
        return re.split(r"\n\n\w+\n-+\n", self.text)[0]

    @property
    def text(self) -> str:
        """The function's docstring, or what is said in its place."""
        return inspect.cleandoc(self.said or self.function.__doc__ or "")

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The default of each parameter, or `REQUIRED`."""
        _, *rest = inspect.signature(self.function).parameters.values()
        return MappingProxyType({parameter.name: parameter.default for parameter in rest})

    @property
    def required_parameters(self) -> dict[str, float]:
        """Values for the parameters that have no default: those of the first sample."""
        sample = self.samples[0] if self.samples else {}
        return {key: sample[key] for key, value in self.parameters.items() if value is REQUIRED}

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
            The metadata that differs. `from_output` and `exact` are not inherited.
        """

        def register(function: Callable[..., Any]) -> Definition:
            function.__doc__ = function.__doc__ or self.function.__doc__
            found = replace(
                self,
                **{"function": function, "exact": None, "from_output": None, "choices": {}}
                | changes,
            )
            self.choices.setdefault("convention", {}).update(dict.fromkeys(libraries, found))
            return found

        return register


@dataclass(frozen=True)
class GroupDefinition(Definition):
    """An activation that takes one element of each group.

    Its function takes the vector of the best so far and a vector of candidates, and returns the mask of
    the candidates that are better.
    """

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The size of a group, which has no default."""
        return MappingProxyType({"pieces": REQUIRED})


@dataclass(frozen=True)
class RowDefinition(Definition):
    """A function of whole rows: each result depends on all elements of its row.

    Its function takes a `fastact.kernels.rows.Rows` and returns the function that computes one row.

    Attributes
    ----------
    excluded : float
        What an element counts as that takes no part: `where` puts it there.
    value_of_nothing : float
        The result where no element of a row takes part.
    is_reduced : bool
        Whether it gives one number for each row.
    is_mean : bool
        Whether it takes a mean, and so counts the elements that take part.
    is_random : bool
        Whether random numbers are added first.
    """

    parameters_are: Mapping[str, str] = field(
        default_factory=lambda: {
            "temperature": "what the elements are divided by: above 1 it makes results more alike"
        }
    )
    excluded: float = -math.inf
    value_of_nothing: float = 0.0
    is_reduced: bool = False
    is_mean: bool = False
    is_random: bool = False
    kind: ClassVar[str] = "row"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """What the elements of a row are divided by."""
        return MappingProxyType({"temperature": 1.0})

    def algorithm(self, rows: Any) -> Callable[..., None]:
        """Return the function that computes one row."""
        compute: Callable[..., None] = self.function(rows)
        return compute


@dataclass(frozen=True)
class ExponentialsDefinition(RowDefinition):
    """A function of the exponentials of a row's elements, and of sums over them.

    Its function takes the exponential of each element's difference to the largest one of the row, that
    difference, the gradient by the output, and the row's `fastact.kernels.algorithms.softmax.Sums`, and returns the
    value and the gradient by the input. Its `from_output` takes the gradient by the output, the value and the sums.
    If it is reduced, it takes the sums alone, and returns the value and what the exponentials are multiplied by to
    give the derivatives by the row's elements.

    Attributes
    ----------
    of_minus_x : bool
        Whether it is the function of the input's negative.
    takes_logarithm : bool
        Whether it needs the logarithm of the sum.
    """

    of_minus_x: bool = False
    takes_logarithm: bool = False

    def algorithm(self, rows: Any) -> Callable[..., None]:
        """Return the function that computes one row."""
        return (reduced_exponentials if self.is_reduced else exponentials)(self, rows)


@dataclass(frozen=True)
class SimplexDefinition(RowDefinition):
    """A projection to the simplex; see `fastact.kernels.algorithms.sparse`."""

    def algorithm(self, rows: Any) -> Callable[..., None]:
        """Return the function that computes one row."""
        return projected(self, rows)


@dataclass(frozen=True)
class PackedDefinition(Definition):
    """A function of which some arrays hold two halves along an axis."""

    kind: ClassVar[str] = "packed"


@dataclass(frozen=True)
class ConcatenatedDefinition(PackedDefinition):
    """An activation of `x` beside that of its negative; its function is the activation's."""


@dataclass(frozen=True)
class GateDefinition(PackedDefinition):
    """A gated linear unit: the value times an activation of the gate. Its function is the activation's.

    Attributes
    ----------
    activation : str
        The activation's name.
    gate : str
        Which half is the gate: ``"first"`` or ``"second"``.
    """

    activation: str = ""
    gate: str = "first"


def gated_unit(name: str, activation: Definition, **metadata: Any) -> GateDefinition:
    """Return the gated unit whose gate has this activation."""
    tex = activation.name.replace("_", r"\_")
    opening = "g" if activation.name == "identity" else rf"\text{{{tex}}}(g)"
    formula = rf"v \, {opening}"
    return GateDefinition(
        activation.function, formula, called=name, activation=activation.name, **metadata
    )


@dataclass(frozen=True)
class DropoutDefinition(Definition):
    """A dropout, whose function takes words, threshold, `x` and the numbers, and returns the value.

    Attributes
    ----------
    gradient : callable
        Takes words, threshold, `dy` and the first of the numbers, the scale, and returns the gradient.
    numbers : callable
        Takes the chance of an element to be dropped and returns the numbers.
    """

    gradient: Callable[..., Any] = field(kw_only=True)
    numbers: Callable[[float], tuple[float, ...]] = field(kw_only=True)
    kind: ClassVar[str] = "dropout"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The chance of an element to be dropped."""
        return MappingProxyType({"p": 0.5})

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """The names of the numbers."""
        _, _, _, *names = inspect.signature(self.function).parameters
        return tuple(names)


@dataclass(frozen=True)
class LossDefinition(Definition):
    """A loss."""

    kind: ClassVar[str] = "loss"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """None that could be bound: what a call gives are options."""
        return MappingProxyType({})


@dataclass(frozen=True)
class ElementwiseLossDefinition(LossDefinition):
    """A loss of each element, whose function takes `x`, the target and a parameter, and returns loss and derivative.

    Attributes
    ----------
    inputs : tuple of str
        What `x` and the target are called.
    default : float
        The parameter's; it may have a value for each class.
    """

    inputs: tuple[str, str] = ("x", "targets")
    default: float = 1.0

    @cached_property
    def parameter(self) -> str:
        """The name of the parameter."""
        return list(inspect.signature(self.function).parameters)[2]


@dataclass(frozen=True)
class CrossEntropyDefinition(LossDefinition):
    """A cross-entropy of rows of logits, with labels or class probabilities.

    Its function takes a `fastact.kernels.rows.Rows` and returns the function that computes one row that has a label.

    Attributes
    ----------
    dense : callable
        The same for rows that have a weight for every class.
    """

    dense: Callable[..., Any] = field(kw_only=True)


@dataclass(frozen=True)
class CompositeDefinition(LossDefinition):
    """A function that calls others, and has no kernels of its own."""


def defines(kind: type[_D]) -> Callable[..., Callable[[Callable[..., Any]], _D]]:
    """Return a decorator, to be called with metadata, that makes a definition of this class of a function."""
    return lambda **metadata: lambda function: kind(function, **metadata)


define = defines(Definition)
define_on_groups = defines(GroupDefinition)
define_on_rows = defines(RowDefinition)
define_on_exponentials = defines(ExponentialsDefinition)
define_on_simplex = defines(SimplexDefinition)
define_dropout = defines(DropoutDefinition)
define_elementwise_loss = defines(ElementwiseLossDefinition)
define_cross_entropy = defines(CrossEntropyDefinition)
