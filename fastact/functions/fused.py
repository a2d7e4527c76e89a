"""What runs in the pass of an activation, before it and after it: bias, dropout, residual.

``y = fa.gelu(x, bias=b, dropout=0.1, rng=seed, residual=r)`` is ``r + dropout(gelu(x + b))``, the order of a
transformer's feed-forward block; each of the three may be left out, and None is as good as that. ``dx, dbias =
fa.gelu.backward(dy, x, bias=b, dropout=0.1, rng=seed)`` and ``y, dx, dbias = fa.gelu.forward_backward(x, dy, ...)`` give
the gradients; without a bias there is no `dbias`. Its sums are taken in float64 over blocks that depend on the shape
alone, so that the result is the same with any number of threads. The sum ``x + bias`` is rounded once, to the type that
is computed in. Parameters of the activation must be numbers here.

Each stage after the activation is one entry of `STAGES`: an option, its operands, and what it does to the value and to
the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from fastact.arrays.arguments import (
    as_number,
    as_real_array,
    as_returned,
    outputs_for,
    same_shape,
    weak_for_integers,
)
from fastact.arrays.channels import CHANNEL_RANDOM_OPERANDS, call_on_channels, channel_axis
from fastact.arrays.contiguous import RANDOM_OPERANDS, computed_dtype, run_contiguous
from fastact.arrays.random_numbers import chance_of, key_and_threshold, key_of
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.catalogue.dropouts import dropout
from fastact.functions.function import Function, check_domains
from fastact.functions.operation import Operation
from fastact.functions.options import RNG, Argument
from fastact.functions.pointwise import OPERATIONS
from fastact.kernels.kernel import Channels, Contiguous, Kernel, Operand, parameters
from fastact.runtime.dtypes import inner_type
from fastact.system.numpy_api import MAX_OPERANDS

_GRADIENTS = ("backward", "forward_backward")


@dataclass(frozen=True)
class Stage:
    """What follows an activation in the same pass.

    Attributes
    ----------
    option : Argument
        The option that asks for it.
    operations : tuple of str
        The operations that it goes with.
    value : callable
        Takes the value and the stage's operands, and returns the value after it.
    gradient : callable, optional
        Takes the gradient by the output and the stage's operands, and returns the gradient before it; None where that
        is the same.
    is_array : bool
        Whether its operand is an array of the shape of `x`.
    numbers : tuple of str
        The names of its operands that are numbers.
    values_of : callable
        Takes what errors call the operation and the option's value, and returns these numbers.
    draws : bool
        Whether it takes random words and a threshold before these.
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

STAGES = (
    Stage(
        Argument(
            "scale",
            "float, optional",
            "What the value is multiplied by, before a dropout.",
            annotation="float | None",
        ),
        ("forward", "backward", "forward_backward"),
        value=lambda y, scale: y * scale,
        gradient=lambda dy, scale: dy * scale,
        numbers=("value_scale",),
        values_of=lambda caller, scale: (as_number(caller, "scale", scale),),
    ),
    Stage(
        Argument(
            "dropout",
            "float, optional",
            "The chance of a value to become 0; the others are divided by ``1 - dropout``; see `fastact.dropout`, "
            "which drops the same elements. ``rng`` says which.",
            annotation="float | None",
        ),
        ("forward", "backward", "forward_backward"),
        value=_dropped,
        gradient=_dropped,
        numbers=("dropout_scale",),
        values_of=lambda caller, p: dropout.numbers(chance_of(caller, "dropout", p).p),
        draws=True,
    ),
    Stage(
        Argument(
            "residual",
            "array_like, optional",
            "Of the shape of `x`; added last: ``residual + dropout(f(x + bias))``. The gradient by it is `dy` itself.",
            annotation="ArrayLike | None",
        ),
        ("forward", "forward_backward"),
        value=lambda y, residual: residual + y,
        is_array=True,
    ),
)
BIAS = Argument(
    "bias",
    "float or array_like, optional",
    "Added to `x` first: one number, or one for each channel along ``axis`` (default -1). Then the gradients are "
    "followed by that of the bias, `dbias`, of its shape.",
    annotation="ArrayLike | None",
)
BIAS_OPERATIONS = (
    "forward",
    "derivative",
    "value_and_derivative",
    "backward",
    "forward_backward",
)
BIAS_AXIS = Argument("axis", "int, default -1", "The axis of the bias's channels.", -1, "int")


def stage_options(operation: str) -> tuple[Argument, ...]:
    """Return the options of the stages that go with an operation."""
    if operation not in BIAS_OPERATIONS:
        return ()
    found = [stage.option for stage in STAGES if operation in stage.operations]
    draws = any(stage.draws for stage in STAGES if operation in stage.operations)
    return (BIAS, BIAS_AXIS, *found, *((RNG,) if draws else ()))


class Variant(NamedTuple):
    """An operation with what is fused with it; each has a kernel of its own."""

    operation: str
    has_bias: bool
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        names = [*(["bias"] if self.has_bias else []), *(stage.name for stage in self.stages)]
        return f"{self.operation}_with_{'_'.join(names)}"

    @property
    def has_sums(self) -> bool:
        """Whether it gives the gradient by the bias."""
        return self.has_bias and self.operation in _GRADIENTS

    @property
    def draws(self) -> tuple[str, ...]:
        """The names of the random operands."""
        if not any(stage.draws for stage in self.stages):
            return ()
        return CHANNEL_RANDOM_OPERANDS if self.has_bias else RANDOM_OPERANDS

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays, those of stages first."""
        own = [stage.name for stage in self.stages if stage.is_array]
        return (*own, *(each.name for each in OPERATIONS[self.operation][1]))

    def numbers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names of what follows the arrays, with the parameters of these names."""
        own = [name for stage in self.stages for name in stage.numbers]
        return (*(["bias"] if self.has_bias else []), *names, *own)

    def kernel(self, definition: Definition) -> Kernel:
        """Return its kernel."""
        core = ("n", "c", "s") if self.has_bias else ("n",)
        numbers = parameters(self.numbers(definition.parameters))
        if self.has_bias:
            numbers[0] = numbers[0]._replace(core=("c",))
        inputs = [Operand(name, (), "int64") for name in self.draws]
        inputs += [Operand(name, core) for name in self.arrays] + numbers
        outputs = [Operand(name, core) for name in OPERATIONS[self.operation][2]]
        if self.has_sums:
            outputs.append(Operand("sums", ("c",), "float64"))
        schedule = Channels if self.has_bias else Contiguous
        compute = partial(_compute, definition, self)
        return Kernel(tuple(inputs), tuple(outputs), schedule(compute))


def variants(definition: Definition) -> list[Variant]:
    """Return all variants of an activation's operations."""
    found = []
    for operation in BIAS_OPERATIONS:
        subsets: list[tuple[Stage, ...]] = [()]
        for stage in STAGES:
            if operation in stage.operations and stage.name not in definition.parameters:
                subsets += [(*subset, stage) for subset in subsets]
        biases = (False,) if "bias" in definition.parameters else (False, True)
        found += [
            Variant(operation, has_bias, subset)
            for has_bias in biases
            for subset in subsets
            if has_bias or subset
        ]
    return found


@cache
def max_parameters() -> int:
    """Return how many parameters an activation may have, so that its largest ufunc is not too large."""
    everything = (
        Variant(operation, True, tuple(s for s in STAGES if operation in s.operations))
        for operation in BIAS_OPERATIONS
    )
    beside = (
        len((*each.draws, *each.arrays, *each.numbers(()), *OPERATIONS[each.operation][2]))
        + each.has_sums
        for each in everything
    )
    return MAX_OPERANDS - max(beside)


def _compute(definition: Definition, variant: Variant) -> Callable[..., Any]:
    """Return what a kernel applies to all elements: to words and threshold, arrays and numbers."""
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
    """Return an operation with a stage after it.

    Its inputs are those of the whole kernel; `slices` say which of them are the stage's.
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

    if gradient is None or operation == "forward":
        return with_value
    return with_gradient if operation == "backward" else with_both


def _with_sums(compute: Any) -> Callable[..., Any]:
    """Return what gives the last result, the gradient by the input, once more: to be summed."""

    def operation(*inputs: Any) -> Any:
        results = compute(*inputs)
        return results + (results[-1],)

    return operation


def fused_options(function: Function, options: Mapping[str, Any]) -> list[str]:
    """Return the names of what a call asks to be fused; parameters of the activation may bear one of these names."""
    names = ("bias", *(stage.name for stage in STAGES))
    own = function.parameters
    return [name for name in names if name not in own and options.get(name) is not None]


def run_fused(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run an operation of an activation with what its options ask for in the same pass.

    Raises
    ------
    TypeError
        If a learnable parameter is given whose gradient would be due as well, an option does not go with these, an
        input is not real, or ``rng`` is missing or of another type.
    ValueError
        If shapes do not fit together, the dropout or the seed is out of range, or `out` does not fit.
    """
    caller, name = function.caller(operation.name), operation.name
    own = function.parameters
    taken = fused_options(function, options)
    given = {key: options.pop(key) for key in taken}
    stages = tuple(stage for stage in STAGES if stage.name in given)
    variant = Variant(name, "bias" in given, stages)
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
        raise TypeError(f"{caller}: with {', '.join(taken)} it takes no {left!r}, but {known}")
    own_arrays = [given[stage.name] for stage in stages if stage.is_array]
    inputs = tuple(
        as_real_array(caller, each, value)
        for each, value in zip(variant.arrays, (*own_arrays, *arrays), strict=True)
    )
    x = variant.arrays.index("x")
    same_shape(caller, ("x", *variant.arrays), (inputs[x], *inputs))
    channels = None
    if variant.has_bias:
        bias = given["bias"]
        as_real_array(caller, "bias", bias)
        channels = channel_axis(caller, "bias", inputs[0], bias, axis)
        numbers.insert(0, bias)
    numbers += [n for stage in stages for n in stage.values_of(caller, given[stage.name])]
    draws = None
    if variant.draws:
        key = key_of(caller, rng, again=name == "backward")
        draws = key_and_threshold(key, chance_of(caller, "dropout", given["dropout"]))
    ufunc = function.kernels[variant]
    if variant.has_bias:
        return call_on_channels(
            caller, ufunc, inputs, numbers, channels, out, draws, has_sums=variant.has_sums
        )
    numbers = weak_for_integers(inputs, numbers)
    dtype = computed_dtype(ufunc, inputs, numbers)
    count = ufunc.nout
    results = outputs_for(caller, out, (inputs[0].shape,) * count, (dtype,) * count)
    values = [np.require(n, inner_type(dtype), ["C", "A"]) for n in numbers]
    run_contiguous(ufunc, draws, inputs, values, results, dtype)
    return as_returned(results, out)


def check_alone(caller: str, function: Function, options: dict[str, Any]) -> None:
    """Take out what is None, and raise an error for options that say more of what is not there."""
    for name in ("bias", *(stage.name for stage in STAGES)):
        if name not in function.parameters:
            options.pop(name, None)
    if "rng" not in function.parameters and options.pop("rng", None) is not None:
        raise TypeError(f"{caller}: rng is there without dropout, which would draw from it")
    if not function.learnable:
        _check_no_axis(caller, options)


def _check_no_axis(caller: str, options: dict[str, Any]) -> None:
    if "axis" in options:
        raise TypeError(f"{caller}: axis is there without bias, whose channels it would name")


def _check_learnable(
    caller: str, function: Function, variant: Variant, options: dict[str, Any]
) -> None:
    """Raise an error where the gradient by a learnable parameter would be due as well."""
    if variant.draws and function._definition.drawn_between:
        raise TypeError(f"{caller}: it may draw slopes itself; give its result to fastact.dropout")
    for name in function.learnable if variant.operation in _GRADIENTS else ():
        if name in options or function.parameters[name] is REQUIRED:
            other = "bias" if variant.has_bias else "input alone"
            raise TypeError(
                f"{caller}: fused it gives the gradient by the {other}, not by {name!r}: "
                f"call the steps one by one, or bind {name} as the default"
            )


def scalar_parameter(caller: str, function: Function, name: str, options: dict[str, Any]) -> Any:
    """Return a parameter and take it out of the options."""
    value = options.pop(name, function.parameters[name])
    if value is REQUIRED:
        raise TypeError(f"{caller}: missing the argument {name!r}")
    if np.ndim(value):
        raise ValueError(f"{caller}: here, {name} must be a number, got shape {np.shape(value)}")
    as_number(caller, name, value)
    return value
