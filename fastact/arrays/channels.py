"""Arrays with channels, and a parameter with one value per channel whose gradient is summed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_axis,
    as_returned,
    copy_overlapping,
    outputs_for,
    weak_for_integers,
)
from fastact.arrays.contiguous import (
    BLOCK,
    ONE_CALL,
    RANDOM_OPERANDS,
    as_contiguous,
    computed_dtype,
    copy_back,
    most_sums,
    parts,
)
from fastact.arrays.plans import (
    RNG,
    Call,
    KernelPlan,
    Plan,
    are_plain,
    is_number,
    shaped,
    taking_contiguous,
)
from fastact.arrays.random_numbers import Draw
from fastact.runtime.dtypes import inner_type
from fastact.runtime.output_pool import empty
from fastact.runtime.replays import Input, Output

# Random numbers depend on indices in the whole array, where the channels of a block may be further apart.
CHANNEL_RANDOM_OPERANDS = (*RANDOM_OPERANDS, "channel_stride")
# Adjacent channels of a block where they are cut: a page of float32 in each row.
_WIDTH = 1024


def channel_axis(caller: str, name: str, x: NDArray[Any], value: Any, axis: Any) -> int | None:
    """Return the axis along which a parameter varies, or None if it has one value.

    It is 1-d and varies along `axis`, or has a shape that broadcasts with `x` and varies along one axis.
    """
    shape = np.shape(value)
    if math.prod(shape) == 1 and len(shape) <= max(1, x.ndim):
        return None
    if len(shape) > 1:
        varying = [k - len(shape) for k, length in enumerate(shape) if length != 1]
        if len(shape) > x.ndim or len(varying) != 1:
            raise ValueError(
                f"{caller}: {name} must be a number, 1-d, or vary along one axis of x, got shape {shape}"
            )
        axis = varying[0]
    try:
        found = as_axis(caller, axis, x.ndim)
    except ValueError as error:
        raise ValueError(f"{error}; it is the axis of the channels of {name}") from None
    if x.shape[found] != math.prod(shape):
        raise ValueError(
            f"{caller}: {name} has {math.prod(shape)} values, but x has "
            f"{x.shape[found]} channels along axis {found}"
        )
    return found


@dataclass(eq=False, repr=False)
class ChannelsCall(Call):
    """A call of a `fastact.kernels.kernel.Channels` kernel with NumPy's type promotion.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    ufunc : numpy.ufunc
        All its results but the sums have the arrays' shape.
    arrays : dict of str to ndarray
        The arrays by name, of one shape.
    name : str
        The name of the first parameter.
    parameters : sequence of scalar or ndarray
        The first has one value, or one for each channel; the others are numbers.
    axis : int or None
        The axis of the channels.
    out : ndarray or tuple, optional
        Where the results go.
    draw : Draw, optional
        The random numbers, if the kernel has random operands.
    has_sums : bool
        Whether the last result is the summed gradient of the first parameter, of its shape.
    """

    caller: str
    ufunc: np.ufunc
    arrays: Mapping[str, NDArray[Any]]
    name: str
    parameters: Sequence[Any]
    axis: int | None
    out: Any
    draw: Draw | None
    has_sums: bool

    def __call__(self) -> Any:
        """Make the call and return the results."""
        arrays = tuple(self.arrays.values())
        parameters = weak_for_integers(arrays, list(self.parameters))
        dtype = computed_dtype(self.ufunc, arrays, parameters)
        count = self.ufunc.nout - self.has_sums
        shapes, types = (arrays[0].shape,) * count, (dtype,) * count
        if self.has_sums:
            shapes += (np.shape(parameters[0]),)
            types += (type_of_sums(parameters[0], dtype),)
        results = outputs_for(self.caller, self.out, shapes, types)
        inner = inner_type(dtype)
        values = copy_overlapping(
            [np.require(each, inner, ["C", "A"]) for each in parameters], results
        )
        values = (values[0].reshape(-1), *values[1:])
        sums = results[count] if self.has_sums else None
        draws = None if self.draw is None else self.draw.key_and_threshold()
        run_on_channels(self.ufunc, arrays, values, results[:count], sums, self.axis, dtype, draws)
        return as_returned(results, self.out)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for small arrays of any layout, and for contiguous ones of any size."""
        arrays, (first, *others) = tuple(self.arrays.values()), self.parameters
        shape, dtype = arrays[0].shape, arrays[0].dtype
        is_array = type(first) is ndarray
        # Blocks serve sums, and threads.
        is_block = arrays[0].size <= (BLOCK if self.has_sums else ONE_CALL)
        if self.out is not None:
            return None
        if not are_plain(
            [*arrays, first] if is_array else arrays, dtype, any_layout=is_block, any_size=True
        ):
            return None
        if not all(map(is_number, others if is_array else self.parameters)):
            return None
        inner = inner_type(dtype)
        core = core_shape(shape, self.axis)
        first_at = positions[self.name] if is_array else None
        at = positions.get(RNG, -1)
        if not is_block or (is_array and inner is not dtype):
            return self._plan_of_blocks(positions, first_at)
        view, draw = shaped(core), self.draw
        outputs = [Output(shape, dtype, view)] * (self.ufunc.nout - self.has_sums)
        finish = None
        if self.has_sums:
            sums, sums_type = np.shape(first), type_of_sums(first, dtype)
            outputs.append(Output(sums, sums_type, shaped((-1,)), from_float64=True))
            if not sums:
                finish = _with_number(len(outputs))

        return KernelPlan(
            self.ufunc,
            (
                *(() if draw is None else draw.operands(at, np.int64(core[2]))),
                *(Input(positions[name], view) for name in self.arrays),
                Input(np.array([first], inner))
                if first_at is None
                else Input(first_at, shaped((-1,))),
                *(Input(np.asarray(each, inner)) for each in others),
            ),
            outputs,
            finish,
            None if draw is None else draw.key_at(at),
        )

    def _plan_of_blocks(self, positions: Mapping[str, int], first_at: int | None) -> Plan:
        """Return the plan for arrays of several blocks."""
        (x, *_), (first, *others) = self.arrays.values(), self.parameters
        shape, dtype, inner, axis = x.shape, x.dtype, inner_type(x.dtype), self.axis
        ufunc, has_sums, draw = self.ufunc, self.has_sums, self.draw
        take = taking_contiguous(
            (positions[name] for name in self.arrays), tuple(self.arrays.values())
        )
        constant = np.array([first], inner) if first_at is None else None
        numbers = [np.asarray(each, inner) for each in others]
        rng_at: Any = positions.get(RNG)
        count = ufunc.nout - has_sums
        sums_shape, sums_type = np.shape(first), type_of_sums(first, dtype)

        def run(given: Sequence[Any]) -> Any:
            parameter: Any = constant
            if first_at is not None:
                parameter = given[first_at].astype(inner, copy=False).reshape(-1)
            draws = None
            if draw is not None:
                draws = replace(draw, rng=given[rng_at]).key_and_threshold()
            outputs = [empty(shape, dtype) for _ in range(count)]
            parameters = (parameter, *numbers)
            partials = run_in_blocks(
                ufunc, take(given), parameters, outputs, axis, int(has_sums), draws
            )
            if not has_sums:
                return outputs[0] if count == 1 else tuple(outputs)
            total = total_of_blocks(partials[0], math.prod(sums_shape))
            return *outputs, as_sums(total, sums_shape, sums_type)

        return run


def sum_of_channels(gradient: NDArray[Any], axis: int | None) -> NDArray[np.float64]:
    """Return the sums of all channels of an array."""
    rows, channels, length = core_shape(gradient.shape, axis)
    if length == 1:
        total = np.add.reduce(gradient.reshape(rows, channels), 0, np.float64)
    else:
        total = np.add.reduce(gradient.reshape(rows, channels, length), (0, 2), np.float64)
    found: NDArray[np.float64] = total
    return found


def as_sums(total: NDArray[np.float64], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return the sums of all channels as the gradient of a parameter of this shape."""
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        sums = total.astype(dtype, copy=False).reshape(shape)
    return sums if shape else sums[()]


def type_of_sums(parameter: Any, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a parameter's gradient beside arrays of this dtype."""
    if type(parameter) in (int, float):
        return dtype
    return np.promote_types(dtype, np.asarray(parameter).dtype)


def core_shape(shape: tuple[int, ...], axis: int | None) -> tuple[int, int, int]:
    """Return the shape as rows, channels and the length of each channel."""
    if axis is None:
        return 1, 1, math.prod(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def run_on_channels(
    ufunc: np.ufunc,
    arrays: tuple[NDArray[Any], ...],
    parameters: tuple[NDArray[Any], ...],
    outputs: tuple[NDArray[Any], ...],
    sums: NDArray[Any] | None,
    axis: int | None,
    dtype: np.dtype[Any],
    key_and_threshold: tuple[np.int64, np.int64] | None = None,
) -> None:
    """Run a `fastact.kernels.kernel.Channels` kernel on arrays of any layout.

    Parameters
    ----------
    ufunc : numpy.ufunc
        The kernel's ufunc.
    arrays : tuple of ndarray
        Of one shape.
    parameters : tuple of ndarray
        As the kernel takes them: those for each channel are 1-d.
    outputs : tuple of ndarray
        Arrays for the results, of the arrays' shape.
    sums : ndarray or None
        The array for the sums, if the kernel has any: one, or one per channel.
    axis : int or None
        The axis of the channels.
    dtype : dtype
        The dtype of the kernel's arrays.
    key_and_threshold : tuple of int64, optional
        See `fastact.arrays.random_numbers.key_and_threshold`; only if the kernel has random operands.
    """
    inputs, buffers = as_contiguous(arrays, outputs, dtype)
    partials = run_in_blocks(
        ufunc,
        inputs,
        parameters,
        buffers,
        axis,
        int(sums is not None),
        key_and_threshold,
    )
    with np.errstate(over="ignore"):  # a sum may be too large for the type
        copy_back(outputs, buffers)
        if sums is not None:
            total = total_of_blocks(partials[0], sums.size)
            np.copyto(sums, total.reshape(sums.shape), casting="same_kind")


def run_on_contiguous_channels(
    ufunc: np.ufunc,
    inputs: Sequence[NDArray[Any]],
    parameters: tuple[NDArray[Any], ...],
    outputs: Sequence[NDArray[Any]],
    axis: int,
    sums: int = 0,
) -> list[NDArray[np.float64]]:
    """Run a kernel on arrays of its dtype in C order, and return its per-channel sums; small arrays are one block."""
    if 0 < inputs[0].size <= ONE_CALL:
        core = core_shape(inputs[0].shape, axis)
        totals = [np.empty(core[1]) for _ in range(sums)]
        views = [each.reshape(core) for each in (*inputs, *outputs)]
        given, found = views[: len(inputs)], views[len(inputs) :]
        ufunc(*given, *parameters, out=(*found, *totals))
        return totals
    partials = run_in_blocks(ufunc, inputs, parameters, outputs, axis, sums, None)
    return [total_of_blocks(each, inputs[0].shape[axis]) for each in partials]


def run_with_sums(
    ufunc: np.ufunc, inputs: Sequence[NDArray[Any]], axis: int | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Run a kernel on arrays of its dtype in C order, and return its result and the per-channel sums of it."""
    shape = inputs[0].shape
    core = core_shape(shape, axis)
    if 0 < inputs[0].size <= BLOCK:
        result, sums = ufunc(*[each.reshape(core) for each in inputs])
        return result.reshape(shape), sums
    output = empty(shape, inputs[0].dtype)
    partials = run_in_blocks(ufunc, inputs, (), [output], axis, 1, None)
    return output, total_of_blocks(partials[0], core[1])


def sums_plan(
    ufunc: np.ufunc,
    inputs: Sequence[NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axis: int | None,
) -> KernelPlan:
    """Return the plan of `run_with_sums` for arrays of one block, with sums as the gradient of a parameter."""
    view = shaped(core_shape(inputs[0].shape, axis))
    outputs = [
        Output(inputs[0].shape, inputs[0].dtype, view),
        Output(shape, dtype, shaped((-1,)), from_float64=True),
    ]
    own = [Input(k, view) for k in range(len(inputs))]
    return KernelPlan(ufunc, own, outputs, None if shape else _with_number(len(outputs)))


def _with_number(outputs: int) -> Callable[..., Any]:
    """Return a function from the values of a call and so many outputs to the outputs, the last one as a number."""
    return lambda *given: (*given[-outputs:-1], given[-1][()])


def total_of_blocks(partials: list[NDArray[np.float64]], channels: int) -> NDArray[np.float64]:
    """Add up the sums of all blocks."""
    if not partials:
        return np.zeros(channels)
    sums = partials[0] if len(partials) == 1 else np.concatenate(partials)
    found: NDArray[np.float64] = sums.sum(axis=0)
    return found


def run_in_blocks(
    ufunc: np.ufunc,
    inputs: Sequence[NDArray[Any]],
    parameters: tuple[NDArray[Any], ...],
    outputs: Sequence[NDArray[Any]],
    axis: int | None,
    sums: int,
    key_and_threshold: tuple[Any, Any] | None,
) -> list[list[NDArray[np.float64]]]:
    """Run the kernel block by block and return, for each of its sums, the per-channel sums of each block."""
    partials: list[list[NDArray[np.float64]]] = [[] for _ in range(sums)]
    if inputs[0].size == 0:
        return partials
    blocks = _blocks_of(inputs[0].shape, axis, key_and_threshold is not None)
    _, channels, length = blocks.core
    arrays = [array.reshape(blocks.core) for array in (*inputs, *outputs)]
    for part in blocks.parts:
        views = [part.view(array) for array in arrays]
        results = views[len(inputs) :]
        for each in partials:
            if part.is_first_of_channels:
                each.append(np.empty((part.blocks_of_channel, channels)))
            results.append(part.view_of_sums(each[-1]))
        draws: tuple[Any, ...] = ()
        if key_and_threshold is not None:
            key, threshold = key_and_threshold
            draws = key, part.first_indices, threshold, np.int64(length)
        own = map(part.view_of_parameter, parameters)
        ufunc(*draws, *views[: len(inputs)], *own, out=tuple(results), order="C")
    return partials


class _Part:
    """A part of arrays (rows, channels, length) that is cut into blocks of one shape.

    Blocks lie along two of the three axes at most. NumPy calls the inner loop, and that the threads, for the last
    dimension of a call alone: the axis with most blocks.

    Parameters
    ----------
    core : tuple of int
        The shape of the arrays.
    rows, channels, lengths : tuple of int
        Begin, end and the size of a block.

    Attributes
    ----------
    blocks_of_channel : int
        The number of blocks along the rows and along the length.
    is_first_of_channels : bool
        Whether this part begins with the first channel.
    """

    def __init__(self, core: tuple[int, int, int], *cuts: tuple[int, int, int]) -> None:
        self._core, self._cuts = core, cuts
        counts = [(last - first) // size for first, last, size in cuts]
        self.blocks_of_channel = counts[0] * counts[2]
        self.is_first_of_channels = cuts[1][0] == 0
        slices = tuple(slice(first, last) for first, last, _ in cuts)
        is_whole = all((cut[0], cut[1]) == (0, n) for cut, n in zip(cuts, core, strict=True))
        self._slices = None if is_whole else slices
        self._channels = None if (cuts[1][0], cuts[1][1]) == (0, core[1]) else slices[1]
        self._split, self._order = _split(counts, [size for _, _, size in cuts], range(3))
        kept = [counts[0], counts[2], counts[1]], [1, 1, cuts[1][2]]
        self._split_sums, self._order_of_sums = _split(*kept, (2,))

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of shape (blocks, rows, channels, length); one dimension for each axis with several blocks."""
        part = array if self._slices is None else array[self._slices]
        return _in_order(part.reshape(self._split), self._order)

    def view_of_parameter(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return a view of one value for each channel: (blocks, channels)."""
        if not values.ndim:
            return values
        size = self._cuts[1][2]
        own = values if self._channels is None else values[self._channels]
        return own if own.size == size else own.reshape(-1, size)

    def view_of_sums(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Return a view of one sum for each block and channel: (blocks, channels)."""
        part = sums if self._channels is None else sums[:, self._channels]
        return _in_order(part.reshape(self._split_sums), self._order_of_sums)

    @cached_property
    def first_indices(self) -> NDArray[np.int64]:
        """The index in C order of the first element of each block, where channels are not cut."""
        _, channels, length = self._core
        of_rows = np.arange(*self._cuts[0], dtype=np.int64)[:, None] * (channels * length)
        indices = of_rows + np.arange(*self._cuts[2], dtype=np.int64)
        return _in_order(indices.squeeze(), (1, 0) if len(indices) > indices.shape[1] > 1 else None)


def _split(
    counts: Sequence[int], sizes: Sequence[int], core: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the shape of an array whose axes are cut into blocks, and the order that puts those first.

    The axis with most blocks is the last of them. The order is None if it is that of the shape.

    Parameters
    ----------
    counts, sizes : sequence of int
        The number of blocks along each axis, and their size.
    core : sequence of int
        The axes that blocks have.
    """
    shape: list[int] = []
    blocks, inside = [], []
    for axis, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        if count > 1:
            blocks.append((count, len(shape)))
            shape.append(count)
        if axis in core:
            inside.append(len(shape))
            shape.append(size)
    order = (*(place for _, place in sorted(blocks)), *inside)
    return tuple(shape), None if order == tuple(range(len(order))) else order


def _in_order(array: NDArray[Any], order: tuple[int, ...] | None) -> NDArray[Any]:
    return array if order is None else array.transpose(order)


class _Blocks(NamedTuple):
    """The shape of arrays as rows, channels and the length of each channel, and the parts that are cut into blocks."""

    core: tuple[int, int, int]
    parts: list[_Part]


@lru_cache(maxsize=256)
def _blocks_of(shape: tuple[int, ...], axis: int | None, is_random: bool) -> _Blocks:
    """Return the blocks of an array, which depend only on its shape.

    The sums of a channel depend on where its rows and its length are cut. The channels of wide arrays are cut as well,
    for the threads' sake; not with random numbers, whose indices would be further apart.
    """
    core = rows, channels, length = core_shape(shape, axis)
    block_length = min(length, BLOCK)
    sums_of_row = channels * -(-length // block_length)
    fewest_rows = -(-rows * sums_of_row // most_sums(rows * channels * length))
    block_rows = max(1, min(rows, max(fewest_rows, BLOCK // (channels * block_length))))
    is_wide = length == 1 and not is_random and channels // _WIDTH > rows // block_rows
    found = [
        _Part(core, row_part, channel_part, part)
        for row_part in parts(rows, block_rows)
        for part in parts(length, block_length)
        for channel_part in parts(channels, _WIDTH if is_wide else channels)
    ]
    return _Blocks(core, found)
