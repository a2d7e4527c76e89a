"""thinc's operations on the CPU by fastact's kernels, ``use_ops("fastact")``, and a layer for every function.

The methods of `FastactOps` are generated: one for each pair ``name`` and ``backprop_name`` of thinc's `Ops` whose name the
registry knows, by thinc's definition where that differs from ours. All others are those of `NumpyOps`.
"""

from fastact.backends._requirements import require

require(__name__)

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Any

import numpy as np
from thinc.api import Model, registry
from thinc.backends.numpy_ops import NumpyOps
from thinc.backends.ops import Ops

import fastact.math
from fastact.catalogue import catalogue
from fastact.catalogue.definition import REQUIRED
from fastact.functions import Function
from fastact.functions.registry import aliases, get

_DTYPES = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))
_BACKPROP, _INPLACE = "backprop_", "inplace"


def _are_alike(*arrays: Any) -> bool:
    """Whether all are arrays of floats of one shape and dtype; `NumpyOps` takes, casts or refuses what is not."""
    first = arrays[0]
    for each in arrays:  # a loop, not `all`: half a microsecond
        if type(each) is not np.ndarray or each.dtype != first.dtype or each.shape != first.shape:
            return False
    return first.dtype in _DTYPES


def _function_of(name: str) -> Function | None:
    """Return the function that thinc calls so, if there is one: by thinc's definition, or for an alias by ours."""
    for own, definition in catalogue().items():
        if definition.elsewhere.get("thinc") == name:
            return get(own, convention="thinc")  # type: ignore[no-any-return]
    return get(name) if name in aliases() else None


def _overwritten(name: str, arrays: list[str]) -> str | None:
    """Return the argument that `NumpyOps` overwrites and returns if told to work in place, found by a trial."""
    trial = {each: np.full((1, 1), 0.5, np.float32) for each in arrays}
    result = getattr(NumpyOps, name)(NumpyOps(), **trial, inplace=True)
    return next((each for each, array in trial.items() if array is result), None)


@lru_cache(maxsize=256)
def _bound(function: Function, *values: float) -> Function | None:
    """Return a function with values for all of its parameters, or None if they are outside its domain."""
    try:
        return function.bind(**dict(zip(function.parameters, values, strict=True)))
    except ValueError:
        return None


def _elementwise(function: Any, name: str, base: Any) -> Callable[..., Any]:
    """Return thinc's method for an activation or, as its arguments tell, the gradient."""
    _, *order = inspect.signature(getattr(Ops, name)).parameters.values()
    defaults = {each.name: each.default for each in order if each.default is not REQUIRED}
    arrays = [each.name for each in order if each.name not in defaults]
    options = [each for each in defaults if each != _INPLACE]
    operation = "forward"
    if "dY" in arrays:
        operation = "backward" if "X" in arrays else "backward_from_output"
    used = [each for each in arrays if (each, operation) != ("Y", "backward")]
    names, written = [each.name for each in order], _overwritten(name, arrays)
    has_parameters = bool(options) and len(options) == len(function.parameters)

    def method(self: Any, *args: Any, **given: Any) -> Any:
        called = {**defaults, **dict(zip(names, args, strict=False)), **given}
        chosen: Any = None  # unless ours computes the same
        if len(called) == len(names) and _are_alike(*[called[each] for each in arrays]):
            if has_parameters:
                chosen = _bound(function, *[called[each] for each in options])
            elif not options or all(called[each] == defaults[each] for each in options):
                chosen = function
        if chosen is None:
            return base(self, *args, **given)
        operands = [called[each] for each in used]
        if not called[_INPLACE] or written is None:
            return (chosen if operation == "forward" else getattr(chosen, operation))(*operands)
        out = called[written]
        chosen.ufuncs[operation](*operands, *chosen.parameters.values(), out=out)
        return out

    return method


def _rows(function: Any, name: str, base: Any) -> Callable[..., Any]:
    """Return thinc's method for a function of rows, or its gradient, which never work in place."""
    run = function.backward if name.startswith(_BACKPROP) else function

    def method(
        self: Any, *arrays: Any, axis: int = -1, temperature: float = 1.0, **given: Any
    ) -> Any:
        given.pop(_INPLACE, None)  # which `NumpyOps` ignores
        changed = (
            {} if (axis, temperature) == (-1, 1.0) else {"axis": axis, "temperature": temperature}
        )
        if given or not (_are_alike(*arrays) and temperature > 0):
            return base(self, *arrays, **changed, **given)
        return run(*reversed(arrays), **changed)  # thinc's order is Y, dY

    return method


def _groups(function: Any, name: str, base: Any) -> Callable[..., Any]:
    """Return thinc's method for a function of groups along the last axis, or its gradient."""

    def value(self: Any, X: Any) -> Any:
        if not (_are_alike(X) and X.ndim == 3 and X.shape[-1]):
            return base(self, X)
        best, which = function.forward_with_index(X, X.shape[-1])
        return best[..., 0], which[..., 0]

    def gradient(self: Any, dY: Any, which: Any, P: int) -> Any:
        which = which.astype(np.intp, copy=False)  # the kernels' type; that of `NumpyOps` is int32
        if which.size and which.view(np.uintp).max() >= P:
            raise IndexError(f"{name}: positions must be from 0 to {P - 1}")
        if not _are_alike(dY) or dY.shape != which.shape:
            return base(self, dY, which.astype(np.int32), P)
        return function.backward(dY[..., None], which[..., None], P)

    return gradient if name.startswith(_BACKPROP) else value


def _dropout_mask(self: Any, shape: Any, drop: float | None) -> Any:
    """Return thinc's mask: zeros with probability `drop`, otherwise the factor that makes up for them."""
    if drop is None or not 0 < drop < 1:
        return NumpyOps.get_dropout_mask(self, shape, drop)
    seed = int(np.random.randint(2**63))  # noqa: NPY002, thinc's fix_random_seed seeds it
    return get("dropout")(np.ones(shape, np.float32), drop, rng=seed)


class FastactOps(NumpyOps):
    """thinc's operations on the CPU, with activations, softmax, maxout and dropout by fastact's kernels.

    Options are those of `NumpyOps`. A model keeps the operations that were current when it was made.

    Examples
    --------
    >>> from thinc.api import get_ops
    >>> get_ops("fastact").relu_k(np.array([-1.0, 2.0, 9.0]))
    array([0., 2., 6.])
    """

    name = "fastact"


def _methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the methods that replace those of `NumpyOps`, with their names."""
    yield "get_dropout_mask", _dropout_mask
    for name in dir(Ops):
        function = _function_of(name) if hasattr(Ops, _BACKPROP + name) else None
        if function is None:
            continue
        has_groups = "forward_with_index" in function.operations
        make = _rows if function.kind == "row" else _groups if has_groups else _elementwise
        for each in (name, _BACKPROP + name):
            yield each, make(function, each, getattr(NumpyOps, each))
    for name in set(dir(fastact.math)).intersection(dir(Ops)):
        run, base = getattr(fastact.math, name), getattr(NumpyOps, name)
        yield name, lambda self, X, run=run, base=base: run(X) if _are_alike(X) else base(self, X)


for _name, _method in _methods():
    setattr(FastactOps, _name, wraps(getattr(Ops, _name))(_method))
registry.ops("FastactOps")(FastactOps)


@registry.layers("fastact.activation.v1")
def activation(function: str | Function) -> Any:  # not a string: thinc's configurations read it
    """Return a layer without parameters that applies a function of fastact, given by itself or its name, to arrays.

    Examples
    --------
    >>> layer = activation("elu")
    >>> Y, backprop = layer.begin_update(np.array([[-1.0, 2.0]]))
    >>> backprop(np.ones_like(Y))
    array([[0.36787944, 1.        ]])
    """
    chosen: Any = get(function) if isinstance(function, str) else function

    def forward(model: Any, X: Any, is_train: bool) -> Any:
        return chosen.vjp(X) if is_train else (chosen(X), lambda dY: chosen.vjp(X)[1](dY))

    return Model(chosen.name, forward)
