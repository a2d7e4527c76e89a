"""NumPy's public C API: functions by their index in the tables that extension modules use.

The tables are found through the capsules that ``import_array()`` and ``import_ufunc()`` read.
https://numpy.org/doc/stable/reference/c-api/
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

# Indices into the table of ufuncs.
FROM_FUNC_AND_DATA_AND_SIGNATURE = 31
REGISTER_LOOP_FOR_TYPE = 2
# Indices into the table of arrays.
NEW_FROM_DESCR = 94
SET_HANDLER = 304
DEFAULT_HANDLER = 306  # a variable

MAX_OPERANDS = 64  # of a ufunc: NPY_MAXARGS


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


def ufunc_function(index: int) -> int:
    """Return the address of a function of NumPy's ufunc API."""
    address: int = _table("_UFUNC_API")[index]
    return address


def array_function(index: int) -> int:
    """Return the address of a function or variable of NumPy's array API."""
    address: int = _table("_ARRAY_API")[index]
    return address
