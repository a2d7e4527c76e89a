"""NumPy's public C API: functions by their places in the tables that extension modules use.

They find the tables by the capsules that ``import_array()`` and ``import_ufunc()`` read, and so does this.
https://numpy.org/doc/stable/reference/c-api/
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

FROM_FUNC_AND_DATA_AND_SIGNATURE = 31  # of the ufuncs' table
REGISTER_LOOP_FOR_TYPE = 2
SET_HANDLER = 304  # of the arrays' table
DEFAULT_HANDLER = 306  # the address of a variable

MOST_OPERANDS = 64  # of a ufunc: NPY_MAXARGS


@cache
def pointer_in(capsule: Any, name: bytes | None) -> int:
    """Return the pointer in a capsule of this name."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer: int = get_pointer(capsule, name)
    return pointer


@cache
def _table(name: str) -> Any:
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    return ctypes.cast(
        pointer_in(getattr(_multiarray_umath, name), None), ctypes.POINTER(ctypes.c_void_p)
    )


def of_ufuncs(place: int) -> int:
    """Return the address of one of NumPy's functions for ufuncs."""
    address: int = _table("_UFUNC_API")[place]
    return address


def of_arrays(place: int) -> int:
    """Return the address of one of NumPy's functions for arrays, or of a variable."""
    address: int = _table("_ARRAY_API")[place]
    return address
