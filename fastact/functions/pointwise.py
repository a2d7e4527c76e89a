"""Activations of elements: their operations, and the ufuncs behind them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray

from fastact.arrays.arguments import (
    as_real_array,
    as_returned,
    check_output,
    check_real,
    each_output,
    outputs_for,
    sum_into,
    warn_caller,
    weak_for_integers,
)
from fastact.arrays.plans import MAX_BYTES, SMALL_BYTES, Call, KernelPlan, Plan, is_number, shaped
from fastact.catalogue.definition import CONVENTIONS, REQUIRED, Definition
from fastact.functions.function import Function, check_domains
from fastact.functions.operation import Operation
from fastact.functions.options import OUT, Argument, X, array, gradient
from fastact.kernels.kernel import Elementwise, Kernel, Operand, parameters
from fastact.runtime.dtypes import dtypes, has_loop, inner_type
from fastact.runtime.output_pool import POOLED, retry_without_pool, with_output_pool
from fastact.runtime.replays import Input, Output
from fastact.simd import derivative_of, dual, isnan, select
from fastact.vecmath.scaling import product

Compute = Callable[[Callable[..., Any]], Callable[..., Any]]


def _forward(f: Any) -> Any:
    return lambda x, *parameters: (f(x, *parameters)[0],)


def _derivative(f: Any) -> Any:
    return lambda x, *parameters: (f(x, *parameters)[1],)


def _value_and_derivative(f: Any) -> Any:
    def operation(x: Any, *parameters: Any) -> Any:
        results = f(x, *parameters)
        return results[0], results[1]

    return operation


def multiplication(f: Any) -> Any:
    """Return how kernels multiply by a result of `f`, which is subnormal in the tails of all but the simplest functions."""
    from fastact.simd.compilable import is_memory_bound

    return operator.mul if is_memory_bound(f) else product


def _backward(f: Any) -> Any:
    times = multiplication(f)
    return lambda dy, x, *parameters: (times(dy, f(x, *parameters)[1]),)


def _forward_backward(f: Any) -> Any:
    times = multiplication(f)

    def operation(x: Any, dy: Any, *parameters: Any) -> Any:
        results = f(x, *parameters)
        return results[0], times(dy, results[1])

    return operation


def _backward_from_output(derivative: Any) -> Any:
    times = multiplication(derivative)
    return lambda dy, y, *parameters: (times(dy, derivative(y, *parameters)),)


def _derivative_of_output(index: int) -> Any:
    """Return the automatic derivative of the value (0) or of the derivative (1)."""

    def compute(f: Any) -> Any:
        def operation(x: Any, *parameters: Any) -> Any:
            seed = dual(x, select(isnan(x), x, 1))
            return (derivative_of(f(seed, *parameters)[index]),)

        return operation

    return compute


_DY = gradient("dy", "The gradient with respect to the output; it broadcasts with the input.")
_Y = array("y", "The value that the forward call returned.")
_OF_Y = {"y": "The value, with the shape and dtype of `x`."}
_OF_D = {"d": "The derivative, with the shape and dtype of `x`."}
_OF_DX = {
    "dx": "The gradient with respect to the input, with its shape. It is an IEEE product: an infinite `dy` times a zero "
    "derivative is NaN."
}
# For each operation: its summary, arrays and results, and its function on vectors.
OPERATIONS: dict[str, tuple[str, tuple[Argument, ...], dict[str, str], Compute]] = {
    "forward": ("the value", (X,), _OF_Y, _forward),
    "derivative": ("the derivative, dy/dx", (X,), _OF_D, _derivative),
    "value_and_derivative": (
        "the value and the derivative in one pass",
        (X,),
        _OF_Y | _OF_D,
        _value_and_derivative,
    ),
    "backward": (
        "the gradient with respect to the input, `dy` times the derivative at `x`",
        (_DY, X),
        _OF_DX,
        _backward,
    ),
    "forward_backward": (
        "the value and the gradient with respect to the input in one pass",
        (X, _DY),
        _OF_Y | _OF_DX,
        _forward_backward,
    ),
    "backward_from_output": (
        "the gradient with respect to the input, from the value instead of the input",
        (_DY, _Y),
        _OF_DX,
        _backward_from_output,
    ),
    "second_derivative": (
        "the second derivative, by forward-mode automatic differentiation",
        (X,),
        {"d": "The second derivative, with the shape and dtype of `x`."},
        _derivative_of_output(1),
    ),
    # Not a public operation: the reference of `check_derivative`.
    "automatic_derivative": ("the derivative", (X,), _OF_D, _derivative_of_output(0)),
}
# They hold for positive numbers, for which all activations are defined.
EXAMPLES = {
    "vjp": """\
>>> x, dy = np.array([0.3, 0.8, 2.0]), np.array([1.0, 0.0, -2.0])
>>> y, vjp = {f}.vjp(x)
>>> np.allclose(vjp(dy), {f}.backward(dy, x))
True""",
    "derivative": """\
>>> x, h = np.array([0.3, 0.8, 2.0]), 1e-6
>>> rise = np.diff({f}([x - h, x + h]), axis=0)
>>> np.allclose({f}.derivative(x), rise / (2 * h))
True""",
    "value_and_derivative": """\
>>> x = np.array([0.3, 0.8, 2.0])
>>> y, d = {f}.value_and_derivative(x)
>>> np.array_equal(y, {f}(x))
True
>>> np.array_equal(d, {f}.derivative(x))
True""",
    "backward": """\
>>> x, dy = np.array([0.3, 0.8, 2.0]), np.array([1.0, 0.0, -2.0])
>>> dx = {f}.backward(dy, x)
>>> np.array_equal(dx, dy * {f}.derivative(x))
True""",
    "forward_backward": """\
>>> x, dy = np.array([0.3, 0.8, 2.0]), np.array([1.0, 0.0, -2.0])
>>> y, dx = {f}.forward_backward(x, dy)
>>> np.array_equal(y, {f}(x))
True
>>> np.array_equal(dx, {f}.backward(dy, x))
True""",
    "backward_from_output": """\
>>> x, dy = np.array([0.3, 0.8, 2.0]), np.array([1.0, 0.0, -2.0])
>>> y = {f}(x)
>>> dx = {f}.backward_from_output(dy, y)
>>> np.allclose(dx, {f}.backward(dy, x))
True""",
    "second_derivative": """\
>>> x, h = np.array([0.3, 0.8, 2.0]), 1e-6
>>> rise = np.diff({f}.derivative([x - h, x + h]), axis=0)
>>> np.allclose({f}.second_derivative(x), rise / (2 * h))
True""",
}
# For each operation with a gradient, the position of the array whose shape it has.
_SHAPE_OF_GRADIENT = {
    name: 1 - arrays.index(_DY) for name, (_, arrays, _, _) in OPERATIONS.items() if _DY in arrays
}
RAISES = {
    "TypeError": "If an argument is unknown, an input is not real, or the dtype of `out` is too narrow.",
    "ValueError": "If shapes do not match, a parameter is outside its domain, or `out` is read-only.",
}
UFUNC_OPTIONS = (
    OUT,
    Argument("where", "array_like of bool, default True", "As for any ufunc.", True),
    Argument("casting", "str, default 'same_kind'", "As for any ufunc.", "same_kind", "str"),
    Argument("order", "str, default 'K'", "As for any ufunc.", "K", "str"),
    Argument(
        "dtype", "dtype, optional", "The dtype of computation and results.", None, "DTypeLike"
    ),
    Argument("subok", "bool, default True", "As for any ufunc.", True, "bool"),
    Argument("signature", "str or tuple of dtype, optional", "As for any ufunc."),
)


def missing(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yield the operations that an activation lacks, and why."""
    if definition.from_output is None:
        yield "backward_from_output", "the derivative is not a function of the output"
    if not definition.is_smooth:
        yield "second_derivative", "the derivative jumps, and so it has no derivative itself"


def parameter_arguments(definition: Definition) -> tuple[Argument, ...]:
    """Return the parameters of an activation as arguments of its methods."""
    return tuple(
        Argument(
            name,
            f"float or array_like{'' if default is REQUIRED else f', default {default:g}'}",
            definition.parameters_are.get(name, "A parameter; it broadcasts with the input."),
            default,
            "ArrayLike",
            is_positional=True,
            is_differentiable=name in definition.learnable,
        )
        for name, default in definition.parameters.items()
    )


def choice_arguments(definition: Definition) -> tuple[Argument, ...]:
    """Return the options that select another definition as arguments of methods."""
    return tuple(
        Argument(
            name,
            f"{{{', '.join(map(repr, values))}}}, optional",
            "The library to follow where conventions differ."
            if name == "convention"
            else "The definition to compute.",
            annotation=f"Literal[{', '.join(map(repr, values))}] | None",
        )
        for name, values in (
            {key: ("none", *known) for key, known in definition.choices.items()}
            | {"convention": CONVENTIONS}
        ).items()
    )


def operation(
    definition: Definition, name: str, options: tuple[Argument, ...], run: Any, plain: Any
) -> Operation:
    """Return an operation of an activation, with `options` in addition to its parameters and choices."""
    summary, arrays, returns, _ = OPERATIONS[name]
    everything = (*parameter_arguments(definition), *choice_arguments(definition), *options)
    # A parameter of a custom activation may share its name with an option, and then takes precedence.
    first = {each.name: each for each in reversed(everything)}
    taken = tuple(each for each in everything if first[each.name] is each)
    example = EXAMPLES.get(name, "")
    return Operation(name, summary, arrays, taken, returns, run, RAISES, plain, example)


def kernel(definition: Definition, name: str) -> Kernel:
    """Return the elementwise kernel of an operation."""
    _, arrays, returns, _ = OPERATIONS[name]
    inputs = (*(Operand(each.name) for each in arrays), *parameters(definition.parameters))
    outputs = tuple(map(Operand, returns))
    return Kernel(inputs, outputs, Elementwise(partial(compute, definition, name)))


def compute(definition: Definition, name: str) -> Callable[..., Any]:
    """Return the function on vectors behind an operation."""
    function = definition.on_vectors
    if name == "backward_from_output":
        assert definition.from_output is not None
        function = definition.from_output
    return OPERATIONS[name][3](function)


def constants_of(function: Function) -> Callable[[np.dtype[Any]], Any]:
    """Return a function from a dtype to a function's parameters as arrays for that dtype.

    This saves converting them in each call. It returns None for dtypes without a loop, and if a parameter is not a
    plain number.
    """
    values = tuple(function.parameters.values())
    are_plain = all(map(is_number, values))

    def for_dtype(dtype: np.dtype[Any]) -> tuple[Any, ...] | None:
        if not (are_plain and has_loop(dtype)):
            return None
        return tuple(np.asarray(each, inner_type(dtype)) for each in values)

    return for_dtype


def plain_call(name: str) -> Callable[..., Any]:
    """Return the shortcut for calls without options: straight to the ufunc, except in special cases."""
    has_gradient = name in _SHAPE_OF_GRADIENT

    def plain(function: Function, *arrays: Any, out: Any = None) -> Any:
        first = arrays[0]
        if type(first) is ndarray:
            constants = function.constants[first.dtype]
            if has_gradient and getattr(arrays[1], "shape", None) != first.shape:
                constants = None  # the gradient of a broadcast x is a sum
            if constants and getattr(arrays[-1], "dtype", None) is not first.dtype:
                constants = None
            if constants is not None:
                is_planned = out is None and first.ndim and first.nbytes < MAX_BYTES
                if is_planned and function._has_repeated(name, first):
                    return function._call(function.operations[name], arrays, (), {})
                ufunc = function.kernels[name]
                try:
                    if out is None and first.nbytes >= POOLED.min_bytes:
                        return with_output_pool(ufunc, *arrays, *constants)
                    if out is None:
                        return ufunc(*arrays, *constants)
                    if type(out) is ndarray or _are_two_arrays(out):
                        return ufunc(*arrays, *constants, out=out)
                except (TypeError, ValueError) as error:
                    explain(function, name, (*arrays, *constants), {"out": out}, error)
                except MemoryError:
                    pass  # retried below, without pooled memory
        return run_elementwise(function, name, arrays, {} if out is None else {"out": out})

    return plain


def _are_two_arrays(out: Any) -> bool:
    """Tell whether ``out`` is two arrays apart in memory, which a ufunc, unlike this library, does not check."""
    if type(out) is not tuple or len(out) != 2:
        return False
    first, second = out
    return type(first) is type(second) is ndarray and not np.may_share_memory(first, second)


@dataclass(eq=False, repr=False)
class ElementwiseCall(Call):
    """A call of an activation's ufunc with options.

    Attributes
    ----------
    function : Function
        The activation.
    name : str
        The operation.
    arrays : tuple
        Its arrays.
    options : dict
        Its parameters, and options of the ufunc.
    """

    function: Function
    name: str
    arrays: tuple[Any, ...]
    options: Mapping[str, Any]

    def __call__(self) -> Any:
        """Make the call and return the results."""
        return run_elementwise(self.function, self.name, self.arrays, dict(self.options))

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for arrays of one shape and dtype, with parameters that are numbers or of that dtype."""
        first, options = self.arrays[0], dict(self.options)
        if any(type(each) is not ndarray for each in self.arrays):
            return None
        dtype, shape, out = first.dtype, first.shape, options.pop("out", None)
        if not has_loop(dtype) or first.nbytes >= MAX_BYTES:
            return None
        if any(each.dtype is not dtype or each.shape != shape for each in self.arrays):
            return None
        # Whether an array is in the domain depends on its elements.
        definition = self.function._definition
        checked = {*definition.domains}
        if self.name == "backward_from_output":
            checked.update(definition.from_output_needs)
        inner = inner_type(dtype)
        parameters: list[Any] = []
        places: dict[int, tuple[int, tuple[int, ...]]] = {}
        for k, (name, default) in enumerate(self.function.parameters.items()):
            value = options.pop(name, default)
            if is_number(value):
                parameters.append(np.asarray(value, inner))
            elif name in positions and getattr(value, "dtype", None) is dtype:
                if name in checked:
                    return None
                parameters.append(None)
                places[k] = positions[name], value.shape
            else:
                return None
        if options:
            return None
        ufunc, count = self.function.kernels[self.name], len(self.arrays)
        # Results have the layout of the arrays, and are numbers for one: those of a replay are arrays in C order.
        is_plain = out is None and all(each.flags.c_contiguous for each in self.arrays) and shape
        if is_plain and np.broadcast_shapes(shape, *(each for _, each in places.values())) == shape:
            numbers = [
                Input(places[k][0], shaped(places[k][1])) if k in places else Input(each)
                for k, each in enumerate(parameters)
            ]
            inputs = (*map(Input, range(count)), *numbers)
            return KernelPlan(ufunc, inputs, (Output(shape, dtype),) * ufunc.nout)
        if out is None and first.nbytes >= SMALL_BYTES:
            return None  # outputs of the ufunc, which takes none from the output pool
        out_at = None if out is None else positions["out"]

        def run(given: Sequence[Any]) -> Any:
            operands = parameters
            if places:
                operands = parameters.copy()
                for k, (at, shape) in places.items():
                    operands[k] = given[at].reshape(shape)
            if out_at is None:
                return ufunc(*given[:count], *operands)
            return ufunc(*given[:count], *operands, out=given[out_at])

        return run


def run_elementwise(
    function: Function, name: str, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Call a ufunc, with the parameters after the arrays."""
    if function.parameters:
        if function.domains and options:
            check_domains(function, function.caller(name), options)
        values = [options.pop(key, value) for key, value in function.parameters.items()]
        arrays = (*arrays, *weak_for_integers(arrays, values))
    if "dtype" in options:
        _name_all_types(function, name, options)
    if name in _SHAPE_OF_GRADIENT:
        shape = _shape_to_sum_to(arrays, _SHAPE_OF_GRADIENT[name])
        if shape is not None:
            return _summed(function, name, arrays, options, shape)
    return _call(function, name, arrays, options)


def _shape_to_sum_to(arrays: tuple[Any, ...], k: int) -> tuple[int, ...] | None:
    """Return the shape of the k-th array if it is broadcast, else None."""
    try:
        shapes = [np.shape(each) for each in arrays]
        if all(shape in ((), shapes[k]) for shape in shapes):
            return None
        return shapes[k] if np.broadcast_shapes(*shapes) != shapes[k] else None
    except ValueError:
        return None  # the ufunc raises the error


def _summed(
    function: Function,
    name: str,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    shape: tuple[int, ...],
) -> Any:
    """Call a ufunc, and sum the gradient over the axes along which x was broadcast."""
    caller, out = function.caller(name), options.pop("out", None)
    results = _call(function, name, arrays, options)
    *others, gradient = results if isinstance(results, tuple) else (results,)
    shapes, types = zip(*((each.shape, each.dtype) for each in (*others, gradient)), strict=True)
    outputs = outputs_for(caller, out, (*shapes[:-1], shape), types)
    for output, other in zip(outputs, others, strict=False):
        np.copyto(output, other, casting="same_kind")
    sum_into(outputs[-1], gradient)
    return as_returned(outputs, out)


def _call(function: Function, name: str, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
    ufunc = function.kernels[name]
    if options.get("where", True) is not True and "out" not in options:
        caller = function.caller(name)
        warn_caller(
            f"{caller}: 'where' without 'out' leaves elements uninitialized; pass out=None if that is intended"
        )
        options = options | {"out": None if ufunc.nout == 1 else (None,) * ufunc.nout}
    if isinstance(options.get("out"), tuple):
        each_output(function.caller(name), options["out"], ufunc.nout)
    try:
        if getattr(arrays[0], "nbytes", 0) < POOLED.min_bytes:
            return ufunc(*arrays, **options)
        return with_output_pool(ufunc, *arrays, **options)
    except (TypeError, ValueError) as error:
        explain(function, name, arrays, options, error)
    except MemoryError:
        return retry_without_pool(ufunc, *arrays, **options)


def _name_all_types(function: Function, name: str, options: dict[str, Any]) -> None:
    """Turn ``dtype=`` into the dtypes of all operands.

    NumPy would apply it to the parameters too, and does not look up dtypes of other packages.
    """
    try:
        wanted = np.dtype(options["dtype"]).name
    except TypeError:
        return  # NumPy raises the error
    if options["dtype"] is not None and wanted in dtypes() and "signature" not in options:
        del options["dtype"]
        options["signature"] = function._family.kernel(name).types(wanted)


def explain(
    function: Function,
    name: str,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    error: Exception,
) -> NoReturn:
    """Raise an error that names the argument, instead of NumPy's; that of another library's array stays as it is."""
    if type(error).__module__.partition(".")[0] not in ("builtins", "numpy"):
        raise error
    caller = function.caller(name)
    names = [each.name for each in function._family.kernel(name).inputs]
    for each, value in zip(names, arrays, strict=True):
        if value is REQUIRED:
            raise TypeError(f"{caller}: missing the argument {each!r}") from None
        try:
            check_real(caller, each, np.asanyarray(value))
        except ValueError as own_error:
            raise ValueError(f"{caller}: {each} is not an array: {own_error}") from None
    out = options.get("out")
    for output in out if isinstance(out, tuple) else (out,):
        if output is not None:
            check_output(caller, output)
    kind = TypeError if isinstance(error, TypeError) else ValueError
    given = [f"{each}: {_describe(value)}" for each, value in zip(names, arrays, strict=True)]
    given += [f"{each}: {_describe(value)}" for each, value in options.items()]
    raise kind(f"{caller}: {error} ({'; '.join(given)})") from error


def _describe(value: Any) -> str:
    """Describe an argument briefly."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return repr(value)


def check_from_output(function: Function, options: dict[str, Any]) -> None:
    """Raise an error unless the derivative is a function of the output."""
    caller = function.caller("backward_from_output")
    for name in function._definition.from_output_needs:
        value = options.get(name, function.parameters[name])
        if value is not REQUIRED and np.any(as_real_array(caller, name, value) < 0):
            raise ValueError(
                f"{caller}: {name} must not be negative, "
                f"or the derivative is not a function of the output; got {value!r}"
            )
