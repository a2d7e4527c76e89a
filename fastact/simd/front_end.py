"""Numba as a front end only: to the LLVM IR of functions that are linked into kernels and into users' own functions.

Numba's execution engine would compile each of them, and keep module and machine code for ever.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding.newpassmanagers import FunctionPassManager, ModulePassManager, NewPassManager
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import Compiler

# llvmlite never frees its pass managers, 1.5 MB for each kernel: their other base class comes first, whose `_dispose`
# does nothing.
for manager in (FunctionPassManager, ModulePassManager):
    manager._dispose = NewPassManager._dispose


class _Library(CPUCodeLibrary):
    """A module outside Numba's execution engine."""

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Link and optimize the module; there is no machine code to point to."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> _Library:
        """The object that stores the environment of a function for its machine code."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: fastact's functions use no environment."""


class FrontEnd(Compiler):
    """Numba's compiler, down to LLVM IR."""

    def __init__(self, typing: Any, target: Any, library: Any, *args: Any) -> None:
        super().__init__(typing, target, library or _Library(target.codegen(), "fastact"), *args)
