"""The only entry to the compiler: a declared kernel becomes a ufunc whose loops are built on their first run.

Declaring and calling kernels needs no Numba; only calling `_Build` imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastact.kernels.kernel import Kernel
from fastact.runtime import ufunc
from fastact.runtime.dtypes import dtypes

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


def make_ufunc(
    kernel: Kernel,
    module: str,
    name: str,
    doc: str,
    kernel_name: Callable[[str], str | None],
    explain: Callable[[BaseException], str],
) -> np.ufunc:
    """Return the ufunc of a kernel.

    Parameters
    ----------
    kernel : Kernel
        The declaration.
    module, name, doc : str
        As for `fastact.runtime.ufunc.make_ufunc`.
    kernel_name : callable
        Takes a dtype and returns the kernel's name in the cache, or None to keep it out of the cache.
    explain : callable
        Takes a compiler error and returns the message for the user.
    """
    loops = [
        ufunc.Loop(kernel.types(dtype), kernel_name(dtype), _Build(kernel, dtype), explain)
        for dtype in dtypes()
    ]
    inputs, outputs = ([each.name for each in some] for some in (kernel.inputs, kernel.outputs))
    return ufunc.make_ufunc(module, name, doc, inputs, outputs, loops, kernel.core_signature)


@dataclass(frozen=True)
class _Build:
    """A callable that builds the loop of a kernel for arrays of a dtype."""

    kernel: Kernel
    dtype: str

    def __call__(self) -> LoopFunction:
        from fastact.kernels.build import build

        return build(self.kernel, self.dtype)
