"""Gated linear units: one half of the features, times an activation of the other half."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_axis, as_real_array, as_returned, check_output, outputs_for
from fastact.arrays.packed import call_on_rows
from fastact.catalogue.definition import Definition
from fastact.catalogue.gated import gelu, gelu_tanh, silu
from fastact.catalogue.rectified import identity, relu
from fastact.catalogue.sigmoidal import sigmoid
from fastact.functions.base import Made
from fastact.functions.layer import Layer
from fastact.runtime.output_pool import with_output_cache

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction

_GATES = ("first", "second")


@dataclass(frozen=True)
class _Operation:
    """One of the things that every gated unit does; ``x`` and ``dx`` have two halves."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Callable[..., Any]], Callable[..., Any]]

    def halves(self, names: tuple[str, ...]) -> list[str]:
        """Return the names with the two halves in place of what is packed: the gate first."""
        parts = {"x": ["gate", "value"], "dx": ["dgate", "dvalue"]}
        return [part for name in names for part in parts.get(name, [name])]

    @property
    def core_signature(self) -> str:
        inputs, outputs = (
            ",".join("(2,n)" if name in ("x", "dx") else "(n)" for name in names)
            for names in (self.inputs, self.outputs)
        )
        return f"{inputs}->{outputs}"


def _forward(f: Any) -> Any:
    return lambda gate, value: (value * f(gate)[0],)


def _backward(f: Any) -> Any:
    def operation(dy: Any, gate: Any, value: Any) -> Any:
        opening = f(gate)
        return dy * value * opening[1], dy * opening[0]

    return operation


def _forward_backward(f: Any) -> Any:
    def operation(gate: Any, value: Any, dy: Any) -> Any:
        opening = f(gate)
        return value * opening[0], dy * value * opening[1], dy * opening[0]

    return operation


_OPERATIONS = {
    "forward": _Operation(("x",), ("y",), _forward),
    "backward": _Operation(("dy", "x"), ("dx",), _backward),
    "forward_backward": _Operation(("x", "dy"), ("y", "dx"), _forward_backward),
}


class GatedUnit(Layer):
    """A gated linear unit: the value times an activation of the gate.

    The gate and the value are the two halves of the features along an axis, or its even and its odd
    places (``interleaved=True``), or two arrays. Which comes first, ``gate="first"`` or
    ``gate="second"`` says; two arrays are given in the same order.

    Attributes
    ----------
    ufuncs : mapping of str to numpy.ufunc
        The ufunc behind each operation on two arrays, the gate always before the value.
    """

    def __init__(
        self, name: str, activation: Definition, *, gate: str, summary: str, reference: str
    ) -> None:
        self._function = activation.on_vectors
        self._gate = gate
        called = activation.name.replace("_", r"\_")
        opening = "g" if activation is identity else rf"\text{{{called}}}(g)"
        self.formula = rf"v \, {opening}"
        self.reference = reference
        self.__doc__ = _document(name, activation, gate, summary, reference)
        super().__init__(name, tuple(_OPERATIONS), self._make)
        self._packed = Made(self._make_packed)

    def __call__(
        self,
        x: Any,
        second: Any = None,
        /,
        *,
        axis: int = -1,
        interleaved: bool = False,
        gate: str | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Both halves along `axis`, whose length must be even; with `second`, the first half alone.
        second : array_like, optional
            The second half, an array that broadcasts with `x`.
        axis : int, default -1
            The axis of the features.
        interleaved : bool, default False
            Whether even and odd places are the halves.
        gate : {"first", "second"}, optional
            Which half is the gate. Each unit has its own default, which its docstring states.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        ndarray
            Of the shape of one half.

        Raises
        ------
        TypeError
            If an input is not real.
        ValueError
            If the length of the axis is odd, shapes do not fit together, or `out` does not fit.
        """
        return self._run("forward", (x,), second, axis, interleaved, gate, out)

    def backward(
        self,
        dy: Any,
        x: Any,
        second: Any = None,
        /,
        *,
        axis: int = -1,
        interleaved: bool = False,
        gate: str | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the gradient by the input, both halves in one pass; arguments as for a call.

        Parameters
        ----------
        dy : array_like
            The gradient by the output, of its shape.

        Returns
        -------
        ndarray or tuple of ndarray
            Of the shape of `x`, halves as in `x`; with `second`, the gradients by `x` and by `second`,
            both of the shape to which the arrays broadcast.
        """
        return self._run("backward", (dy, x), second, axis, interleaved, gate, out)

    def forward_backward(
        self,
        x: Any,
        *arrays: Any,
        axis: int = -1,
        interleaved: bool = False,
        gate: str | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the value and the gradient in one pass: ``(x, dy)`` or ``(first, second, dy)``.

        Returns
        -------
        y, dx : ndarray
            With two arrays the gradients by both: ``y, dfirst, dsecond``. `out` is a tuple of as many.
        """
        if len(arrays) not in (1, 2):
            raise TypeError(
                f"{self._where('forward_backward')}: it takes x and dy, or first, second and dy; "
                f"got {1 + len(arrays)} arrays"
            )
        *second, dy = arrays
        return self._run(
            "forward_backward",
            (x, dy),
            second[0] if second else None,
            axis,
            interleaved,
            gate,
            out,
        )

    def _run(
        self,
        operation: str,
        given: tuple[Any, ...],
        second: Any,
        axis: Any,
        interleaved: bool,
        gate: str | None,
        out: Any,
    ) -> Any:
        where = self._where(operation)
        gate = self._gate if gate is None else gate
        if gate not in _GATES:
            raise ValueError(f"{where}: gate must be one of {_GATES}, got {gate!r}")
        arrays = {
            name: as_real_array(where, name, array)
            for name, array in zip(_OPERATIONS[operation].inputs, given, strict=True)
        }
        if second is None:
            return self._run_packed(operation, arrays, axis, interleaved, gate == "first", out)
        arrays["second"] = as_real_array(where, "second", second)
        return self._run_on_two(operation, arrays, gate == "first", out)

    def _run_on_two(
        self, operation: str, arrays: dict[str, NDArray[Any]], gate_first: bool, out: Any
    ) -> Any:
        """Call the elementwise ufunc, and give the gradients in the order of the arrays."""
        where = self._where(operation)
        names = _OPERATIONS[operation]
        halves = ["x", "second"] if gate_first else ["second", "x"]
        places = {"gate": halves[0], "value": halves[1]}
        inputs = [arrays[places.get(name, name)] for name in names.halves(names.inputs)]
        outputs = names.halves(names.outputs)
        given = list(out) if isinstance(out, tuple) else [out] + [None] * (len(outputs) - 1)
        if len(given) != len(outputs):
            raise ValueError(f"{where}: out must have {len(outputs)} entries, got {len(given)}")
        for each in given:
            if each is not None:
                check_output(where, each)
        swap = not gate_first and len(outputs) > 1
        if swap:
            given[-2:] = given[:-3:-1]
        try:
            results = with_output_cache(self.ufuncs[operation], *inputs, out=tuple(given))
        except ValueError as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise ValueError(f"{where}: {error} ({shapes})") from None
        if swap:
            results = (*results[:-2], results[-1], results[-2])
        return results

    def _run_packed(
        self,
        operation: str,
        arrays: dict[str, NDArray[Any]],
        axis: Any,
        interleaved: bool,
        gate_first: bool,
        out: Any,
    ) -> Any:
        where = self._where(operation)
        names = _OPERATIONS[operation]
        x = arrays["x"]
        axis = as_axis(where, axis, x.ndim)
        if x.shape[axis] % 2:
            raise ValueError(
                f"{where}: the length of axis {axis} must be even, got x of shape {x.shape}"
            )
        shape = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
        if "dy" in arrays and arrays["dy"].shape != shape:
            raise ValueError(f"{where}: dy has shape {arrays['dy'].shape}, the output has {shape}")
        ufunc = self._packed[operation]
        inputs = [arrays[name] for name in names.inputs]
        kinds = ufunc.resolve_dtypes((*(a.dtype for a in inputs), *[None] * ufunc.nout))
        shapes = tuple(x.shape if name == "dx" else shape for name in names.outputs)
        outputs = outputs_for(where, out, shapes, kinds[ufunc.nin :])

        packed = [name in ("x", "dx") for name in (*names.inputs, *names.outputs)]
        call_on_rows(
            ufunc, (*inputs, *outputs), packed, axis, interleaved, second_first=not gate_first
        )
        return as_returned(outputs, out)

    def _make(self, name: str) -> np.ufunc:
        """Return the ufunc of an operation on two arrays."""
        operation = _OPERATIONS[name]
        return self._ufunc(
            name,
            operation.halves(operation.inputs),
            operation.halves(operation.outputs),
            partial(self._build, name),
        )

    def _make_packed(self, name: str) -> np.ufunc:
        """Return the generalized ufunc of an operation on one array of both halves."""
        operation = _OPERATIONS[name]
        return self._ufunc(
            f"{name}_packed",
            operation.inputs,
            operation.outputs,
            partial(self._build_packed, name),
            operation.core_signature,
        )

    def _operation(self, name: str, dtype: str) -> tuple[Any, Any]:
        """Return an operation on vectors, and its operands."""
        from fastact.simd.operands import Operands
        from fastact.simd.storage import Storage

        operation = _OPERATIONS[name]
        inputs = operation.halves(operation.inputs)
        count = len(inputs) + len(operation.halves(operation.outputs))
        operands = Operands((Storage(dtype),) * count, arrays=len(inputs), parameters=0)
        return operation.compute(self._function), operands

    def _build(self, name: str, dtype: str) -> LoopFunction:
        from fastact import kernels

        return kernels.elementwise(*self._operation(name, dtype))

    def _build_packed(self, name: str, dtype: str) -> LoopFunction:
        from fastact import kernels

        operation = _OPERATIONS[name]
        packed = tuple(each in ("x", "dx") for each in (*operation.inputs, *operation.outputs))
        return kernels.halves(*self._operation(name, dtype), packed)


def _document(name: str, activation: Definition, gate: str, summary: str, reference: str) -> str:
    notes = textwrap.wrap(
        f"``y = value * {activation.name}(gate)``. By default the {gate} half is the gate. The value, and each "
        "gradient, is the product in IEEE arithmetic; the derivative of the activation follows its own "
        "conventions. The gradient needs the input only: nothing is stored between the passes.",
        88,
    )
    references = textwrap.wrap(reference, 88)
    return "\n".join(
        [summary, "", "Notes", "-----", *notes, "", "References", "----------", *references, ""]
    )


_SHAZEER = "N. Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202 (2020)."

# The second half is the gate in PyTorch's glu, and in the paper; in Shazeer's paper the activated product
# comes first, and so do the packed weights of what followed it.
glu = GatedUnit(
    "glu",
    sigmoid,
    gate="second",
    summary="Gated linear unit: one half of the features, let through by the sigmoid of the other.",
    reference="Y. Dauphin, A. Fan, M. Auli, D. Grangier, Language Modeling with Gated Convolutional Networks, ICML 2017.",
)
reglu = GatedUnit(
    "reglu",
    relu,
    gate="first",
    summary="Gated linear unit with a relu for its gate.",
    reference=_SHAZEER,
)
geglu = GatedUnit(
    "geglu",
    gelu,
    gate="first",
    summary="Gated linear unit with a gelu for its gate; `fastact.geglu_tanh` approximates it.",
    reference=_SHAZEER,
)
geglu_tanh = GatedUnit(
    "geglu_tanh",
    gelu_tanh,
    gate="first",
    summary="Gated linear unit with the gelu by tanh for its gate, as in Gemma.",
    reference=f"{_SHAZEER} Gemma Team, Gemma: Open Models Based on Gemini Research and Technology, arXiv:2403.08295 (2024).",
)
swiglu = GatedUnit(
    "swiglu",
    silu,
    gate="first",
    summary="Gated linear unit with a silu for its gate: the hidden layer of most language models.",
    reference=_SHAZEER,
)
bilinear = GatedUnit(
    "bilinear",
    identity,
    gate="first",
    summary="Bilinear layer: the product of the two halves.",
    reference=_SHAZEER,
)
