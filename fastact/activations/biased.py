"""A bias before any pointwise activation: ``f(x + bias)`` and its gradients in one pass.

``y = fa.gelu(x, bias=b)`` takes a bias, one number or a 1-d array with a value for each channel along
``axis`` (default -1, the features of a dense layer; 1 for images). ``dx, dbias = fa.gelu.backward(dy, x,
bias=b)`` and ``y, dx, dbias = fa.gelu.forward_backward(x, dy, bias=b)`` give its gradient too, of its
shape: `dx` summed over all but the channels, in float64 over blocks that depend on the shape alone, so that
the result is the same with any number of threads. The sum ``x + bias`` is rounded once, to the type that
is computed in.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.activations.base import as_real_array, dtype_of, dtypes, outputs_for, parameters_in
from fastact.activations.channels import channel_axis, run_on_channels
from fastact.activations.pointwise import OPERATIONS, PointwiseActivation, weak_for_integers
from fastact.definition import REQUIRED, Definition

if TYPE_CHECKING:
    from fastact.kernels import LoopFunction

# Whether each operation gives the bias's gradient too.
_HAS_GRADIENT = {
    "forward": False,
    "derivative": False,
    "value_and_derivative": False,
    "backward": True,
    "forward_backward": True,
}


def run_with_bias(
    activation: PointwiseActivation,
    operation: str,
    arrays: tuple[Any, ...],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """Run an operation of an activation on ``x + bias``.

    Parameters
    ----------
    activation : PointwiseActivation
        Whose gradient by a learnable parameter is not asked for.
    operation : str
        One of those that take the input.
    arrays : tuple of array_like
        Its arrays, of one shape.
    args, options
        The activation's parameters, which must be numbers; ``bias``, ``axis`` and ``out``.

    Raises
    ------
    TypeError
        If the operation takes no bias, a learnable parameter is given whose gradient would be due as well,
        an option is unknown, or an input is not real.
    ValueError
        If shapes do not fit together, or `out` does not fit.
    """
    where = activation._where(operation)
    if operation not in _HAS_GRADIENT:
        raise TypeError(f"{where}: it takes no bias; these do: {', '.join(_HAS_GRADIENT)}")
    activation._bind_positional(where, args, options)
    for name in activation.learnable if _HAS_GRADIENT[operation] else ():
        if name in options or activation.parameters[name] is REQUIRED:
            raise TypeError(
                f"{where}: it gives the gradient by the bias or by {name!r}, not by both: "
                f"add the bias to x, or bind {name} as the default"
            )
    bias, axis, out = options.pop("bias"), options.pop("axis", -1), options.pop("out", None)
    parameters = [_number(where, activation, name, options) for name in activation.parameters]
    for unknown in options:
        known = ", ".join((*activation.parameters, "bias", "axis", "out"))
        raise TypeError(f"{where}: unknown parameter {unknown!r}; with a bias it takes {known}")
    names = OPERATIONS[operation].inputs
    first, *others = (
        as_real_array(where, name, array) for name, array in zip(names, arrays, strict=True)
    )
    for name, other in zip(names[1:], others, strict=True):
        if other.shape != first.shape:
            raise ValueError(
                f"{where}: {names[0]} has shape {first.shape}, {name} has {other.shape}"
            )
    as_real_array(where, "bias", bias)
    found_axis = channel_axis(where, "bias", first, bias, axis)
    ufunc = activation.ufuncs_with_bias[operation]
    return _run(where, ufunc, operation, (first, *others), [bias, *parameters], found_axis, out)


def _number(where: str, activation: PointwiseActivation, name: str, options: dict[str, Any]) -> Any:
    """Return a parameter and take it out of the options."""
    value = options.pop(name, activation.parameters[name])
    if value is REQUIRED:
        raise TypeError(f"{where}: missing the argument {name!r}")
    if as_real_array(where, name, value).ndim:
        raise ValueError(
            f"{where}: with a bias, {name} must be a number, got shape {np.shape(value)}"
        )
    return value


def _run(
    where: str,
    ufunc: np.ufunc,
    operation: str,
    arrays: tuple[NDArray[Any], ...],
    numbers: list[Any],
    axis: int | None,
    out: Any,
) -> Any:
    """Call the loop with arrays in the types that NumPy finds for them."""
    has_gradient = _HAS_GRADIENT[operation]
    bias = numbers[0]
    numbers = weak_for_integers(arrays, numbers)
    is_weak = type(numbers[0]) in (int, float)
    kinds = [type(n) if type(n) in (int, float) else np.asanyarray(n).dtype for n in numbers]
    asked = (*(array.dtype for array in arrays), *kinds, *[None] * ufunc.nout)
    dtype = ufunc.resolve_dtypes(asked)[0]
    inner = np.dtype(parameters_in(dtype.name))
    count = len(OPERATIONS[operation].outputs)
    shapes, types = (arrays[0].shape,) * count, (dtype,) * count
    if has_gradient:
        shapes += (np.shape(bias),)
        types += (dtype if is_weak else np.promote_types(dtype, kinds[0]),)
    results = outputs_for(where, out, shapes, types)
    run_on_channels(
        ufunc,
        arrays,
        tuple(np.require(n, inner, ["C", "A"]) for n in numbers),
        results[:count],
        results[count] if has_gradient else None,
        axis,
        dtype,
    )
    if has_gradient and not np.ndim(bias):
        results = (*results[:-1], results[-1][()])
    return results[0] if len(results) == 1 else results


def make(definition: Definition, name: str) -> np.ufunc:
    """Return the generalized ufunc of an operation with a bias."""
    from fastact.ufunc import Loop, make_ufunc

    operation, has_gradient = OPERATIONS[name], _HAS_GRADIENT[name]
    sums = ["sums"] if has_gradient else []
    numbers = len(definition.parameters)
    loops = [
        Loop(
            [dtype_of(each) for each in _operand_types(definition, name, dtype)]
            + [np.dtype(np.float64) for _ in sums],
            definition.kernel_name(f"{name}.bias.{dtype}"),
            partial(_build_loop, definition, name, dtype),
            definition.explain,
        )
        for dtype in dtypes()
    ]
    arrays = ["(n,c,s)"] * len(operation.inputs)
    results = ["(n,c,s)"] * len(operation.outputs) + ["(c)" for _ in sums]
    return make_ufunc(
        definition.module,
        f"{definition.ufunc_name(name)}_with_bias",
        f"Compute {operation.summary}, at x + bias, of the activation {definition.name!r}.",
        (*operation.inputs, "bias", *definition.parameters),
        (*operation.outputs, *sums),
        loops,
        f"{','.join([*arrays, '(c)', *['()'] * numbers])}->{','.join(results)}",
    )


def _operand_types(definition: Definition, name: str, dtype: str) -> list[str]:
    operation = OPERATIONS[name]
    numbers = [parameters_in(dtype)] * (1 + len(definition.parameters))
    return [dtype] * len(operation.inputs) + numbers + [dtype] * len(operation.outputs)


def _build_loop(definition: Definition, name: str, dtype: str) -> LoopFunction:
    from fastact import loops
    from fastact.kernels import make_compilable
    from fastact.simd.lowering import internal
    from fastact.simd.operands import Operands
    from fastact.simd.storage import Storage

    f = definition.on_vectors
    make_compilable(f)
    compute = OPERATIONS[name].compute(internal(lambda x, bias, *rest: f(x + bias, *rest)))
    has_gradient = _HAS_GRADIENT[name]
    storages = tuple(map(Storage, _operand_types(definition, name, dtype)))
    operands = Operands(
        storages, len(OPERATIONS[name].inputs), parameters=1 + len(definition.parameters)
    )
    operation = _with_gradient(internal(compute)) if has_gradient else compute
    return loops.channel_sums(operation, operands, has_gradient)


def _with_gradient(compute: Any) -> Any:
    """Return what gives the last result, the gradient by the input, once more: to be summed."""

    def operation(*inputs: Any) -> Any:
        results = compute(*inputs)
        return results + (results[-1],)

    return operation
