"""Memory between pages that may not be touched, and every ufunc called on operands that reach to its ends."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math
import mmap
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import own_activations
from numpy.typing import NDArray

import fastact.math
from fastact.functions import Function
from fastact.functions.fused import Variant
from fastact.functions.registry import functions
from fastact.runtime.dtypes import dtypes
from fastact.runtime.ufunc import LOOPS
from fastact.system.memory_layout import SETTING, SETTINGS
from fastact.system.target import TARGET

Array = NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """How an array lies in a fence: of each axis, how far its elements are apart, and where the array is.

    Attributes
    ----------
    steps : tuple of int
        1 for neighbours, 0 for one element again and again; the last axis is the innermost in order C.
    order : str
        C or F.
    extra : int
        Bytes beside each element, which make an array unaligned.
    at_end : bool
        Whether it ends where the fence does, or begins there.
    """

    steps: tuple[int, ...]
    order: str = "C"
    extra: int = 0
    at_end: bool = True


class Fence:
    """Memory between two pages that may not be touched."""

    untouched = 0xA5  # every byte

    def __init__(self, least: int = 2**16) -> None:
        page = mmap.PAGESIZE
        size = -(-least // page) * page
        self._memory = mmap.mmap(-1, size + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for forbidden in (start, start + page + size):
            assert protect(forbidden, page, 0) == 0
        self.memory = np.frombuffer(self._memory, np.uint8)[page : page + size]
        self.memory[...] = self.untouched

    def place(self, shape: tuple[int, ...], dtype: Any, layout: Layout) -> Array:
        """Return an array in this memory."""
        extent = np.dtype(dtype).itemsize
        strides, first = [0] * len(shape), 0
        axes = range(len(shape))
        for axis in axes if layout.order == "F" else reversed(axes):
            step, others = layout.steps[axis], max(0, shape[axis] - 1)
            strides[axis] = step * (extent + layout.extra)
            first += others * max(0, -strides[axis])
            extent += others * abs(strides[axis])
        if 0 in shape:
            first = extent = 0
        start = self.memory.size - extent if layout.at_end else 0
        return np.ndarray(shape, dtype, self.memory, start + first, strides)

    def is_untouched_but_for(self, array: Array) -> bool:
        """Whether nothing was written but an array's own elements, which are then as if they were not either."""
        start = array.__array_interface__["data"][0] - self.memory.ctypes.data
        shape, strides = (*array.shape, array.itemsize), (*array.strides, 1)
        np.ndarray(shape, np.uint8, self.memory, start, strides)[...] = self.untouched
        return bool(np.all(self.memory == self.untouched))


def ufuncs() -> Iterator[tuple[str, np.ufunc]]:
    """Yield every ufunc there is and a name for it, also of those that only Python's functions call."""
    own = [each for each in vars(own_activations).values() if isinstance(each, Function)]
    for each in (*functions(), *own):
        for kernel in (*each.ufuncs, *each.other_kernels):
            # What is computed in the same pass, of one without parameters and of one with a parameter.
            if not isinstance(kernel, Variant) or each.name in ("gelu", "elu"):
                yield f"{each.name}.{kernel}", each.kernels[kernel]
    for name in fastact.math.__all__:
        ufunc = getattr(fastact.math, name)
        if isinstance(ufunc, np.ufunc):
            yield f"math.{name}", ufunc


# Sizes about those of registers and blocks, and one for streaming, threads and rows of which not all is kept.
_LANES = TARGET.vector_bytes // 4
_BLOCK = 8 * _LANES
_LENGTHS = (0, 1, 2, 5, _LANES - 1, _LANES, _LANES + 1, 2 * _LANES + 3, _BLOCK, _BLOCK + 1, 299)
_MANY = 100_003
_SMALL, _LARGE = 2**19, 2**21  # bytes of fences


def sizes_of(core: frozenset[str]) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Return sizes of core dimensions, "" that of the loop, and large ones."""
    if not core:
        return [{"": n} for n in _LENGTHS], [{"": _MANY}]
    if core == {"p"}:
        outer = (1, _LANES, _LANES + 1, 2 * _LANES + 3)
        return [{"": n, "p": p} for p in range(7) for n in outer], [{"": _MANY // 3, "p": 3}]
    if core == {"n", "c", "s"}:
        some = itertools.product((1, 3), (1, 2, _LANES + 1), (1, 5, 2 * _LANES + 1))
        none = (0, 2, 3), (2, 0, 3), (2, 2, 0)
        small = [{"": 2, "n": n, "c": c, "s": s} for n, c, s in (*some, *none)]
        return small, [{"": 10, "n": 5, "c": 20, "s": 101}, {"": 10, "n": 101, "c": 99, "s": 1}]
    small = [{"": 3, "n": n} for n in _LENGTHS]
    return [*small, {"": 2 * _LANES, "n": 7}], [{"": 1, "n": _MANY}, {"": _MANY // 7, "n": 7}]


class Operands:
    """The operands of one loop of a ufunc: their types, their shapes, and numbers to call it with."""

    specials = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 100.0, -1e4)
    whole_numbers = (0, 1, 2, 3, -1, -2, -100, 10**9, 2**40 + 1, 2**63 - 1, 2**63 - 3, -(2**63))

    def __init__(self, ufunc: np.ufunc, dtype: str, seed: int) -> None:
        self.ufunc = ufunc
        self.types = tuple(map(np.dtype, LOOPS[ufunc][dtypes().index(dtype)].dtypes))
        signature = ufunc.signature or ",".join(["()"] * ufunc.nargs)
        cores = re.findall(r"\(([^)]*)\)", signature)
        self.cores = [core.split(",") if core else [] for core in cores]
        self.core = frozenset(name for core in self.cores for name in core if not name.isdigit())
        self.random = np.random.default_rng(seed)

    def shapes(self, sizes: dict[str, int]) -> list[tuple[int, ...]]:
        """Return each operand's shape."""
        return [
            (sizes[""], *(int(each) if each.isdigit() else sizes[each] for each in core))
            for core in self.cores
        ]

    def numbers(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return some of all kinds."""
        if dtype.kind == "i":
            return self.random.choice(np.array(self.whole_numbers), shape)
        usual = 3 * self.random.standard_normal(shape)
        special = self.random.choice(self.specials, shape)
        return np.where(self.random.random(shape) < 0.05, special, usual).astype(dtype)

    def layout(self, dimensions: int, is_input: bool) -> Layout:
        """Return some layout for an array of so many dimensions."""
        kinds = [(1,) * dimensions, (-1,) * dimensions, (1,) * (dimensions - 1) + (2,)]
        kinds.append(tuple(self.random.choice([1, 2, -1, -2], dimensions).tolist()))
        if is_input:
            kinds.append(tuple(self.random.choice([0, 1, -1], dimensions).tolist()))
        return Layout(
            kinds[self.random.integers(len(kinds))],
            "CF"[self.random.integers(2)],
            int(self.random.random() < 0.1),
            bool(self.random.integers(2)),
        )

    def check(self, sizes: dict[str, int], layouts: list[Layout], fences: list[Fence]) -> None:
        """Call the ufunc in fences and in plain memory, and compare all bits; NaN is NaN."""
        places = [
            fence.place(shape, dtype, layout)
            for fence, shape, dtype, layout in zip(
                fences, self.shapes(sizes), self.types, layouts, strict=True
            )
        ]
        inputs, outputs = places[: self.ufunc.nin], places[self.ufunc.nin :]
        for place in inputs:
            place[...] = self.numbers(place.shape, place.dtype)
        copies = [place.copy() for place in inputs]
        self.ufunc(*inputs, out=tuple(outputs), signature=self.types)
        expected = tuple(np.empty(place.shape, place.dtype) for place in outputs)
        with settings(threads=False, streaming=False):
            self.ufunc(*copies, out=expected, signature=self.types)
        for place, other in zip(places, (*copies, *expected), strict=True):
            found, wanted = (
                np.ascontiguousarray(each).view(f"u{each.itemsize}") for each in (place, other)
            )
            same = found == wanted
            if place.dtype.kind != "i":
                same |= np.isnan(place) & np.isnan(other)
            assert same.all(), (sizes, layouts, place[~same][:5], other[~same][:5])
        for fence, place in zip(fences, places, strict=True):
            assert fence.is_untouched_but_for(place), (sizes, layouts)


@contextlib.contextmanager
def settings(*, threads: bool, streaming: bool) -> Iterator[None]:
    """Let even small calls be shared among threads, or stream their outputs; or let no call."""
    chosen = {
        SETTING.threshold: 1 if threads else sys.maxsize,
        SETTING.chunk: 1,
        SETTING.streaming: 0 if streaming else sys.maxsize,
    }
    before = {place: SETTINGS[place] for place in chosen}
    for place, value in chosen.items():
        SETTINGS[place] = value
    yield
    for place, value in before.items():
        SETTINGS[place] = value


def check(name: str, ufunc: np.ufunc, dtype: str, rounds: int) -> None:
    """Call a ufunc on operands of all sizes, as plain as can be and in so many layouts each."""
    operands = Operands(ufunc, dtype, sum(name.encode()))
    small, large = sizes_of(operands.core)
    dimensions = [1 + len(core) for core in operands.cores]
    for length, all_sizes in ((_SMALL, small), (_LARGE, large)):
        fences = [Fence(length) for _ in dimensions]
        for sizes, at_end in itertools.product(all_sizes, (False, True)):
            plain = [Layout((1,) * count, at_end=at_end) for count in dimensions]
            with settings(threads=at_end, streaming=length == _LARGE):
                operands.check(sizes, plain, fences)
        for sizes, _ in itertools.product(small if length == _SMALL else (), range(rounds)):
            layouts = [operands.layout(count, k < ufunc.nin) for k, count in enumerate(dimensions)]
            threads, streaming = map(bool, operands.random.integers(2, size=2))
            with settings(threads=threads, streaming=streaming):
                operands.check(sizes, layouts, fences)


def check_all(dtype: str, rounds: int, names: Collection[str]) -> None:
    """Check the ufuncs of these names, and all ufuncs of what has one of these names."""
    with np.errstate(all="ignore"):
        for name, ufunc in ufuncs():
            if name in names or name.partition(".")[0] in names:
                print(name, flush=True)
                check(name, ufunc, dtype, rounds)
