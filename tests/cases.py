"""The elementwise activations with the parameters to test them with, and what is stated about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from references import REFERENCES, Array, context, float32_walk, float64_points, on_arrays, window
from representatives import REPRESENTATIVES

import fastact as fa
from fastact.bench.verification import stated_errors

Parameters = dict[str, float]

POINTWISE = [name for name in fa.names("activation") if ("derivative" in fa.get(name).operations)]
FROM_OUTPUT = [name for name in POINTWISE if "backward_from_output" in fa.get(name).ufuncs]
# Those of a definition without `exact` are missing: one test says so.
EXACT = [name for name in REFERENCES if fa.get(name)._definition.exact is not None]
CASES = [(name, parameters) for name in EXACT for parameters in REFERENCES[name].settings]
DTYPES = (np.float32, np.float64)

# Where there are so many cases, each has so many times fewer points. It is odd, as strides must be.
FEWER = 17


def identify(value: Any) -> str:
    """Name a case in pytest's output."""
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items()) or "default"
    return str(value)


every_case = pytest.mark.parametrize(("name", "parameters"), CASES, ids=identify)
every_first_case = pytest.mark.parametrize("name", EXACT)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def bounds(name: str, parameters: Parameters, dtype: Any) -> tuple[float, float]:
    """Return the stated errors of value and derivative, in units in the last place."""
    return stated_errors(fa.get(name)._definition, parameters, dtype)


def complete(name: str, parameters: Parameters, dtype: Any) -> Parameters:
    """Return all parameters of a reference, as they are in a type."""
    given = {**REFERENCES[name].defaults, **parameters}
    return {key: float(np.dtype(dtype).type(value)) for key, value in given.items()}


def references(name: str, x: Array, parameters: Parameters) -> tuple[Array, Array]:
    """Return value and derivative in a wider type."""
    function = REFERENCES[name].on_arrays
    return on_arrays(function, x, **complete(name, parameters, x.dtype))  # type: ignore[no-any-return]


def exact_references(name: str, x: Array, parameters: Parameters) -> tuple[Array, Array]:
    """Return value and derivative among mpmath's numbers."""
    parameters = complete(name, parameters, x.dtype)
    pairs = [REFERENCES[name].exact(context.convert(number), **parameters) for number in x]
    values, derivatives = zip(*pairs, strict=True)
    return np.array(values, object), np.array(derivatives, object)


def points(name: str, parameters: Parameters, dtype: Any) -> Array:
    """Return numbers of all magnitudes and about the kinks; many for what stands for others too."""
    is_first = parameters == REFERENCES[name].settings[0]
    fewer = 1 if name in REPRESENTATIVES and is_first else FEWER
    kinks = REFERENCES[name].kinks(**{**REFERENCES[name].defaults, **parameters})
    near_kinks = [window(kink, 64) for kink in (*kinks, *fa.get(name)._definition.roots)]
    if dtype == np.float32:
        return np.concatenate([float32_walk(fewer), *near_kinks])
    return np.concatenate([float64_points()[::fewer], *near_kinks]).astype(np.float64)


def silently(function: Callable[..., Any], *args: Any) -> Any:
    """Call NumPy without warnings."""
    with np.errstate(all="ignore"):
        return function(*args)


def check_errors(
    name: str,
    parameters: Parameters,
    x: Array,
    results: Iterable[Array],
    exact_results: Iterable[Array],
    assert_accurate: Callable[..., Any],
) -> None:
    """Check value and derivative against what is stated of them, about roots in absolute terms."""
    value_bound, derivative_bound = bounds(name, parameters, x.dtype)
    (value, derivative), (exact_value, exact_derivative) = results, exact_results
    assert_accurate(value, exact_value, value_bound, x)
    near = near_root(name, parameters, x)
    error = np.abs(derivative[near].astype(exact_derivative.dtype) - exact_derivative[near])
    assert np.all(error <= float(np.finfo(x.dtype).eps)), f"{max(error)} near the root"
    if not near.all():
        assert_accurate(derivative[~near], exact_derivative[~near], derivative_bound, x[~near])


def near_root(name: str, parameters: Parameters, x: Array) -> Array:
    """Return where the error of the derivative is stated in absolute terms."""
    is_near = REFERENCES[name].near_root
    return silently(lambda: is_near(x, **complete(name, parameters, x.dtype)))  # type: ignore[no-any-return]
