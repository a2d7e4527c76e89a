"""Arrays of any layout, passed to generalized ufuncs as contiguous blocks in C order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_returned,
    copy_overlapping,
    outputs_for,
    weak_for_integers,
)
from fastact.arrays.plans import RNG, Call, KernelPlan, Plan, are_plain, is_number, shaped
from fastact.arrays.random_numbers import Draw
from fastact.runtime.dtypes import inner_type
from fastact.runtime.output_pool import empty, retry_without_pool
from fastact.runtime.replays import Input, Output
from fastact.runtime.settings import PARALLEL_ELEMENTS

# Elements of a block. Blocks depend only on the shape, so that sums over them do not depend on the number of threads. A
# thread's task is never less than a block.
BLOCK = 16_384
# Arrays of at most so many elements are computed on one thread by default, and need no blocks except for sums.
ONE_CALL = PARALLEL_ELEMENTS
# Partial sums of all blocks: at most half a MiB, or one for so many elements, unless there are more of them in one block.
# One thread adds them up: of 8,192 rows of 4,096 elements there are 64 blocks, whose sums cost it 2 % of what two threads
# take for the rest.
_MAX_SUMS, _ELEMENTS_OF_SUM = 65_536, 128
# Elements of the parts that arrays are broadcast in: 1 MiB of float32, which fits the processor's cache.
_PART = 2**18
# The leading operands of kernels with random numbers.
RANDOM_OPERANDS = ("random_key", "random_index", "random_threshold")


def as_contiguous(
    arrays: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return inputs and outputs of this dtype in C order, without overlap; see `copy_back`."""
    arrays = copy_overlapping(arrays, outputs)
    try:
        inputs = [np.require(array, dtype, ["C", "A"]) for array in arrays]
    except MemoryError:
        inputs = [retry_without_pool(np.require, array, dtype, ["C", "A"]) for array in arrays]
    buffers = [
        array if array.dtype == dtype and array.flags.carray else empty(array.shape, dtype)
        for array in outputs
    ]
    return inputs, buffers


def copy_back(outputs: Sequence[NDArray[Any]], buffers: Sequence[NDArray[Any]]) -> None:
    """Copy results from temporary buffers to the outputs."""
    for output, array in zip(outputs, buffers, strict=True):
        if output is not array:
            np.copyto(output, array, casting="same_kind")


def parts(length: int, block: int) -> list[tuple[int, int, int]]:
    """Split a length into whole blocks and a remainder: (start, stop, block) of each part."""
    whole = length - length % block
    parts = [(0, whole, block), (whole, length, length - whole)]
    return [part for part in parts if part[0] < part[1]]


def most_sums(elements: int) -> int:
    """Return how many partial sums the blocks of an array may have."""
    return max(_MAX_SUMS, elements // _ELEMENTS_OF_SUM)


def broadcast_in_parts(
    shape: tuple[int, ...], arrays: Sequence[NDArray[Any]]
) -> Iterator[tuple[Any, ...]]:
    """Yield indices of parts of this shape, contiguous in C order, with arrays broadcast to them.

    There is one part unless an array has another shape, so that no copy of it is large. Parts with the same elements
    of all arrays share a copy.
    """
    whole = (*(slice(None) for _ in shape), ...)
    if all(array.shape == shape for array in arrays):
        yield whole, *arrays
        return
    views = [np.broadcast_to(array, shape) for array in arrays]
    places: list[Any] = []
    for part in _leading_parts(shape):
        some = [view[part] for view in views]
        if [each.__array_interface__ for each in some] != places:
            places = [each.__array_interface__ for each in some]
            copies = [np.ascontiguousarray(each) for each in some]
        yield part, *copies


def _leading_parts(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield indices of parts that are contiguous in C order, with at most `_PART` elements."""
    if not shape:
        yield (...,)
        return
    length, *others = shape
    step = _PART // max(1, math.prod(others))
    if step or not others:
        for first in range(0, length, max(1, step)):
            yield slice(first, first + max(1, step)), *(slice(None) for _ in others), ...
        return
    for k in range(length):
        for part in _leading_parts(tuple(others)):
            yield slice(k, k + 1), *part


def computed_dtype(
    ufunc: np.ufunc, arrays: Sequence[NDArray[Any]], numbers: Sequence[Any]
) -> np.dtype[Any]:
    """Return the dtype that NumPy promotes a ufunc's arrays to; Python scalars do not change it."""
    first = ufunc.nin - len(arrays) - len(numbers)  # the random operands
    kinds: list[Any] = [np.dtype(np.int64)] * first + [array.dtype for array in arrays]
    kinds += [type(n) if type(n) in (int, float) else np.asanyarray(n).dtype for n in numbers]
    found: np.dtype[Any] = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))[first]
    return found


@dataclass(eq=False, repr=False)
class ContiguousCall(Call):
    """A call of a `Contiguous` or `Elementwise` kernel of `fastact.kernels.kernel` with NumPy's type promotion.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    ufunc : numpy.ufunc
        All its results have the arrays' shape.
    arrays : dict of str to ndarray
        The arrays by name, of one shape.
    numbers : sequence of scalar
        The parameters.
    out : ndarray or tuple, optional
        Where the results go.
    draw : Draw or None
        The random numbers, if the kernel has random operands.
    """

    caller: str
    ufunc: np.ufunc
    arrays: Mapping[str, NDArray[Any]]
    numbers: Sequence[Any]
    out: Any
    draw: Draw | None

    def __call__(self) -> Any:
        """Make the call and return the results."""
        arrays, count = tuple(self.arrays.values()), self.ufunc.nout
        numbers = weak_for_integers(arrays, list(self.numbers))
        dtype = computed_dtype(self.ufunc, arrays, numbers)
        shapes = (arrays[0].shape,) * count
        results = outputs_for(self.caller, self.out, shapes, (dtype,) * count)
        values = [np.asarray(each, inner_type(dtype)) for each in numbers]
        if self._is_elementwise:
            retry_without_pool(self.ufunc, *arrays, *values, out=results, casting="same_kind")
        else:
            draws = None if self.draw is None else self.draw.key_and_threshold()
            run_contiguous(self.ufunc, draws, arrays, values, results, dtype)
        return as_returned(results, self.out)

    @property
    def _is_elementwise(self) -> bool:
        return self.ufunc.signature is None

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for arrays that one call computes."""
        arrays = tuple(self.arrays.values())
        shape, dtype = arrays[0].shape, arrays[0].dtype
        if self.out is not None or not are_plain(arrays, dtype, any_layout=True):
            return None
        if arrays[0].size > ONE_CALL and not self._is_elementwise:
            return None
        if not all(map(is_number, self.numbers)):
            return None
        at = positions.get(RNG, -1)
        draws = () if self.draw is None else self.draw.operands(at)
        view = None if self._is_elementwise else shaped((-1,))
        inner = inner_type(dtype)
        return KernelPlan(
            self.ufunc,
            (
                *draws,
                *(Input(positions[name], view) for name in self.arrays),
                *(Input(np.asarray(each, inner)) for each in self.numbers),
            ),
            (Output(shape, dtype, view),) * self.ufunc.nout,
            key=None if self.draw is None else self.draw.key_at(at),
        )


def run_contiguous(
    ufunc: np.ufunc,
    key_and_threshold: tuple[np.int64, np.int64] | None,
    arrays: Sequence[NDArray[Any]],
    numbers: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
    dtype: np.dtype[Any],
) -> None:
    """Run a `fastact.kernels.kernel.Contiguous` kernel on arrays of any layout.

    Parameters
    ----------
    ufunc : numpy.ufunc
        The kernel's ufunc.
    key_and_threshold : tuple of int64 or None
        See `fastact.arrays.random_numbers.key_and_threshold`; None if the kernel has no random operands.
    arrays : sequence of ndarray
        Of one shape.
    numbers : sequence of ndarray
        The parameters.
    outputs : sequence of ndarray
        Arrays for the results, of the arrays' shape.
    dtype : dtype
        The dtype of the kernel's arrays.
    """
    inputs, buffers = as_contiguous(arrays, outputs, dtype)
    flat = [array.reshape(-1) for array in (*inputs, *buffers)]
    for start, stop, length in parts(flat[0].size, BLOCK):
        views = [array[start:stop].reshape(-1, length) for array in flat]
        draws: tuple[Any, ...] = ()
        if key_and_threshold is not None:
            key, threshold = key_and_threshold
            draws = key, np.arange(start, stop, length, dtype=np.int64), threshold
        ufunc(*draws, *views[: len(inputs)], *numbers, out=tuple(views[len(inputs) :]))
    with np.errstate(over="ignore"):
        copy_back(outputs, buffers)
