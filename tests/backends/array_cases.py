"""Calls of every operation of every function, for adapters to make with other libraries' arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.catalogue.definition import GroupDefinition

Array = NDArray[Any]
ROWS, COLUMNS = 6, 8


@dataclass(frozen=True)
class Case:
    """A call: names and arrays, and other options."""

    name: str
    operation: str
    arrays: tuple[Array, ...]
    options: dict[str, Any]

    @property
    def draws(self) -> bool:
        """Whether it takes random numbers."""
        return "rng" in self.options

    def __call__(self, function: Any, *arrays: Any) -> tuple[Any, ...]:
        """Make the call on the operation of a function or its adapter."""
        method = function if self.operation == "forward" else getattr(function, self.operation)
        return _as_tuple(method(*arrays, **self.options))

    def expected(self) -> tuple[Any, ...]:
        """Return the results on arrays of NumPy's."""
        return self(fa.get(self.name), *self.arrays)

    def __str__(self) -> str:
        return f"{self.name}.{self.operation}"


def check(
    case: Case, function: Any, own: Callable[[Array], Any], plain: Callable[[Any], Array]
) -> None:
    """Check that a function gives on a library's arrays what fastact's gives on NumPy's.

    `own` makes an array of the library's, and `plain` returns one of NumPy's, or raises an error for one of another kind.
    """

    def given(value: Any) -> Any:
        return own(value) if isinstance(value, np.ndarray) else value

    options = {name: given(value) for name, value in case.options.items()}
    results = replace(case, options=options)(function, *map(given, case.arrays))
    expected = case.expected()
    if case.operation == "vjp":
        *results, vjp = results
        *expected, right = expected
        dys = [1.5 if not np.ndim(y) else _numbers(*np.shape(y), seed=9) for y in expected]
        results += _as_tuple(vjp(*map(given, dys[: len(right.gradients)])))
        expected += _as_tuple(right(*dys[: len(right.gradients)]))
    assert len(results) == len(expected)
    for result, right in zip(results, expected, strict=True):
        found = plain(result)
        assert (found.dtype, found.shape) == (right.dtype, right.shape)
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _options(f: Any) -> dict[str, Any]:
    """Return the options of a forward pass: those that it needs, and learnable parameters."""
    options: dict[str, Any] = dict(f._definition.required_parameters)
    if isinstance(f._definition, GroupDefinition):
        options = dict.fromkeys(f.parameters, 2)
    names = f.operations["forward"].option_names
    if f.kind == "normalization":
        options = {k: _numbers(COLUMNS, seed=k == "bias") for k in ("weight", "bias") if k in names}
    if f.kind == "dropout" or getattr(f._definition, "is_random", False):
        options["rng"] = 1
    if f.kind == "dropout":
        options["p"] = 0.3
    return options


def _inputs(f: Any) -> dict[str, Array | None]:
    """Return the arrays of a forward pass."""
    names = f.operations["forward"].inputs
    if f.kind == "cell":
        cores = {each.name: each.core for each in f._family.kernel("forward").inputs}
        widths = [2 * int(cores[each][0]) if len(cores[each]) > 1 else 2 for each in names]
        return {each: _numbers(ROWS, n, seed=n) for each, n in zip(names, widths, strict=True)}
    found: dict[str, Any] = dict.fromkeys(names, _numbers(ROWS, COLUMNS))
    if "probabilities" in names:
        found["probabilities"] = fa.softmax(_numbers(ROWS, COLUMNS))
    if "second" in names:
        found["second"] = None
    if f.kind == "loss":
        is_of_classes = "ignore_index" in f.operations["forward"].option_names
        found["targets"] = np.arange(ROWS) % 3 if is_of_classes else _numbers(ROWS, COLUMNS, seed=1)
    if "weight" in names:
        found["weight"] = _numbers(COLUMNS - 1, COLUMNS, seed=2)
    return found


def cases(names: Iterable[str]) -> Iterator[Case]:
    """Yield a call of every operation of some functions."""
    for name in names:
        f = fa.get(name)
        known, options = _inputs(f), _options(f)
        for operation in f.operations.values():
            arrays = [
                _gradient(known, each.name) if each.is_gradient else known[each.name]
                for each in operation.arrays
            ]
            own = {k: v for k, v in options.items() if k in operation.option_names}
            case = Case(name, operation.name, tuple(arrays), own)
            if operation.name != "vjp" and not any(each.is_gradient for each in operation.arrays):
                known |= zip(operation.outputs, case.expected(), strict=False)
            yield case


def _gradient(known: dict[str, Any], name: str) -> Any:
    return 1.5 if name == "dloss" else _numbers(*known[name[1:]].shape, seed=9)
