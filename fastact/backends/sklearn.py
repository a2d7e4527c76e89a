"""scikit-learn's multilayer perceptrons with fastact's kernels, and estimators that take any activation.

`patch` and ``with patched():`` replace the activations of scikit-learn's own estimators, in all threads of the process, until
`unpatch` and the end of the last block; `MLPClassifier` and `MLPRegressor` need neither.

Examples
--------
>>> from sklearn.neural_network import MLPRegressor
>>> with patched():
...     net = MLPRegressor(max_iter=500, random_state=0).fit([[0.0], [1.0]], [1.0, 3.0])
>>> net.predict([[1.0]]).round(1)
array([3.])
"""

from __future__ import annotations

from fastact.backends._requirements import require

require(__name__)

import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.neural_network import _base, _multilayer_perceptron

from fastact.backends._switch import Switch
from fastact.catalogue.definition import REQUIRED
from fastact.functions import Function
from fastact.functions.registry import aliases, get, names

__all__ = ["MLPClassifier", "MLPRegressor", "patch", "patched", "unpatch"]

InPlace = Callable[..., None]

_PROBE = np.zeros((3, 2))
_CONSTRAINTS = {"activation": "no_validation"}  # here: the tables raise


def _has_from_output(function: Function) -> bool:
    """Whether the derivative is a function of the value, for the function's parameters."""
    needs, values = function._definition.from_output_needs, function.parameters
    return "backward_from_output" in function.operations and all(
        np.all(np.asarray(values[each]) >= 0) for each in needs
    )


def _in_place(function: Function, operation: str) -> InPlace:
    """Return the ufunc of an operation, which overwrites its last array: no other way is as short for small arrays."""
    ufunc, parameters = function.ufuncs[operation], tuple(function.parameters.values())

    def run(*arrays: Any) -> None:
        ufunc(*reversed(arrays), *parameters, out=arrays[-1])

    return run


class _Kept:
    """An activation whose derivative is no function of the value: keeps the backward pass while the value exists."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._vjps: dict[int, Any] = {}

    def infer(self, X: Any) -> None:
        """Overwrite an array with the values, for inference."""
        X[...] = self._function(X)

    def activate(self, X: Any) -> None:
        """Overwrite an array with the values."""
        value, vjp = self._function.vjp(X.copy())
        X[...] = value
        key = id(X)
        self._vjps[key] = vjp, weakref.ref(X, lambda _: self._vjps.pop(key, None))

    def differentiate(self, Z: Any, delta: Any) -> None:
        """Overwrite a gradient with respect to the values with that with respect to the inputs."""
        vjp, _ = self._vjps[id(Z)]
        delta[...] = vjp(delta)


@lru_cache(maxsize=128)
def _adapted(activation: str | Function) -> tuple[InPlace, InPlace, InPlace]:
    """Return the activation for inference, that for training, and the derivative."""
    function: Any = get(activation) if isinstance(activation, str) else activation
    missing = [name for name, value in function.parameters.items() if value is REQUIRED]
    if missing:
        raise ValueError(f"activation {function.name}: bind a value to {missing[0]!r}")
    if function.formula == "x":
        return ((lambda *arrays: None),) * 3
    kept = _Kept(function)
    if "derivative" not in function.operations:
        if np.shape(function(_PROBE)) != _PROBE.shape:
            raise ValueError(f"activation {function.name} does not keep the shape of its input")
        return kept.infer, kept.activate, kept.differentiate
    infer = _in_place(function, "forward")
    if not _has_from_output(function):
        return infer, kept.activate, kept.differentiate
    return infer, infer, _in_place(function, "backward_from_output")  # reverses Z, delta


class _Table:
    """In place of a dictionary of scikit-learn's: one of what `_adapted` returns, by activation."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __getitem__(self, activation: Any) -> InPlace:
        if not isinstance(activation, str | Function):
            raise TypeError(f"activation must be a name or function of fastact, got {activation!r}")
        return _adapted(activation)[self._index]


_INFERENCE, _TRAINING, _DERIVATIVES = map(_Table, range(3))


def _with_tables(name: str, activations: _Table) -> FunctionType:
    """Return a method of scikit-learn's perceptron that looks up activations in our tables."""
    method = getattr(_multilayer_perceptron.BaseMultilayerPerceptron, name)
    tables = {"ACTIVATIONS": activations, "DERIVATIVES": _DERIVATIVES}
    return FunctionType(
        method.__code__, method.__globals__ | tables, name, method.__defaults__, method.__closure__
    )


class _AnyActivation:
    """The methods of perceptrons that look up activations."""

    _forward_pass = _with_tables("_forward_pass", _TRAINING)
    _forward_pass_fast = _with_tables("_forward_pass_fast", _INFERENCE)
    _backprop = _with_tables("_backprop", _TRAINING)


class MLPClassifier(_AnyActivation, neural_network.MLPClassifier):
    """`sklearn.neural_network.MLPClassifier` with any activation that keeps the shape.

    Parameters are those of scikit-learn's, except `activation`: a name or alias of the registry, a function such as
    ``fastact.get("elu", alpha=0.5)``, or one made by ``@fastact.activation``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> net = MLPClassifier(activation="gelu", max_iter=20, early_stopping=True, random_state=0)
    >>> bool(net.fit(X / 16, y).score(X / 16, y) > 0.9)
    True
    """

    _parameter_constraints = neural_network.MLPClassifier._parameter_constraints | _CONSTRAINTS


class MLPRegressor(_AnyActivation, neural_network.MLPRegressor):
    """`sklearn.neural_network.MLPRegressor` with any activation that keeps the shape, as `MLPClassifier` takes it."""

    _parameter_constraints = neural_network.MLPRegressor._parameter_constraints | _CONSTRAINTS


def _replacements() -> Iterator[tuple[Any, str, Any]]:
    """Yield scikit-learn's functions that the registry has, and ours: see `Switch`."""
    known = {*names(), *aliases()}
    for table, ours in ((_base.ACTIVATIONS, _INFERENCE), (_base.DERIVATIVES, _DERIVATIVES)):
        yield from ((table, name, ours[name]) for name in table if name in known)


_switch = Switch(_replacements)
patch, unpatch, patched = _switch.patch, _switch.unpatch, _switch.patched
