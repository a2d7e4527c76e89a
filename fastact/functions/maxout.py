"""Activations that take one number of each group of features."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_array, as_axis, as_real_array, as_returned, outputs_for
from fastact.arrays.dtypes import dtype_of, dtypes
from fastact.catalogue.definition import GroupDefinition
from fastact.functions.base import Activation
from fastact.runtime.output_pool import with_room

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


@dataclass(frozen=True)
class _Operation:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    core_signature: str


# The core dimension p runs over the pieces of a group; "which" is the index of the chosen one.
_OPERATIONS = {
    "forward": _Operation(("x",), ("y",), "(p)->()"),
    "forward_with_index": _Operation(("x",), ("y", "which"), "(p)->(),()"),
    "backward": _Operation(("dy", "which"), ("dx",), "(),()->(p)"),
    "forward_backward": _Operation(("x", "dy"), ("y", "dx"), "(p),()->(),(p)"),
}


class GroupActivation(Activation):
    """An activation that takes one number of each group of features.

    Its ufuncs are generalized: their last dimension is the group.
    """

    def __init__(self, definition: GroupDefinition) -> None:
        super().__init__(definition, list(_OPERATIONS), lambda name: _make(definition, name))

    def __call__(self, x: Any, pieces: int, *, axis: int = -1, out: Any = None) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            The features lie along `axis`, in groups of `pieces` consecutive ones.
        pieces : int
            How many features make a group; the length of the axis must be a multiple of it.
        axis : int, default -1
            The axis of the features.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        ndarray
            Of the shape of `x`, but with the length of the axis divided by `pieces`.

        Raises
        ------
        TypeError
            If `x` is not real, or `pieces` or `axis` is not an integer.
        ValueError
            If the length of the axis is not a multiple of `pieces`, or `out` does not fit.
        """
        x, grouped = self._group("forward", "x", x, pieces, axis)
        return self._run("forward", (grouped,), (_shape(x, axis, grouped.shape[-2]),), axis, out)

    def forward_with_index(self, x: Any, pieces: int, *, axis: int = -1, out: Any = None) -> Any:
        """Compute the value and which piece of its group each comes from.

        Returns
        -------
        y, which : ndarray
            The values, and for each an index from 0 to ``pieces - 1``, of type `numpy.intp`. Arguments as
            for a call; `out` is a pair.
        """
        x, grouped = self._group("forward_with_index", "x", x, pieces, axis)
        shape = _shape(x, axis, grouped.shape[-2])
        return self._run("forward_with_index", (grouped,), (shape, shape), axis, out)

    def backward(self, dy: Any, which: Any, pieces: int, *, axis: int = -1, out: Any = None) -> Any:
        """Compute the gradient by the input: each `dy` goes to the piece that was chosen.

        Parameters
        ----------
        dy : array_like
            The gradient by the output.
        which : array_like of int
            What `forward_with_index` returned, of the same shape. An index that is no piece's sends its
            gradient nowhere.
        pieces, axis
            As for a call.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        ndarray
            Of the shape of the input.
        """
        where = self._where("backward")
        dy, which = as_real_array(where, "dy", dy), as_array(where, "which", which)
        pieces = _pieces(where, pieces)
        if which.dtype.kind not in "iu":
            raise TypeError(f"{where}: which must hold integers, got {which.dtype}")
        if which.shape != dy.shape:
            raise ValueError(f"{where}: which has shape {which.shape}, dy has {dy.shape}")
        axis = as_axis(where, axis, dy.ndim)
        shape = _shape(dy, axis, dy.shape[axis] * pieces)
        which = with_room(which.astype, np.intp, copy=False)
        arrays = (_axis_last(dy, axis), _axis_last(which, axis))
        return self._run("backward", arrays, (shape,), axis, out, pieces)

    def forward_backward(
        self, x: Any, dy: Any, pieces: int, *, axis: int = -1, out: Any = None
    ) -> Any:
        """Compute the value and the gradient by the input, in one pass.

        Returns
        -------
        y, dx : ndarray
            Arguments as for a call and for `backward`; `out` is a pair.
        """
        where = self._where("forward_backward")
        x, grouped = self._group("forward_backward", "x", x, pieces, axis)
        dy = as_real_array(where, "dy", dy)
        shape = _shape(x, axis, grouped.shape[-2])
        if dy.shape != shape:
            raise ValueError(f"{where}: dy has shape {dy.shape}, the output has {shape}")
        arrays = (grouped, _axis_last(dy, axis))
        return self._run("forward_backward", arrays, (shape, x.shape), axis, out, grouped.shape[-1])

    def _group(
        self, operation: str, name: str, x: Any, pieces: int, axis: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the input and a view of it whose last dimension is the group."""
        where = self._where(operation)
        x = as_real_array(where, name, x)
        pieces = _pieces(where, pieces)
        axis = as_axis(where, axis, x.ndim)
        length = x.shape[axis]
        if length % pieces:
            raise ValueError(
                f"{where}: the length of axis {axis} must be a multiple of pieces; "
                f"got length {length} and pieces {pieces}"
            )
        moved = _axis_last(x, axis)
        return x, moved.reshape(*moved.shape[:-1], length // pieces, pieces)

    def _run(
        self,
        operation: str,
        arrays: tuple[NDArray[Any], ...],
        shapes: tuple[tuple[int, ...], ...],
        axis: int,
        out: Any,
        pieces: int = 1,
    ) -> Any:
        """Call a ufunc on groups, with outputs of these shapes."""
        where = self._where(operation)
        ufunc = self.ufuncs[operation]
        dtypes = ufunc.resolve_dtypes((*(array.dtype for array in arrays), *[None] * ufunc.nout))
        outputs = outputs_for(where, out, shapes, dtypes[ufunc.nin :])
        views = []
        for name, output in zip(_OPERATIONS[operation].outputs, outputs, strict=True):
            view = _axis_last(output, axis)
            if name == "dx":
                view = view.reshape(*view.shape[:-1], view.shape[-1] // pieces, pieces)
            views.append(view)
        try:
            ufunc(*arrays, out=tuple(views))
        except MemoryError:
            with_room(ufunc, *arrays, out=tuple(views))
        return as_returned(outputs, out)


def _axis_last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return a view with an axis last; NumPy's function takes 2 us where it is so already."""
    return array if axis in (-1, array.ndim - 1) else np.moveaxis(array, axis, -1)


def _pieces(where: str, pieces: Any) -> int:
    try:
        number = operator.index(pieces)
    except TypeError:
        raise TypeError(f"{where}: pieces must be an integer, got {pieces!r}") from None
    if not 1 <= number <= 2**24:  # whole numbers that float32 lanes hold
        raise ValueError(f"{where}: pieces must be from 1 to 2**24, got {number}")
    return number


def _shape(x: NDArray[Any], axis: int, length: int) -> tuple[int, ...]:
    axis %= x.ndim
    return (*x.shape[:axis], length, *x.shape[axis + 1 :])


def _make(definition: GroupDefinition, name: str) -> np.ufunc:
    from fastact.runtime.ufunc import Loop, make_ufunc

    operation = _OPERATIONS[name]
    operands = (*operation.inputs, *operation.outputs)
    loops = [
        Loop(
            [np.dtype(np.intp) if each == "which" else dtype_of(dtype) for each in operands],
            definition.kernel_name(f"{name}.{dtype}"),
            partial(_build_loop, definition, name, dtype),
        )
        for dtype in dtypes()
    ]
    doc = f"Compute {', '.join(operation.outputs)} of the activation {definition.name!r} on groups."
    return make_ufunc(
        definition.module,
        definition.ufunc_name(name),
        doc,
        operation.inputs,
        operation.outputs,
        loops,
        operation.core_signature,
    )


def _build_loop(definition: GroupDefinition, name: str, dtype: str) -> LoopFunction:
    from fastact import kernels

    return kernels.groups(definition.function, name, dtype)
