"""Calls on dask arrays as graphs: one task for each chunk, whatever the number of results.

An axis is a *loop* if its chunks may be computed one by one; any other axis is whole, in one chunk. `dask.array.blockwise`
takes an index for each axis of each array: loops have their number, other axes an index of their own.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayBlockIdDep

from fastact.backends._calls import Request, arrays_of, as_tuple, main_array, unpacked, whole_axes
from fastact.catalogue.definition import (
    CompositeDefinition,
    CrossEntropyDefinition,
    NormalizationDefinition,
)
from fastact.functions.fused import RESIDUAL
from fastact.functions.options import RNG
from fastact.runtime.threads import on_one_thread


@dataclass(frozen=True)
class Result:
    """A result, and the index of each of its axes; along the loops that it lacks, chunks are summed."""

    index: tuple[str, ...]
    shape: tuple[Any, ...]
    dtype: np.dtype[Any]


class Chunks:
    """A call on dask arrays, and its results as parts of one graph.

    Attributes
    ----------
    request : Request
        The call.
    arrays : dict of str to dask.array.Array
        The arguments that are arrays, in chunks that match.
    indices : dict of str to tuple of str
        The index of each of their axes.
    loops : dict of str to tuple of int
        The chunks along each loop.
    """

    def __init__(self, request: Request) -> None:
        arrays = {name: da.asarray(each) for name, each in arrays_of(request).items()}
        self.request, self._main = request, arrays[main_array(request, arrays)]
        whole = whole_axes(request, self._main.ndim)
        self._axes = [None if k in whole else str(k) for k in range(self._main.ndim)]
        indices = {name: self._index(name, each) for name, each in arrays.items()}
        arrays = {name: _with_whole_axes(each, indices[name]) for name, each in arrays.items()}
        pairs = chain.from_iterable((arrays[name], index) for name, index in indices.items())
        chunks, aligned = da.core.unify_chunks(*pairs)
        self.arrays, self.indices = dict(zip(arrays, aligned, strict=True)), indices
        self.loops = {axis: chunks[axis] for axis in self._axes if axis is not None}
        seed = request.given.get(RNG.name) if RNG.name in request.operation.arguments else None
        run = _Run(request, tuple(arrays), None if seed is None else seed_of(seed))
        self._sample = run(*map(_sample_of, aligned, indices.values()), (0,) * len(self.loops))
        ids = ArrayBlockIdDep(tuple(self.loops.values()))
        self._outputs = self._blockwise(run, aligned, indices.values(), ids, (*self.loops,))

    def results(self) -> Any:
        """Return the results: arrays, and for the operation `vjp` also a function from gradients to gradients."""
        is_vjp = self.request.operation.name == "vjp"
        sample = self._sample[:-1] if is_vjp else self._sample
        declared = list(map(self._declared, self.request.results(len(sample)), sample))
        found = self._split(self._outputs, declared)
        if is_vjp:
            return *found, partial(self._gradients, declared)
        return unpacked(found)

    def _gradients(self, results: Sequence[Result], *gradients: Any) -> Any:
        """Return the gradients with respect to the inputs, given those with respect to the results."""
        vjp = self._sample[-1]
        if len(gradients) != len(vjp.gradients):
            raise TypeError(
                f"{self.request.caller}: the gradient is a function of {', '.join(vjp.gradients)}; got {len(gradients)}"
            )
        arrays = list(map(da.asarray, gradients))
        results = results[: len(arrays)]
        indices = [r.index if each.ndim else () for r, each in zip(results, arrays, strict=True)]
        for k, index in enumerate(indices):
            arrays[k] = arrays[k].rechunk([self.loops.get(each, -1) for each in index])
        samples = map(_sample_of, arrays, indices)
        sample = as_tuple(vjp(*samples))
        outputs = self._blockwise(_pull_back, [*arrays, self._outputs], [*indices, (*self.loops,)])
        names = [f"d{name}" for name in self.request.differentiable()]
        found = self._split(outputs, list(map(self._declared, names, sample)))
        return unpacked(found)

    def _index(self, name: str, array: Any) -> tuple[str, ...]:
        """Return the index of each axis of an argument."""
        request, axes = self.request, self._axes
        definition, argument = request.function._definition, request.operation.arguments[name]
        is_input, axis = name in request.operation.inputs, request.option("axis")
        found: Sequence[str | None] = axes[len(axes) - array.ndim :]
        rows = [k for k, each in enumerate(axes) if each is not None]
        if is_input and array.shape == tuple(self._main.shape[k] for k in rows):
            found = [axes[k] for k in rows]
        elif isinstance(definition, CompositeDefinition) and array is not self._main:
            if argument.is_differentiable or not is_input:
                found = [None] * array.ndim
        elif not is_input and _is_of_channels(definition, argument):
            if array.ndim == 1 and isinstance(axis, int):
                found = [axes[axis]]
            elif isinstance(definition, NormalizationDefinition):
                found = [None] * array.ndim
        return tuple(f"{name}.{k}" if each is None else each for k, each in enumerate(found))

    def _declared(self, name: str | None, sample: Any) -> Result:
        """Return how the chunks of a result form the whole."""
        arguments, dimensions = self.request.operation.arguments, np.ndim(sample)
        of = name.removeprefix("d") if name else ""
        if name == "loss" and self.request.option("reduction") != "none":
            return Result((), (), sample.dtype)
        if of != name and self.request.has(of) and arguments[of].is_differentiable:
            array = self.arrays.get(of)
            return Result(
                self.indices.get(of, ()), () if array is None else array.shape, sample.dtype
            )
        axes = [axis for axis in self._axes if axis or dimensions == len(self._axes)]
        index = tuple(axis or f"{name}.{k}" for k, axis in enumerate(axes))
        lengths = zip(index, sample.shape, strict=True)
        shape = tuple(sum(self.loops[k]) if k in self.loops else n for k, n in lengths)
        return Result(index, shape, sample.dtype)

    def _blockwise(
        self, run: Any, arrays: Iterable[Any], indices: Iterable[Any], *more: Any
    ) -> Any:
        """Return an array whose chunks are the tuples of results of each chunk."""
        pairs = chain.from_iterable(zip(arrays, indices, strict=True))
        return da.blockwise(
            run,
            tuple(self.loops),
            *pairs,
            *more,
            token=self.request.function.name,
            dtype=object,
            meta=np.empty((0,) * len(self.loops), object),
            align_arrays=False,
        )

    def _split(self, outputs: Any, results: list[Result]) -> tuple[Any, ...]:
        """Return the results as arrays of their own."""
        return tuple(self._one_of(outputs, k, result) for k, result in enumerate(results))

    def _one_of(self, outputs: Any, k: int, result: Result) -> Any:
        lengths = dict(zip(result.index, result.shape, strict=True))
        missing = [loop for loop in self.loops if loop not in lengths]
        is_short = [lengths.get(loop) == 1 != sum(chunks) for loop, chunks in self.loops.items()]
        short = [loop for loop, each in zip(self.loops, is_short, strict=True) if each]
        index = (*missing, *result.index)
        part = da.blockwise(
            partial(_part, k, len(missing)),
            index,
            outputs,
            tuple(self.loops),
            token=self.request.function.name,
            new_axes={each: n for each, n in lengths.items() if each not in self.loops},
            adjust_chunks={loop: (1,) * len(self.loops[loop]) for loop in (*missing, *short)},
            meta=np.empty((0,) * len(index), result.dtype),
            align_arrays=False,
        )
        if short:
            axes = tuple(map(index.index, short))
            part = part.sum(axis=axes, keepdims=True, dtype=float).astype(result.dtype)
        if missing:
            part = part.sum(axis=tuple(range(len(missing))), dtype=float).astype(result.dtype)
        return part


@dataclass(frozen=True, eq=False)
class _Run:
    """The task of one chunk: takes its arrays and its position, and returns all results."""

    request: Request
    names: tuple[str, ...]
    seed: np.random.SeedSequence | None

    def __call__(self, *given: Any) -> tuple[Any, ...]:
        *arrays, position = given
        values = dict(zip(self.names, map(_single, arrays), strict=True))
        if self.seed is not None:
            key = (*self.seed.spawn_key, *position)
            values[RNG.name] = np.random.SeedSequence(self.seed.entropy, spawn_key=key)
        with _limited_threads():
            return self.request.updated(values).compute()


def _pull_back(*given: Any) -> tuple[Any, ...]:
    *gradients, results = given
    with _limited_threads():
        return as_tuple(results[-1](*map(_single, gradients)))


def _part(k: int, missing: int, results: tuple[Any, ...]) -> Any:
    found = np.asarray(results[k])
    return found.reshape((1,) * missing + found.shape)


def _limited_threads() -> AbstractContextManager[None]:
    """Keep tasks that run side by side from using all CPUs each; one after another, they may."""
    is_alone = threading.current_thread() is threading.main_thread()
    is_first = multiprocessing.parent_process() is None
    return nullcontext() if is_alone and is_first else on_one_thread()


def _single(block: Any) -> Any:
    """Return the only chunk along whole axes, which dask nests in lists."""
    while isinstance(block, list):
        (block,) = block
    return block


def _is_of_channels(definition: Any, argument: Any) -> bool:
    """Whether an option has one number for each channel, rather than for each element."""
    if isinstance(definition, CrossEntropyDefinition | NormalizationDefinition):
        return True
    is_learnable = argument.is_differentiable and argument.name != RESIDUAL.name
    return is_learnable or argument.name in getattr(definition, "class_parameters", ())


def _sample_of(array: Any, index: tuple[str, ...]) -> Any:
    """Return an array like a chunk, of one element along loops."""
    is_loop = ["." not in each for each in index]
    shape = [1 if each else n for each, n in zip(is_loop, array.shape, strict=True)]
    one = np.zeros((), array.dtype) if array.dtype.kind in "iu" else np.ones((), array.dtype)
    return np.broadcast_to(one, shape)


def _with_whole_axes(array: Any, index: tuple[str, ...]) -> Any:
    """Return an array with one chunk along axes that are whole; along loops, smaller ones make up for it."""
    whole = [axis for axis, each in enumerate(index) if "." in each]
    if all(array.numblocks[axis] == 1 for axis in whole):
        return array
    chunks = {axis: -1 if axis in whole else "auto" for axis in range(array.ndim)}
    size = array.dtype.itemsize * np.prod([max(each) for each in array.chunks])
    return array.rechunk(chunks, block_size_limit=max(1, int(size)))


def seed_of(rng: Any) -> np.random.SeedSequence:
    """Return a seed from which those of all chunks derive; a generator draws a new one."""
    if isinstance(rng, np.random.SeedSequence):
        return rng
    if isinstance(rng, np.random.Generator):
        rng = rng.integers(2**63)
    elif isinstance(rng, np.random.RandomState):
        rng = rng.randint(2**32, dtype=np.uint64)
    return np.random.SeedSequence(rng)
