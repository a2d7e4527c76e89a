"""What comes before and after any pointwise activation, in the same pass: bias, dropout and residual.

``y = fa.gelu(x, bias=b, dropout=0.1, rng=seed, residual=r)`` is ``r + dropout(gelu(x + b))``, the order of a
transformer's feed-forward block; each of the three may be left out. ``dx, dbias = fa.gelu.backward(dy, x,
bias=b, dropout=0.1, rng=seed)`` and ``y, dx, dbias = fa.gelu.forward_backward(x, dy, ...)`` give the gradients;
without a bias there is no `dbias`.

bias : float or array_like
    One number, or a 1-d array with a value for each channel along ``axis`` (default -1, the features of a
    dense layer; 1 for images). Its gradient has its shape: `dx` summed over all but the channels, in float64
    over blocks that depend on the shape alone, so that the result is the same with any number of threads. The
    sum ``x + bias`` is rounded once, to the type that is computed in.
dropout : float
    The chance of an element to become 0; see `fastact.dropout`, which drops the same elements.
rng : int, numpy.random.SeedSequence or numpy.random.Generator
    What draws them. `backward` wants the forward call's seed, by which it draws them again, and takes no
    generator.
residual : array_like
    Of the shape of `x`; added last. The gradient by it is `dy` itself, which no call returns, and `backward`
    does not take it.

None in place of any of these is as good as leaving it out. The parameters must be numbers here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array, as_returned, outputs_for
from fastact.arrays.channels import DRAWS_OF_CHANNELS, channel_axis, run_on_channels
from fastact.arrays.contiguous import DRAWS, dtype_computed, make_on_neighbours, run_on_neighbours
from fastact.arrays.dtypes import dtype_of, dtypes, inner_type, parameters_in
from fastact.arrays.random_numbers import chance_of, drawing, key_of
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions.pointwise import OPERATIONS, PointwiseActivation, weak_for_integers
from fastact.simd import at_least, select
from fastact.system.numpy_api import MOST_OPERANDS

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction

# What each operation can be fused with.
_FITTING = {
    "forward": ("bias", "residual", "dropout"),
    "derivative": ("bias",),
    "value_and_derivative": ("bias",),
    "backward": ("bias", "dropout"),
    "forward_backward": ("bias", "residual", "dropout"),
}
_GRADIENTS = ("backward", "forward_backward")


class Form:
    """An operation with what is fused with it: each form has a ufunc and kernels of its own.

    Attributes
    ----------
    operation : str
        The activation's operation.
    has_bias, has_residual, has_dropout : bool
        What is fused with it.
    arrays : tuple of str
        The arrays that it takes, all of one shape.
    outputs : tuple of str
        The results of that shape.
    has_sums : bool
        Whether it gives the bias's gradient.
    has_gradient : bool
        Whether it gives any.
    suffix : str
        What its names end with, such as ``bias_dropout``.
    unfitting : list of str
        What the operation cannot be fused with.
    """

    def __init__(
        self, operation: str, has_bias: bool, has_residual: bool, has_dropout: bool
    ) -> None:
        self.operation = operation
        self.has_bias, self.has_residual, self.has_dropout = has_bias, has_residual, has_dropout
        self.arrays = (*(["residual"] if has_residual else []), *OPERATIONS[operation].inputs)
        self.outputs = OPERATIONS[operation].outputs
        self.has_gradient = operation in _GRADIENTS
        self.has_sums = has_bias and self.has_gradient
        flags = zip(
            ("bias", "residual", "dropout"), (has_bias, has_residual, has_dropout), strict=True
        )
        present = [name for name, has_it in flags if has_it]
        self.suffix = "_".join(present)
        self.unfitting = [name for name in present if name not in _FITTING.get(operation, ())]

    def numbers(self, parameters: Iterable[str]) -> tuple[str, ...]:
        """Return the names of what follows the arrays."""
        bias = ("bias",) if self.has_bias else ()
        return (*bias, *parameters, *(("scale",) if self.has_dropout else ()))

    @property
    def draws(self) -> tuple[str, ...]:
        """The names of what comes before the arrays."""
        if not self.has_dropout:
            return ()
        return DRAWS_OF_CHANNELS if self.has_bias else DRAWS

    @property
    def sums(self) -> tuple[str, ...]:
        """The names of what follows the results."""
        return ("sums",) if self.has_sums else ()


@cache
def form_of(operation: str, has_bias: bool, has_residual: bool, has_dropout: bool) -> Form:
    """Return the one object of a form."""
    return Form(operation, has_bias, has_residual, has_dropout)


def most_parameters() -> int:
    """Return how many parameters an activation may have, so that the largest of its ufuncs is not too large."""
    forms = (
        form_of(operation, *(name in fitting for name in ("bias", "residual", "dropout")))
        for operation, fitting in _FITTING.items()
    )
    beside = max(
        len((*form.draws, *form.arrays, *form.numbers(()), *form.outputs, *form.sums))
        for form in forms
    )
    return MOST_OPERANDS - beside


def run_fused(
    activation: PointwiseActivation,
    operation: str,
    arrays: tuple[Any, ...],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """Run an operation of an activation, fused with a bias, a residual or a dropout.

    Parameters
    ----------
    activation : PointwiseActivation
        Whose gradient by a learnable parameter is not asked for.
    operation : str
        One of those that take the input.
    arrays : tuple of array_like
        Its arrays, of one shape.
    args, options
        The activation's parameters, which must be numbers; ``bias``, ``axis``, ``residual``, ``dropout``,
        ``rng`` and ``out``.

    Raises
    ------
    TypeError
        If the operation cannot be fused so, a learnable parameter is given whose gradient would be due as
        well, an option is unknown, an input is not real, or ``rng`` is missing or of another type.
    ValueError
        If shapes do not fit together, the dropout or the seed is out of range, or `out` does not fit.
    """
    where = activation._where(operation)
    if args:
        activation._bind_positional(where, args, options)
    own = activation.parameters  # which may bear one of these names, as in shrink
    rng = None if "rng" in own else options.pop("rng", None)
    if rng is not None and "dropout" not in options:
        raise TypeError(f"{where}: rng is there without dropout, which would draw from it")
    bias = None if "bias" in own else options.pop("bias", None)
    residual = None if "residual" in own else options.pop("residual", None)
    dropout = None if "dropout" in own else options.pop("dropout", None)
    if bias is residual is dropout is None:
        return activation._run(operation, arrays, (), options)
    form = form_of(operation, bias is not None, residual is not None, dropout is not None)
    _check_form(where, activation, form, options)
    axis, out = options.pop("axis", -1), options.pop("out", None)
    parameters = [_number(where, activation, name, options) for name in own]
    for unknown in options:
        known = ", ".join((*own, *_FITTING[operation], "axis", "rng", "out"))
        raise TypeError(f"{where}: unknown parameter {unknown!r}; fused it takes {known}")
    inputs = _of_one_shape(where, form.arrays, arrays if residual is None else (residual, *arrays))
    found_axis = None
    if form.has_bias:
        as_real_array(where, "bias", bias)
        found_axis = channel_axis(where, "bias", inputs[0], bias, axis)
        parameters.insert(0, bias)
    draws = None
    if form.has_dropout:
        chance = chance_of(where, "dropout", dropout)
        draws = drawing(key_of(where, rng, again=operation == "backward"), chance)
        parameters.append(chance.scale)
    ufunc = activation.fused_ufuncs[form]
    return _run(where, ufunc, form, draws, inputs, parameters, found_axis, out)


def _check_form(
    where: str, activation: PointwiseActivation, form: Form, options: dict[str, Any]
) -> None:
    """Raise an error unless an operation can be fused so."""
    for name in form.unfitting:
        fitting = ", ".join(each for each, names in _FITTING.items() if name in names)
        why = " (the gradient by it is dy)" if name == "residual" else ""
        raise TypeError(f"{where}: it takes no {name}{why}; these do: {fitting}")
    if "axis" in options and not form.has_bias:
        raise TypeError(f"{where}: axis is there without bias, whose channels it would name")
    if form.has_dropout and activation._definition.drawn_between:
        raise TypeError(f"{where}: it may draw slopes itself; give its result to fastact.dropout")
    for name in activation.learnable if form.has_gradient else ():
        if name in options or activation.parameters[name] is REQUIRED:
            other = "bias" if form.has_bias else "input alone"
            raise TypeError(
                f"{where}: fused it gives the gradient by the {other}, not by {name!r}: "
                f"call the steps one by one, or bind {name} as the default"
            )


def _number(where: str, activation: PointwiseActivation, name: str, options: dict[str, Any]) -> Any:
    """Return a parameter and take it out of the options."""
    value = options.pop(name, activation.parameters[name])
    if value is REQUIRED:
        raise TypeError(f"{where}: missing the argument {name!r}")
    if as_real_array(where, name, value).ndim:
        raise ValueError(f"{where}: fused, {name} must be a number, got shape {np.shape(value)}")
    return value


def _of_one_shape(
    where: str, names: tuple[str, ...], arrays: tuple[Any, ...]
) -> tuple[NDArray[Any], ...]:
    """Return arrays, or raise an error if one has another shape than x."""
    inputs = tuple(map(partial(as_real_array, where), names, arrays))
    shape = inputs[names.index("x")].shape
    for name, array in zip(names, inputs, strict=True):
        if array.shape != shape:
            raise ValueError(f"{where}: x has shape {shape}, {name} has {array.shape}")
    return inputs


def _run(
    where: str,
    ufunc: np.ufunc,
    form: Form,
    draws: tuple[np.int64, np.int64] | None,
    arrays: tuple[NDArray[Any], ...],
    numbers: list[Any],
    axis: int | None,
    out: Any,
) -> Any:
    """Call the loop with arrays in the types that NumPy finds for them."""
    numbers = weak_for_integers(arrays, numbers)
    dtype = dtype_computed(ufunc, arrays, numbers)
    inner = inner_type(dtype)
    count = len(form.outputs)
    shapes, types = (arrays[0].shape,) * count, (dtype,) * count
    if form.has_sums:
        bias = numbers[0]
        is_weak = type(bias) in (int, float)
        shapes += (np.shape(bias),)
        types += (dtype if is_weak else np.promote_types(dtype, np.asanyarray(bias).dtype),)
    results = outputs_for(where, out, shapes, types)
    values = tuple(np.require(n, inner, ["C", "A"]) for n in numbers)
    if form.has_bias:
        sums = results[count] if form.has_sums else None
        run_on_channels(ufunc, arrays, values, results[:count], sums, axis, dtype, draws)
    else:
        run_on_neighbours(ufunc, draws, arrays, values, results, dtype)
    return as_returned(results, out)


def make(definition: Definition, form: Form) -> np.ufunc:
    """Return the generalized ufunc of a form."""
    name = f"{definition.ufunc_name(form.operation)}_with_{form.suffix}"
    summary = f"{OPERATIONS[form.operation].summary}, with {form.suffix.replace('_', ', ')}"
    doc = f"Compute {summary}, of the activation {definition.name!r}."
    if form.has_bias:
        return _make_on_channels(definition, form, name, doc)
    return make_on_neighbours(
        definition.module,
        name,
        doc,
        form.arrays,
        form.numbers(definition.parameters),
        form.outputs,
        form.has_dropout,
        partial(_kernel_name, definition, form),
        lambda: _operation(definition, form),
        definition.explain,
    )


def _make_on_channels(definition: Definition, form: Form, name: str, doc: str) -> np.ufunc:
    from fastact.runtime.ufunc import Loop, make_ufunc

    loops = [
        Loop(
            [np.dtype(np.int64) for _ in form.draws]
            + [dtype_of(each) for each in _operand_types(definition, form, dtype)]
            + [np.dtype(np.float64) for _ in form.sums],
            _kernel_name(definition, form, dtype),
            partial(_build_loop, definition, form, dtype),
            definition.explain,
        )
        for dtype in dtypes()
    ]
    _, *others = numbers = form.numbers(definition.parameters)
    cores = ["()"] * len(form.draws) + ["(n,c,s)"] * len(form.arrays)
    cores += ["(c)"] + ["()"] * len(others)
    results = ["(n,c,s)"] * len(form.outputs) + ["(c)" for _ in form.sums]
    return make_ufunc(
        definition.module,
        name,
        doc,
        (*form.draws, *form.arrays, *numbers),
        (*form.outputs, *form.sums),
        loops,
        f"{','.join(cores)}->{','.join(results)}",
    )


def _kernel_name(definition: Definition, form: Form, dtype: str) -> str | None:
    return definition.kernel_name(f"{form.operation}.{form.suffix}.{dtype}")


def _operand_types(definition: Definition, form: Form, dtype: str) -> list[str]:
    numbers = [parameters_in(dtype)] * len(form.numbers(definition.parameters))
    return [dtype] * len(form.arrays) + numbers + [dtype] * len(form.outputs)


def _build_loop(definition: Definition, form: Form, dtype: str) -> LoopFunction:
    from fastact import kernels
    from fastact.simd.compilable import internal
    from fastact.simd.operands import Operands
    from fastact.simd.storage import Storage

    operation, _ = _operation(definition, form)
    storages = tuple(map(Storage, _operand_types(definition, form, dtype)))
    numbers = form.numbers(definition.parameters)
    operands = Operands(storages, len(form.arrays), parameters=len(numbers))
    if form.has_sums:
        operation = _with_gradient(internal(operation))
    return kernels.channel_sums(operation, operands, form.has_sums, form.has_dropout)


def _operation(definition: Definition, form: Form) -> tuple[Callable[..., Any], bool]:
    """Return what a loop applies to all elements, and whether it has few instructions.

    It takes the words and the threshold of a dropout, the arrays and the numbers of the form.
    """
    from fastact.simd.compilable import internal, is_short

    f = definition.on_vectors
    at = internal(lambda x, bias, *rest: f(x + bias, *rest)) if form.has_bias else f
    operation = OPERATIONS[form.operation].compute(at)
    if form.has_dropout:
        operation = _WITH_DROPOUT[form.operation](internal(operation))
    if form.has_residual:
        with_residual = _with_residual_and_dropout if form.has_dropout else _with_residual
        operation = with_residual(internal(operation))
    return operation, is_short(f)


# The scale of a dropout follows all other numbers.


def _forward_with_dropout(compute: Any) -> Any:
    def operation(words: Any, threshold: Any, x: Any, *numbers: Any) -> Any:
        y = compute(x, *numbers[:-1])[0]
        return (select(at_least(words, threshold), y * numbers[-1], 0),)

    return operation


def _backward_with_dropout(compute: Any) -> Any:
    def operation(words: Any, threshold: Any, dy: Any, x: Any, *numbers: Any) -> Any:
        scaled = select(at_least(words, threshold), dy * numbers[-1], 0)
        return compute(scaled, x, *numbers[:-1])

    return operation


def _forward_backward_with_dropout(compute: Any) -> Any:
    def operation(words: Any, threshold: Any, x: Any, dy: Any, *numbers: Any) -> Any:
        is_kept = at_least(words, threshold)
        results = compute(x, select(is_kept, dy * numbers[-1], 0), *numbers[:-1])
        return select(is_kept, results[0] * numbers[-1], 0), results[1]

    return operation


_WITH_DROPOUT = {
    "forward": _forward_with_dropout,
    "backward": _backward_with_dropout,
    "forward_backward": _forward_backward_with_dropout,
}


def _with_residual(compute: Any) -> Any:
    def operation(residual: Any, *inputs: Any) -> Any:
        results = compute(*inputs)
        return (residual + results[0],) + results[1:]

    return operation


def _with_residual_and_dropout(compute: Any) -> Any:
    def operation(words: Any, threshold: Any, residual: Any, *inputs: Any) -> Any:
        results = compute(words, threshold, *inputs)
        return (residual + results[0],) + results[1:]

    return operation


def _with_gradient(compute: Any) -> Any:
    """Return what gives the last result, the gradient by the input, once more: to be summed."""

    def operation(*inputs: Any) -> Any:
        results = compute(*inputs)
        return results + (results[-1],)

    return operation
