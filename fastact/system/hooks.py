"""What objects of a lower floor offer by way of a higher one, which they must not import.

`fastact` itself puts the functions here; each loads its module when it is first called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _missing(*args: Any) -> Any:
    raise RuntimeError("import fastact first")


#: Takes a function, `x` and `ax`, and draws it.
plot: Callable[..., Any] = _missing
#: Takes a function and returns its type in Numba.
numba_type: Callable[[Any], Any] = _missing
#: Takes a name and parameters and returns the function.
lookup: Callable[..., Any] = _missing


def get(name: str, **parameters: Any) -> Any:
    """Return the function of a name, bound to parameters: what a pickle of it says."""
    return lookup(name, **parameters)
