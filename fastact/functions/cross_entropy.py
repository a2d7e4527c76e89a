"""The cross-entropy of a softmax, and its gradient by the logits in the same pass."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_array,
    as_axis,
    as_real_array,
    as_returned,
    float_type,
    outputs_for,
)
from fastact.arrays.dtypes import dtype_of, inner_type, parameters_in
from fastact.arrays.rows import Axes, Operand, row_parts, run_on_rows
from fastact.functions.layer import Layer
from fastact.functions.losses import gradient_by_loss, loss_shape
from fastact.runtime.output_pool import with_room

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction

# What there is for each row is made for so many rows at a time.
_ROWS = 2**15
# What both loops take for the label of a row that is ignored; without smoothing, any negative one is.
_IGNORED = -2


@dataclass(frozen=True, eq=False)
class _Operation:
    """One of the ufuncs: rows, then numbers for each row."""

    rows: tuple[str, ...]
    numbers: tuple[str, ...]
    has_gradient: bool
    loop: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*self.rows, *self.numbers)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("loss", "dx") if self.has_gradient else ("loss",)

    @property
    def core_signature(self) -> str:
        inputs = ",".join("(n)" if each in self.rows else "()" for each in self.inputs)
        return f"{inputs}->{'(),(n)' if self.has_gradient else '()'}"

    def types(self, dtype: str) -> list[str]:
        """Return the types of all operands beside arrays of one type."""
        return [self.type_of(each, dtype) for each in (*self.inputs, *self.outputs)]

    def type_of(self, name: str, dtype: str) -> str:
        """Return the type of an operand beside arrays of one type."""
        if name in (*self.rows, "dx"):
            return dtype
        if name == "weight":
            return parameters_in(dtype)
        return "intp" if name == "label" else "float64"


_OF_LABELS = (("x",), ("label", "weight", "scale"))
_OF_WEIGHTS = (("x", "targets", "weights"), ("label", "spike", "keep", "uniform", "scale"))
_OPERATIONS = {
    "forward": _Operation(*_OF_LABELS, False, "label_cross_entropy"),
    "forward_backward": _Operation(*_OF_LABELS, True, "label_cross_entropy"),
    "dense_forward": _Operation(*_OF_WEIGHTS, False, "dense_cross_entropy"),
    "dense_forward_backward": _Operation(*_OF_WEIGHTS, True, "dense_cross_entropy"),
}


class SoftmaxCrossEntropy(Layer):
    """Softmax cross-entropy: how far logits are from labels, or from probabilities of the classes.

    ``loss, dlogits = fa.softmax_cross_entropy.forward_backward(logits, labels)`` gives the loss and its gradient
    in one pass over the logits; `dlogits` may overwrite them.

    Notes
    -----
    For each row, ``loss = sum(w * p * (logsumexp(x) - x))`` and ``dx = sum(w * p) * softmax(x) - w * p``, where `p`
    is 1 for the label and 0 else, or given, and `w` are the weights of the classes. Label smoothing makes
    ``(1 - s) * p + s / classes`` of `p`. It is what PyTorch's ``cross_entropy`` computes, whose classes are along
    axis 1; but a class of no probability adds nothing even where its logit is minus infinity, which gives NaN there.

    Errors: losses and gradients are within 5 units in the last place of float32, at the scale of the terms that
    they are sums of. A loss near 0 keeps its digits, and so does the gradient of a label of which the net is sure.
    A row that holds a NaN or plus infinity, or nothing but minus infinity, gives NaN. Results do not depend on the
    number of threads: losses are summed in float64, in an order that depends on the shape alone.

    A ufunc cannot raise an error: called themselves, those in `ufuncs` give NaN, loss and gradient, for a label that is
    no class's, and ignore a row whose label is negative.
    """

    formula = r"\sum_j w_j p_j \left( \ln \sum_k e^{x_k} - x_j \right)"

    def __init__(self, name: str) -> None:
        super().__init__(name, tuple(_OPERATIONS), self._make)

    def __call__(
        self,
        logits: Any,
        targets: Any,
        /,
        *,
        axis: int = -1,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        out: Any = None,
    ) -> Any:
        """Compute the loss.

        Parameters
        ----------
        logits : array_like
            Of any shape; a real type.
        targets : array_like
            Labels: integers, of the shape of `logits` without the axis, from 0 to the number of classes less one.
            Or what share each class has: of the shape of `logits`, computed in its type.
        axis : int, default -1
            The axis of the classes. PyTorch's is 1.
        weight : array_like, optional
            A weight for each class.
        ignore_index : int, default -100
            Rows with this label add nothing, and have no gradient.
        label_smoothing : float, default 0
            What part of the shares is spread over all classes, from 0 to 1.
        reduction : {"mean", "sum", "none"}, default "mean"
            The mean divides by the sum of the weights of the labels that are not ignored, or with shares by the
            number of rows, as in PyTorch. It is NaN where there is none, and the gradient then 0.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        scalar or ndarray
            Of the type of the logits; without a reduction, of their shape without the axis.

        Raises
        ------
        TypeError
            If an input is not real, or labels are no integers.
        ValueError
            If a label is out of range (the message gives its position), shapes do not fit together, or an option is
            none of the above.
        """
        return self._run(
            "forward",
            logits,
            targets,
            1.0,
            axis,
            weight,
            ignore_index,
            label_smoothing,
            reduction,
            out,
        )

    def forward_backward(
        self,
        logits: Any,
        targets: Any,
        dloss: Any = 1.0,
        /,
        *,
        axis: int = -1,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        out: Any = None,
    ) -> Any:
        """Compute the loss and the gradient by the logits in one pass; arguments as for a call.

        Parameters
        ----------
        dloss : array_like, default 1
            The gradient by the loss; without a reduction, it broadcasts with it.
        out : tuple of ndarray or None, optional
            Where the results go. The second may be `logits` itself.

        Returns
        -------
        loss, dlogits
            As of a call, and of the shape of the logits.
        """
        return self._run(
            "forward_backward",
            logits,
            targets,
            dloss,
            axis,
            weight,
            ignore_index,
            label_smoothing,
            reduction,
            out,
        )

    def backward(
        self,
        dloss: Any,
        logits: Any,
        targets: Any,
        /,
        *,
        axis: int = -1,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        out: Any = None,
    ) -> Any:
        """Compute the gradient by the logits alone; see `forward_backward`."""
        return self._run(
            "backward",
            logits,
            targets,
            dloss,
            axis,
            weight,
            ignore_index,
            label_smoothing,
            reduction,
            out,
        )

    def _run(
        self,
        operation: str,
        logits: Any,
        targets: Any,
        dloss: Any,
        axis: Any,
        weight: Any,
        ignore_index: int,
        label_smoothing: Any,
        reduction: str,
        out: Any,
    ) -> Any:
        where = self._where(operation)
        x = as_real_array(where, "logits", logits)
        axis = as_axis(where, axis, x.ndim)
        layout = Axes((axis,), x.shape)
        rows = layout.reduced_shape(keepdims=False)
        shape = loss_shape(where, reduction, rows)
        dtype = float_type((logits,), [x])
        classes = classes_of(where, x.shape[axis], dtype, weight, ignore_index, label_smoothing)
        given, is_dense = classes.check_targets(where, targets, rows, x.shape)
        if is_dense:
            given = with_room(given.astype, dtype, copy=False)
        gradient = gradient_by_loss(where, dloss, shape)
        shapes = {
            "forward": (shape,),
            "forward_backward": (shape, x.shape),
            "backward": (x.shape,),
        }[operation]
        results = outputs_for(where, out, shapes, (dtype,) * len(shapes))
        loss = None if operation == "backward" else results[0]
        gradients = () if operation == "forward" else results[-1:]
        losses = loss if reduction == "none" else None
        sums: list[float] = []
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            divisor = classes.divisor(given, is_dense, rows) if reduction == "mean" else 1.0
            scale = np.asarray(gradient / np.float64(divisor))
            run_on_rows(
                layout,
                partial(self._run_rows, bool(gradients), classes, is_dense, losses, sums),
                [
                    Operand(_apart(x, results), True),
                    Operand(_apart(given, results), is_dense),
                    Operand(scale, False),
                ],
                [Operand(each, True) for each in gradients],
            )
            if loss is not None and losses is None:
                loss[...] = sum(sums) / np.float64(divisor)
        return as_returned(results, out)

    def _run_rows(
        self,
        has_gradient: bool,
        classes: Classes,
        is_dense: bool,
        losses: NDArray[Any] | None,
        sums: list[float],
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
    ) -> None:
        """Compute losses, or append their sums, and gradients, for arrays whose last axis is that of the classes."""
        x, targets, scale = inputs
        name = "forward_backward" if has_gradient else "forward"
        if is_dense or classes.smoothing:
            name = f"dense_{name}"
        operation, ufunc = _OPERATIONS[name], self.ufuncs[name]
        types = _dtypes(operation, classes.dtype)
        for part in row_parts(x.shape[:-1], _ROWS):
            operands = {"x": x[part], "scale": scale[part] if scale.ndim else scale}
            operands |= (classes.of_shares if is_dense else classes.of_labels)(targets[part])
            loss = np.empty(operands["x"].shape[:-1])
            ufunc(
                *(operands[each] for each in operation.inputs),
                out=(loss, *(array[part] for array in outputs)),
                casting="same_kind",
                signature=types,
            )
            if losses is None:
                sums.append(float(loss.sum()))
            else:
                losses[part] = loss

    def _make(self, name: str) -> np.ufunc:
        operation = _OPERATIONS[name]
        return self._ufunc(
            name,
            operation.inputs,
            operation.outputs,
            partial(_build, operation),
            operation.core_signature,
            operation.types,
        )


@cache
def _dtypes(operation: _Operation, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
    """Return the types of all operands beside arrays of one type."""
    return tuple(map(dtype_of, operation.types(dtype.name)))


def _build(operation: _Operation, dtype: str) -> LoopFunction:
    from fastact.kernels.rows import Operand

    inputs, outputs = (
        [
            Operand(each, operation.type_of(each, dtype), each in (*operation.rows, "dx"))
            for each in names
        ]
        for names in (operation.inputs, operation.outputs)
    )
    from fastact import kernels

    build = getattr(kernels, operation.loop)
    loop: LoopFunction = build(inputs, outputs)
    return loop


@dataclass(frozen=True)
class Classes:
    """What all rows have in common, and what the loops take for each."""

    count: int
    dtype: np.dtype[Any]
    weights: NDArray[Any] | None
    ignore_index: int
    smoothing: float

    def check_targets(
        self, where: str, targets: Any, rows: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], bool]:
        """Return targets as an array, and whether they are shares of the classes, or raise an error."""
        given = as_array(where, "targets", targets)
        if given.shape == shape:
            return as_real_array(where, "targets", given), True
        self._check_labels(where, given, rows, shape)
        return given, False

    def _check_labels(
        self, where: str, labels: NDArray[Any], rows: tuple[int, ...], shape: tuple[int, ...]
    ) -> None:
        """Raise an error that names the first label that is out of range."""
        if labels.shape != rows:
            raise ValueError(
                f"{where}: targets has shape {labels.shape}, expected is {rows} for labels, or {shape} "
                "for shares of the classes"
            )
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{where}: labels must be integers, got {labels.dtype}")
        for part in row_parts(rows, _ROWS):
            some = labels[part]
            wrong = some.astype(np.uintp) >= self.count  # as such, what is negative is large
            if wrong.any() and (wrong := wrong & (some != self.ignore_index)).any():
                first = np.argwhere(wrong)[0]
                if part is not ...:
                    first[0] += part.start
                place = f"[{', '.join(map(str, first))}]" if len(first) else ""
                raise ValueError(
                    f"{where}: targets{place} is {labels[tuple(first)]}; labels are from 0 to "
                    f"{self.count - 1}, or {self.ignore_index} to ignore a row"
                )

    def divisor(self, targets: NDArray[Any], is_dense: bool, rows: tuple[int, ...]) -> float:
        """Return what the mean divides by: the number of rows, or the sum of the weights of their labels."""
        if is_dense:
            return float(math.prod(rows))
        parts = (targets[part] for part in row_parts(rows, _ROWS))
        if self.weights is None:
            return float(sum(np.count_nonzero(part != self.ignore_index) for part in parts))
        return float(np.sum([self._weights_of(part).sum(dtype=float) for part in parts]))

    def _weights_of(self, labels: NDArray[Any]) -> Any:
        """Return the weight of each label, 0 where it is ignored, or the one that all others have."""
        if self.weights is None:
            return self.inner.type(1)
        is_known = np.asarray(labels != self.ignore_index)
        weights = self.weights[np.where(is_known, labels, 0)] if self.count else self.inner.type(0)
        return np.where(is_known, weights, 0)

    @property
    def inner(self) -> np.dtype[Any]:
        """What is computed in."""
        return inner_type(self.dtype)

    def of_labels(self, labels: NDArray[Any]) -> dict[str, Any]:
        """Return what the loops take for rows with labels."""
        weights = self._weights_of(labels)
        # In an unsigned type, what is negative would be a label.
        index = labels.astype(np.intp, copy=False)
        if self.smoothing or self.ignore_index >= 0:
            index = np.where(labels == self.ignore_index, _IGNORED, index)
        found: dict[str, Any] = {"label": index, "weight": weights}
        if self.smoothing:
            found |= self._of_weights(np.zeros(self.count, self.dtype), 0.0)
            found["spike"] = weights * np.float64(1 - self.smoothing)
        return found

    def of_shares(self, shares: NDArray[Any]) -> dict[str, Any]:
        """Return what the loops take for rows with a share of each class."""
        found = self._of_weights(shares, 1 - self.smoothing)
        return found | {"label": -1, "spike": 0.0}

    def _of_weights(self, targets: NDArray[Any], keep: float) -> dict[str, Any]:
        weights = np.ones(self.count) if self.weights is None else self.weights
        uniform = self.smoothing / max(1, self.count)
        return {
            "targets": targets,
            "weights": weights.astype(self.dtype),
            "keep": keep,
            "uniform": uniform,
        }


def classes_of(
    where: str,
    count: int,
    dtype: np.dtype[Any],
    weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    weight_name: str = "weight",
) -> Classes:
    """Return the options of a call, or raise an error that names the one that is wrong."""
    if not (
        isinstance(label_smoothing, int | float | np.integer | np.floating)
        and 0 <= label_smoothing <= 1
    ):
        raise ValueError(
            f"{where}: label_smoothing must be a number from 0 to 1, got {label_smoothing!r}"
        )
    weights = None
    if weight is not None:
        # In the logits' own type, as the loops take it.
        weights = as_real_array(where, weight_name, weight).astype(dtype)
        weights = weights.astype(parameters_in(dtype.name))
        if weights.shape != (count,):
            raise ValueError(
                f"{where}: {weight_name} has shape {weights.shape}, expected is {(count,)}"
            )
    try:
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"{where}: ignore_index must be an integer, got {ignore_index!r}") from None
    return Classes(count, dtype, weights, index, float(label_smoothing))


def _apart(array: NDArray[Any], outputs: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """Return an input, or a copy where some output would overwrite what has not been read yet."""
    for each in outputs:
        if np.may_share_memory(array, each):
            is_same = array.__array_interface__ == each.__array_interface__  # row by row
            if not is_same:
                array = with_room(array.copy)
    return array


softmax_cross_entropy = SoftmaxCrossEntropy("softmax_cross_entropy")
