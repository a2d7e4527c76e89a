"""Calls of any function from JAX programs, through Python."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastact.backends._tape import TapedCall


def as_floats(x: Any) -> Any:
    """Return a JAX array of floats; integers and bools become JAX's default."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def through_python(taped: TapedCall) -> Any:
    """Return the results of any call, differentiable in reverse mode."""
    inputs = {name: as_floats(each) for name, each in taped.inputs.items()}
    arrays = {n: each for n, each in taped.others.items() if isinstance(each, jax.Array)}

    def call_on(values: Sequence[Any]) -> tuple[TapedCall, list[Any]]:
        """Return the call on NumPy arrays."""
        given = [np.asarray(each) for each in values]
        own = copy(taped)
        later = zip(arrays, given[len(inputs) :], strict=True)
        own.others = taped.others | {n: each if each.ndim else each.item() for n, each in later}
        return own, given[: len(inputs)]

    def value_of(*values: Any) -> Any:
        own, given = call_on(values)
        return own(*given)

    def gradients_of(values: Any, dresults: Any) -> Any:
        own, given = call_on(values)
        _, gradients = own.vjp(*given)
        found = gradients(*map(np.asarray, dresults))
        return tuple(dx.astype(x.dtype) for dx, x in zip(found, given, strict=True))

    given = (*inputs.values(), *arrays.values())
    are_traced = [isinstance(each, jax.core.Tracer) for each in given]
    # What is traced has a shape only: zeros of it tell those of the results.
    sample = value_of(
        *(
            np.zeros(each.shape, each.dtype) if is_traced else each
            for each, is_traced in zip(given, are_traced, strict=True)
        )
    )
    if not any(are_traced):
        return jax.tree.map(jnp.asarray, sample)
    shapes = jax.tree.map(lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype), sample)

    @jax.custom_vjp
    def value(*values: Any) -> Any:
        return jax.pure_callback(value_of, shapes, *values, vmap_method="sequential")

    def backward(values: Any, dresults: Any) -> Any:
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values[: len(inputs)])
        each = dresults if isinstance(dresults, tuple) else (dresults,)
        found = jax.pure_callback(gradients_of, shapes, values, each, vmap_method="sequential")
        return (*found, *[None] * len(arrays))

    value.defvjp(lambda *values: (value(*values), values), backward)
    return value(*given)
