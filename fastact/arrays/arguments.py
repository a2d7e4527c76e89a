"""Arguments of calls: as arrays, as axes, as outputs, each checked with an error that names it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.dtypes import dtypes, is_bfloat16, native
from fastact.runtime.output_pool import empty


def as_array(where: str, name: str, value: Any) -> NDArray[Any]:
    """Return an argument as an array, or raise an error that names it."""
    try:
        return np.asanyarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: {name} is not an array: {error}") from None


def as_real_array(where: str, name: str, value: Any) -> NDArray[Any]:
    """Return an argument as an array of a type that can be computed with, or raise an error."""
    array = as_array(where, name, value)
    if not (array.dtype.kind in "fiub" and array.dtype.itemsize <= 8) and not is_bfloat16(array):
        raise TypeError(
            f"{where}: {name} has the type {array.dtype}; allowed are {', '.join(dtypes())}, "
            "integers and bools"
        ) from None
    return array


def check_output(where: str, array: Any, kind: str = "f") -> None:
    """Raise an error unless what was given as ``out`` can take results of this kind of type."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{where}: out must be an array, got {type(array).__name__}") from None
    if not array.flags.writeable:
        raise ValueError(f"{where}: out is read-only") from None
    if array.dtype.kind != kind and not (kind == "f" and is_bfloat16(array)):
        raise TypeError(
            f"{where}: out has the type {array.dtype}; the result is of "
            f"{'a float' if kind == 'f' else 'an integer'} type"
        ) from None


def as_axis(where: str, axis: Any, dimensions: int) -> int:
    """Return an axis as an index from the front, or raise an error that names it."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{where}: axis must be an integer, got {axis!r}") from None
    if not -dimensions <= number < dimensions:
        raise ValueError(f"{where}: axis {number} is out of bounds for {dimensions} dimensions")
    return number % dimensions


def outputs_for(
    where: str, out: Any, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[np.dtype[Any], ...]
) -> tuple[NDArray[Any], ...]:
    """Return the arrays that results go to: what the caller gave, or new ones."""
    given = out if isinstance(out, tuple) else (out,) + (None,) * (len(shapes) - 1)
    if len(given) != len(shapes):
        raise ValueError(f"{where}: out must have {len(shapes)} entries, got {len(given)}")
    outputs = []
    for array, shape, dtype in zip(given, shapes, dtypes, strict=True):
        if array is None:
            array = empty(shape, dtype)
        else:
            check_output(where, array, dtype.kind)
        if array.shape != shape:
            raise ValueError(f"{where}: out has shape {array.shape}, the result has {shape}")
        outputs.append(array)
    return tuple(outputs)


def as_returned(results: Sequence[NDArray[Any]], out: Any) -> Any:
    """Return what a call gives back for its results, of which the caller may have given some.

    One result or a tuple; new ones of no dimension are scalars, as those of NumPy's functions are.
    """
    given = out if isinstance(out, tuple) else (out,)
    found = tuple(
        each if each.ndim or any(each is one for one in given) else each[()] for each in results
    )
    return found[0] if len(found) == 1 else found


def float_type(values: tuple[Any, ...], arrays: list[NDArray[Any]]) -> np.dtype[Any]:
    """Return the type of results: what NumPy's own float functions would choose.

    Parameters
    ----------
    values : tuple
        What was given. Python's own numbers are weak.
    arrays : list of ndarray
        The same as arrays.
    """
    kinds = [array.dtype for array in arrays]
    if len(kinds) == 1 and kinds[0].kind not in "iub":
        return native(kinds[0])
    if all(kind.kind in "iub" for kind in kinds):
        kinds.append(np.dtype(np.float16))
    weak = [
        value if type(value) in (int, float) else kind
        for value, kind in zip(values, kinds, strict=False)
    ]
    return native(np.result_type(*weak, *kinds[len(values) :]))
