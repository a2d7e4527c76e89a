"""Plans: what a call needs besides its elements, found once and kept for the calls that repeat it.

A net calls the same functions in every step, with other elements but the same types, shapes and options. For small
arrays the arithmetic takes 1 to 4 us, while checks, promotion and the layout of operands take 10 to 40. They depend
only on what `plan_key` returns, so a first call that went well leaves a plan under it, which views the arrays as the
kernel's operands and calls the ufunc. Large arrays, other layouts than C order and mixed dtypes have no plans.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from fastact.arrays.arguments import random_types
from fastact.runtime.dtypes import has_loop
from fastact.runtime.output_pool import MIN_POOLED_BYTES

#: Takes the values of a call, its arrays before its options, and returns the results, or None if it cannot tell them.
Plan = Callable[[Sequence[Any]], Any]

# The option whose value differs from call to call, as the elements of arrays do.
RNG = "rng"
# The option whose value may be a tuple of arrays.
OUT = "out"
_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400  # NumPy's NPY_ARRAY_ flags
_FLAGS = _CONTIGUOUS | _ALIGNED | _WRITEABLE
_HASHED = (bool, int, float, str, type(None))


class Call(ABC):
    """A call of one kernel whose arguments are checked."""

    @abstractmethod
    def __call__(self) -> Any:
        """Make the call and return the results."""

    @abstractmethod
    def plan(self, positions: Mapping[str, int]) -> Plan | None:
        """Return a plan for calls with the same key, given the positions of arrays and of `rng` among their values."""


def plan_key(operation: str, values: Iterable[Any], options: Mapping[str, Any]) -> Any:
    """Return what the plan of a call depends on, or None if there is none.

    Parameters
    ----------
    operation : str
        The name of the operation.
    values : iterable
        The arrays, then the options' values.
    options : mapping of str to Any
        The options.
    """
    if RNG in options and type(options[RNG]) is int:  # a seed differs from call to call
        values = list(values)
        k = list(options).index(RNG) - len(options)
        values[k] = type(values[k]).__name__
    if type(options.get(OUT)) is tuple:
        values = list(values)
        k = list(options).index(OUT) - len(options)
        values[k : k + 1 or None] = (tuple.__name__, *values[k])
    key: list[Any] = [operation, *options]
    for value in values:
        kind = type(value)
        if kind is ndarray:
            key += value.dtype, value.shape, value.flags.num & _FLAGS
        elif kind in _HASHED:
            # Zeros of both signs are equal, but not as parameters.
            key += kind, value if value or kind is not float else repr(value)
        elif kind in random_types():
            key.append(kind)
        else:
            return None
    return tuple(key)


def kind_of(array: NDArray[Any]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return what a plan depends on of an array."""
    return array.dtype, array.shape, array.flags.num & _FLAGS


def are_plain(
    arrays: Iterable[NDArray[Any]],
    dtype: np.dtype[Any],
    any_layout: bool = False,
    any_size: bool = False,
) -> bool:
    """Whether kernels take arrays as they are: small, not empty, contiguous and of a dtype that has a loop."""
    if not has_loop(dtype):
        return False
    return all(
        type(each) is ndarray
        and each.dtype is dtype
        and (0 < each.nbytes < MIN_POOLED_BYTES or (any_size and each.size > 0))
        and each.ndim > 0
        and (any_layout or (each.flags.c_contiguous and each.flags.aligned))
        for each in arrays
    )


def is_number(value: Any) -> bool:
    """Whether a parameter is a number that every type of a computation holds."""
    return type(value) in (int, float) and abs(value) < 1e38


def taking_contiguous(
    positions: Iterable[int], arrays: Iterable[NDArray[Any]]
) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that takes the values at these positions, copied if the `arrays` there are not contiguous.

    Small arrays are copied in less time than Python takes to find out how to traverse them.
    """
    take = taking(positions)
    others = [
        k for k, each in enumerate(arrays) if not (each.flags.c_contiguous and each.flags.aligned)
    ]
    if not others:
        return take

    def copied(given: Sequence[Any]) -> Sequence[Any]:
        taken = [*take(given)]
        for k in others:
            taken[k] = taken[k].copy()
        return taken

    return copied


def taking(positions: Iterable[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that takes the values at these positions."""
    first, *others = positions
    if not others:
        return lambda given: (given[first],)
    return itemgetter(first, *others)
