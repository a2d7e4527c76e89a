"""Definitions: a function and its metadata, from which everything else is derived."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, get_args

from fastact.kernels.algorithms.class_losses import dense_loss, label_loss
from fastact.kernels.algorithms.softmax import exponentials, reduced_exponentials
from fastact.kernels.algorithms.sparse import projected

_D = TypeVar("_D", bound="Definition")

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
REQUIRED = inspect.Parameter.empty

# What `Definition.exact` works with: mpmath has no annotations.
Context = Any
Number = Any
Pair = tuple[Number, Number]  # value and derivative
Pieces = Iterable[tuple[Any, Number, Number]]  # condition, value and derivative

#: The kinds of functions: activations of elements or groups, row functions, functions of packed halves such as gated
#: units, recurrent cells, dropouts, normalizations, losses.
Kind = Literal["activation", "row", "packed", "cell", "dropout", "normalization", "loss"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Those that the pages call layers.
LAYERS = KINDS[2:]

# The libraries whose conventions an activation can follow where they differ; the first is the default.
CONVENTIONS = ("pytorch", "jax", "tensorflow", "thinc", "chainer")


@dataclass(frozen=True, eq=False, repr=False)
class Domain:
    """The valid values of a parameter.

    Attributes
    ----------
    text : str
        The continuation of "must be" in an error message.
    excludes : callable
        Takes an array and returns whether each element is outside. NaN is not: it gives NaN.
    """

    text: str
    excludes: Callable[[Any], Any]


NOT_NEGATIVE = Domain("at least 0", lambda x: x < 0)
POSITIVE = Domain("positive", lambda x: x <= 0)
NOT_ZERO = Domain("other than 0", lambda x: x == 0)


@dataclass(frozen=True, eq=False, repr=False)
class Definition:
    """An activation, and the base class of all other definitions.

    Attributes
    ----------
    function : callable
        Takes the vector `x` and one vector for each parameter; returns the value, the derivative, and the derivative
        with respect to each learnable parameter. Its name, signature and docstring are the activation's.
    formula, derivative : str
        In TeX.
    exact : callable
        The textbook formula that tests and ``fastact verify`` check the function against. Takes mpmath's context, one
        of its numbers and the parameters, and returns a tuple of value and derivative, or a list of pieces: triples of
        condition, value and derivative, where the first condition that holds counts. Tests evaluate it on arrays too,
        so it branches by pieces only, and an intermediate result may overflow only to the right infinity or zero.
    samples : tuple of dict
        Parameters to test with beside the defaults. Pictures and benchmarks take the first where a parameter has no
        default.
    errors : tuple of (float, float)
        The error bounds of value and derivative in float32, in units in the last place.
    limits : tuple of (str, str)
        The values at minus and plus infinity.
    reference : str
        The publication that proposed it.
    good_for, not_for : str
        When to use it and when not, and what instead: what follows "Good for" and "Not for".
    parameters_are : dict of str to str
        The meaning of each parameter.
    kinks : dict of str to str
        The derivative chosen at each point where it jumps.
    aliases : tuple of str
        Other names that `fastact.get` accepts.
    from_output : callable, optional
        Takes the value and the parameters and returns the derivative, if it is a function of the value.
    from_output_needs : tuple of str
        The parameters that must not be negative for `from_output` to be valid.
    learnable : tuple of str
        The parameters that have gradients.
    drawn_between : tuple of str
        Two parameters: the bounds of a number drawn for each element during training.
    elsewhere : dict of str to str
        Its names in other libraries, by library: ``{"pytorch": "hardtanh", "onnx": "Clip"}``.
    roots : tuple of float
        Zeros of the derivative, near which its error bound is absolute.
    near_root : callable, optional
        Takes what `exact` takes and returns whether x is near a root, where that is not within 0.4 of `roots`.
    is_monotone : bool
        Whether the computed value is promised never to fall from one float to the next.
    is_scaled : bool
        Whether a parameter is a factor of the result and `errors` are those for 1: the significand of a product may
        be half as large, so the same error is up to twice as many units in the last place, plus half a unit.
    is_homogeneous : bool
        Whether ``f(c * x)`` is ``c * f(x)`` for all positive numbers c, so that the value has the unit of x.
    domains : dict of str to Domain
        The domain of each parameter that has one.
    called, said : str
        Its name and docstring, if they are not the function's.
    kind : str
        One of `KINDS`.
    choices : dict of str to (dict of str to Definition)
        Keywords whose values select another definition: ``{"approximate": {"tanh": gelu_tanh}}``. `convention`
        adds to them.
    """

    function: Callable[..., Any]
    formula: str = ""
    derivative: str = ""
    exact: Callable[..., Pair | Pieces] | None = None
    samples: tuple[Mapping[str, float], ...] = ()
    errors: tuple[float, float] | None = None
    limits: tuple[str, str] | None = None
    reference: str = ""
    good_for: str = ""
    not_for: str = ""
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
    is_homogeneous: bool = False
    domains: Mapping[str, Domain] = field(default_factory=dict)
    called: str = ""
    said: str = ""
    choices: dict[str, dict[str, Definition]] = field(default_factory=dict)
    kind: ClassVar[str] = "activation"
    family: ClassVar[str] = "activations"

    @cached_property  # calls ask for it
    def name(self) -> str:
        """Its name: ``fastact.<name>``."""
        return self.called or self.function.__name__.lstrip("_")

    @property
    def summary(self) -> str:
        """Its description: the docstring, up to the first section."""
        return self.sections[""]

    @property
    def notes(self) -> str:
        """The notes in its docstring."""
        return self.sections.get("Notes", "")

    @property
    def sections(self) -> dict[str, str]:
        """The sections of its docstring by heading; the description before them is under ``""``."""
        text = inspect.cleandoc(self.said or self.function.__doc__ or "")
        description, *others = map(str.strip, _HEADING.split(text))
        return {"": description} | dict(zip(others[::2], others[1::2], strict=True))

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
        """The function that kernels call."""
        return self.function

    @property
    def module(self) -> str:
        """The module where pickle finds the ufuncs."""
        return "fastact.ufuncs"

    def ufunc_name(self, operation: str) -> str:
        """Return the name of an operation's ufunc in `module`; that of ``"forward"`` is the function's own name."""
        return self.name if operation == "forward" else f"{self.name}_{operation}"

    def kernel_name(self, loop: str) -> str | None:
        """Return the name of a kernel in the cache, or None if it must not be cached."""
        return f"{self.name}.{loop}"

    def explain(self, error: BaseException) -> str:
        """Return the message of an error of the compiler."""
        return f"{type(error).__name__}: {error}"

    @property
    def is_smooth(self) -> bool:
        """Whether the derivative is continuous everywhere, so that a second derivative exists."""
        return not self.kinks

    def convention(
        self, *libraries: str, **changes: Any
    ) -> Callable[[Callable[..., Any]], Definition]:
        """Decorate the variant of this activation that other libraries compute.

        Parameters
        ----------
        *libraries : str
            Some of `CONVENTIONS`.
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


class GroupDefinition(Definition):
    """An activation that selects one element of each group.

    Its function takes a vector of the best elements so far and a vector of candidates, and returns the mask of better
    candidates.
    """

    family: ClassVar[str] = "maxout"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The size of a group, without a default."""
        return MappingProxyType({"pieces": REQUIRED})


@dataclass(frozen=True, eq=False, repr=False)
class RowDefinition(Definition):
    """A row function: each result depends on all elements of its row.

    Its function takes a `fastact.kernels.rows.RowAccess` and returns the function that computes one row.

    Attributes
    ----------
    excluded : float
        The neutral input that replaces masked elements.
    masked_value : float
        The result for masked elements.
    is_reduced : bool
        Whether it returns one value for each row.
    is_mean : bool
        Whether it is a mean, which divides by the number of unmasked elements.
    is_random : bool
        Whether Gumbel noise is added to the input.
    """

    parameters_are: Mapping[str, str] = field(
        default_factory=lambda: {
            "temperature": "the positive divisor of the elements; above 1, results are more uniform"
        }
    )
    excluded: float = -math.inf
    masked_value: float = 0.0
    is_reduced: bool = False
    is_mean: bool = False
    is_random: bool = False
    kind: ClassVar[str] = "row"
    family: ClassVar[str] = "rows"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The temperature."""
        return MappingProxyType({"temperature": 1.0})

    def algorithm(self, rows: Any) -> Callable[..., None]:
        """Return the function that computes one row."""
        compute: Callable[..., None] = self.function(rows)
        return compute


@dataclass(frozen=True, eq=False, repr=False)
class ExponentialsDefinition(RowDefinition):
    """A function of the exponentials of a row's elements, and of sums over them.

    Its function takes the exponential of each element, relative to the same number for the whole row, the element's
    difference to the row's maximum (known only if it takes the logarithm), `dy`, and the row's
    `fastact.kernels.algorithms.exponentials.Sums`, and returns the value and `dx`. Its `from_output` takes `dy`, the value and the sums. If it is reduced, it takes only the sums, and returns the value and the factor that turns
    exponentials into derivatives.

    Attributes
    ----------
    of_minus_x : bool
        Whether it is a function of ``-x``.
    takes_logarithm : bool
        Whether it needs the logarithm of the sum.
    second_order : callable, optional
        What is propagated through the gradient, for temperature 1, on NumPy arrays. Takes `dy`, the value, the gradient
        with respect to `dx`, and a function that returns the sum of each row; returns the gradients with respect to `dy`
        and the value. If it is reduced, it takes `dx` for a `dy` of 1 instead of the value, and returns what to sum for
        the gradient with respect to `dy`, and the gradient with respect to `x`.
    """

    of_minus_x: bool = False
    takes_logarithm: bool = False
    second_order: Callable[..., Any] | None = None

    def algorithm(self, rows: Any) -> Callable[..., None]:
        """Return the function that computes one row."""
        return (reduced_exponentials if self.is_reduced else exponentials)(self, rows)


class SimplexDefinition(RowDefinition):
    """A projection onto the simplex; see `fastact.kernels.algorithms.sparse`."""

    def algorithm(self, rows: Any) -> Callable[..., None]:
        """Return the function that computes one row."""
        return projected(self, rows)


class PackedDefinition(Definition):
    """A function some of whose arrays hold two halves along an axis."""

    kind: ClassVar[str] = "packed"
    family: ClassVar[str] = "packed"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """None: the activation keeps its defaults."""
        return MappingProxyType({})


class ConcatenatedDefinition(PackedDefinition):
    """An activation of `x` concatenated with that of `-x`; its function is the activation's."""


@dataclass(frozen=True, eq=False, repr=False)
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

    @property
    def notes(self) -> str:
        """The notes that all gates share."""
        return f"""\
``y = value * {self.activation}(gate)``. By default the {self.gate} half is the gate. The value and the gradients are IEEE
products with the activation or its derivative, whose errors and kinks are those of `fastact.{self.activation}`. The
gradient needs only the input: nothing else is stored between the passes."""


def gated_unit(name: str, activation: Definition, **metadata: Any) -> GateDefinition:
    """Return the gated unit with this activation of its gate."""
    tex = activation.name.replace("_", r"\_")
    opening = "g" if activation.name == "identity" else rf"\text{{{tex}}}(g)"
    formula = rf"v \, {opening}"
    return GateDefinition(
        activation.function, formula, called=name, activation=activation.name, **metadata
    )


@dataclass(frozen=True, eq=False, repr=False)
class CellDefinition(Definition):
    """The elementwise part of a recurrent cell, between the matrix products and the new state.

    Its function takes one vector for each gate of each packed input and one for each other input, and returns the
    outputs.

    Attributes
    ----------
    gradient : callable
        Takes the gradients with respect to the outputs, then what the function takes, and returns the gradients with
        respect to that.
    signature : str
        The inputs and outputs, as `fastact.kernels.kernel.Kernel.of` takes them: those with the core dimensions
        ``(4,n)`` hold four gates.
    gates : str
        A letter for each gate, in the order of the functions' vectors.
    arrays_are : dict of str to str
        The meaning of each input and output.
    """

    gradient: Callable[..., Any] = field(kw_only=True)
    signature: str = field(kw_only=True)
    gates: str = field(kw_only=True)
    arrays_are: Mapping[str, str] = field(kw_only=True)
    kind: ClassVar[str] = "cell"
    family: ClassVar[str] = "cells"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """None: the inputs are arrays."""
        return MappingProxyType({})


@dataclass(frozen=True, eq=False, repr=False)
class DropoutDefinition(Definition):
    """A dropout, whose function takes random words, threshold, `x` and numbers, and returns the value.

    Attributes
    ----------
    gradient : callable
        Takes random words, threshold, `dy` and the first number, the scale, and returns `dx`.
    numbers : callable
        Takes the probability of a drop and returns the numbers.
    """

    gradient: Callable[..., Any] = field(kw_only=True)
    numbers: Callable[[float], tuple[float, ...]] = field(kw_only=True)
    kind: ClassVar[str] = "dropout"
    family: ClassVar[str] = "dropout"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The probability of a drop."""
        return MappingProxyType({"p": 0.5})

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """The names of the numbers."""
        _, _, _, *names = inspect.signature(self.function).parameters
        return tuple(names)


@dataclass(frozen=True, eq=False, repr=False)
class NormalizationDefinition(Definition):
    """A normalization to unit variance, scaled and shifted by learnable weights.

    Attributes
    ----------
    has_bias : bool
        Whether a bias is added.
    """

    has_bias: bool = True
    domains: Mapping[str, Domain] = field(default_factory=lambda: {"eps": NOT_NEGATIVE})
    kind: ClassVar[str] = "normalization"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The number added to the variance."""
        return MappingProxyType({"eps": 1e-5})


class RowNormalizationDefinition(NormalizationDefinition):
    """A normalization of rows.

    Its function takes a `fastact.kernels.rows.RowAccess` and returns the function that computes one row.
    """

    family: ClassVar[str] = "normalizations"


@dataclass(frozen=True, eq=False, repr=False)
class ChannelNormalizationDefinition(NormalizationDefinition):
    """A normalization of channels, whose statistics are running averages or those of the batch.

    Its function takes a kernel's name and returns the function on vectors.
    """

    family: ClassVar[str] = "batch_normalization"

    domains: Mapping[str, Domain] = field(
        default_factory=lambda: {"eps": NOT_NEGATIVE, "momentum": NOT_NEGATIVE}
    )

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The share of the batch in the running averages, and the number added to the variance."""
        return MappingProxyType({"momentum": 0.1, "eps": 1e-5})


class LossDefinition(Definition):
    """A loss."""

    kind: ClassVar[str] = "loss"

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """None: the arguments of a loss are options, which cannot be bound."""
        return MappingProxyType({})


@dataclass(frozen=True, eq=False, repr=False)
class ElementwiseLossDefinition(LossDefinition):
    """An elementwise loss, whose function takes `x`, the target and its parameters, and returns loss and derivative.

    Attributes
    ----------
    inputs : tuple of str
        The names of `x` and the target.
    default : float
        The default of the parameters.
    mean_by_weight : bool
        Whether the mean divides by the total weight rather than by the number of elements.
    """

    family: ClassVar[str] = "elementwise_losses"

    inputs: tuple[str, str] = ("x", "targets")
    default: float = 1.0
    mean_by_weight: bool = False

    @cached_property
    def class_parameters(self) -> tuple[str, ...]:
        """The names of the parameters, one at most, which may have one value for each class."""
        _, _, *names = inspect.signature(self.function).parameters
        return tuple(names)


@dataclass(frozen=True, eq=False, repr=False)
class CrossEntropyDefinition(LossDefinition):
    """A loss of rows of classes, with labels or class probabilities.

    Its function takes a vector of classes and their weights, and returns the weighted loss and its derivative.

    Attributes
    ----------
    input : str
        What the rows hold: ``"probabilities"``.
    """

    family: ClassVar[str] = "cross_entropy"

    input: str = "probabilities"

    def algorithm(self, rows: Any, is_dense: bool) -> Callable[..., None]:
        """Return the function that computes one row: with a label, or with a weight for every class."""
        return (dense_loss if is_dense else label_loss)(self.function, rows)


@dataclass(frozen=True, eq=False, repr=False)
class SoftmaxCrossEntropyDefinition(CrossEntropyDefinition):
    """The cross-entropy of the softmax of each row.

    Its function takes a `fastact.kernels.rows.RowAccess` and returns the function that computes one row with a label.

    Attributes
    ----------
    dense : callable
        The same for rows with a weight for every class.
    """

    input: str = "logits"
    dense: Callable[..., Any] = field(kw_only=True)

    def algorithm(self, rows: Any, is_dense: bool) -> Callable[..., None]:
        """Return the function that computes one row: with a label, or with a weight for every class."""
        compute: Callable[..., None] = (self.dense if is_dense else self.function)(rows)
        return compute


class CompositeDefinition(LossDefinition):
    """A loss composed of other functions, without kernels of its own."""

    family: ClassVar[str] = "linear_cross_entropy"


def defines(kind: type[_D]) -> Callable[..., Callable[[Callable[..., Any]], _D]]:
    """Return a decorator that takes metadata and turns a function into a definition of this class."""
    return lambda **metadata: lambda function: kind(function, **metadata)


define = defines(Definition)
define_on_groups = defines(GroupDefinition)
define_on_rows = defines(RowDefinition)
define_on_exponentials = defines(ExponentialsDefinition)
define_on_simplex = defines(SimplexDefinition)
define_cell = defines(CellDefinition)
define_dropout = defines(DropoutDefinition)
define_row_normalization = defines(RowNormalizationDefinition)
define_channel_normalization = defines(ChannelNormalizationDefinition)
define_elementwise_loss = defines(ElementwiseLossDefinition)
define_cross_entropy = defines(CrossEntropyDefinition)
define_softmax_cross_entropy = defines(SoftmaxCrossEntropyDefinition)
