"""Dropouts, which drop the same random elements in value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastact.arrays.arguments import as_real_array, same_shape
from fastact.arrays.contiguous import RANDOM_OPERANDS, ContiguousCall
from fastact.arrays.random_numbers import Draw, as_probability
from fastact.catalogue.definition import REQUIRED, DropoutDefinition
from fastact.functions.function import Function
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, RNG, Argument, X, gradient
from fastact.functions.vjp import MAX_FUSED_DERIVATIVE, VjpCall, by_backward, by_derivative
from fastact.kernels.kernel import Contiguous, Kernel, Operand, parameters

_DY = gradient("dy", "The gradient with respect to the output.")
_P = Argument(
    "p",
    "float, default 0.5",
    "The probability that an element is dropped, from 0 to 1.",
    0.5,
    "float",
    is_positional=True,
)
_P_OF_BACKWARD = Argument(
    "p", "float", "The probability of the forward call.", REQUIRED, "float", is_positional=True
)
_RETURNS = {
    "y": "The value, with the shape and dtype of `x`.",
    "dx": "The gradient with respect to the input, with its shape.",
}
_RAISES = {
    "TypeError": "If an array or `p` is not real, or `rng` is missing or of another type; `backward` does not "
    "accept a generator, which would drop other elements.",
    "ValueError": "If `p` or the seed is out of range, or `out` does not match.",
}
_OPERATIONS = {
    "forward": ("the value", (X,), ("y",)),
    "backward": (
        "the gradient with respect to the input, which is not needed itself",
        (_DY,),
        ("dx",),
    ),
    "forward_backward": (
        "the value and the gradient in one pass, with the same mask",
        (X, _DY),
        ("y", "dx"),
    ),
}
_EXAMPLES = {
    "vjp": """\
>>> x, dy = np.ones(4), np.array([1.0, 2.0, 3.0, 4.0])
>>> y, vjp = {f}.vjp(x, 0.25, rng=1)
>>> np.array_equal(vjp(dy), {f}.backward(dy, 0.25, rng=1))
True""",
    "backward": """\
>>> x, dy = np.ones(4), np.array([1.0, 2.0, 3.0, 4.0])
>>> dx = {f}.backward(dy, 0.25, rng=1)
>>> slope = {f}(x + 1, 0.25, rng=1)
>>> slope -= {f}(x, 0.25, rng=1)
>>> np.allclose(dx, dy * slope)
True""",
    "forward_backward": """\
>>> x, dy = np.ones(4), np.array([1.0, 2.0, 3.0, 4.0])
>>> y, dx = {f}.forward_backward(x, dy, 0.25, rng=1)
>>> np.array_equal(y, {f}(x, 0.25, rng=1))
True
>>> np.array_equal(dx, {f}.backward(dy, 0.25, rng=1))
True""",
}


def family(definition: DropoutDefinition) -> Family:
    """Return the family of a definition."""
    return Family(
        {name: _operation(name) for name in _OPERATIONS},
        tuple(_OPERATIONS),
        partial(_kernel, definition),
        vjp=_vjp,
        vjp_example=_EXAMPLES["vjp"],
    )


def _vjp(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> VjpCall:
    """Run the operation `vjp`: it keeps the derivatives of small arrays, and otherwise only the key."""
    (x,) = arrays
    if (
        type(x) is np.ndarray
        and x.dtype in (np.float32, np.float64)
        and x.nbytes <= MAX_FUSED_DERIVATIVE
    ):
        return by_derivative(function, arrays, options, "forward_backward", np.ones_like(x))
    return by_backward(function, operation, arrays, options)


def _operation(name: str) -> Operation:
    summary, arrays, outputs = _OPERATIONS[name]
    options = (_P_OF_BACKWARD if name == "backward" else _P, RNG, OUT)
    returns = {each: _RETURNS[each] for each in outputs}
    example = _EXAMPLES.get(name, "")
    return Operation(name, summary, arrays, options, returns, _run, _RAISES, example=example)


def _kernel(definition: DropoutDefinition, name: str) -> Kernel:
    _, arrays, outputs = _OPERATIONS[name]
    inputs = [Operand(each, (), "int64") for each in RANDOM_OPERANDS]
    inputs += [Operand(each.name, ("n",)) for each in arrays]
    inputs += parameters(_number_names(definition, name))
    results = tuple(Operand(each, ("n",)) for each in outputs)
    return Kernel(tuple(inputs), results, Contiguous(partial(_compute, definition, name)))


def _number_names(definition: DropoutDefinition, name: str) -> tuple[str, ...]:
    return definition.number_names[: 1 if name == "backward" else None]


def _compute(definition: DropoutDefinition, name: str) -> Callable[..., Any]:
    value, gradient = definition.function, definition.gradient
    if name == "forward":
        return lambda words, threshold, x, *numbers: (value(words, threshold, x, *numbers),)
    if name == "backward":
        return lambda words, threshold, dy, scale: (gradient(words, threshold, dy, scale),)
    return lambda words, threshold, x, dy, *numbers: (
        value(words, threshold, x, *numbers),
        gradient(words, threshold, dy, numbers[0]),
    )


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> ContiguousCall:
    caller, definition, name = function.caller(operation.name), function._definition, operation.name
    assert isinstance(definition, DropoutDefinition)
    named = zip(operation.inputs, arrays, strict=True)
    inputs = {each: as_real_array(caller, each, array) for each, array in named}
    same_shape(caller, operation.inputs, tuple(inputs.values()))
    default = REQUIRED if name == "backward" and not function._bound else function.parameters["p"]
    p = options.get("p", default)
    if p is REQUIRED:
        raise TypeError(f"{caller}: missing the argument 'p', the probability of the forward call")
    p = as_probability(caller, "p", p)
    draw = Draw(caller, options.get("rng"), name == "backward", p)
    numbers = definition.numbers(p)[: len(_number_names(definition, name))]
    return ContiguousCall(caller, function.kernels[name], inputs, numbers, options.get("out"), draw)
