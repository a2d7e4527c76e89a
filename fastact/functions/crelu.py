"""The concatenated relu: what is positive beside what is negative."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_axis, as_real_array, as_returned, outputs_for
from fastact.arrays.packed import call_on_rows
from fastact.catalogue.definition import Definition
from fastact.catalogue.rectified import relu
from fastact.functions.layer import Layer

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction


def _forward(f: Any) -> Any:
    return lambda x: (f(x)[0], f(-x)[0])


def _backward(f: Any) -> Any:
    return lambda right, left, x: (right * f(x)[1] - left * f(-x)[1],)


def _forward_backward(f: Any) -> Any:
    def operation(x: Any, right: Any, left: Any) -> Any:
        one, other = f(x), f(-x)
        return one[0], other[0], right * one[1] - left * other[1]

    return operation


# Inputs, outputs, and what computes them; ``y`` and ``dy`` have two halves.
_OPERATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Any], Any]]] = {
    "forward": (("x",), ("y",), _forward),
    "backward": (("dy", "x"), ("dx",), _backward),
    "forward_backward": (("x", "dy"), ("y", "dx"), _forward_backward),
}


class ConcatenatedActivation(Layer):
    """Concatenated relu: ``concatenate([relu(x), relu(-x)])`` along an axis, in one pass.

    Nothing is lost but the sign of a zero, at the price of twice the features.

    Notes
    -----
    NaN gives NaN in both halves, and in the gradient. The derivative at 0 is 0, as relu's is.

    References
    ----------
    W. Shang, K. Sohn, D. Almeida, H. Lee, Understanding and Improving Convolutional Neural Networks via
    Concatenated Rectified Linear Units, ICML 2016.
    """

    formula = r"(\max(x, 0), \, \max(-x, 0))"

    def __init__(self, name: str, activation: Definition) -> None:
        self._function = activation.on_vectors
        super().__init__(name, tuple(_OPERATIONS), self._make)

    def __call__(self, x: Any, /, *, axis: int = -1, out: Any = None) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Of a real type.
        axis : int, default -1
            The axis of the features.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        ndarray
            Of the shape of `x`, but twice as long along the axis.

        Raises
        ------
        TypeError
            If `x` is not real.
        ValueError
            If the axis is out of bounds, shapes do not fit together, or `out` does not fit.
        """
        return self._run("forward", x, None, axis, out)

    def backward(self, dy: Any, x: Any, /, *, axis: int = -1, out: Any = None) -> Any:
        """Compute the gradient by the input, of its shape; the other arguments are as for a call.

        Parameters
        ----------
        dy : array_like
            The gradient by the output, of its shape.
        """
        return self._run("backward", x, dy, axis, out)

    def forward_backward(self, x: Any, dy: Any, /, *, axis: int = -1, out: Any = None) -> Any:
        """Compute value and gradient, ``y, dx``, in one pass; `out` is a pair."""
        return self._run("forward_backward", x, dy, axis, out)

    def _run(self, operation: str, x: Any, dy: Any, axis: Any, out: Any) -> Any:
        where, (inputs, outputs, _) = self._where(operation), _OPERATIONS[operation]
        x = as_real_array(where, "x", x)
        axis = as_axis(where, axis, x.ndim)
        shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
        arrays: dict[str, NDArray[Any]] = {"x": x}
        if "dy" in inputs:
            arrays["dy"] = as_real_array(where, "dy", dy)
            if arrays["dy"].shape != shape:
                raise ValueError(
                    f"{where}: dy has shape {arrays['dy'].shape}, the output has {shape}"
                )
        ufunc = self.ufuncs[operation]
        given = [arrays[name] for name in inputs]
        kinds = ufunc.resolve_dtypes((*(array.dtype for array in given), *[None] * ufunc.nout))
        shapes = tuple(shape if name == "y" else x.shape for name in outputs)
        results = outputs_for(where, out, shapes, kinds[ufunc.nin :])
        call_on_rows(ufunc, (*given, *results), _packed(operation), axis)
        return as_returned(results, out)

    def _make(self, name: str) -> np.ufunc:
        inputs, outputs, _ = _OPERATIONS[name]
        cores = ["(2,n)" if is_packed else "(n)" for is_packed in _packed(name)]
        signature = f"{','.join(cores[: len(inputs)])}->{','.join(cores[len(inputs) :])}"
        return self._ufunc(name, inputs, outputs, partial(self._build, name), signature)

    def _build(self, name: str, dtype: str) -> LoopFunction:
        from fastact import kernels
        from fastact.simd.operands import Operands
        from fastact.simd.storage import Storage

        packed, inputs = _packed(name), len(_OPERATIONS[name][0])
        count = len(packed) + sum(packed)
        operands = Operands(
            (Storage(dtype),) * count, arrays=inputs + sum(packed[:inputs]), parameters=0
        )
        return kernels.halves(_OPERATIONS[name][2](self._function), operands, packed)


def _packed(operation: str) -> tuple[bool, ...]:
    """Return for each operand whether it has two halves."""
    inputs, outputs, _ = _OPERATIONS[operation]
    return tuple(name in ("y", "dy") for name in (*inputs, *outputs))


crelu = ConcatenatedActivation("crelu", relu)
