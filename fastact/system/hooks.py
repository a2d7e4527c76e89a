"""Late-bound functions of higher floors, for methods of objects that live below them.

`fastact` itself fills these in; each imports its module on the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _missing(*args: Any) -> Any:
    raise RuntimeError("import fastact first")


def _silent(kernel: str | None) -> None:
    pass


#: Plots functions: `fastact.plot`.
plot: Callable[..., Any] = _missing
#: Returns the Numba type of a function.
numba_type: Callable[[Any], Any] = _missing
#: Takes a name and parameters and returns the function.
lookup: Callable[..., Any] = _missing
#: Called with the name of a kernel, or None, before it is compiled.
compiling: Callable[[str | None], object] = _silent
#: Makes a call with arrays of another library; takes the function, the operation, arrays, arguments and options.
exchange: Callable[..., Any] = _missing


def get(name: str, **parameters: Any) -> Any:
    """Return the function of a name, bound to parameters: what a pickle of it says."""
    return lookup(name, **parameters)
