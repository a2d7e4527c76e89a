"""What calls take, declared once: checks, signatures, docstrings and stubs derive from it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastact.catalogue.definition import REQUIRED


@dataclass(frozen=True)
class Argument:
    """One argument of a method.

    Attributes
    ----------
    name : str
        Its name.
    kind : str
        Its type, as numpydoc says it: ``"array_like"``.
    text : str
        What it means.
    default : Any
        Its default, or `REQUIRED`.
    annotation : str
        Its type in stubs.
    is_positional : bool
        Whether it may be given by position, after the arrays.
    """

    name: str
    kind: str
    text: str
    default: Any = None
    annotation: str = "Any"
    is_positional: bool = False

    @cached_property
    def parameter(self) -> inspect.Parameter:
        """It as a part of a signature."""
        kinds = inspect.Parameter
        kind = kinds.POSITIONAL_OR_KEYWORD if self.is_positional else kinds.KEYWORD_ONLY
        return kinds(self.name, kind, default=self.default)


def array(name: str, text: str, kind: str = "array_like", default: Any = REQUIRED) -> Argument:
    """Return an array that a method takes by position."""
    return Argument(name, kind, text, default, "ArrayLike")


OUT = Argument(
    "out",
    "ndarray, or tuple of ndarray and None, optional",
    "Where the result goes; of several results, a tuple.",
    annotation="Any",
)
AXIS = Argument("axis", "int, default -1", "The axis of the features.", -1, "int")
RNG = Argument(
    "rng",
    "int, numpy.random.SeedSequence or numpy.random.Generator",
    "A seed, from 0 to ``2**64 - 1``, draws the same random numbers in every call, so that a gradient fits its "
    "value; a generator draws others in each call.",
    annotation="int | np.random.SeedSequence | np.random.Generator | None",
)
TEMPERATURE = Argument(
    "temperature",
    "float, optional",
    "What the elements are divided by; positive. The default is 1.",
    annotation="float | None",
)
ROW_AXIS = Argument(
    "axis",
    "int, sequence of int or None, default -1",
    "The axis, or the axes, along which a row runs; None takes all elements as one row.",
    -1,
    "int | Sequence[int] | None",
    is_positional=True,
)
WHERE = Argument(
    "where",
    "array_like of bool, optional",
    "The elements that take part; it broadcasts with the input. A row of which none takes part gives zeros, in the "
    "logarithm minus infinity. Where elements do not take part the gradient is 0, but `dy` there enters the sum that "
    "log_softmax's gradient subtracts, as in PyTorch and unlike JAX.",
)
LENGTHS = Argument(
    "lengths",
    "array_like of int, optional",
    "Ragged rows: they lie one behind another along `axis`, and these are their lengths, which may be 0.",
)
KEEPDIMS = Argument(
    "keepdims", "bool, default False", "Whether the axes stay, with length 1.", False, "bool"
)
REDUCTION = Argument(
    "reduction",
    '{"mean", "sum", "none"}, default "mean"',
    "What becomes of the losses. The mean of none is NaN.",
    "mean",
    'Literal["mean", "sum", "none"]',
)
DLOSS = array(
    "dloss", "The gradient by the loss; without a reduction, it broadcasts with it.", default=1.0
)
