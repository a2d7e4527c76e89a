"""Arrays of any library on the CPU that speaks DLPack, as the array API standard asks: PyTorch, JAX, array-api-strict.

They come in without a copy, and results go back as arrays of the same library, which takes over their memory. Methods
call `exchange` if one of their arrays is such, so that nothing need be imported: ``fa.softmax(tensor)``. The functions of
this module do the same if only an option is.

Examples
--------
>>> import torch
>>> fa.softmax(torch.zeros(1, 4))
tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
>>> import fastact.backends.array_api as fx
>>> fx.gelu(np.zeros(2), bias=torch.zeros(2))
tensor([0., 0.], dtype=torch.float64)
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from fastact.backends._calls import Adapted, Request, as_tuple, requested, unpacked
from fastact.backends._exports import exports
from fastact.runtime.dtypes import dtype_of, is_bfloat16
from fastact.system import hooks

_CPU = 1  # as DLPack numbers kinds of devices


def wrap(function: Any) -> Adapted:
    """Return a function of fastact for arrays of any library that speaks DLPack.

    Parameters
    ----------
    function : Function
        A function of the registry, bound or not, or one's own.

    Returns
    -------
    Adapted
        Takes arrays, also mixed with NumPy's, and returns arrays of the library of the first that is not NumPy's.
    """
    return Adapted(function, run)


__getattr__, __dir__ = exports(__name__, wrap)


def run(request: Request) -> Any:
    """Make a call with arrays of another library, and return its results as such.

    Raises
    ------
    TypeError
        If an array is not on the CPU, or its library does not share it, as if it requires a gradient.
    """
    like = next(filter(is_exchangeable, request.given.values()), None)
    given = {name: _shared(request.caller, name, each) for name, each in request.given.items()}
    results = request.updated(given).compute()
    if like is None:
        return unpacked(results)
    # An array of `out` comes back as the object that it is.
    outputs = zip(as_tuple(given.get("out")), as_tuple(request.given.get("out")), strict=True)
    known = {id(array): value for array, value in outputs}
    own = partial(_as_own, request.caller, like)
    return unpacked(known[id(each)] if id(each) in known else own(each) for each in results)


def exchange(
    function: Any,
    operation: Any,
    arrays: tuple[Any, ...],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """Make the call of a method, an array of which is another library's."""
    return run(requested(function, operation.name, (*arrays, *args), options))


hooks.exchange = exchange  # from now on without a detour


def is_exchangeable(value: Any) -> bool:
    """Whether this is an array of another library that can be shared."""
    return hasattr(type(value), "__dlpack__") and not isinstance(value, np.ndarray)


def as_ndarray(caller: str, name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return an array of another library as one of NumPy's that shares its memory, or raise an error that names it."""
    kind = f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
    if not hasattr(value, "__dlpack_device__"):
        raise TypeError(f"{caller}: {name} is a {kind}, which has no elements yet")
    try:
        device, _ = value.__dlpack_device__()
        if device == _CPU and str(value.dtype).endswith("bfloat16"):  # which NumPy's DLPack lacks
            integers = value.view(_namespace(value).int16)
            return np.from_dlpack(integers).view(dtype_of("bfloat16"))
        if device == _CPU:
            return np.from_dlpack(value)
        reason = f"it is on {value.device}, not on the CPU"
    except Exception as error:  # of a class of the library's own
        reason = str(error).partition("\n")[0]
    raise TypeError(f"{caller}: {name} is a {kind} that cannot be shared: {reason}")


def as_own(array: np.ndarray[Any, Any], like: Any) -> Any:
    """Return an array of NumPy's as one of another library, on the device of one of its arrays."""
    namespace = _namespace(like)
    if is_bfloat16(array):
        return namespace.from_dlpack(array.view(np.int16)).view(namespace.bfloat16)
    found = namespace.from_dlpack(array)
    if hasattr(found, "to_device") and found.device != like.device:
        found = found.to_device(like.device)
    return found


def _namespace(value: Any) -> Any:
    if hasattr(value, "__array_namespace__"):
        return value.__array_namespace__()
    return import_module(type(value).__module__.partition(".")[0])


def _shared(caller: str, name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_shared(caller, name, each) for each in value)
    return as_ndarray(caller, name, value) if is_exchangeable(value) else value


def _as_own(caller: str, like: Any, result: Any) -> Any:
    if callable(result):  # that of `vjp`
        return partial(_pull_back, caller, like, result)
    return as_own(np.asarray(result), like)


def _pull_back(caller: str, like: Any, vjp: Any, *gradients: Any) -> Any:
    given = zip(vjp.gradients, gradients, strict=False)
    results = as_tuple(vjp(*(_shared(caller, *each) for each in given)))
    return unpacked(_as_own(caller, like, each) for each in results)
