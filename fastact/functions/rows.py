"""Functions of whole rows, such as the softmax, and such as the logarithm of the sum of exponentials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array, as_returned, float_type, outputs_for
from fastact.arrays.dtypes import dtype_of, dtypes, has_loop, inner_type, parameters_in
from fastact.arrays.rows import Operand, layout_of, row_parts, run_on_rows
from fastact.catalogue.definition import ReducedRowDefinition, RowDefinition
from fastact.functions.base import Activation, Made
from fastact.runtime.output_pool import LEAST_BYTES, with_room

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction

# Rows of which some numbers take no part are copied: so many numbers at a time.
_COPIED = 2**18


@dataclass(frozen=True, eq=False)
class _Operation:
    """One of the ufuncs; `of_rows` are the operands that have a number for each row."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    summary: str
    of_rows: frozenset[str] = frozenset()

    @cached_property
    def whole(self) -> int:
        """The place of the first input that has rows."""
        return next(k for k, each in enumerate(self.inputs) if each not in self.of_rows)

    @cached_property
    def are_of_rows(self) -> tuple[bool, ...]:
        """Of each input, whether it has a number for each row."""
        return tuple(each in self.of_rows for each in self.inputs)


class _RowFunction(Activation):
    """What functions of whole rows have in common.

    Their ufuncs are generalized: the last dimension of ``(n)`` is the row, and the temperature follows the arrays.
    """

    _operations: ClassVar[dict[str, _Operation]]

    def __init__(self, definition: RowDefinition) -> None:
        super().__init__(definition, list(self._operations), self._make)
        self._row_definition = definition
        self._degrees = Made(partial(_degree, self.parameters["temperature"]))

    def bind(self, **parameters: Any) -> Self:
        """Return this function with another temperature; see `Activation.bind`.

        Raises
        ------
        ValueError
            If it is not positive.
        """
        bound = super().bind(**parameters)
        temperature = _as_temperature(self.name, bound.parameters["temperature"])
        bound._degrees = Made(partial(_degree, temperature))
        return bound

    def _run(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        *,
        axis: Any,
        temperature: Any,
        lengths: Any,
        out: Any,
        where: Any = None,
        keepdims: bool = False,
        replace: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None,
    ) -> Any:
        """Call the ufunc on all rows, wherever they lie.

        `replace` takes the first array and the first result's, once all is checked, and returns what is taken in
        place of the first.
        """
        name, names = self._where(operation), self._operations[operation]
        if (
            (type(axis) is int and axis == -1)
            and (lengths is None and where is None and not keepdims and replace is None)
            and _are_plain(names, arrays, out)
        ):  # 2 us in place of 16
            degree = self._degree_of(name, temperature, arrays[0].dtype)
            given_outputs = {} if out is None else {"out": out}
            return self._made[operation](*arrays, degree, **given_outputs)
        given = [
            as_real_array(name, each, array)
            for each, array in zip(names.inputs, arrays, strict=True)
        ]
        shape = given[names.whole].shape
        layout = layout_of(name, axis, lengths, shape)
        shapes = [shape, layout.reduced_shape(keepdims)]
        for k, (each, is_of_row) in enumerate(zip(names.inputs, names.are_of_rows, strict=True)):
            given[k] = _fitting(name, each, given[k], shapes[is_of_row], is_of_row)
        dtype = float_type(arrays, given)
        degree = self._degree_of(name, temperature, dtype)
        results = outputs_for(
            name,
            out,
            tuple(shapes[each in names.of_rows] for each in names.outputs),
            (dtype,) * len(names.outputs),
        )
        for k in range(1, len(given)):  # the first result is written before these have been read
            if np.may_share_memory(given[k], results[0]):
                given[k] = with_room(given[k].copy)
        if replace is not None:
            given[0] = replace(given[0], results[0])
        inputs = [
            Operand(array, each not in names.of_rows)
            for each, array in zip(names.inputs, given, strict=True)
        ]
        outputs = [
            Operand(array, each not in names.of_rows)
            for each, array in zip(names.outputs, results, strict=True)
        ]
        run = partial(self._run_ufunc, operation, dtype, degree)
        if where is not None:
            run = partial(self._run_masked, run, operation)
            inputs.append(Operand(_as_mask(name, where, shape), True))
        run_on_rows(layout, run, inputs, outputs)
        return as_returned(results, out)

    def _degree_of(self, where: str, temperature: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the temperature of a call, or the function's own, as the ufuncs take it beside arrays of a type."""
        if temperature is None:
            return self._degrees[dtype]
        return _degree(_as_temperature(where, temperature), dtype)

    def _run_ufunc(
        self,
        operation: str,
        dtype: np.dtype[Any],
        degree: NDArray[Any],
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
    ) -> None:
        self._made[operation](
            *inputs,
            degree,
            out=tuple(outputs),
            casting="same_kind",
            signature=_types(self._operations[operation], dtype),
        )

    def _run_masked(
        self,
        run: Callable[..., None],
        operation: str,
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
    ) -> None:
        """Run it with the lowest number in place of those that the mask, the last input, leaves out."""
        names = self._operations[operation]
        lowest = math.inf if self._row_definition.of_minus_x else -math.inf
        *rows, length = inputs[-1].shape
        for part in row_parts(tuple(rows), _COPIED // max(1, length)):
            *arrays, mask = (array[part] for array in inputs)
            results = [array[part] for array in outputs]
            x = names.inputs.index("x")
            arrays[x] = np.where(mask, arrays[x], arrays[x].dtype.type(lowest))
            run(arrays, results)
            for each, result in zip(names.outputs, results, strict=True):
                if each == "dx":
                    np.copyto(result, 0, where=~mask)
                else:
                    self._correct_masked(result, mask)

    def _correct_masked(self, y: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Give rows of which nothing takes part their value."""
        raise NotImplementedError

    def _make(self, name: str) -> np.ufunc:
        from fastact.runtime.ufunc import Loop, make_ufunc

        definition, operation = self._row_definition, self._operations[name]
        inputs, outputs = (
            ",".join("()" if each in operation.of_rows else "(n)" for each in names)
            for names in (operation.inputs, operation.outputs)
        )
        loops = [
            Loop(
                [dtype_of(each) for each in _operand_types(operation, dtype)],
                definition.kernel_name(f"{name}.{dtype}"),
                partial(self._build_loop, name, dtype),
            )
            for dtype in dtypes()
        ]
        return make_ufunc(
            definition.module,
            definition.ufunc_name(name),
            f"Compute {operation.summary}, of {definition.name!r} over rows.",
            (*operation.inputs, "temperature"),
            operation.outputs,
            loops,
            f"{inputs},()->{outputs}",
        )

    def _build_loop(self, name: str, dtype: str) -> LoopFunction:
        from fastact.kernels.rows import Operand

        definition, operation = self._row_definition, self._operations[name]
        inputs, outputs = (
            [Operand(each, dtype, each not in operation.of_rows) for each in names]
            for names in (operation.inputs, operation.outputs)
        )
        inputs.append(Operand("temperature", parameters_in(dtype), False))
        from fastact import kernels

        build: Callable[..., LoopFunction] = getattr(kernels, definition.loop)
        return build(definition, name, inputs, outputs)


class RowActivation(_RowFunction):
    """A function of whole rows: each result depends on all numbers of its row."""

    _operations: ClassVar[dict[str, _Operation]] = {
        "forward": _Operation(("x",), ("y",), "the value"),
        "backward": _Operation(("dy", "y"), ("dx",), "the gradient by the input, from the value"),
        "forward_backward": _Operation(
            ("x", "dy"), ("y", "dx"), "the value and the gradient by the input, in one pass"
        ),
    }

    def __call__(
        self,
        x: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        lengths: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Of any shape; a real type. float16, bfloat16, float32 and float64 are kept, integers and bools become
            the float type that NumPy's own functions choose for them.
        axis : int, sequence of int or None, default -1
            The axis, or the axes, along which a row runs; None takes all numbers as one row.
        temperature : float, optional
            What the numbers are divided by; positive. The default is 1.
        where : array_like of bool, optional
            The numbers that take part; it broadcasts with `x`. The others count as minus infinity. A row of
            which none takes part gives zeros, in the logarithm minus infinity.
        lengths : array_like of int, optional
            Ragged rows: they lie one behind another along `axis`, and these are their lengths, which may be 0.
        out : ndarray, optional
            Where the result goes; it may be `x` itself.

        Returns
        -------
        ndarray
            Of the shape of `x`. A row that holds a NaN or plus infinity, or nothing but minus infinity, gives
            NaN, as in PyTorch.

        Raises
        ------
        TypeError
            If `x` is not real, or `axis` or `lengths` hold no integers.
        ValueError
            If `axis` is out of bounds, the temperature is not positive, the lengths do not add up to that of
            the axis, or `out` does not fit.
        """
        return self._run(
            "forward",
            (x,),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            out=out,
        )

    def backward(
        self,
        dy: Any,
        y: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        lengths: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute the gradient by the input from the value.

        Parameters
        ----------
        dy : array_like
            The gradient by the output, of the shape of `y`.
        y : array_like
            What the forward call returned.
        axis, temperature, lengths, out
            As for a call.

        Returns
        -------
        ndarray
            Of the shape of `y`. Sums over a row are taken in float64.
        """
        return self._run(
            "backward", (dy, y), axis=axis, temperature=temperature, lengths=lengths, out=out
        )

    def forward_backward(
        self,
        x: Any,
        dy: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        lengths: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute the value and the gradient by the input in one pass; see the call and `backward`.

        Returns
        -------
        y, dx : ndarray
            Of the shape of `x`. Where `where` leaves numbers out, their gradient is 0.
        """
        return self._run(
            "forward_backward",
            (x, dy),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            out=out,
        )

    def _correct_masked(self, y: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        nothing = ~mask.any(axis=-1, keepdims=True)
        if nothing.any():
            value = -math.inf if self._row_definition.takes_logarithm else 0
            np.copyto(y, value, where=nothing, casting="same_kind")


class ReducedRowActivation(_RowFunction):
    """A function that gives one number for each row."""

    _operations: ClassVar[dict[str, _Operation]] = {
        "forward": _Operation(("x",), ("y",), "the value", frozenset({"y"})),
        "backward": _Operation(
            ("dy", "x"), ("dx",), "the gradient by the input", frozenset({"dy"})
        ),
        "forward_backward": _Operation(
            ("x", "dy"),
            ("y", "dx"),
            "the value and the gradient by the input, in one pass",
            frozenset({"y", "dy"}),
        ),
    }

    def __call__(
        self,
        x: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        lengths: Any = None,
        keepdims: bool = False,
        out: Any = None,
    ) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Of any shape; a real type. float16, bfloat16, float32 and float64 are kept, integers and bools become
            the float type that NumPy's own functions choose for them.
        axis : int, sequence of int or None, default -1
            The axis, or the axes, along which a row runs; None takes all numbers as one row.
        temperature : float, optional
            What the numbers are divided by; positive. The default is 1.
        where : array_like of bool, optional
            The numbers that take part; it broadcasts with `x`. A row of which none takes part is as one without
            numbers.
        lengths : array_like of int, optional
            Ragged rows: they lie one behind another along `axis`, and these are their lengths, which may be 0.
        keepdims : bool, default False
            Whether the axes stay, with length 1.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        ndarray or scalar
            Of the shape of `x` without the axes; with `lengths`, the rows take the place of the axis. A row
            that holds a NaN gives NaN, else one that holds plus infinity gives plus infinity.

        Raises
        ------
        TypeError
            If `x` is not real, or `axis` or `lengths` hold no integers.
        ValueError
            If `axis` is out of bounds, the temperature is not positive, the lengths do not add up to that of
            the axis, or `out` does not fit.
        """
        return self._run(
            "forward",
            (x,),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            keepdims=keepdims,
            out=out,
        )

    def backward(
        self,
        dy: Any,
        x: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        lengths: Any = None,
        keepdims: bool = False,
        out: Any = None,
    ) -> Any:
        """Compute the gradient by the input; arguments as for a call.

        Parameters
        ----------
        dy : array_like
            The gradient by the output, which broadcasts to its shape.

        Returns
        -------
        ndarray
            Of the shape of `x`; NaN in a row that holds an infinity which is the largest number.
        """
        return self._run(
            "backward",
            (dy, x),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            keepdims=keepdims,
            out=out,
        )

    def forward_backward(
        self,
        x: Any,
        dy: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        temperature: float | None = None,
        where: Any = None,
        lengths: Any = None,
        keepdims: bool = False,
        out: Any = None,
    ) -> Any:
        """Compute value and gradient, ``y, dx``, in one pass; see the call and `backward`."""
        return self._run(
            "forward_backward",
            (x, dy),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            keepdims=keepdims,
            out=out,
        )

    def _correct_masked(self, y: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        assert isinstance(self._row_definition, ReducedRowDefinition)
        if self._row_definition.is_mean:  # of those that take part
            with np.errstate(divide="ignore", invalid="ignore"):
                y += np.log(mask.shape[-1] / mask.sum(axis=-1, dtype=float)).astype(y.dtype)


def _degree(temperature: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a temperature as the ufuncs take it beside arrays of a type."""
    inner = inner_type(dtype)
    limits = np.finfo(inner)
    # Beyond them its reciprocal would be infinite or 0; there, results have reached their limits.
    return np.asarray(min(max(temperature, float(limits.tiny)), float(limits.max)), inner)


def _as_temperature(where: str, temperature: Any) -> float:
    number = as_real_array(where, "temperature", temperature)
    if number.ndim or not 0 < number < math.inf:
        raise ValueError(f"{where}: temperature must be a positive number, got {temperature!r}")
    return float(number)


def _are_plain(names: _Operation, arrays: tuple[Any, ...], out: Any) -> bool:
    """Whether these are small arrays of one type whose rows lie along the last axis: a ufunc does all the rest."""
    x = arrays[names.whole]
    if type(x) is not np.ndarray or x.ndim == 0 or x.nbytes >= LEAST_BYTES or not has_loop(x.dtype):
        return False
    operands = [*zip(arrays, names.are_of_rows, strict=True)]
    if out is not None:  # two outputs may overlap what is read between them
        if len(names.outputs) > 1 or type(out) is not np.ndarray or not out.flags.writeable:
            return False
        operands.append((out, names.outputs[0] in names.of_rows))
    for array, is_of_row in operands:
        if type(array) is not np.ndarray or array.dtype is not x.dtype:
            return False
        if array.shape != (x.shape[:-1] if is_of_row else x.shape):
            return False
    return True


@cache
def _types(operation: _Operation, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
    """Return the types of the operands."""
    return tuple(map(dtype_of, _operand_types(operation, dtype.name)))


def _operand_types(operation: _Operation, dtype: str) -> list[str]:
    """Return the types of the operands beside arrays of one type."""
    arrays, outputs = len(operation.inputs), len(operation.outputs)
    return [dtype] * arrays + [parameters_in(dtype)] + [dtype] * outputs


def _fitting(
    where: str, name: str, array: NDArray[Any], shape: tuple[int, ...], broadcasts: bool
) -> NDArray[Any]:
    """Return an input in the shape that it must have, or raise an error that names both."""
    if array.shape == shape:
        return array
    if broadcasts:
        try:
            return np.broadcast_to(array, shape)
        except ValueError:
            pass
    raise ValueError(f"{where}: {name} has shape {array.shape}, expected is {shape}") from None


def _as_mask(where: str, mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{where}: where must hold bools, got {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{where}: where has shape {array.shape}, which does not broadcast with x of shape {shape}"
        ) from None
