"""Arguments of methods, declared once: checks, signatures, docstrings and stubs derive from them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fastact.catalogue.definition import REQUIRED


@dataclass(frozen=True, eq=False)
class Argument:
    """One argument of a method.

    Attributes
    ----------
    name : str
        The name.
    kind : str
        The type in numpydoc's notation: ``"array_like"``.
    text : str
        The description.
    default : Any
        The default, or `REQUIRED`.
    annotation : str
        The type annotation in stubs.
    is_positional : bool
        Whether it may be passed by position, after the arrays.
    is_gradient : bool
        Whether it is an array that holds the gradient with respect to a result: what a backward pass takes beside
        what the forward pass saves.
    is_differentiable : bool
        Whether a call to which it is given has a gradient with respect to it: `vjp` returns it, but for that of a
        residual, which is `dy`.
    """

    name: str
    kind: str
    text: str
    default: Any = None
    annotation: str = "Any"
    is_positional: bool = False
    is_gradient: bool = False
    is_differentiable: bool = False

    @cached_property
    def parameter(self) -> inspect.Parameter:
        """The argument as part of a signature."""
        kinds = inspect.Parameter
        kind = kinds.POSITIONAL_OR_KEYWORD if self.is_positional else kinds.KEYWORD_ONLY
        return kinds(self.name, kind, default=self.default)


def array(
    name: str,
    text: str,
    kind: str = "array_like",
    default: Any = REQUIRED,
    is_differentiable: bool = True,
) -> Argument:
    """Return a positional-only array argument."""
    return Argument(name, kind, text, default, "ArrayLike", is_differentiable=is_differentiable)


def gradient(name: str, text: str, kind: str = "array_like", default: Any = REQUIRED) -> Argument:
    """Return an array argument that is the gradient with respect to a result."""
    return replace(array(name, text, kind, default, False), is_gradient=True)


X = array(
    "x",
    "The input, of any shape, and of dtype float16, bfloat16, float32 or float64; integers and bools become floats as "
    "in NumPy.",
)
DY = gradient("dy", "The gradient with respect to the output, with its shape.")
OUT = Argument(
    "out",
    "ndarray, or tuple of ndarray and None, optional",
    "The array for the result; a tuple for several results, with None for new arrays.",
    annotation="Any",
)
AXIS = Argument("axis", "int, default -1", "The axis of the features.", -1, "int")
RNG = Argument(
    "rng",
    "int, numpy.random.SeedSequence, Generator or RandomState",
    "A seed, from 0 to ``2**64 - 1``, draws the same random numbers in every call, so that the gradient matches the "
    "value; a generator draws new ones in each call.",
    annotation="int | np.random.SeedSequence | np.random.Generator | np.random.RandomState | None",
)
ROW_AXIS = Argument(
    "axis",
    "int, sequence of int or None, default -1",
    "The axis or axes along which a row runs; None treats all elements as one row.",
    -1,
    "int | Sequence[int] | None",
    is_positional=True,
)
WHERE = Argument(
    "where",
    "array_like of bool, optional",
    "The elements to include; it broadcasts with the input. The others may hold anything: they give 0, or minus "
    "infinity in a logarithm, and have gradient 0. But their `dy` enters the sum that the gradient of log_softmax "
    "subtracts, as in PyTorch and unlike JAX.",
)
LENGTHS = Argument(
    "lengths",
    "array_like of int, optional",
    "The lengths of ragged rows that are concatenated along `axis`; they may be 0.",
)
KEEPDIMS = Argument(
    "keepdims",
    "bool, default False",
    "Whether to keep the reduced axes, with length 1.",
    False,
    "bool",
)
REDUCTION = Argument(
    "reduction",
    '{"mean", "sum", "none"}, default "mean"',
    "The reduction of the losses. The mean of no losses is NaN.",
    "mean",
    'Literal["mean", "sum", "none"]',
)
DLOSS = gradient(
    "dloss",
    "The gradient with respect to the loss; without a reduction, it broadcasts with the loss.",
    default=1.0,
)
