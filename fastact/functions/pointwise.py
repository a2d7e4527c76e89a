"""Activations that take each element by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import numpy as np
from numpy import ndarray

from fastact.arrays.arguments import as_real_array, check_output
from fastact.arrays.dtypes import dtype_of, dtypes, has_loop, inner_type, parameters_in
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions.base import Activation, Made
from fastact.runtime.output_pool import LEAST_BYTES, with_output_cache, with_room
from fastact.simd import derivative_of, dual, isnan, select
from fastact.system.first_use import first_use

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


@dataclass(frozen=True)
class Operation:
    """One of the things that every elementwise activation does.

    Attributes
    ----------
    inputs, outputs : tuple of str
        The names of the arrays; an activation's parameters follow the inputs.
    compute : callable
        Takes the function that gives value and derivative and returns the function that gives the
        outputs as a tuple.
    summary : str
        What it computes.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Callable[..., Any]], Callable[..., Any]]
    summary: str


def _forward(f: Any) -> Any:
    return lambda x, *parameters: (f(x, *parameters)[0],)


def _derivative(f: Any) -> Any:
    return lambda x, *parameters: (f(x, *parameters)[1],)


def _value_and_derivative(f: Any) -> Any:
    def operation(x: Any, *parameters: Any) -> Any:
        results = f(x, *parameters)
        return results[0], results[1]

    return operation


def _backward(f: Any) -> Any:
    return lambda dy, x, *parameters: (dy * f(x, *parameters)[1],)


def _forward_backward(f: Any) -> Any:
    def operation(x: Any, dy: Any, *parameters: Any) -> Any:
        results = f(x, *parameters)
        return results[0], dy * results[1]

    return operation


def _backward_from_output(derivative: Any) -> Any:
    return lambda dy, y, *parameters: (dy * derivative(y, *parameters),)


def _derivative_of_output(place: int) -> Any:
    """Return what differentiates the value (0) or the derivative (1) automatically."""

    def compute(f: Any) -> Any:
        def operation(x: Any, *parameters: Any) -> Any:
            seed = dual(x, select(isnan(x), x, 1))
            return (derivative_of(f(seed, *parameters)[place]),)

        return operation

    return compute


OPERATIONS = {
    "forward": Operation(("x",), ("y",), _forward, "the value"),
    "derivative": Operation(("x",), ("d",), _derivative, "the local derivative, dy/dx"),
    "value_and_derivative": Operation(
        ("x",), ("y", "d"), _value_and_derivative, "the value and the local derivative, in one pass"
    ),
    "backward": Operation(
        ("dy", "x"), ("dx",), _backward, "the gradient by the input: dy times the derivative at x"
    ),
    "forward_backward": Operation(
        ("x", "dy"),
        ("y", "dx"),
        _forward_backward,
        "the value and the gradient by the input, in one pass",
    ),
    "backward_from_output": Operation(
        ("dy", "y"),
        ("dx",),
        _backward_from_output,
        "the gradient by the input, from the value instead of the input",
    ),
    "second_derivative": Operation(
        ("x",), ("d",), _derivative_of_output(1), "the derivative of the derivative"
    ),
    # Not among an activation's operations: what `check_derivative` compares with.
    "automatic_derivative": Operation(
        ("x",), ("d",), _derivative_of_output(0), "the derivative of the value"
    ),
}


def has_operation(definition: Definition, name: str) -> bool:
    """Whether an activation has this operation."""
    if name == "backward_from_output":
        return definition.from_output is not None
    if name == "second_derivative":
        return definition.is_smooth
    return name != "automatic_derivative"


# Options of what is computed in the same pass.
_FUSED = frozenset({"bias", "residual", "dropout", "rng"})
_WHY_MISSING = {
    "backward_from_output": "the derivative is not a function of the output",
    "second_derivative": "the derivative jumps, and has no derivative",
}


class PointwiseActivation(Activation):
    """An activation that takes each element by itself."""

    _options: ClassVar[
        dict[str, Any]
    ] = {}  # what a call takes beside parameters and a ufunc's options

    def __init__(self, definition: Definition) -> None:
        operations = [name for name in OPERATIONS if has_operation(definition, name)]
        super().__init__(definition, operations, lambda name: _make(definition, name))
        self._constants = _constants_of(self.parameters)
        self.fused_ufuncs = Made(lambda form: _make_fused(definition, form))

    def bind(self, **parameters: Any) -> Self:
        """Return this activation with other defaults; see `Activation.bind`."""
        bound = super().bind(**parameters)
        bound._constants = _constants_of(bound.parameters)
        return bound

    def __call__(self, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Of any shape; a real type. float16, float32 and float64 are kept, integers and bools become the
            float type that NumPy's own functions choose for them.
        *args, **options
            The activation's parameters, in their order or by name: numbers, or arrays that broadcast with `x`. Python
            numbers do not change the result's type. And what every ufunc takes: ``out``, ``where``,
            ``dtype``, ``casting``, ``order``, ``subok``.
        bias : float or array_like, optional
            Added to `x` first: one number, or one for each channel along ``axis`` (default -1).
        dropout : float, optional
            The chance of a value to become 0; the others are divided by ``1 - dropout``; see `fastact.dropout`.
            ``rng`` says which: a seed, an int, or a numpy.random.Generator.
        residual : array_like, optional
            Of the shape of `x`; added last: ``residual + dropout(f(x + bias))``. With any of these three, all
            parameters must be numbers, and of a ufunc's options there is ``out`` alone; see
            `fastact.functions.fused`.

        Returns
        -------
        ndarray or scalar
            Of the shape of `x`. NaN gives NaN.

        Raises
        ------
        TypeError
            If a parameter is unknown, an input is not real, the output's type is too narrow, or there is
            `dropout` without ``rng``.
        ValueError
            If shapes do not fit together, or the output is read-only.
        """
        if args or options:
            return self._choose_and_run("forward", (x,), args, options)
        return self._run_plainly("forward", x)

    def derivative(self, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the local derivative dy/dx; arguments as for a call."""
        if args or options:
            return self._choose_and_run("derivative", (x,), args, options)
        return self._run_plainly("derivative", x)

    def value_and_derivative(self, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the value and the local derivative in one pass; arguments as for a call."""
        if args or options:
            return self._choose_and_run("value_and_derivative", (x,), args, options)
        return self._run_plainly("value_and_derivative", x)

    def backward(self, dy: Any, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the gradient by the input, ``dy`` times the derivative at `x`.

        Parameters
        ----------
        dy : array_like
            The gradient by the output; it broadcasts with `x`.
        x : array_like
            The input of the forward call.
        **options
            As for a call. With `dropout`, ``rng`` is the seed of the forward call; a generator would drop other
            elements, and raises a TypeError. There is no `residual`, by which the gradient is `dy` itself.

        Returns
        -------
        dx : ndarray or scalar
            The product in IEEE arithmetic: an infinite `dy` where the derivative is zero gives NaN.
        dbias : ndarray or scalar
            Only with a bias: the gradient by it, of its shape.
        """
        if args or options:
            return self._choose_and_run("backward", (dy, x), args, options)
        return self._run_plainly("backward", dy, x)

    def forward_backward(self, x: Any, dy: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the value and the gradients in one pass, ``y, dx`` or ``y, dx, dbias``; see `backward`.

        The gradient by a `residual` is `dy` itself.
        """
        if args or options:
            return self._choose_and_run("forward_backward", (x, dy), args, options)
        return self._run_plainly("forward_backward", x, dy)

    def backward_from_output(self, dy: Any, y: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the gradient by the input from the value `y` instead of the input.

        Raises
        ------
        TypeError
            If the derivative is not a function of the value.
        ValueError
            If a parameter is negative, so that two inputs with different derivatives share a value.
        """
        return self._choose_and_run("backward_from_output", (dy, y), args, options)

    def second_derivative(self, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the derivative of the derivative; arguments as for a call.

        It comes from the definition by forward-mode automatic differentiation.

        Raises
        ------
        TypeError
            If the derivative jumps somewhere.
        """
        if args or options:
            return self._choose_and_run("second_derivative", (x,), args, options)
        return self._run_plainly("second_derivative", x)

    def _choose_and_run(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Run an operation of this activation, or of the one that a keyword such as `convention` means."""
        chosen: Any = self.choose(options)
        if not _FUSED.isdisjoint(options):
            return _fused().run_fused(chosen, operation, arrays, args, options)
        return chosen._run(operation, arrays, args, options)

    def _run_plainly(self, operation: str, *arrays: Any) -> Any:
        """Run an operation without options: the shortest way to the ufunc; whatever is special goes another."""
        first = arrays[0]
        if type(first) is ndarray and first.nbytes < LEAST_BYTES:
            constants = self._constants[first.dtype]
            try:
                if constants == ():
                    return self._made[operation](*arrays)
                if constants and getattr(arrays[-1], "dtype", None) is first.dtype:
                    return self._made[operation](*arrays, *constants)
            except (TypeError, ValueError) as error:
                self._explain(operation, (*arrays, *(constants or ())), {}, error)
            except MemoryError:
                pass  # again, with room
        return self._run(operation, arrays, (), {})

    def _check_output_tells(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Raise an error unless the derivative is a function of the output."""
        where = self._where("backward_from_output")
        self._bind_positional(where, args, options)
        for parameter in self._definition.from_output_needs:
            value = options.get(parameter, self.parameters[parameter])
            if value is REQUIRED:
                continue
            if np.any(as_real_array(where, parameter, value) < 0):
                raise ValueError(
                    f"{where}: {parameter} must not be negative, "
                    f"or the output does not tell the derivative; got {value!r}"
                )

    def _run(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Call a ufunc with the parameters where it wants them."""
        ufunc = self._made[operation]
        if operation == "backward_from_output":
            self._check_output_tells(args, options)
        elif args:
            self._bind_positional(self._where(operation), args, options)
        if self.parameters:
            parameters = [options.pop(name, value) for name, value in self.parameters.items()]
            arrays = (*arrays, *weak_for_integers(arrays, parameters))
        if "dtype" in options:
            self._name_all_types(operation, options)
        try:
            if getattr(arrays[0], "nbytes", 0) < LEAST_BYTES:
                return ufunc(*arrays, **options)
            return with_output_cache(ufunc, *arrays, **options)
        except (TypeError, ValueError) as error:
            self._explain(operation, arrays, options, error)
        except MemoryError:
            return with_room(ufunc, *arrays, **options)

    def _name_all_types(self, operation: str, options: dict[str, Any]) -> None:
        """Turn ``dtype=`` into the types of all operands.

        NumPy takes it for the parameters' type too, and does not find types of other packages by it.
        """
        try:
            name = np.dtype(options["dtype"]).name
        except TypeError:
            return  # NumPy will say what is wrong with it
        if options["dtype"] is not None and name in dtypes() and "signature" not in options:
            del options["dtype"]
            kinds = _operand_types(self._definition, OPERATIONS[operation], name)
            options["signature"] = tuple(map(dtype_of, kinds))

    def _bind_positional(self, where: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Put positional arguments among the options, by the parameters' names."""
        names = list(self.parameters)
        if len(args) > len(names):
            raise TypeError(
                f"{where}: {len(args)} positional arguments after the arrays; its parameters: "
                f"{', '.join(names) or 'none'} (out is given by name)"
            )
        for name, value in zip(names, args, strict=False):
            if name in options:
                raise TypeError(f"{where}: two values for the argument {name!r}")
            options[name] = value

    def _explain(
        self, operation: str, arrays: tuple[Any, ...], options: dict[str, Any], error: Exception
    ) -> NoReturn:
        """Raise an error that names the argument, in place of NumPy's."""
        where = self._where(operation)
        names = (*OPERATIONS[operation].inputs, *self.parameters)
        for name, value in zip(names, arrays, strict=True):
            if value is REQUIRED:
                raise TypeError(f"{where}: missing the argument {name!r}") from None
            as_real_array(where, name, value)
        known = {"out", "where", "dtype", "casting", "order", "subok", "signature"}
        for name in options:
            if name not in known:
                allowed = ", ".join(self.parameters) or "none"
                raise TypeError(
                    f"{where}: unknown parameter {name!r}; its parameters: {allowed}"
                ) from None
        out = options.get("out")
        for array in out if isinstance(out, tuple) else (out,):
            if array is not None:
                check_output(where, array)
        kind = TypeError if isinstance(error, TypeError) else ValueError
        given = [f"{name}: {_describe(value)}" for name, value in zip(names, arrays, strict=True)]
        given += [f"{name}: {_describe(value)}" for name, value in options.items()]
        raise kind(f"{where}: {error} ({'; '.join(given)})") from error

    @property
    def __signature__(self) -> inspect.Signature:
        kinds = inspect.Parameter
        choices = ((keyword, "none") for keyword in self._definition.choices)
        options = (*choices, *self._options.items(), ("out", None), ("where", True))
        return inspect.Signature(
            [
                kinds("x", kinds.POSITIONAL_ONLY),
                *(
                    kinds(name, kinds.POSITIONAL_OR_KEYWORD, default=default)
                    for name, default in self.parameters.items()
                ),
                *(kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in options),
            ]
        )


def _constants_of(parameters: Mapping[str, Any]) -> Made[tuple[Any, ...] | None]:
    """Return parameters as arrays of the type that they have beside arrays of a type: made once, not in each call.

    None stands beside types that there is no loop for, and where a parameter is not a plain number.
    """
    values = tuple(parameters.values())
    are_plain = all(type(each) in (int, float) and abs(each) < 1e38 for each in values)

    def beside(dtype: np.dtype[Any]) -> tuple[Any, ...] | None:
        if not (are_plain and has_loop(dtype)):
            return None
        return tuple(np.asarray(each, inner_type(dtype)) for each in values)

    return Made(beside)


def _make_fused(definition: Definition, form: Any) -> np.ufunc:
    ufunc: np.ufunc = _fused().make(definition, form)
    return ufunc


@cache
@first_use()
def _fused() -> Any:
    from fastact.functions import fused  # which rests on this module

    return fused


def weak_for_integers(arrays: tuple[Any, ...], parameters: list[Any]) -> list[Any]:
    """Keep Python numbers from changing what type integers become.

    NumPy lets them do so: ``np.arctan2(int8, 0.5)`` is a float64, where ``np.tanh(int8)`` is a float16.
    """
    integers = [a.dtype for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind in "iub"]
    if len(integers) < len(arrays):
        return parameters
    number = np.result_type(np.float16, *integers).type
    return [number(p) if type(p) in (int, float) else p for p in parameters]


def _describe(value: Any) -> str:
    """Say what an argument is, in few words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return repr(value)


def _make(definition: Definition, name: str) -> np.ufunc:
    from fastact.runtime.ufunc import Loop, make_ufunc

    operation = OPERATIONS[name]
    if name in _WHY_MISSING and not has_operation(definition, name):
        raise TypeError(f"{definition.name}: {_WHY_MISSING[name]}")
    doc = f"Compute {operation.summary}, of the activation {definition.name!r}."
    return make_ufunc(
        definition.module,
        definition.ufunc_name(name),
        doc,
        (*operation.inputs, *definition.parameters),
        operation.outputs,
        [
            Loop(
                [dtype_of(each) for each in _operand_types(definition, operation, dtype)],
                definition.kernel_name(f"{name}.{dtype}"),
                partial(build_loop, definition, name, dtype),
                definition.explain,
            )
            for dtype in dtypes()
        ],
    )


def _operand_types(definition: Definition, operation: Operation, dtype: str) -> list[str]:
    """Return the types of the operands beside arrays of one type."""
    arrays, outputs = len(operation.inputs), len(operation.outputs)
    parameters = [parameters_in(dtype)] * len(definition.parameters)
    return [dtype] * arrays + parameters + [dtype] * outputs


def compiled_operation(definition: Definition, name: str) -> Callable[..., Any]:
    """Return the function on vectors behind an operation."""
    function = definition.on_vectors
    if name == "backward_from_output":
        assert definition.from_output is not None
        function = definition.from_output
    return OPERATIONS[name].compute(function)


def build_loop(definition: Definition, name: str, dtype: str) -> LoopFunction:
    """Return the loop of one operation in one type, for Numba to compile."""
    from fastact import kernels
    from fastact.simd.compilable import is_short
    from fastact.simd.operands import Operands
    from fastact.simd.storage import Storage

    operation = OPERATIONS[name]
    storages = tuple(map(Storage, _operand_types(definition, operation, dtype)))
    operands = Operands(storages, len(operation.inputs), len(definition.parameters))
    return kernels.elementwise(
        compiled_operation(definition, name), operands, is_short(definition.on_vectors)
    )
