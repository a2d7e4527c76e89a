"""JAX on CPU: every function of the registry, for use under ``jit``, ``grad`` and ``vmap``.

    >>> import jax
    >>> from fastact.backends import jax as fax
    >>> round(float(jax.grad(fax.mish)(1.0)), 6)
    1.049036

Two ways lead from a compiled program to a kernel:

- Activations of elements whose parameters are numbers, and row functions along an axis, are targets of XLA's foreign
  function interface: no Python runs, nothing is copied, and a call costs no more than one of XLA's own operations. The
  activations have derivatives in both modes, the row functions in reverse mode.
- All other calls, such as losses, gates, fused options, arrays as parameters, and bfloat16, go through
  `jax.pure_callback`: 0.1 ms each, so that they pay for large arrays only. They have gradients in reverse mode, which
  compute the value again.

There are second derivatives of all activations of elements, of softmax and its kin, and through fused options.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from numbers import Real
from typing import Any

from fastact.backends._exports import exports
from fastact.backends._requirements import require
from fastact.backends._tape import TapedCall
from fastact.functions.options import RNG

require(__name__)

import jax
import jax.numpy as jnp

from fastact.backends._jax_callback import as_floats, second_order, through_python
from fastact.backends._xla import as_capsule, has_kernel, make_handler

_BOTH, _SECOND = "value_and_derivative", "second_derivative"


def wrap(function: Any) -> Callable[..., Any]:
    """Return a function of JAX arrays.

    Parameters
    ----------
    function : Function
        A function of fastact: of the registry, with bound parameters, or an activation of your own.

    Returns
    -------
    callable
        Takes what `function` takes, with JAX arrays for arrays, and returns JAX arrays. Options that are not arrays
        must not be traced. Random functions take ``rng=`` as an integer, such as one of `jax.random.bits`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fastact.backends import jax as fax
    >>> elu = fax.wrap(fa.get("elu", alpha=0.5))
    >>> elu(jnp.array([-1.0, 2.0])).round(4)
    Array([-0.3161,  2.    ], dtype=float32)
    """

    def call(*args: Any, **options: Any) -> Any:
        chosen, seed = function.choose(options), options.get(RNG.name)
        if isinstance(seed, jax.Array):
            options[RNG.name] = 0
        taped = TapedCall(chosen, args, options)
        if isinstance(seed, jax.Array):
            taped.others[RNG.name] = seed
        names = list(taped.inputs)
        numbers = {**taped.inputs, **taped.others}
        x = numbers.pop(names[0]) if names else None
        if names and all(isinstance(each, Real) for each in numbers.values()):
            axis = numbers.pop("axis", -1) if chosen.kind == "row" else None
            if numbers.keys() <= chosen.parameters.keys():
                found = _native(chosen, tuple(numbers.items()), axis, as_floats(x))
                if found is not None:
                    return found
        return through_python(taped)

    call.__name__ = call.__qualname__ = function.name
    call.__doc__ = function.__doc__
    return call


__getattr__, __dir__ = exports(__name__, wrap)


# Kernels that XLA calls --------------------------------------------------------------------------


def _native(function: Any, numbers: tuple[tuple[str, Any], ...], axis: int | None, x: Any) -> Any:
    """Return the result of a call whose other arguments are numbers, or None if its kernel is not for XLA."""
    if axis is None:
        native = _elementwise(function, numbers) if _BOTH in function.operations else None
        return native(x) if native and has_kernel(function, _BOTH, x.dtype) else None
    if not x.ndim or not -x.ndim <= axis < x.ndim or not has_kernel(function, "forward", x.dtype):
        return None
    y = _on_rows(function, numbers)(jnp.moveaxis(x, axis, -1))
    return y if y.ndim < x.ndim else jnp.moveaxis(y, -1, axis)


@cache
def _elementwise(function: Any, numbers: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Return an activation of elements with its derivatives."""
    bound = function.bind(**dict(numbers))

    @jax.custom_jvp
    def second(x: Any) -> Any:
        return _run(bound, _SECOND, x)[0]

    @jax.custom_jvp
    def both(x: Any) -> Any:
        return _run(bound, _BOTH, x)

    @jax.custom_jvp
    def value(x: Any) -> Any:
        return _run(bound, "forward", x)[0]

    @second.defjvp
    def _of_second(primals: Any, tangents: Any) -> Any:
        raise NotImplementedError(f"{function.name} has no third derivative")

    @both.defjvp
    def _of_both(primals: Any, tangents: Any) -> Any:
        y, slope = both(*primals)
        return (y, slope), (slope * tangents[0], second(*primals) * tangents[0])

    @value.defjvp
    def _of_value(primals: Any, tangents: Any) -> Any:
        y, slope = both(*primals)
        return y, slope * tangents[0]

    found: Callable[..., Any] = value
    return found


@cache
def _on_rows(function: Any, numbers: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Return a function of rows along the last axis with its gradient."""
    bound = function.bind(**dict(numbers))
    needs_output = function.operations["backward"].saved == function.operations["forward"].outputs

    @jax.custom_vjp
    def value(x: Any) -> Any:
        return _run(bound, "forward", x)[0]

    @jax.custom_vjp
    def gradient(dy: Any, saved: Any) -> Any:
        return _run(bound, "backward", dy, saved)[0]

    def forward(x: Any) -> Any:
        y = value(x)
        return y, y if needs_output else x

    def second(inputs: Any, change: Any) -> Any:
        taped = TapedCall(bound, inputs[1:], {})
        found = taped.gradient_of_output if needs_output else taped.gradient
        if found is None:
            raise NotImplementedError(f"{function.name}: there is no second derivative")
        return second_order(found, inputs, change)

    value.defvjp(forward, lambda saved, dy: (gradient(dy, saved),))
    gradient.defvjp(lambda *inputs: (gradient(*inputs), inputs), second)
    found: Callable[..., Any] = value
    return found


def _run(function: Any, operation: str, *arrays: Any) -> Any:
    """Run a kernel on arrays of one dtype, and return a list of results."""
    kernel, widest = function._family.kernel(operation), max(arrays, key=jnp.ndim)
    results = [
        jax.ShapeDtypeStruct(
            widest.shape if each.core or not kernel.core_signature else widest.shape[:-1],
            widest.dtype,
        )
        for each in kernel.outputs
    ]
    target = _target(function, tuple(function.parameters.values()), operation, widest.dtype)
    return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*arrays)


_targets: dict[Any, str] = {}


def _target(function: Any, values: tuple[Any, ...], operation: str, dtype: Any) -> str:
    """Return the name under which XLA knows a kernel with values for its parameters; the first use registers it."""
    key = function.kernels[operation], values, dtype
    if key not in _targets:
        name = f"fastact.{function.ufunc_name(operation)}.{dtype}.{len(_targets)}"
        capsule = as_capsule(make_handler(function, operation, dtype))
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
        _targets[key] = name
    return _targets[key]
