"""Kernels compiled before anybody needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from fastact.functions.registry import get, names
from fastact.runtime import kernel_cache
from fastact.runtime import loading as compiler
from fastact.runtime.dtypes import dtypes
from fastact.runtime.output_pool import with_output_cache
from fastact.runtime.pool import driver_kernel
from fastact.runtime.ufunc import LOOPS


def kernels(activations: Sequence[str] | None, types: Sequence[str]) -> Iterator[Callable[[], int]]:
    """Yield what puts a kernel into the cache, for each that is not there yet.

    Parameters
    ----------
    activations : sequence of str, optional
        Names or aliases of activations, functions of rows or layers; without it, all.
    types : sequence of str
        Types of arrays: ``"float32"`` and the like.

    Raises
    ------
    ValueError
        If there is no such activation or type.
    """
    for name in types:
        if name not in dtypes():
            raise ValueError(f"there is no type {name!r}; there are {', '.join(dtypes())}")
    yield partial(with_output_cache, int)  # whose own kernels large outputs need
    yield partial(driver_kernel, "meet")  # which the start of the threads needs
    for activation in [get(name) for name in activations or names()]:
        for ufunc in activation.ufuncs.values():
            for loop in LOOPS[ufunc]:
                # A kernel's name ends with the type of its arrays.
                if loop.name is None or loop.name.rpartition(".")[2] not in types:
                    continue
                if kernel_cache.read(loop.name) is None:
                    yield partial(compiler.load, loop.name, loop.build)
