"""Pointwise activations with a learnable parameter: one number, or one for each channel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array, as_returned, outputs_for
from fastact.arrays.channels import channel_axis, run_on_channels
from fastact.arrays.contiguous import BLOCK
from fastact.arrays.dtypes import dtype_of, dtypes, parameters_in
from fastact.catalogue.definition import REQUIRED, Definition
from fastact.functions.base import Made
from fastact.functions.pointwise import PointwiseActivation, weak_for_integers

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


class LearnableActivation(PointwiseActivation):
    """A pointwise activation with a learnable parameter, such as `prelu` with its weight.

    Every operation takes the parameter after its arrays, or by name: one number, or a 1-d array with a
    value for each channel along `axis` (default 1). Where a call is given the parameter, `backward` and
    `forward_backward` return its gradient too, in its shape; where its default serves, they do not.
    """

    _options: ClassVar[dict[str, Any]] = {"axis": 1}

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition)
        (self._learnable,) = definition.learnable
        self._sums = Made(lambda name: _make(definition, name))

    def backward(self, dy: Any, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the gradients by the input and by the parameter.

        Parameters
        ----------
        dy : array_like
            The gradient by the output, of the shape of `x`.
        x : array_like
            The input of the forward call.
        weight : float or array_like, optional
            The parameter, under its own name: one number, or one for each channel.
        axis : int, default 1
            The axis of the channels.
        out : tuple of (ndarray or None), optional
            Where the results go.

        Returns
        -------
        dx : ndarray
            Of the shape of `x`.
        dweight : ndarray or scalar
            Only where the parameter was given: of its shape, summed in float64 over blocks that depend
            on the shape alone, so that the result is the same with any number of threads.
        """
        return super().backward(dy, x, *args, **options)

    def forward_backward(self, x: Any, dy: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the value and the gradients in one pass; see `backward`.

        Returns
        -------
        y, dx : ndarray
            Of the shape of `x`.
        dweight : ndarray or scalar
            Only where the parameter was given: of its shape.
        """
        return super().forward_backward(x, dy, *args, **options)

    def _run(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Give the parameter the shape in which it broadcasts, or run the loop with its gradient."""
        where = self._where(operation)
        self._bind_positional(where, args, options)
        default = self.parameters[self._learnable]
        has_gradient = self._learnable in options or default is REQUIRED
        weight = options.pop(self._learnable, default)
        if weight is REQUIRED:
            raise TypeError(f"{where}: missing the argument {self._learnable!r}")
        as_real_array(where, self._learnable, weight)
        axis = options.pop("axis", 1)
        if has_gradient and operation in _OPERATIONS:
            return self._with_sums(operation, arrays, weight, axis, options)
        if np.ndim(weight):
            x = np.asanyarray(arrays[0])
            axis = channel_axis(where, self._learnable, x, weight, axis)
            if axis is None:
                weight = np.reshape(weight, ())
            else:
                weight = np.reshape(weight, (np.size(weight),) + (1,) * (x.ndim - axis - 1))
        return super()._run(operation, arrays, (), options | {self._learnable: weight})

    def _with_sums(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        weight: Any,
        axis: Any,
        options: dict[str, Any],
    ) -> Any:
        """Run an operation together with the parameter's gradient."""
        where = self._where(operation)
        out = options.pop("out", None)
        if options:
            unknown = next(iter(options))
            raise TypeError(
                f"{where}: unknown parameter {unknown!r}; it takes {self._learnable}, axis and out"
            )
        names = _OPERATIONS[operation][1]
        first, second = (
            as_real_array(where, name, array) for name, array in zip(names, arrays, strict=True)
        )
        if first.shape != second.shape:
            raise ValueError(
                f"{where}: {names[0]} has shape {first.shape}, {names[1]} has {second.shape}"
            )
        axis = (
            channel_axis(where, self._learnable, first, weight, axis) if np.ndim(weight) else None
        )
        if out is None and _is_one_block(first, second, weight):
            return self._in_one_block(operation, first, second, weight)

        ufunc = self.ufuncs[operation]
        (weight,) = weak_for_integers((first, second), [weight])
        is_weak = type(weight) in (int, float)
        kind = type(weight) if is_weak else np.asanyarray(weight).dtype
        dtype = ufunc.resolve_dtypes((first.dtype, second.dtype, kind, *[None] * ufunc.nout))[0]
        weight_dtype = parameters_in(dtype.name)
        sum_dtype = dtype if is_weak else np.promote_types(dtype, kind)
        shapes = (first.shape,) * ufunc.nout + (np.shape(weight),)
        results = outputs_for(where, out, shapes, (dtype,) * ufunc.nout + (sum_dtype,))
        weight = np.require(weight, weight_dtype, ["C", "A"])
        *outputs, sums = results
        run_on_channels(
            self._sums[operation], (first, second), (weight,), tuple(outputs), sums, axis, dtype
        )
        return as_returned(results, out)

    def _in_one_block(
        self, operation: str, first: NDArray[Any], second: NDArray[Any], weight: float
    ) -> Any:
        """Run the loop once, on arrays as they are: 12 us in place of 30."""
        outputs = [np.empty(first.shape, first.dtype) for _ in _OPERATIONS[operation][2]]
        total = np.empty(1)
        self._sums[operation](
            first.reshape(1, 1, -1),
            second.reshape(1, 1, -1),
            np.array([weight], parameters_in(first.dtype.name)),
            out=(*(output.reshape(1, 1, -1) for output in outputs), total),
        )
        with np.errstate(over="ignore"):  # a sum may be too large for the type
            return (*outputs, total.astype(first.dtype)[0])


def _is_one_block(first: NDArray[Any], second: NDArray[Any], weight: Any) -> bool:
    """Whether arrays and a number are so small and so plain that one call of the loop takes them."""
    return (
        type(weight) in (int, float)
        and 0 < first.size <= BLOCK
        and first.dtype == second.dtype
        and first.dtype.name in dtypes()
        and all(
            array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative
            for array in (first, second)
        )
    )


def _backward(f: Any) -> Any:
    def operation(dy: Any, x: Any, parameter: Any) -> Any:
        _, derivative, by_parameter = f(x, parameter)
        return dy * derivative, dy * by_parameter

    return operation


def _forward_backward(f: Any) -> Any:
    def operation(x: Any, dy: Any, parameter: Any) -> Any:
        value, derivative, by_parameter = f(x, parameter)
        return value, dy * derivative, dy * by_parameter

    return operation


_OPERATIONS = {
    "backward": (_backward, ("dy", "x"), ("dx",)),
    "forward_backward": (_forward_backward, ("x", "dy"), ("y", "dx")),
}


def _make(definition: Definition, name: str) -> np.ufunc:
    """Return the generalized ufunc of an operation with sums."""
    from fastact.runtime.ufunc import Loop, make_ufunc

    _, inputs, outputs = _OPERATIONS[name]
    loops = [
        Loop(
            [dtype_of(each) for each in _operand_types(inputs, outputs, dtype)]
            + [np.dtype(np.float64)],
            definition.kernel_name(f"{name}.sums.{dtype}"),
            partial(_build_loop, definition, name, dtype),
            definition.explain,
        )
        for dtype in dtypes()
    ]
    return make_ufunc(
        definition.module,
        f"{definition.ufunc_name(name)}_with_sums",
        f"Compute {', '.join(outputs)} and the sums of the gradient by the parameter.",
        (*inputs, *definition.learnable),
        (*outputs, "sums"),
        loops,
        "(n,c,s),(n,c,s),(c)->" + "(n,c,s)," * len(outputs) + "(c)",
    )


def _operand_types(inputs: tuple[str, ...], outputs: tuple[str, ...], dtype: str) -> list[str]:
    return [dtype] * len(inputs) + [parameters_in(dtype)] + [dtype] * len(outputs)


def _build_loop(definition: Definition, name: str, dtype: str) -> LoopFunction:
    from fastact import kernels
    from fastact.simd.operands import Operands
    from fastact.simd.storage import Storage

    compute, inputs, outputs = _OPERATIONS[name]
    storages = tuple(map(Storage, _operand_types(inputs, outputs, dtype)))
    operands = Operands(storages, arrays=len(inputs), parameters=1)
    return kernels.channel_sums(compute(definition.on_vectors), operands)
