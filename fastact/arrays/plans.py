"""Plans: what a call needs besides its elements, found once and kept for the calls that repeat it.

A net calls the same functions in every step, with other elements but the same types, shapes and options. For small
arrays the arithmetic takes 1 to 4 us, while checks, promotion and the layout of operands take 10 to 40. They depend
only on what `plan_key` returns, so a first call that went well leaves a plan under it, which views the arrays as the
kernel's operands and calls the ufunc. Very large arrays, other layouts than C order and mixed dtypes have no plans.

A plan that is one call of a kernel is data, a `KernelPlan`. When it is used again, a Python builtin is made of it that
replays the call in machine code (`fastact.runtime.replays`), and calls like it never get here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from fastact.arrays.arguments import random_types
from fastact.runtime.dtypes import has_loop
from fastact.runtime.replays import KEY, Input, Output, Record, Replay, make_replay, record_of

#: Takes the values of a call, its arrays before its options, and returns the results, or None if it cannot tell them.
Plan = Callable[[Sequence[Any]], Any]

# The option whose value differs from call to call, as the elements of arrays do.
RNG = "rng"
# The option whose value may be a tuple of arrays.
OUT = "out"
_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400  # NumPy's NPY_ARRAY_ flags
_FLAGS = _CONTIGUOUS | _ALIGNED | _WRITEABLE
# Arrays of at least so many bytes are not copied, whatever their layout.
SMALL_BYTES = 2**19
# Calls with arrays of at least so many bytes take hundreds of us: they need no plans.
MAX_BYTES = 2**24
_HASHED = (bool, int, float, str, type(None))


class Call(ABC):
    """A call of one kernel whose arguments are checked."""

    @abstractmethod
    def __call__(self) -> Any:
        """Make the call and return the results."""

    @abstractmethod
    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for calls with the same key.

        `positions` has those of the arrays and of `rng` among the values of a call; an array in place of a position is the
        same in all calls.
        """


@dataclass(eq=False)
class KernelPlan:
    """A plan that is one call of a kernel.

    Attributes
    ----------
    ufunc : numpy.ufunc
        The kernel's ufunc.
    inputs, outputs : sequence
        Its operands.
    finish : callable, optional
        Takes the values of the call and the outputs, and returns the results.
    key : tuple of int and callable, optional
        The position of ``rng`` among the values, and a function from its value to the key that the kernel takes.
    record, replay : Record and callable, optional
        The record of its calls, and what replays them, once it has made one, if that can be.
    replayed_as : set
        The ways of calling a method that replay its calls.
    """

    ufunc: np.ufunc
    inputs: Sequence[Input]
    outputs: Sequence[Output]
    finish: Callable[..., Any] | None = None
    key: tuple[int, Callable[[Any], int]] | None = None
    record: Record | None = field(default=None, init=False)
    replay: Replay | None = field(default=None, init=False)
    replayed_as: set[Any] = field(default_factory=set, init=False)
    _repeat: Callable[[Sequence[Any]], Any] | None = field(default=None, init=False)

    def then(
        self, finish: Callable[..., Any], key_of: Callable[[Any], int] | None = None
    ) -> KernelPlan:
        """Return the plan with functions that make other results of its own, and the key if it needs one.

        `finish` takes the values and the results, and their number by the name `results`, if that is not the number of
        outputs.
        """
        inner, count, both = self.finish, len(self.outputs), finish
        if inner is not None:

            def both(*given: Any) -> Any:
                results = inner(*given)
                if results is None:
                    return None
                made = results if type(results) is tuple else (results,)
                return finish(*given[:-count], *made, results=len(made))

        key = (self.key[0], key_of) if self.key and key_of else self.key
        return KernelPlan(self.ufunc, self.inputs, self.outputs, both, key)

    def __call__(self, values: Sequence[Any]) -> Any:
        """Make the call and return the results."""
        if self._repeat is None:
            self._repeat = self._prepared(values)
        return self._repeat(values)

    def run(self, *values: Any) -> Any:
        """Make a call whose arrays are contiguous; see `__call__`."""
        if self.replay is not None:
            results = self.replay(*values)
            if results is not None:
                return results
        return self(values)

    def _prepared(self, values: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
        """Return a function that makes calls with values like these."""
        arguments = list(values)
        at, key_of = self.key or (-1, None)
        if key_of is not None:
            arguments[at] = KEY
        # Equal in all calls, but a replay asks for the same object.
        others = [
            (k, each)
            for k, each in enumerate(arguments)
            if each is not KEY and type(each) is not ndarray
        ]
        # Small arrays are copied in less time than Python takes to find out how to traverse them.
        are_copied = [
            k
            for k, each in enumerate(arguments)
            if type(each) is ndarray and not (each.flags.c_contiguous and each.flags.aligned)
        ]
        self.record = record_of(self.ufunc, arguments, self.inputs, self.outputs, self.finish)
        if self.record is not None:
            self.replay = make_replay([self.record])
        run = self.replay or self._run

        def repeat(values: Sequence[Any]) -> Any:
            given = list(values)
            if key_of is not None:
                given[at] = key_of(given[at])
            for k, each in others:
                given[k] = each
            for k in are_copied:
                given[k] = given[k].copy()
            results = run(*given)
            # A key that has been drawn must be used.
            return self._run(*given) if results is None and key_of is not None else results

        return repeat

    def _run(self, *given: Any) -> Any:
        """Make the call where it cannot be replayed."""
        written = [each.new() for each in self.outputs]
        inputs = [_operand(each, given) for each in self.inputs]
        self.ufunc(*inputs, out=tuple(view for _, view in written))
        with np.errstate(over="ignore"):  # a sum may be too large for the type
            made = [
                array.astype(each.dtype, copy=False)
                for (array, _), each in zip(written, self.outputs, strict=True)
            ]
        if self.finish is not None:
            return self.finish(*given, *made)
        return made[0] if len(made) == 1 else tuple(made)


def _operand(operand: Input, given: Sequence[Any]) -> Any:
    """Return an operand of a kernel, given the values of a call."""
    value: Any = operand.source
    if isinstance(value, int):
        value = given[value]
    if type(value) is int:
        value = np.array(value, np.uint64).view(np.int64)
    return value if operand.view is None else operand.view(value)


def shaped(shape: tuple[int, ...]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a function that views contiguous arrays in this shape."""
    return lambda array: array.reshape(shape)


def plan_key(
    operation: str, values: Iterable[Any], options: Mapping[str, Any], draws: bool = True
) -> Any:
    """Return what the plan of a call depends on, or None if there is none.

    Parameters
    ----------
    operation : str
        The name of the operation.
    values : iterable
        The arrays, then the options' values.
    options : mapping of str to Any
        The options.
    draws : bool, default True
        Whether an option `rng` is a source of random numbers, and no parameter of that name.
    """
    if draws and RNG in options and type(options[RNG]) is int:  # a seed differs from call to call
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


def are_plain(
    arrays: Iterable[NDArray[Any]],
    dtype: np.dtype[Any],
    any_layout: bool = False,
    any_size: bool = False,
    limit: int = SMALL_BYTES,
) -> bool:
    """Whether kernels take arrays as they are: small, not empty, contiguous and of a dtype that has a loop.

    `any_layout` is for those that may be copied, which large ones may not.
    """
    if not has_loop(dtype):
        return False
    return all(
        type(each) is ndarray
        and each.dtype is dtype
        and (0 < each.nbytes < limit or (any_size and each.size > 0))
        and each.ndim > 0
        and (
            (any_layout and (any_size or each.nbytes < SMALL_BYTES))
            or (each.flags.c_contiguous and each.flags.aligned)
        )
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
