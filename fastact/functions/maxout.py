"""Activations that select one element of each group of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_array,
    as_axis,
    as_integer,
    as_real_array,
    as_returned,
    float_type,
    outputs_for,
)
from fastact.arrays.plans import Call, KernelPlan, Plan, are_plain, shaped
from fastact.catalogue.definition import REQUIRED, GroupDefinition
from fastact.functions.function import Function
from fastact.functions.operation import SUMMARIES, Family, Operation
from fastact.functions.options import AXIS, DY, OUT, Argument, array
from fastact.functions.vjp import by_backward
from fastact.kernels.kernel import Groups, Kernel
from fastact.runtime.output_pool import retry_without_pool
from fastact.runtime.replays import Input, Output

# The core dimension p runs over the pieces of a group; "which" is the index of the winner.
_SIGNATURES = {
    "forward": "x(p) -> y",
    "forward_with_index": "x(p) -> y, which: intp",
    "backward": "dy, which: intp -> dx(p)",
    "forward_backward": "x(p), dy -> y, dx(p)",
}
_SUMMARIES = SUMMARIES | {
    "forward_with_index": "the value, and the index of the winning piece in each group",
    "backward": "the gradient with respect to the input: each `dy` goes to the winning piece",
}
_ARRAYS = {
    "x": array("x", "The features, along `axis`, in groups of `pieces` consecutive ones."),
    "dy": DY,
    "which": array(
        "which",
        "The indices that `forward_with_index` returned, with the shape of `dy`. Gradients with an index out of range "
        "are dropped.",
        "array_like of int",
    ),
}
_RETURNS = {
    "y": "The value, with the shape of `x`, except that the length of the axis is divided by `pieces`.",
    "which": "For each value, an index from 0 to ``pieces - 1``, of dtype `numpy.intp`.",
    "dx": "The gradient with respect to the input, with its shape.",
}
_RAISES = {
    "TypeError": "If an input is not real, or `which`, `pieces` or `axis` is not an integer.",
    "ValueError": "If the length of the axis is not a multiple of `pieces`, or shapes or `out` do not match.",
}
_EXAMPLES = {
    "vjp": """\
>>> y, vjp = {f}.vjp([1.0, 4.0, 3.0, 2.0])
>>> vjp([0.5, 2.0])
array([0. , 0.5, 2. , 0. ])""",
    "forward_with_index": """\
>>> y, which = {f}.forward_with_index([1.0, 4.0, 3.0, 2.0])
>>> y, which
(array([4., 3.]), array([1, 0]))""",
    "backward": """\
>>> {f}.backward([0.5, 2.0], [1, 0])
array([0. , 0.5, 2. , 0. ])""",
    "forward_backward": """\
>>> y, dx = {f}.forward_backward([1.0, 4.0, 3.0, 2.0], [0.5, 2.0])
>>> y, dx
(array([4., 3.]), array([0. , 0.5, 2. , 0. ]))""",
}
_PIECES = Argument(
    "pieces",
    "int",
    "The number of features in a group; the length of the axis must be a multiple of it.",
    REQUIRED,
    "int",
    is_positional=True,
)


def family(definition: GroupDefinition) -> Family:
    """Return the family of a definition."""

    def kernel(name: str) -> Kernel:
        return Kernel.of(_SIGNATURES[name], Groups(lambda: definition.function, name))

    def operation(name: str) -> Operation:
        inputs, outputs = kernel(name).inputs, kernel(name).outputs
        return Operation(
            name,
            _SUMMARIES[name],
            tuple(_ARRAYS[each.name] for each in inputs),
            (_PIECES, AXIS, OUT),
            {each.name: _RETURNS[each.name] for each in outputs},
            _run,
            _RAISES,
            example=_EXAMPLES.get(name, ""),
        )

    return Family(
        {name: operation(name) for name in _SIGNATURES},
        tuple(_SIGNATURES),
        kernel,
        vjp=partial(by_backward, forward="forward_with_index"),
        vjp_example=_EXAMPLES["vjp"],
    )


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> GroupsCall:
    """Return the call of the ufunc on groups, for any layout."""
    caller, kernel = function.caller(operation.name), function._family.kernel(operation.name)
    values = dict(zip(operation.inputs, arrays, strict=True))
    pieces = _pieces(caller, options.get("pieces", function.parameters["pieces"]))
    given = {
        name: _indices(caller, value) if name == "which" else as_real_array(caller, name, value)
        for name, value in values.items()
    }
    first = next(iter(given.values()))
    axis = as_axis(caller, options.get("axis", -1), first.ndim)
    length = first.shape[axis] * (pieces if "x" not in given else 1)
    if length % pieces:
        raise ValueError(
            f"{caller}: the length of axis {axis} must be a multiple of pieces; "
            f"got length {length} and pieces {pieces}"
        )
    whole, part = (
        (*first.shape[:axis], each, *first.shape[axis + 1 :]) for each in (length, length // pieces)
    )
    for each in kernel.inputs:
        shape = whole if each.core else part
        if given[each.name].shape != shape:
            raise ValueError(
                f"{caller}: {each.name} has shape {given[each.name].shape}, expected {shape}"
            )
    reals = [name for name in given if name != "which"]
    dtype = float_type([values[name] for name in reals], [given[name] for name in reals])
    ufunc = function.kernels[operation.name]
    return GroupsCall(
        caller, kernel, ufunc, given, pieces, whole, part, axis, dtype, options.get("out")
    )


@dataclass(eq=False, repr=False)
class GroupsCall(Call):
    """A call of a `fastact.kernels.kernel.Groups` kernel.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    kernel, ufunc : Kernel, numpy.ufunc
        What is called.
    arrays : dict of str to ndarray
        The inputs by name.
    pieces : int
        The number of elements in a group.
    whole, part : tuple of int
        The shapes of arrays that hold all pieces, and one for each group.
    axis : int
        The axis of the features, non-negative.
    dtype : dtype
        The dtype of the results.
    out : ndarray or tuple, optional
        Where the results go.
    """

    caller: str
    kernel: Kernel
    ufunc: np.ufunc
    arrays: Mapping[str, NDArray[Any]]
    pieces: int
    whole: tuple[int, ...]
    part: tuple[int, ...]
    axis: int
    dtype: np.dtype[Any]
    out: Any

    def __call__(self) -> Any:
        """Make the call and return the results."""
        shapes, types = zip(*self._results, strict=True)
        results = outputs_for(self.caller, self.out, shapes, types)
        views = [
            _grouped(array, self.axis, self.pieces) if each.core else _axis_last(array, self.axis)
            for array, each in zip(
                (*self.arrays.values(), *results), self.kernel.operands, strict=True
            )
        ]
        count, types = len(self.arrays), self.kernel.types(self.dtype)
        retry_without_pool(
            self.ufunc,
            *views[:count],
            out=tuple(views[count:]),
            casting="same_kind",
            signature=types,
        )
        return as_returned(results, self.out)

    @property
    def _results(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shapes and dtypes of the results."""
        return [
            (
                self.whole if each.core else self.part,
                np.dtype(np.intp) if each.name == "which" else self.dtype,
            )
            for each in self.kernel.outputs
        ]

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for groups along the last axis."""
        reals = [array for name, array in self.arrays.items() if name != "which"]
        is_last = self.axis == len(self.whole) - 1
        if self.out is not None or not is_last or not are_plain(reals, self.dtype):
            return None
        if any(array.dtype != np.intp for name, array in self.arrays.items() if name == "which"):
            return None
        grouped = (*self.part, self.pieces)
        views = [shaped(grouped if each.core else self.part) for each in self.kernel.operands]
        named = zip(self.arrays, views, strict=False)
        return KernelPlan(
            self.ufunc,
            [Input(positions[name], view) for name, view in named],
            [
                Output(*each, view)
                for each, view in zip(self._results, views[len(self.arrays) :], strict=True)
            ],
        )


def _axis_last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return a view with an axis last; np.moveaxis takes 2 us even if it is last already."""
    return array if axis == array.ndim - 1 else np.moveaxis(array, axis, -1)


def _grouped(array: NDArray[Any], axis: int, pieces: int) -> NDArray[Any]:
    """Return a view whose last dimension is the group."""
    moved = _axis_last(array, axis)
    return moved.reshape(*moved.shape[:-1], moved.shape[-1] // pieces, pieces)


def _indices(caller: str, which: Any) -> NDArray[np.intp]:
    array = as_array(caller, "which", which)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{caller}: which must hold integers, got {array.dtype}")
    indices: NDArray[np.intp] = retry_without_pool(array.astype, np.intp, copy=False)
    return indices


def _pieces(caller: str, pieces: Any) -> int:
    if pieces is REQUIRED:
        raise TypeError(f"{caller}: missing the argument 'pieces'")
    number = as_integer(caller, "pieces", pieces)
    if not 1 <= number <= 2**24:  # the integers that float32 lanes can hold
        raise ValueError(f"{caller}: pieces must be from 1 to 2**24, got {number}")
    return number
