"""Calls of any function from JAX programs, through Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastact.backends._tape import TapedCall, TapedGradient


def as_floats(x: Any) -> Any:
    """Return a JAX array of floats; integers and bools become JAX's default."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def through_python(taped: TapedCall) -> Any:
    """Return the results of any call, differentiable in reverse mode."""
    inputs = {name: as_floats(each) for name, each in taped.inputs.items()}
    arrays = {n: each for n, each in taped.others.items() if isinstance(each, jax.Array)}
    given, count = (*inputs.values(), *arrays.values()), len(inputs)

    def call_with(later: Sequence[Any]) -> TapedCall:
        """Return the call with NumPy arrays in place of JAX's."""
        own = copy(taped)
        own.others = taped.others | dict(zip(arrays, map(_as_argument, later), strict=True))
        return own

    def value_of(*values: Any) -> Any:
        return call_with(values[count:])(*map(np.asarray, values[:count]))

    def gradients_of(values: Any, dresults: Any) -> Any:
        own, arrays = call_with(values[count:]), map(np.asarray, (*dresults, *values[:count]))
        return own.gradient(*arrays)

    def seconds_of(values: Any, dresults: Any, changes: Any) -> Any:
        return pulled_back(
            call_with(values[count:]).gradient, (*dresults, *values[:count]), changes
        )

    sample = value_of(*map(_sample, given))
    if not any(isinstance(each, jax.core.Tracer) for each in given):
        return jax.tree.map(jnp.asarray, sample)
    shapes = jax.tree.map(_shape, sample)

    @jax.custom_vjp
    def value(*values: Any) -> Any:
        return _call_back(value_of, shapes, *values)

    @jax.custom_vjp
    def gradients(values: Any, dresults: Any) -> Any:
        return _call_back(gradients_of, tuple(map(_shape, values[:count])), values, dresults)

    def backward(values: Any, dresults: Any) -> Any:
        each = dresults if isinstance(dresults, tuple) else (dresults,)
        return (*gradients(values, each), *[None] * len(arrays))

    def second(given: Any, changes: Any) -> Any:
        values, dresults = given
        # Once now, so that an error is raised here, with a traceback.
        seconds_of(*jax.tree.map(_sample, (values, dresults, changes)))
        shapes = tuple(map(_shape, (*dresults, *values[:count])))
        found = _call_back(seconds_of, shapes, values, dresults, changes)
        of_values = (*found[len(dresults) :], *[None] * len(arrays))
        return of_values, found[: len(dresults)]

    value.defvjp(lambda *values: (value(*values), values), backward)
    gradients.defvjp(lambda *given: (gradients(*given), given), second)
    return value(*given)


def pulled_back(gradient: TapedGradient, inputs: Sequence[Any], changes: Sequence[Any]) -> Any:
    """Return what is propagated to the inputs of a gradient, zeros for nothing."""
    arrays = [np.asarray(each) for each in inputs]
    _, pull_back = gradient.vjp(*arrays)
    found = pull_back(*map(np.asarray, changes))
    pairs = zip(found, arrays, strict=True)
    return tuple(np.zeros_like(x) if dx is None else np.asarray(dx, x.dtype) for dx, x in pairs)


def second_order(gradient: TapedGradient, inputs: Sequence[Any], change: Any) -> Any:
    """Return what is propagated to the inputs of a gradient of one array."""

    def run(inputs: Any, change: Any) -> Any:
        return pulled_back(gradient, inputs, (change,))

    run(*jax.tree.map(_sample, (inputs, change)))
    return _call_back(run, tuple(map(_shape, inputs)), inputs, change)


def _call_back(function: Callable[..., Any], shapes: Any, *given: Any) -> Any:
    return jax.pure_callback(function, shapes, *given, vmap_method="sequential")


def _as_argument(value: Any) -> Any:
    array = np.asarray(value)
    return array if array.ndim else array.item()


def _sample(each: Any) -> Any:
    """Return an array, or in place of a traced one, which has a shape only, zeros."""
    return np.zeros(each.shape, each.dtype) if isinstance(each, jax.core.Tracer) else each


def _shape(each: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(each), each.dtype)
