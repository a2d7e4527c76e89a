"""Declarations of kernels: operands as in a generalized ufunc, the computation, and the schedule over memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastact.runtime.dtypes import dtype_of, parameters_in


class Operand(NamedTuple):
    """One operand of a kernel.

    Attributes
    ----------
    name : str
        Its name in signatures and messages.
    core : tuple of str
        Its core dimensions, as in a generalized ufunc: ``("n",)``, or ``("2", "n")`` for two packed halves.
    kind : str
        ``"array"`` for the kernel's dtype, ``"parameter"`` for the type that the kernel computes in, or the name of a
        dtype.
    """

    name: str
    core: tuple[str, ...] = ()
    kind: str = "array"

    def dtype(self, of_arrays: str) -> str:
        """Return the name of its dtype when arrays have the given dtype."""
        if self.kind == "array":
            return of_arrays
        return parameters_in(of_arrays) if self.kind == "parameter" else self.kind


def parameters(names: Any) -> list[Operand]:
    """Return a parameter operand for each name."""
    return [Operand(name, (), "parameter") for name in names]


_OPERAND = re.compile(r"(\w+)(?:\(([\w,]*)\))?(?::\s*(\w+))?")


def operands(text: str) -> list[Operand]:
    """Parse operands such as ``"x(n), temperature: parameter, label: intp"``."""
    return [
        Operand(name, tuple(filter(None, core.split(","))), kind or "array")
        for name, core, kind in _OPERAND.findall(text)
    ]


@dataclass(frozen=True)
class Schedule:
    """How a kernel traverses memory. Each schedule is implemented in a file of this folder.

    Attributes
    ----------
    compute : callable
        Returns the computation when the kernel is compiled: a function that takes one vector for each input and
        returns the tuple of outputs. If the kernel has random operands, random words and threshold come first.
    """

    compute: Callable[[], Callable[..., Any]]


class Elementwise(Schedule):
    """Element by element over operands that broadcast."""


class Contiguous(Schedule):
    """Element by element along rows ``(n)``; elements may use random numbers determined by their index."""


class Channels(Schedule):
    """Element by element over ``(n,c,s)`` with parameters per channel, and per-channel sums."""


@dataclass(frozen=True)
class Packed(Schedule):
    """Element by element along rows, where some operands hold several parts: ``(2,n)`` for two halves.

    Attributes
    ----------
    order : tuple of int
        The position at which the computation takes each part; that in memory by default.
    """

    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rows(Schedule):
    """Several passes over each row while it is in cache, and sums over rows; `compute` returns a row algorithm.

    Attributes
    ----------
    absent : mapping of str to float
        For kernels with the inputs ``mask(n): bool`` and ``length: intp``: what elements that the mask excludes, and
        those beyond the length, count as in the rows that are read, and are in those that are written. The
        algorithm sees neither operand.
    """

    absent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Groups(Schedule):
    """Group by group of ``p`` interleaved elements; `compute` returns the comparison that finds the best one.

    Attributes
    ----------
    operation : str
        See `fastact.kernels.groups.groups`.
    """

    operation: str


@dataclass(frozen=True)
class Kernel:
    """One kernel, for all dtypes.

    Attributes
    ----------
    inputs, outputs : tuple of Operand
        In the order of the ufunc.
    schedule : Schedule
        How memory is traversed, and what is computed.
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
        """The signature of the generalized ufunc, or None without core dimensions."""
        if not any(each.core for each in self.operands):
            return None
        inputs, outputs = (
            ",".join(f"({','.join(each.core)})" for each in some)
            for some in (self.inputs, self.outputs)
        )
        return f"{inputs}->{outputs}"

    @cached_property
    def _types(self) -> dict[str | np.dtype[Any], tuple[np.dtype[Any], ...]]:
        return {}

    def types(self, dtype: str | np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        """Return the dtypes of all operands when arrays have the given dtype."""
        found = self._types.get(dtype)
        if found is None:
            name = dtype if isinstance(dtype, str) else dtype.name
            found = tuple(dtype_of(each.dtype(name)) for each in self.operands)
            self._types[dtype] = found
        return found
