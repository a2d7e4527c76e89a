"""The dtypes that there are kernels for, and the type that each is computed in."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np


@cache
def dtypes() -> tuple[str, ...]:
    """Return the names of the types that there are loops for.

    Narrowest first: integers go to the first type that holds them, as in NumPy's own ufuncs.
    """
    foreign = ("bfloat16",) if find_spec("ml_dtypes") else ()
    return ("float16", "float32", "float64", *foreign)


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype among `dtypes` of this name."""
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def parameters_in(name: str) -> str:
    """Return the type of parameters beside arrays of this type: what is computed in."""
    return "float64" if name == "float64" else "float32"


@cache
def inner_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that arrays of this type are computed in."""
    return np.dtype(parameters_in(dtype.name))


@cache
def has_loop(dtype: np.dtype[Any]) -> bool:
    """Whether there are loops for arrays of this very type: among `dtypes`, and not byte-swapped."""
    return dtype.name in dtypes() and dtype.isnative


def largest(dtype: np.dtype[Any]) -> float:
    """Return the largest number of a type, or of the type it is computed in if NumPy does not know it."""
    return float(np.finfo(dtype if dtype.kind == "f" else inner_type(dtype)).max)


def is_bfloat16(array: Any) -> bool:
    """Whether this is an array of the type of the package ml_dtypes, which NumPy itself lacks."""
    return isinstance(array, np.ndarray | np.generic) and array.dtype.name == "bfloat16"


@cache
def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the native type: NumPy copies overlapping operands whose types are merely equal."""
    return dtype_of(dtype.name)
