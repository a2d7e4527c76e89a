"""What Numba calls before it compiles anything, in every process that has fastact installed: next to nothing.

Numba asks an object for its type by the attribute ``_numba_type_``, which activations have. NumPy's ufuncs
cannot have one that is made on demand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastact.system.first_use import first_use


def init() -> None:
    """Let compiled code call the ufuncs of `fastact.math`."""
    from numba.extending import typeof_impl

    typeof_impl.register(np.ufunc)(_type_of_ufunc)


def _type_of_ufunc(ufunc: np.ufunc, context: Any) -> Any:
    function = getattr(ufunc, "fastact_function", None)
    if function is None:
        return None
    with first_use():
        from fastact.numba_support.callables import type_of_function

        return type_of_function(function)
