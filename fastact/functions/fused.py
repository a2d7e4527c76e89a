"""Fused variants of activations: bias, scale, dropout and residual in the same pass.

``y = fa.gelu(x, bias=b, scale=s, dropout=0.1, rng=seed, residual=r)`` is ``r + dropout(s * gelu(x + b))``, in the order
of a transformer's feed-forward block. Each option may be omitted or None. ``dx, dbias = fa.gelu.backward(dy, x, bias=b,
dropout=0.1, rng=seed)`` and ``y, dx, dbias = fa.gelu.forward_backward(x, dy, ...)`` return the gradients, without `dbias`
if there is no bias. The gradient of the bias is summed in float64 over blocks that depend only on the shape, so the
result does not depend on the number of threads. ``x + bias`` is rounded once, to the type of the computation. Parameters
of the activation must be numbers here.

The bias is a prologue; each epilogue is a `Stage` in `STAGES`: an option, its operands, and its effect on value and
gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import combinations
from typing import Any

import numpy as np

from fastact.arrays.arguments import as_number, as_real_array, same_shape
from fastact.arrays.channels import CHANNEL_RANDOM_OPERANDS, ChannelsCall, channel_axis
from fastact.arrays.contiguous import RANDOM_OPERANDS, ContiguousCall
from fastact.arrays.plans import Call
from fastact.arrays.random_numbers import Draw, as_probability
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.catalogue.dropouts import dropout
from fastact.functions.function import Function, check_domains
from fastact.functions.operation import Operation
from fastact.functions.options import RNG, Argument
from fastact.functions.pointwise import OPERATIONS
from fastact.kernels.kernel import (
    Channels,
    Contiguous,
    Elementwise,
    Kernel,
    Operand,
    Schedule,
    parameters,
)
from fastact.system.numpy_api import MAX_OPERANDS

_GRADIENTS = ("backward", "forward_backward")


@dataclass(frozen=True, eq=False)
class Stage:
    """An epilogue of an activation, in the same pass.

    Attributes
    ----------
    option : Argument
        The option that requests it.
    operations : tuple of str
        The operations that support it.
    value : callable
        Takes the value and the stage's operands, and returns the new value.
    gradient : callable, optional
        Takes the gradient after the stage and the stage's operands, and returns the gradient before it; None if they
        are equal.
    is_array : bool
        Whether it has an array operand with the shape of `x`.
    numbers : tuple of str
        The names of its scalar operands.
    values_of : callable
        Takes the operation's name in errors and the option's value, and returns the scalar operands.
    draws : bool
        Whether random words and a threshold precede them.
    """

    option: Argument
    operations: tuple[str, ...]
    value: Callable[..., Any]
    gradient: Callable[..., Any] | None = None
    is_array: bool = False
    numbers: tuple[str, ...] = ()
    values_of: Callable[[str, Any], tuple[float, ...]] = lambda caller, value: ()
    draws: bool = False

    @property
    def name(self) -> str:
        """The option's name."""
        return self.option.name


def _dropped(y: Any, words: Any, threshold: Any, scale: Any) -> Any:
    return _dropout(words, threshold, y, scale)


_dropout = dropout.gradient

_ALL = ("forward", "value_and_derivative", "backward", "forward_backward")
RESIDUAL = Argument(
    "residual",
    "array_like, optional",
    "Added last, with the shape of `x`: ``residual + dropout(scale * f(x + bias))``. Its gradient is `dy` itself.",
    annotation="ArrayLike | None",
    is_differentiable=True,
)
STAGES = (
    Stage(
        Argument(
            "scale",
            "float, optional",
            "A factor of the value, applied before dropout.",
            annotation="float | None",
        ),
        _ALL,
        value=lambda y, scale: y * scale,
        gradient=lambda dy, scale: dy * scale,
        numbers=("value_scale",),
        values_of=lambda caller, scale: (as_number(caller, "scale", scale),),
    ),
    Stage(
        Argument(
            "dropout",
            "float, optional",
            "The probability that a value becomes 0; the others are divided by ``1 - dropout``. Drops the same elements "
            "as `fastact.dropout` with the same ``rng``.",
            annotation="float | None",
        ),
        _ALL,
        value=_dropped,
        gradient=_dropped,
        numbers=("dropout_scale",),
        values_of=lambda caller, p: dropout.numbers(as_probability(caller, "dropout", p)),
        draws=True,
    ),
    Stage(
        RESIDUAL,
        ("forward", "value_and_derivative", "forward_backward"),
        value=lambda y, residual: residual + y,
        is_array=True,
    ),
)
BIAS = Argument(
    "bias",
    "float or array_like, optional",
    "Added to `x` first: one number, one for each channel along ``axis`` (default -1), or an array that broadcasts with "
    "`x` and varies along one axis, such as (n, 1). Gradients are then followed by `dbias`, that of the bias, with its "
    "shape.",
    annotation="ArrayLike | None",
    is_differentiable=True,
)
# The options that request a variant, in the order of its steps.
OPTIONS = (BIAS.name, *(stage.name for stage in STAGES))
BIAS_OPERATIONS = (
    "forward",
    "derivative",
    "value_and_derivative",
    "backward",
    "forward_backward",
)
BIAS_AXIS = Argument("axis", "int, default -1", "The axis of the channels of the bias.", -1, "int")


def stage_options(operation: str) -> tuple[Argument, ...]:
    """Return the options for fusing that an operation supports."""
    if operation not in BIAS_OPERATIONS:
        return ()
    found = [stage.option for stage in STAGES if operation in stage.operations]
    draws = any(stage.draws for stage in STAGES if operation in stage.operations)
    return (BIAS, BIAS_AXIS, *found, *((RNG,) if draws else ()))


@dataclass(frozen=True, eq=False)
class Variant:
    """A fused variant of an operation, with a kernel of its own.

    Attributes
    ----------
    operation : str
        The operation.
    has_bias : bool
        Whether a bias is added first.
    stages : tuple of Stage
        The epilogues, in their order.
    """

    operation: str
    has_bias: bool
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        names = [*(["bias"] if self.has_bias else []), *(stage.name for stage in self.stages)]
        return f"{self.operation}_with_{'_'.join(names)}"

    @cached_property
    def has_sums(self) -> bool:
        """Whether it returns the gradient of the bias."""
        return self.has_bias and self.operation in _GRADIENTS

    @cached_property
    def draws(self) -> tuple[str, ...]:
        """The names of the random operands."""
        if not any(stage.draws for stage in self.stages):
            return ()
        return CHANNEL_RANDOM_OPERANDS if self.has_bias else RANDOM_OPERANDS

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays, those of stages first."""
        own = [stage.name for stage in self.stages if stage.is_array]
        return (*own, *(each.name for each in OPERATIONS[self.operation][1]))

    def numbers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the scalar operands after the arrays, among them the given parameters."""
        own = [name for stage in self.stages for name in stage.numbers]
        return (*(["bias"] if self.has_bias else []), *names, *own)

    def kernel(self, definition: Definition) -> Kernel:
        """Return its kernel."""
        schedule: type[Schedule] = Channels if self.has_bias else Contiguous
        core: tuple[str, ...] = ("n", "c", "s") if self.has_bias else ("n",)
        if not (self.has_bias or self.draws):
            schedule, core = Elementwise, ()
        numbers = parameters(self.numbers(definition.parameters))
        if self.has_bias:
            numbers[0] = numbers[0]._replace(core=("c",))
        inputs = [Operand(name, (), "int64") for name in self.draws]
        inputs += [Operand(name, core) for name in self.arrays] + numbers
        outputs = [Operand(name, core) for name in OPERATIONS[self.operation][2]]
        if self.has_sums:
            outputs.append(Operand("sums", ("c",), "float64"))
        compute = partial(_compute, definition, self)
        return Kernel(tuple(inputs), tuple(outputs), schedule(compute))


@cache
def variant_of(operation: str, options: tuple[str, ...]) -> Variant:
    """Return the variant that runs an operation with some of `OPTIONS`, in their order: one object for each."""
    stages = tuple(stage for stage in STAGES if stage.name in options)
    return Variant(operation, BIAS.name in options, stages)


def variants(definition: Definition) -> list[Variant]:
    """Return all variants of an activation's operations."""
    found = []
    for operation in BIAS_OPERATIONS:
        options = _supported(operation, definition.parameters)
        for count in range(1, len(options) + 1):
            found += [variant_of(operation, some) for some in combinations(options, count)]
    return found


def _supported(operation: str, parameters: Container[str] = ()) -> list[str]:
    """Return those of `OPTIONS` that an operation supports, except parameters of the activation."""
    own = [BIAS.name, *(stage.name for stage in STAGES if operation in stage.operations)]
    return [name for name in own if name not in parameters]


@cache
def max_parameters() -> int:
    """Return the most parameters for which all ufuncs stay within NumPy's limit of operands."""
    everything = (variant_of(each, tuple(_supported(each))) for each in BIAS_OPERATIONS)
    others = (
        len((*each.draws, *each.arrays, *each.numbers(()), *OPERATIONS[each.operation][2]))
        + each.has_sums
        for each in everything
    )
    return MAX_OPERANDS - max(others)


def _compute(definition: Definition, variant: Variant) -> Callable[..., Any]:
    """Return the function of random operands, arrays and scalars that a kernel computes."""
    from fastact.simd.compilable import internal

    f = definition.on_vectors
    at = internal(lambda x, bias, *rest: f(x + bias, *rest)) if variant.has_bias else f
    core = internal(OPERATIONS[variant.operation][3](at))
    random = 2 if variant.draws else 0
    first = random + sum(stage.is_array for stage in variant.stages)
    arrays = [each.name for each in OPERATIONS[variant.operation][1]]
    last = first + len(arrays) + variant.has_bias + len(definition.parameters)
    result = internal(lambda *inputs: core(*inputs[first:last]))
    position, number = random, last
    gradient_at = first + arrays.index("dy") if "dy" in arrays else -1
    for stage in variant.stages:
        slices = (
            slice(0, random if stage.draws else 0),
            slice(position, position + stage.is_array),
            slice(number, number + len(stage.numbers)),
        )
        position, number = slices[1].stop, slices[2].stop
        result = internal(_with_stage(result, variant.operation, stage, slices, gradient_at))
    return _with_sums(result) if variant.has_sums else result


def _with_stage(
    inner: Any, operation: str, stage: Stage, slices: tuple[slice, slice, slice], gradient_at: int
) -> Callable[..., Any]:
    """Return an operation followed by a stage.

    Its inputs are those of the whole kernel; `slices` are the positions of the stage's own among them.
    """
    from fastact.simd.compilable import internal

    (a, b), (c, d), (e, f) = ((each.start, each.stop) for each in slices)
    value: Any = internal(stage.value)
    gradient: Any = stage.gradient and internal(stage.gradient)
    after = gradient_at + 1

    def with_value(*inputs: Any) -> Any:
        results = inner(*inputs)
        own = inputs[a:b] + inputs[c:d] + inputs[e:f]
        return (value(results[0], *own),) + results[1:]

    def with_gradient(*inputs: Any) -> Any:
        own = inputs[a:b] + inputs[c:d] + inputs[e:f]
        dy = (gradient(inputs[gradient_at], *own),)
        return inner(*(inputs[:gradient_at] + dy + inputs[after:]))

    def with_both(*inputs: Any) -> Any:
        own = inputs[a:b] + inputs[c:d] + inputs[e:f]
        dy = (gradient(inputs[gradient_at], *own),)
        results = inner(*(inputs[:gradient_at] + dy + inputs[after:]))
        return (value(results[0], *own),) + results[1:]

    def with_derivative(*inputs: Any) -> Any:
        own = inputs[a:b] + inputs[c:d] + inputs[e:f]
        y, derivative = inner(*inputs)
        return value(y, *own), gradient(derivative, *own)

    if gradient is None or operation == "forward":
        return with_value
    if operation == "value_and_derivative":
        return with_derivative
    return with_gradient if operation == "backward" else with_both


def _with_sums(compute: Any) -> Callable[..., Any]:
    """Return a function that repeats the last result, the gradient with respect to the input, to be summed."""

    def operation(*inputs: Any) -> Any:
        results = compute(*inputs)
        return results + (results[-1],)

    return operation


def fused_options(function: Function, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those of `OPTIONS` that a call passes, except parameters of the activation."""
    own = function.parameters
    return tuple(name for name in OPTIONS if name not in own and options.get(name) is not None)


def fused_call(
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    fused: tuple[str, ...],
) -> Call:
    """Return the call of the variant of an operation with the options `fused`, see `fused_options`.

    Raises
    ------
    TypeError
        If a learnable parameter would need its gradient too, an option is not supported here, an input is not real,
        or ``rng`` is missing or of another type.
    ValueError
        If shapes do not match, the dropout or the seed is out of range, or `out` does not match.
    """
    caller, name = function.caller(operation.name), operation.name
    own = function.parameters
    given = {each: options.pop(each) for each in fused}
    variant = variant_of(name, fused)
    rng = None if "rng" in own else options.pop("rng", None)
    if not variant.has_bias:
        _check_no_axis(caller, options)
    axis, out = options.pop("axis", -1), options.pop("out", None)
    _check_learnable(caller, function, variant, options)
    check_domains(function, caller, options)
    numbers = [scalar_parameter(caller, function, each, options) for each in own]
    for left, value in options.items():
        if left in operation.option_names and value is operation.option_names[left].default:
            continue
        known = ", ".join((*own, *(each.name for each in stage_options(name)), "out"))
        raise TypeError(
            f"{caller}: with {', '.join(fused)}, {left!r} is not supported, only {known}"
        )
    own_arrays = [given[stage.name] for stage in variant.stages if stage.is_array]
    values = zip(variant.arrays, (*own_arrays, *arrays), strict=True)
    inputs = {each: as_real_array(caller, each, value) for each, value in values}
    same_shape(caller, ("x", *inputs), (inputs["x"], *inputs.values()))
    channels = None
    if variant.has_bias:
        bias = given["bias"]
        as_real_array(caller, "bias", bias)
        channels = channel_axis(caller, "bias", inputs["x"], bias, axis)
        numbers.insert(0, bias)
    numbers += [n for stage in variant.stages for n in stage.values_of(caller, given[stage.name])]
    draw = None
    if variant.draws:
        draw = Draw(caller, rng, name == "backward", float(given["dropout"]))
    ufunc = function.kernels[variant]
    if variant.has_bias:
        return ChannelsCall(
            caller, ufunc, inputs, "bias", numbers, channels, out, draw, variant.has_sums
        )
    return ContiguousCall(caller, ufunc, inputs, numbers, out, draw)


def check_alone(caller: str, function: Function, options: dict[str, Any]) -> None:
    """Remove options that are None, and raise an error for options of others that are missing."""
    has_dropout = "dropout" in options
    for name in OPTIONS:
        if name not in function.parameters:
            options.pop(name, None)
    rng = None if "rng" in function.parameters else options.pop("rng", None)
    if rng is not None and not has_dropout:
        raise TypeError(f"{caller}: rng has no effect without dropout")
    if not function.learnable:
        _check_no_axis(caller, options)


def _check_no_axis(caller: str, options: dict[str, Any]) -> None:
    if "axis" in options:
        raise TypeError(f"{caller}: axis has no effect without bias")


def _check_learnable(
    caller: str, function: Function, variant: Variant, options: dict[str, Any]
) -> None:
    """Raise an error if the gradient of a learnable parameter would be needed as well."""
    if variant.draws and function._definition.drawn_between:
        raise TypeError(
            f"{caller}: not supported where slopes are random; pass the result to fastact.dropout"
        )
    for name in function.learnable if variant.operation in _GRADIENTS else ():
        if name in options or function.parameters[name] is REQUIRED:
            other = "bias" if variant.has_bias else "input only"
            raise TypeError(
                f"{caller}: a fused call returns the gradient of the {other}, not of {name!r}: "
                f"call the steps separately, or bind {name} as the default"
            )


def scalar_parameter(caller: str, function: Function, name: str, options: dict[str, Any]) -> Any:
    """Remove a scalar parameter from the options and return it."""
    value = options.pop(name, function.parameters[name])
    if value is REQUIRED:
        raise TypeError(f"{caller}: missing the argument {name!r}")
    if np.ndim(value):
        raise ValueError(f"{caller}: here {name} must be a number, got shape {np.shape(value)}")
    as_number(caller, name, value)
    return value
