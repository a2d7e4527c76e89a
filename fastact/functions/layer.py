"""What all layers have: a name, ufuncs, and pickling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastact.arrays.dtypes import dtype_of, dtypes
from fastact.functions.base import Made, Ufuncs

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


class Layer:
    """A function of whole arrays, with its gradient in the same pass.

    Attributes
    ----------
    name : str
        What it is called: ``fastact.<name>``.
    ufuncs : mapping of str to numpy.ufunc
        The ufunc behind each operation; none where a layer calls others.
    formula : str
        The value, in TeX.
    """

    formula = ""

    def __init__(
        self,
        name: str,
        operations: tuple[str, ...] = (),
        make: Callable[[str], np.ufunc] | None = None,
    ) -> None:
        self.name = self.__name__ = name
        self.__module__ = "fastact"
        self.ufuncs: Mapping[str, np.ufunc] = {}
        if make:
            self.ufuncs = Ufuncs(list(operations), Made(make))

    def _where(self, operation: str) -> str:
        """Return what an error message calls an operation."""
        return self.name if operation == "forward" else f"{self.name}.{operation}"

    def ufunc_name(self, operation: str) -> str:
        """Return the name of an operation's ufunc in `fastact.ufuncs`."""
        return self.name if operation == "forward" else f"{self.name}_{operation}"

    def _ufunc(
        self,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        build: Callable[[str], LoopFunction],
        core_signature: str | None = None,
        types: Callable[[str], Sequence[str]] | None = None,
    ) -> np.ufunc:
        """Return the ufunc of an operation.

        Parameters
        ----------
        name : str
            The operation's.
        inputs, outputs : sequence of str
            The operands' names.
        build : callable
            Returns the loop for arrays of a type.
        core_signature : str, optional
            Of a generalized ufunc.
        types : callable, optional
            Returns the operands' types beside arrays of a type. Without it, they all have that.
        """
        from fastact.runtime.ufunc import Loop, make_ufunc

        operands = len(inputs) + len(outputs)
        loops = [
            Loop(
                [dtype_of(each) for each in (types(dtype) if types else [dtype] * operands)],
                f"{self.name}.{name}.{dtype}",
                partial(build, dtype),
            )
            for dtype in dtypes()
        ]
        doc = f"Compute {', '.join(outputs)} of {self.name!r}."
        return make_ufunc(
            "fastact.ufuncs", self.ufunc_name(name), doc, inputs, outputs, loops, core_signature
        )

    def __repr__(self) -> str:
        return f"<layer {self.name!r}>"

    def __reduce__(self) -> str:
        return self.name  # a name in `fastact`, as for a function
