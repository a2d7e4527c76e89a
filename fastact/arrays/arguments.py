"""Arguments of calls, checked with errors that name them: arrays, axes, outputs and result types."""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.runtime.dtypes import dtypes, is_bfloat16, native
from fastact.runtime.output_pool import empty, retry_without_pool
from fastact.system.first_use import first_use


def as_array(caller: str, name: str, value: Any) -> NDArray[Any]:
    """Return an argument as an array, or raise an error that names it.

    Subclasses and arrays of other libraries would lose what they carry, such as a mask or an index, except in plain
    ufunc calls, where NumPy asks them; so functions that are more than one ufunc refuse them.
    """
    kind = type(value)
    if kind is np.ndarray:
        array: NDArray[Any] = value
        return array
    if _is_foreign(value):
        raise TypeError(
            f"{caller}: {name} is a {kind.__module__.partition('.')[0]} {kind.__name__}, which is not supported: "
            f"pass a plain array, such as np.asarray({name})"
        )
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{caller}: {name} is not an array: {error}") from None


def _is_foreign(value: Any) -> bool:
    """Whether this is another library's array, or a NumPy subclass with a different meaning."""
    kind = type(value)
    if isinstance(value, np.ndarray):
        own = kind.__array_ufunc__ is np.ndarray.__array_ufunc__
        masked = sys.modules.get("numpy.ma")  # which NumPy imports on first use
        is_masked = masked is not None and isinstance(value, masked.MaskedArray)
        return not own or is_masked or isinstance(value, np.matrix)
    is_array = hasattr(kind, "__array_ufunc__") or hasattr(kind, "__array_wrap__")
    return is_array and not isinstance(value, np.generic)


def as_real_array(caller: str, name: str, value: Any) -> NDArray[Any]:
    """Return an argument as an array of a supported real dtype, or raise an error."""
    array = as_array(caller, name, value)
    check_real(caller, name, array)
    return array


def check_real(caller: str, name: str, array: Any) -> None:
    """Raise an error unless an array has a supported real dtype."""
    if not (array.dtype.kind in "fiub" and array.dtype.itemsize <= 8) and not is_bfloat16(array):
        raise TypeError(
            f"{caller}: {name} has dtype {array.dtype}; supported are {', '.join(dtypes())}, "
            "integers and bools"
        ) from None


def as_number(caller: str, name: str, value: Any) -> float:
    """Return a scalar argument as a float, or raise an error."""
    array = as_real_array(caller, name, value)
    if array.ndim:
        raise ValueError(f"{caller}: {name} must be a number, got shape {array.shape}")
    return float(array)


def as_bool(caller: str, name: str, value: Any) -> bool:
    """Return a bool argument, or raise an error."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{caller}: {name} must be a bool, got {value!r}")
    return bool(value)


def as_integer(caller: str, name: str, value: Any) -> int:
    """Return an integer argument, or raise an error."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{caller}: {name} must be an integer, got {value!r}") from None


@cache
@first_use()
def random_types() -> tuple[
    type[np.random.SeedSequence], type[np.random.Generator], type[np.random.RandomState]
]:
    """Return the classes of seeds and generators, which NumPy imports lazily."""
    return np.random.SeedSequence, np.random.Generator, np.random.RandomState


def as_axis(caller: str, axis: Any, dimensions: int) -> int:
    """Return an axis normalized to be non-negative, or raise an error that names it."""
    number = as_integer(caller, "axis", axis)
    if not -dimensions <= number < dimensions:
        raise ValueError(f"{caller}: axis {number} is out of bounds for {dimensions} dimensions")
    return number % dimensions


def same_shape(caller: str, names: Sequence[str], arrays: Sequence[NDArray[Any]]) -> None:
    """Raise an error that names both arrays if one differs from the first in shape."""
    for name, array in zip(names[1:], arrays[1:], strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{caller}: {names[0]} has shape {arrays[0].shape}, {name} has {array.shape}"
            )


def check_output(caller: str, array: Any, kind: str = "f") -> None:
    """Raise an error unless ``out`` can hold results of this dtype kind."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{caller}: out must be an array, got {type(array).__name__}") from None
    if not array.flags.writeable:
        raise ValueError(f"{caller}: out is read-only") from None
    if array.dtype.kind != kind and not (kind == "f" and is_bfloat16(array)):
        raise TypeError(
            f"{caller}: out has dtype {array.dtype}; the result has "
            f"{'a float' if kind == 'f' else 'an integer'} dtype"
        ) from None


def each_output(caller: str, out: Any, count: int) -> tuple[Any, ...]:
    """Return ``out`` as a tuple with one entry for each of `count` results, None where it is not given."""
    given = out if isinstance(out, tuple) else (out,) + (None,) * (count - 1)
    if len(given) != count:
        raise ValueError(f"{caller}: out must have {count} entries, got {len(given)}")
    arrays = [each for each in given if isinstance(each, np.ndarray)]
    for k, array in enumerate(arrays):
        if any(np.may_share_memory(array, other) for other in arrays[:k]):
            raise ValueError(f"{caller}: the arrays in out share memory")
    return given


def outputs_for(
    caller: str, out: Any, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[np.dtype[Any], ...]
) -> tuple[NDArray[Any], ...]:
    """Return the output arrays: those that the caller gave, or new ones."""
    if out is None:
        return tuple(map(empty, shapes, dtypes))
    outputs = []
    given = each_output(caller, out, len(shapes))
    for array, shape, dtype in zip(given, shapes, dtypes, strict=True):
        if array is not None:
            check_output(caller, array, dtype.kind)
            if _is_foreign(array):
                raise TypeError(f"{caller}: out must be a plain array, got {type(array).__name__}")
            if array.shape != shape:
                raise ValueError(f"{caller}: out has shape {array.shape}, the result has {shape}")
    for array, shape, dtype in zip(given, shapes, dtypes, strict=True):
        outputs.append(empty(shape, dtype) if array is None else array)
    return tuple(outputs)


def copy_overlapping(
    arrays: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], in_place: bool = True
) -> tuple[NDArray[Any], ...]:
    """Return inputs, copied where writing an output would overwrite elements that are still to be read.

    However a call is split, each part reads its elements before it writes to the same addresses. So an output may be
    exactly an input, the same elements in the same order, but must not overlap one in any other way. If inputs are read
    again later, ``in_place=False`` copies the former as well.
    """
    return tuple(
        retry_without_pool(array.copy)
        if any(
            np.may_share_memory(array, output) and not (in_place and _is_same(array, output))
            for output in outputs
        )
        else array
        for array in arrays
    )


def _is_same(array: NDArray[Any], other: NDArray[Any]) -> bool:
    return array.__array_interface__ == other.__array_interface__ and array.dtype == other.dtype


def broadcast_shape(caller: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
    """Return the common broadcast shape of arrays, or raise an error that names them."""
    shapes = [array.shape for array in arrays.values()]
    if shapes.count(shapes[0]) == len(
        shapes
    ):  # np.broadcast_shapes takes 2 us even if there is nothing to do
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        named = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{caller}: shapes do not broadcast: {named}") from None


def sum_into(result: NDArray[Any], gradient: NDArray[Any]) -> None:
    """Sum a gradient over the axes along which an array was broadcast, in float64, into the array's shape."""
    extra = gradient.ndim - result.ndim
    axes = tuple(
        axis
        for axis, length in enumerate(gradient.shape)
        if axis < extra or (result.shape[axis - extra] == 1 and length != 1)
    )
    total = gradient.sum(axis=axes, keepdims=True, dtype=np.float64)
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        np.copyto(result, total.reshape(result.shape), casting="same_kind")


def warn_caller(text: str) -> None:
    """Issue a warning that points to the caller of fastact."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("fastact."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def as_returned(results: Sequence[NDArray[Any]], out: Any) -> Any:
    """Return the results of a call as its caller expects them.

    One result or a tuple; new 0-d results become scalars, as in NumPy.
    """
    given = out if isinstance(out, tuple) else (out,)
    found = tuple(
        each if each.ndim or any(each is one for one in given) else each[()] for each in results
    )
    return found[0] if len(found) == 1 else found


def float_type(values: Sequence[Any], arrays: Sequence[NDArray[Any]]) -> np.dtype[Any]:
    """Return the result dtype that NumPy's own float functions would choose.

    Parameters
    ----------
    values : sequence
        The arguments as given. Python scalars are weak beside arrays.
    arrays : sequence of ndarray
        The same arguments as arrays.
    """
    kinds = [array.dtype for array in arrays]
    if kinds.count(kinds[0]) == len(kinds) and kinds[0].kind not in "iub":
        return native(kinds[0])
    are_weak = [type(value) in (int, float) for value in values]
    if all(kind.kind in "iub" for kind in kinds) and not all(are_weak):
        kinds.append(np.dtype(np.float16))
    weak = [
        value if is_weak and not all(are_weak) else kind
        for value, is_weak, kind in zip(values, are_weak, kinds, strict=False)
    ]
    found = np.result_type(*weak, *kinds[len(values) :])
    return native(found if found.kind not in "iub" else np.dtype(np.float64))


def weak_for_integers(arrays: Sequence[Any], parameters: list[Any]) -> list[Any]:
    """Keep Python scalars from changing the float type that integer arrays are promoted to.

    In NumPy they do: ``np.arctan2(int8, 0.5)`` is float64, while ``np.tanh(int8)`` is float16.
    """
    for each in arrays:
        if type(each) is np.ndarray and each.dtype.kind not in "iub":
            return parameters
    try:
        kinds = [
            np.asarray(each).dtype
            for each in arrays
            if isinstance(each, np.ndarray | np.generic | list | tuple | bool)
        ]
    except ValueError:  # the ufunc raises the error
        return parameters
    if len(kinds) < len(arrays) or any(kind.kind not in "iub" for kind in kinds):
        return parameters
    number = np.result_type(np.float16, *kinds).type
    return [number(p) if type(p) in (int, float) else p for p in parameters]
