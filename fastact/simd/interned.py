"""Kernels share their intrinsics: Numba keeps each one for ever, with the types that it was called with.

A process that compiles a thousand kernels would otherwise hold as many copies of each load and store.
"""

from __future__ import annotations

from functools import cache
from typing import Any


class Interned(type):
    """The metaclass of classes whose calls with equal arguments return the same object."""

    @cache  # noqa: B019  classes live for ever
    def __call__(cls, *args: Any, **options: Any) -> Any:
        """Return the object made with these arguments."""
        return super().__call__(*args, **options)
