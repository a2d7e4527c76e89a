"""A kernel, declared: the operands of a generalized ufunc, what it computes, and how it passes over memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastact.runtime.dtypes import dtype_of, parameters_in


class Operand(NamedTuple):
    """One operand of a kernel.

    Attributes
    ----------
    name : str
        What it is called in signatures and messages.
    core : tuple of str
        Its core dimensions, as in a generalized ufunc: ``("n",)``, or ``("2", "n")`` for packed halves.
    kind : str
        ``"array"``: of the dtype that the kernel is for; ``"parameter"``: of the type that it computes in; else a
        dtype by name.
    """

    name: str
    core: tuple[str, ...] = ()
    kind: str = "array"

    def dtype(self, of_arrays: str) -> str:
        """Return the name of its dtype in the kernel for arrays of a dtype."""
        if self.kind == "array":
            return of_arrays
        return parameters_in(of_arrays) if self.kind == "parameter" else self.kind


def parameters(names: Any) -> list[Operand]:
    """Return operands for parameters of these names."""
    return [Operand(name, (), "parameter") for name in names]


_OPERAND = re.compile(r"(\w+)(?:\(([\w,]*)\))?(?::\s*(\w+))?")


def operands(text: str) -> list[Operand]:
    """Read operands such as ``"x(n), temperature: parameter, label: intp"``."""
    return [
        Operand(name, tuple(filter(None, core.split(","))), kind or "array")
        for name, core, kind in _OPERAND.findall(text)
    ]


@dataclass(frozen=True)
class Schedule:
    """How a kernel passes over memory; each schedule has a file of this folder that says it to Numba.

    Attributes
    ----------
    compute : callable
        Returns what is computed, when the kernel is compiled: a function of vectors, one for each input, that
        returns the tuple of outputs; of random operands it takes the words and the threshold first.
    """

    compute: Callable[[], Callable[..., Any]]


class Elementwise(Schedule):
    """Element by element, of operands that broadcast."""


class Contiguous(Schedule):
    """Element by element along rows ``(n)``; elements may draw random numbers by their index."""


class Channels(Schedule):
    """Element by element over ``(n,c,s)`` with a parameter for each channel, and sums over all but the channels."""


class Packed(Schedule):
    """Element by element along rows, some of which hold two halves, ``(2,n)``."""


class Rows(Schedule):
    """In several passes over each row, while it is in cache; `compute` returns a row algorithm."""


@dataclass(frozen=True)
class Groups(Schedule):
    """Group by group, of ``p`` interleaved elements; `compute` returns the test of a better candidate.

    Attributes
    ----------
    operation : str
        See `fastact.kernels.groups.groups`.
    """

    operation: str


@dataclass(frozen=True)
class Kernel:
    """One kernel, in all dtypes.

    Attributes
    ----------
    inputs, outputs : tuple of Operand
        In the order of the ufunc.
    schedule : Schedule
        What is computed, and how.
    """

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    schedule: Schedule

    @classmethod
    def of(cls, signature: str, schedule: Schedule) -> Kernel:
        """Return the kernel of a signature such as ``"x(n), temperature: parameter -> y(n)"``."""
        inputs, outputs = signature.split("->")
        return cls(tuple(operands(inputs)), tuple(operands(outputs)), schedule)

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """Inputs and outputs."""
        return (*self.inputs, *self.outputs)

    @cached_property
    def core_signature(self) -> str | None:
        """The signature of the generalized ufunc; None if it has no core dimensions."""
        if not any(each.core for each in self.operands):
            return None
        inputs, outputs = (
            ",".join(f"({','.join(each.core)})" for each in some)
            for some in (self.inputs, self.outputs)
        )
        return f"{inputs}->{outputs}"

    def types(self, dtype: str) -> tuple[np.dtype[Any], ...]:
        """Return the dtypes of all operands in the kernel for arrays of a dtype."""
        return tuple(dtype_of(each.dtype(dtype)) for each in self.operands)
