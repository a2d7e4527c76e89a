"""Activations of elements: dispatch of calls, and learnable and random parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fastact.arrays.arguments import as_real_array, float_type, same_shape
from fastact.arrays.channels import ChannelsCall, channel_axis, type_of_sums
from fastact.arrays.random_numbers import as_generator
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions.function import Function, check_domains
from fastact.functions.fused import (
    Variant,
    check_alone,
    fused_call,
    fused_options,
    scalar_parameter,
    stage_options,
    variants,
)
from fastact.functions.operation import Family, Operation
from fastact.functions.options import Argument
from fastact.functions.pointwise import (
    EXAMPLES,
    OPERATIONS,
    UFUNC_OPTIONS,
    ElementwiseCall,
    check_from_output,
    constants_of,
    kernel,
    missing,
    multiplication,
    operation,
    plain_call,
)
from fastact.functions.vjp import (
    MAX_FUSED_DERIVATIVE,
    SAVE,
    SAVES,
    ChannelSums,
    Recipe,
    Vjp,
    by_backward,
    by_derivative,
)
from fastact.kernels.kernel import Channels, Kernel, Operand, parameters
from fastact.runtime.dtypes import has_loop, inner_type, parameters_in
from fastact.runtime.output_pool import retry_without_pool

_SUMS = "_with_sums"
# The largest arrays, in bytes, whose derivative is worth storing: it is read again from the cache.
_MAX_DERIVATIVE = 2**21
_AXIS = Argument(
    "axis",
    "int, default 1",
    "The axis of the channels, along which the parameter varies.",
    1,
    "int",
)
_RNG = Argument(
    "rng",
    "numpy.random.Generator, optional",
    "Draws a slope for each element, in the order of elements in memory. The call then also returns the slopes, with "
    "the shape of `x`, for the backward pass.",
    annotation="np.random.Generator | None",
)
_SLOPE = Argument(
    "slope",
    "array_like, optional",
    "Slopes drawn in an earlier call.",
    annotation="ArrayLike | None",
)


def family(definition: Definition) -> Family:
    """Return the family of a definition."""
    without = dict(missing(definition))
    names = [each for each in OPERATIONS if each not in without and each != "automatic_derivative"]
    others: list[Any] = list(variants(definition))
    if definition.learnable:
        others += [f"{each}{_SUMS}" for each in ("backward", "forward_backward")]
    return Family(
        {each: _operation(definition, each) for each in names},
        tuple(names),
        partial(_kernel, definition),
        without,
        tuple(others),
        vjp=_vjp,
        vjp_options=(SAVE,),
        vjp_example=EXAMPLES["vjp"],
        constants=constants_of,
    )


def _operation(definition: Definition, name: str) -> Operation:
    options = (*stage_options(name), *UFUNC_OPTIONS)
    if definition.learnable:
        options = (_AXIS, *options)
    if definition.drawn_between:
        options = (_SLOPE, *([_RNG] if name == "forward" else []), *options)
    needs = definition.from_output_needs if name == "backward_from_output" else ()
    is_plain = not definition.learnable and not needs
    plain = plain_call(name) if is_plain else None
    special = {each.name for each in options if each not in UFUNC_OPTIONS}
    special -= definition.parameters.keys()
    run = partial(_run_plain, frozenset(special)) if is_plain else _run
    found = operation(definition, name, options, run, plain)
    if definition.learnable and "backward" in name and name != "backward_from_output":
        (learnable,) = definition.learnable
        text = f"Only if `{learnable}` is passed: its gradient, of its shape, summed in float64."
        found = replace(found, returns={**found.returns, f"d{learnable}": text})
    return found


def _kernel(definition: Definition, key: Any) -> Kernel:
    if isinstance(key, Variant):
        return key.kernel(definition)
    if key.endswith(_SUMS):
        return _kernel_with_sums(definition, key.removesuffix(_SUMS))
    return kernel(definition, key)


def _run_plain(
    special: frozenset[str],
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """Return the call of the ufunc unless an option asks for more: 5 us instead of 7."""
    if special.isdisjoint(options):
        return ElementwiseCall(function, operation.name, arrays, options)
    return _run(function, operation, arrays, options)


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Dispatch a call: fused, with random slopes, with a learnable parameter, or plain."""
    fused = fused_options(function, options)
    if fused:
        return fused_call(function, operation, arrays, options, fused)
    caller, definition = function.caller(operation.name), function._definition
    if definition.drawn_between:
        if options.get("rng") is not None:
            return _with_drawn_slopes(function, operation, arrays, options)
        options.pop("rng", None)
        slope = options.pop("slope", None)
        if slope is not None:
            options |= dict.fromkeys(definition.drawn_between, slope)
    check_alone(caller, function, options)
    if operation.name == "backward_from_output":
        check_from_output(function, options)
    if definition.learnable:
        return _with_learnable(function, operation, arrays, options)
    return ElementwiseCall(function, operation.name, arrays, options)


# A learnable parameter ---------------------------------------------------------------------------


def _with_learnable(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Reshape the parameter so that it broadcasts, or run the kernel with its gradient."""
    caller, (name,) = function.caller(operation.name), function.learnable
    default = function.parameters[name]
    has_gradient = name in options or default is REQUIRED
    weight, axis = options.pop(name, default), options.pop("axis", 1)
    if weight is REQUIRED:
        raise TypeError(f"{caller}: missing the argument {name!r}")
    values = as_real_array(caller, name, weight)
    check_domains(function, caller, {name: values})
    if has_gradient and operation.name in ("backward", "forward_backward"):
        return _with_gradient(function, operation, arrays, weight, axis, options)
    if values.ndim:
        x = np.asanyarray(arrays[-1])
        found = channel_axis(caller, name, x, values, axis)
        shape = () if found is None else (values.size,) + (1,) * (x.ndim - found - 1)
        weight = values.reshape(shape)
    return ElementwiseCall(function, operation.name, arrays, options | {name: weight})


def _with_gradient(
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    weight: Any,
    axis: Any,
    options: dict[str, Any],
) -> Any:
    """Run an operation that also returns the gradient of the parameter."""
    caller, (name,) = function.caller(operation.name), function.learnable
    out = options.pop("out", None)
    check_domains(function, caller, options)
    others = [
        scalar_parameter(caller, function, each, options)
        for each in function.parameters
        if each != name
    ]
    for unknown in options:
        known = ", ".join((*function.parameters, "axis", "out"))
        raise TypeError(f"{caller}: with {name}, {unknown!r} is not supported, only {known}")
    named = zip(operation.inputs, arrays, strict=True)
    given = {each: as_real_array(caller, each, array) for each, array in named}
    same_shape(caller, operation.inputs, tuple(given.values()))
    channels = channel_axis(caller, name, given["x"], weight, axis) if np.ndim(weight) else None
    ufunc = function.kernels[operation.name + _SUMS]
    call = ChannelsCall(
        caller, ufunc, given, name, [weight, *others], channels, out, None, has_sums=True
    )
    # Whether an array is in the domain depends on its elements.
    return call() if name in function.domains and np.ndim(weight) else call


def _backward(f: Any, k: int) -> Any:
    times = multiplication(f)

    def operation(dy: Any, x: Any, parameter: Any, *others: Any) -> Any:
        _, derivative, by_parameter = f(x, *(others[:k] + (parameter,) + others[k:]))
        return times(dy, derivative), times(dy, by_parameter)

    return operation


def _forward_backward(f: Any, k: int) -> Any:
    times = multiplication(f)

    def operation(x: Any, dy: Any, parameter: Any, *others: Any) -> Any:
        value, derivative, by_parameter = f(x, *(others[:k] + (parameter,) + others[k:]))
        return value, times(dy, derivative), times(dy, by_parameter)

    return operation


def _kernel_with_sums(definition: Definition, name: str) -> Kernel:
    """Return the kernel of an operation that also sums the gradient of the learnable parameter."""
    core = ("n", "c", "s")
    _, arrays, returns, _ = OPERATIONS[name]
    (learnable,), names = definition.learnable, list(definition.parameters)
    index = names.index(learnable)
    inputs = [Operand(each.name, core) for each in arrays]
    inputs.append(Operand(learnable, ("c",), "parameter"))
    inputs += parameters(each for each in names if each != learnable)
    outputs = [*(Operand(each, core) for each in returns), Operand("sums", ("c",), "float64")]
    compute: Callable[[Any, int], Any] = {
        "backward": _backward,
        "forward_backward": _forward_backward,
    }[name]
    schedule = Channels(lambda: compute(definition.on_vectors, index))
    return Kernel(tuple(inputs), tuple(outputs), schedule)


# The gradient later ------------------------------------------------------------------------------


def _vjp(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run the operation `vjp`, keeping what `save` says."""
    save, caller = options.pop("save", None), function.caller(operation.name)
    if save not in (None, *SAVES):
        raise ValueError(f"{caller}: save must be one of {SAVES}, got {save!r}")
    fused = fused_options(function, options)
    if options.get("rng") is not None and "dropout" not in fused:
        if not function._definition.drawn_between:
            raise TypeError(f"{caller}: rng has no effect without dropout")
        return _vjp_with_drawn_slopes(function, arrays, options)
    is_learning = any(name in options for name in function.learnable)
    if save is None:
        save = "input" if is_learning else _cheapest(function, arrays[0], options, fused)
    elif save != "input" and is_learning:
        raise ValueError(f"{caller}: with {function.learnable[0]}, only the input can be saved")
    elif save == "output":
        _check_saved_output(function, caller, options, fused)
    if save == "input":
        return by_backward(function, operation, arrays, options)
    bias = _bias_of(function, caller, arrays[0], options) if "bias" in fused else None
    if save == "output":
        call = by_backward(
            function, operation, arrays, options, backward="backward_from_output", bias=bias
        )
        # Whether an array has no negative elements differs from call to call.
        needs = [options.get(name) for name in function._definition.from_output_needs]
        return call() if any(isinstance(each, np.ndarray) for each in needs) else call
    return by_derivative(function, arrays, options, "value_and_derivative", bias=bias)


def _check_saved_output(
    function: Function, caller: str, options: dict[str, Any], fused: tuple[str, ...]
) -> None:
    """Raise an error unless the gradient is a function of the output."""
    if "backward_from_output" not in function.operations:
        raise ValueError(f"{caller}: {function._family.missing['backward_from_output']}")
    for name in fused:
        if name != "bias":
            raise ValueError(
                f"{caller}: with {name}, the derivative is not a function of the output"
            )
    check_from_output(function, options)


def _bias_of(function: Function, caller: str, x: Any, options: dict[str, Any]) -> ChannelSums:
    """Return how the gradient of a bias is summed, or raise an error if it does not fit."""
    array = as_real_array(caller, "x", x)
    bias = as_real_array(caller, "bias", options["bias"])
    axis = channel_axis(caller, "bias", array, bias, options.get("axis", -1)) if bias.ndim else None
    dtype = type_of_sums(options["bias"], float_type((x,), [array]))
    return ChannelSums(bias.shape, dtype, axis)


def _vjp_with_drawn_slopes(
    function: Function, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run the forward pass with random slopes, and keep them with the input."""
    y, slope = function._call(function.operations["forward"], arrays, (), dict(options))
    kept = {name: value for name, value in options.items() if name not in ("rng", "out")}
    recipe = Recipe(function, "backward", ("dy",))
    return y, Vjp(recipe, arrays, kept | {"slope": slope})


def _cheapest(function: Function, x: Any, options: dict[str, Any], fused: tuple[str, ...]) -> str:
    """Return what to keep for the gradient so that both passes take the least time."""
    is_array = type(x) is np.ndarray and has_loop(x.dtype)
    is_dear = function._definition.is_smooth or (
        "dropout" in fused and x.nbytes <= MAX_FUSED_DERIVATIVE
    )
    if fused and not (is_array and is_dear):
        return "input"
    if "backward_from_output" in function.operations and not fused:
        with contextlib.suppress(TypeError, ValueError):
            check_from_output(function, options)
            return "output"
    # In cache, value and derivative of gelu and a product take 0.63 of the time of computing gelu twice, those of
    # hardswish 1.1 (Zen 4); beyond, memory decides. In half precision the derivative would be rounded once more.
    is_dear = is_dear and {"out", "dtype"}.isdisjoint(options)
    if is_dear and is_array and x.nbytes < _MAX_DERIVATIVE and inner_type(x.dtype) is x.dtype:
        return "derivative"
    return "input"


# A random parameter ------------------------------------------------------------------------------


def _with_drawn_slopes(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return the value with a random slope for each element, and the slopes."""
    name, rng = function.name, options.pop("rng")
    if "slope" in options:
        raise TypeError(f"{name}: pass either rng, which draws slopes, or slope, not both")
    interval = function._definition.drawn_between
    ends = [
        as_real_array(name, each, options.pop(each, function.parameters[each])) for each in interval
    ]
    if np.any(ends[0] > ends[1]):
        raise ValueError(f"{name}: {interval[0]} must not be above {interval[1]}")
    x = as_real_array(name, "x", arrays[0])
    kind = function.ufuncs["forward"].resolve_dtypes((x.dtype, float, float, None))[0]
    generator = as_generator(name, rng)
    slope = retry_without_pool(generator.random, x.shape, np.dtype(parameters_in(kind.name)))
    slope *= (ends[1] - ends[0]).astype(slope.dtype)
    slope += ends[0].astype(slope.dtype)
    return _run(function, operation, arrays, options | {"slope": slope})(), slope
