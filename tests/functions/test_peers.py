"""PyTorch and JAX give the same, at kinks too: each in its own convention."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES, complete, identify
from references import REFERENCES, Array
from representatives import REPRESENTATIVES

import fastact as fa
from fastact.functions import Function

# Where others still have most of their digits: 1 - tanh(x)**2 loses some of them beyond.
MIDDLE = np.concatenate([np.linspace(-1.5, 1.5, 601), [-0.0]])
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-14}

# In float64 PyTorch too computes with a sixth in float32.
DTYPES = {
    name: (np.float32, np.float64) if name in REPRESENTATIVES else (np.float32,)
    for name in REFERENCES
}


def cases(library: str) -> Any:
    """Return the mark of a test of each activation that a library has, in each type."""
    found = [
        (name, parameters, dtype)
        for name, parameters in CASES
        if library in fa.get(name)._definition.elsewhere
        for dtype in DTYPES[name]
    ]
    return pytest.mark.parametrize(("name", "parameters", "dtype"), found, ids=identify)


def in_convention(name: str, library: str) -> Function:
    """Return an activation as another library has it."""
    choices = fa.get(name)._definition.choices.get("convention", {})
    return fa.get(name, convention=library) if library in choices else fa.get(name)


def inputs(name: str, parameters: dict[str, float], dtype: Any) -> tuple[Array, Array]:
    """Return the numbers to compare at, and those of them that are kinks."""
    kinks = REFERENCES[name].kinks(**{**REFERENCES[name].defaults, **parameters})
    return np.concatenate([MIDDLE, kinks]).astype(dtype), np.array(kinks, dtype)


def takes(function: Callable[..., Any], parameters: dict[str, float]) -> bool:
    """Return whether a library's function has these parameters; some do not tell."""
    try:
        return set(parameters) <= set(inspect.signature(function).parameters)
    except ValueError:
        return True


def check(
    item: Function, theirs: Any, x: Array, parameters: dict[str, float], kinks: Array
) -> None:
    """Compare value and derivative, which at kinks are exactly what they are."""
    tolerance = TOLERANCE[x.dtype.type]
    ours = item.value_and_derivative(x, **parameters)
    is_defined = np.isfinite(theirs[0])  # where log1mexp is not, JAX has a gradient nevertheless
    np.testing.assert_array_equal(np.isfinite(ours[0]), is_defined)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            mine[is_defined], other[is_defined], rtol=tolerance, atol=tolerance
        )
    if kinks.size:
        wrong = np.abs(ours[1] - theirs[1])[-kinks.size :] > 1e-6
        assert not wrong.any(), f"{ours[1][-kinks.size :]}, theirs {theirs[1][-kinks.size :]}"


@cases("pytorch")
def test_pytorch(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Value and derivative are PyTorch's."""
    torch = pytest.importorskip("torch")
    definition = fa.get(name)._definition
    x, kinks = inputs(name, parameters, dtype)
    theirs = torch.tensor(x, requires_grad=True)
    options = {
        key: torch.tensor([value], dtype=theirs.dtype) if key in definition.learnable else value
        for key, value in parameters.items()
    }
    function = getattr(torch.nn.functional, definition.elsewhere["pytorch"], None)
    if function is None:  # only a module
        y = getattr(torch.nn, definition.elsewhere["pytorch"])(**options)(theirs)
    else:
        if not takes(function, parameters):
            pytest.skip(f"PyTorch's {name} does not take these parameters")
        y = function(theirs, **options)
    y.backward(torch.ones_like(theirs))
    results = y.detach().numpy(), theirs.grad.numpy()
    check(in_convention(name, "pytorch"), results, x, parameters, kinks)


@cases("jax")
def test_jax(name: str, parameters: dict[str, float], dtype: Any) -> None:
    """Value and derivative are JAX's."""
    jax = pytest.importorskip("jax")
    function = getattr(jax.nn, fa.get(name)._definition.elsewhere["jax"])
    if not takes(function, parameters):
        pytest.skip(f"JAX's {name} does not take these parameters")

    def their_function(x: Any) -> Any:
        return function(x, **parameters)

    x, kinks = inputs(name, parameters, dtype)
    with jax.enable_x64(True), np.errstate(all="ignore"):
        y, pull_back = jax.vjp(their_function, jax.numpy.asarray(x))
        (derivative,) = pull_back(jax.numpy.ones_like(y))
    results = np.asarray(y), np.asarray(derivative)
    check(in_convention(name, "jax"), results, x, parameters, kinks)


def test_defaults_are_those_of_pytorch() -> None:
    """Where PyTorch's function shows its defaults, they are the activation's."""
    functional = pytest.importorskip("torch").nn.functional
    compared = 0
    for name in REFERENCES:
        function = getattr(functional, fa.get(name)._definition.elsewhere.get("pytorch", ""), None)
        try:
            theirs = inspect.signature(function).parameters if function else {}
        except ValueError:
            continue
        for key, default in complete(name, {}, float).items():
            if key in theirs and theirs[key].default is not inspect.Parameter.empty:
                compared += 1
                assert theirs[key].default == default, (name, key)
    assert compared >= 4
