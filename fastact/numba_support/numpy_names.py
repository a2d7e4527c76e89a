"""NumPy's own names for what a definition may do: a function written for arrays is a definition as it is.

Importing this module lets kernels call these functions of NumPy and of the standard library's `math` on
vectors and dual numbers; they mean fastact's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import overload

from fastact import vecmath
from fastact.simd import isnan, select
from fastact.simd.compilable import make_compilable
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import JIT_OPTIONS, Mask, Vector


def _offer(function: Callable[[Any], Any], *names: Any) -> None:
    make_compilable(function)
    for name in names:

        @overload(name, strict=False, jit_options=JIT_OPTIONS)
        def _(x: Any) -> Any:
            return (lambda x: function(x)) if isinstance(x, Vector | Dual) else None


for function in vecmath.FUNCTIONS:
    homes = (module for module in (np, math) if hasattr(module, function.__name__))
    _offer(function, *(getattr(home, function.__name__) for home in homes))
_offer(lambda x: abs(x), np.abs)
_offer(lambda x: x * x, np.square)


@overload(np.where, strict=False, jit_options=JIT_OPTIONS)
def _(condition: Any, x: Any, y: Any) -> Any:
    choose = lambda condition, x, y: select(condition, x, y)  # noqa: E731
    return choose if isinstance(condition, Mask) else None


def _offer_of_two(name: Any, choose: Callable[[Any, Any], Any]) -> None:
    @overload(name, strict=False, jit_options=JIT_OPTIONS)
    def _(x: Any, y: Any) -> Any:
        return choose if any(isinstance(kind, Vector | Dual) for kind in (x, y)) else None


# Where both are equal it is the first one, and where one is NaN the result is.
_offer_of_two(np.maximum, lambda x, y: select((x >= y) | isnan(x), x, y))
_offer_of_two(np.minimum, lambda x, y: select((x <= y) | isnan(x), x, y))
