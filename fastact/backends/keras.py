"""Keras' NumPy backend with the functions of fastact: ``KERAS_BACKEND=numpy``.

Within ``with patched():``, or after ``patch()``, the functions of ``keras.ops`` and the layers that use them compute with
fastact's kernels: those of Keras' NumPy backend that have a counterpart in the registry. Dtypes are those of Keras, bfloat16
among them; what fastact does not compute, such as integers, goes to Keras' own function. That backend is for inference: it
has no gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np

from fastact.backends._requirements import require
from fastact.backends._switch import Switch
from fastact.functions.registry import get, names
from fastact.runtime.dtypes import has_loop

require(__name__)

from keras.backend import result_type
from keras.config import backend
from keras.src.backend.numpy import nn
from keras.src.backend.numpy.core import convert_to_tensor

_KINDS = ("activation", "row", "packed")


def counterparts() -> dict[str, Any]:
    """Return the functions of Keras' NumPy backend that fastact has, by their names in Keras."""
    functions = map(get, names(*_KINDS))
    found = {each._definition.elsewhere.get("keras", each.name): each for each in functions}
    own = {name: vars(nn).get(name) for name in found}
    return {name: found[name] for name, each in own.items() if inspect.isfunction(each)}


def options_of(theirs: inspect.Signature, function: Any) -> dict[str, str]:
    """Return the option behind each parameter of Keras' function but the first: that of its name, or the next one."""
    parameters = list(theirs.parameters)[1:]
    others = [name for name in function.parameters if name not in parameters]
    known = function.operations["forward"].option_names
    return {name: name if name in known else others.pop(0) for name in parameters}


@cache
def _replacement(original: Callable[..., Any], function: Any) -> Callable[..., Any]:
    """Return Keras' function, computed by fastact's."""
    theirs = inspect.signature(original)
    options = options_of(theirs, function)
    defaults = {name: theirs.parameters[name].default for name in options}
    defaults = {
        name: value for name, value in defaults.items() if value is not inspect.Parameter.empty
    }
    converts = convert_to_tensor.__name__ in original.__code__.co_names

    def is_kept(x: Any) -> bool:
        """Whether Keras computes with an array as it is; most functions make float32 of float64."""
        return not converts or (type(x) is np.ndarray and result_type(x.dtype) == x.dtype.name)

    choices = {name: ("none", *values) for name, values in function._definition.choices.items()}

    @wraps(original)
    def replacement(x: Any, *args: Any, **kwargs: Any) -> Any:
        array = np.asarray(x) if is_kept(x) else convert_to_tensor(x)
        given = {**defaults, **dict(zip(options, args, strict=False)), **kwargs}
        if not has_loop(array.dtype) or given.keys() != options.keys():
            return original(x, *args, **kwargs)
        ours = {options[name]: value for name, value in given.items()}
        for name in choices.keys() & ours.keys():
            ours[name] = choices[name][ours[name]]  # theirs is a flag
        return function(array, **ours)

    return replacement


def _replacements() -> dict[str, Callable[..., Any]]:
    if backend() != "numpy":
        raise RuntimeError(
            f"{__name__}: Keras computes with {backend()}; set KERAS_BACKEND=numpy before it is imported"
        )
    return {name: _replacement(vars(nn)[name], each) for name, each in counterparts().items()}


_switch = Switch(lambda: [(nn, name, each) for name, each in _replacements().items()])
patch, unpatch, patched = _switch.patch, _switch.unpatch, _switch.patched
