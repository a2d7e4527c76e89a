"""Elementary functions on arrays, as NumPy ufuncs: the vector maths under the activations.

They keep float16, float32 and float64, raise no floating-point warnings, and give the same bits for the
same number wherever it stands. The notes of each state its error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fastact import vecmath
from fastact.kernels.door import make_ufunc
from fastact.kernels.kernel import Elementwise, Kernel
from fastact.system.first_use import first_use

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    function.__name__: function for function in vecmath.FUNCTIONS
}
__all__ = ["where", *_FUNCTIONS]


def where(condition: Any, if_true: Any, if_false: Any) -> Any:
    """Take `if_true` where the condition holds, else `if_false`; in a definition as on arrays.

    Parameters
    ----------
    condition, if_true, if_false : array_like
        As for `numpy.where`.

    Returns
    -------
    ndarray
        The result.

    Examples
    --------
    >>> x = np.array([-1.0, 0.0, 2.0])
    >>> fa.math.where(x > 0, x, 0.1 * x)
    array([-0.1,  0. ,  2. ])
    """
    return np.where(condition, if_true, if_false)


@first_use()
def __getattr__(name: str) -> np.ufunc:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'fastact.math' has no attribute {name!r}")
    return globals().setdefault(name, _make(_FUNCTIONS[name]))  # type: ignore[no-any-return]


def __dir__() -> list[str]:
    return __all__


_ARGUMENTS = """\
Parameters
----------
x : array_like
    The input, of dtype float16, float32 or float64; integers and bools
    become floats as in NumPy.
out, where, casting, order, dtype, subok, signature : optional
    As for any ufunc.

Returns
-------
y : ndarray or scalar
    The value, with the shape and dtype of `x`.

Raises
------
TypeError
    If `x` is not real, or the dtype of `out` is too narrow.
ValueError
    If shapes do not match."""


def _make(function: Callable[[Any], Any]) -> np.ufunc:
    name = function.__name__
    summary, *notes = (inspect.getdoc(function) or name).split("\n\n")
    doc = "\n\n".join([summary, _ARGUMENTS, "Notes\n-----\n" + "\n\n".join(notes)])
    kernel = Kernel.of("x -> y", Elementwise(lambda: lambda x: (function(x),)))
    ufunc = make_ufunc(kernel, __name__, name, doc, lambda dtype: f"math.{name}.{dtype}", repr)
    ufunc.fastact_function = function  # type: ignore[attr-defined]  # for compiled code
    return ufunc
