"""The cross-entropy of a softmax, with its gradient with respect to the logits in the same pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_array,
    as_axis,
    as_integer,
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
)
from fastact.arrays.plans import Call, Plan, are_plain
from fastact.arrays.rows import Axes, RowArray, row_parts, run_on_rows
from fastact.catalogue.definition import CrossEntropyDefinition
from fastact.functions.function import Function
from fastact.functions.losses import (
    gradient_by_loss,
    loss_family,
    loss_outputs,
    loss_shape,
    planned_results,
)
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, REDUCTION, Argument, array
from fastact.kernels.kernel import Kernel, Rows
from fastact.runtime.dtypes import inner_type, parameters_in
from fastact.runtime.output_pool import retry_without_pool

# Per-row temporaries are allocated for at most this many rows.
_MAX_ROWS = 2**15
# The label of ignored rows in both kernels; without smoothing, any negative label is ignored.
_IGNORED = -2

_OF_LABELS = "x(n), label: intp, weight: parameter, scale: float64"
_OF_WEIGHTS = "x(n), targets(n), weights(n), label: intp, spike: float64, keep: float64, uniform: float64, scale: float64"
_KERNELS = {
    "forward": f"{_OF_LABELS} -> loss: float64",
    "forward_backward": f"{_OF_LABELS} -> loss: float64, dx(n)",
    "dense_forward": f"{_OF_WEIGHTS} -> loss: float64",
    "dense_forward_backward": f"{_OF_WEIGHTS} -> loss: float64, dx(n)",
}
_ARRAYS = (
    array("logits", "The logits, of any shape and a real dtype."),
    array(
        "targets",
        "Labels: integers from 0 to the number of classes minus one, with the shape of `logits` without the axis. Or "
        "class probabilities, with the shape of `logits`, converted to its dtype.",
        "array_like of int, or array_like",
    ),
)
_AXIS = Argument("axis", "int, default -1", "The axis of the classes. PyTorch's is 1.", -1, "int")
WEIGHT = Argument(
    "weight", "array_like, optional", "A weight for each class.", annotation="ArrayLike | None"
)
IGNORE_INDEX = Argument(
    "ignore_index",
    "int, default -100",
    "The label of rows to ignore, which add nothing and have gradient 0.",
    -100,
    "int",
)
LABEL_SMOOTHING = Argument(
    "label_smoothing",
    "float, default 0",
    "The share of the probability that is spread evenly over all classes, from 0 to 1.",
    0.0,
    "float",
)
MEAN = Argument(
    "reduction",
    REDUCTION.kind,
    "The mean divides by the total weight of the labels that are not ignored, or for class probabilities by the number "
    "of rows, as in PyTorch. If there are none, the mean is NaN and the gradient 0.",
    REDUCTION.default,
    REDUCTION.annotation,
)
_EXAMPLES = {
    "vjp": """\
>>> x, labels = np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0])
>>> loss, vjp = {f}.vjp(x, labels)
>>> vjp()
array([[ 0.125, -0.125],
       [-0.1  ,  0.1  ]])""",
    "backward": """\
>>> x, labels = np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0])
>>> {f}.backward(2.0, x, labels)
array([[ 0.25, -0.25],
       [-0.2 ,  0.2 ]])""",
    "forward_backward": """\
>>> x, labels = np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0])
>>> loss, dx = {f}.forward_backward(x, labels)
>>> print(f"{{loss:.6f}}")
0.255413
>>> dx
array([[ 0.125, -0.125],
       [-0.1  ,  0.1  ]])""",
}


def family(definition: CrossEntropyDefinition) -> Family:
    """Return the family of a definition."""
    options = (_AXIS, WEIGHT, IGNORE_INDEX, LABEL_SMOOTHING, MEAN, OUT)
    gradients = {"dlogits": "The gradient with respect to the logits, with their shape."}
    kernel = partial(_kernel, definition)
    return loss_family(_ARRAYS, options, gradients, _run, _EXAMPLES, tuple(_KERNELS), kernel)


def _kernel(definition: CrossEntropyDefinition, name: str) -> Kernel:
    algorithm = definition.dense if name.startswith("dense") else definition.function
    return Kernel.of(_KERNELS[name], Rows(lambda: algorithm))


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> CrossEntropyCall:
    caller = function.caller(operation.name)
    values = dict(zip(operation.inputs, arrays, strict=True))
    reduction, out = options.get("reduction", "mean"), options.get("out")
    x = as_real_array(caller, "logits", values["logits"])
    axis = as_axis(caller, options.get("axis", -1), x.ndim)
    layout = Axes((axis,), x.shape)
    rows = layout.reduced_shape(keepdims=False)
    shape = loss_shape(caller, reduction, rows)
    dtype = float_type((values["logits"],), [x])
    classes = classes_of(
        caller,
        x.shape[axis],
        dtype,
        options.get("weight"),
        options.get("ignore_index", -100),
        options.get("label_smoothing", 0.0),
    )
    given, is_dense = classes.check_targets(caller, values["targets"], rows, x.shape)
    if is_dense:
        given = retry_without_pool(given.astype, dtype, copy=False)
    gradient = gradient_by_loss(caller, values.get("dloss", 1.0), shape)
    return CrossEntropyCall(
        function, operation, x, given, is_dense, classes, layout, gradient, reduction, out
    )


@dataclass(eq=False, repr=False)
class CrossEntropyCall(Call):
    """A call of the kernel of labels, or of that of class probabilities.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    logits, targets : ndarray
        The arrays.
    is_dense : bool
        Whether the targets are class probabilities.
    classes : Classes
        The options that all rows share.
    layout : Axes
        Where the rows are.
    gradient : ndarray
        The gradient with respect to the loss, of its shape.
    reduction : str
        The reduction.
    out : ndarray or tuple, optional
        Where the results go.
    """

    function: Function
    operation: Operation
    logits: NDArray[Any]
    targets: NDArray[Any]
    is_dense: bool
    classes: Classes
    layout: Axes
    gradient: NDArray[Any]
    reduction: str
    out: Any

    def __call__(self) -> Any:
        """Make the call and return the results."""
        caller, name = self.function.caller(self.operation.name), self.operation.name
        x, given, classes, dtype = self.logits, self.targets, self.classes, self.classes.dtype
        rows = self.layout.reduced_shape(keepdims=False)
        shapes = self.gradient.shape, x.shape
        results, loss, gradients = loss_outputs(name, caller, self.out, shapes, dtype)
        losses = loss if self.reduction == "none" else None
        sums: list[float] = []
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            is_mean = self.reduction == "mean"
            divisor = classes.divisor(given, self.is_dense, rows) if is_mean else 1.0
            scale = np.asarray(self.gradient / np.float64(divisor))
            x, given = copy_overlapping([x, given], results)
            has_gradient = bool(gradients)
            run_on_rows(
                self.layout,
                partial(
                    _run_rows, self.function, has_gradient, classes, self.is_dense, losses, sums
                ),
                [RowArray(x, True), RowArray(given, self.is_dense), RowArray(scale, False)],
                [RowArray(each, True) for each in gradients],
            )
            if loss is not None and losses is None:
                loss[...] = sum(sums) / np.float64(divisor)
        return as_returned(results, self.out)

    def plan(self, positions: Mapping[str, int]) -> Plan | None:
        """Return a plan for labels without weights, with classes along the last axis and a reduction.

        It returns None at a negative label, which may be that of a row to ignore, and unless the loss is finite: at a
        label out of range the kernel gives NaN.
        """
        classes, dtype, labels = self.classes, self.classes.dtype, self.targets
        if self.is_dense or classes.smoothing or classes.weights is not None:
            return None
        if classes.ignore_index >= 0 or self.reduction == "none" or "dloss" in positions:
            return None
        if self.out is not None or not self.layout.is_last or not labels.size:
            return None
        if labels.dtype != np.intp or not are_plain([self.logits], dtype):
            return None
        if not {"logits", "targets"} <= positions.keys():  # a list, or one label
            return None
        name, divisor = self.operation.name, labels.size if self.reduction == "mean" else 1
        ufunc = self.function.kernels["forward" if name == "forward" else "forward_backward"]
        weight = np.asarray(1, classes.inner)
        scale = np.asarray(self.gradient / np.float64(divisor))
        at_logits, at_labels = positions["logits"], positions["targets"]
        least, add, finish = np.minimum.reduce, np.add.reduce, planned_results(name, dtype, divisor)

        def run(given: Sequence[Any]) -> Any:
            labels = given[at_labels]
            if least(labels, axis=None) < 0:
                return None
            results = ufunc(given[at_logits], labels, weight, scale)
            losses, *gradients = results if type(results) is tuple else (results,)
            return finish(float(add(losses, axis=None)), *gradients)

        return run


def _run_rows(
    function: Function,
    has_gradient: bool,
    classes: Classes,
    is_dense: bool,
    losses: NDArray[Any] | None,
    sums: list[float],
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[Any]],
) -> None:
    """Compute losses, or append their sums, and gradients, for arrays with classes along the last axis."""
    x, targets, scale = inputs
    name = "forward_backward" if has_gradient else "forward"
    if is_dense or classes.smoothing:
        name = f"dense_{name}"
    kernel, ufunc = function._family.kernel(name), function.kernels[name]
    types = kernel.types(classes.dtype)
    for part in row_parts(x.shape[:-1], _MAX_ROWS):
        operands = {"x": x[part], "scale": scale[part] if scale.ndim else scale}
        operands |= (classes.of_probabilities if is_dense else classes.of_labels)(targets[part])
        loss = np.empty(operands["x"].shape[:-1])
        ufunc(
            *(operands[each.name] for each in kernel.inputs),
            out=(loss, *(array[part] for array in outputs)),
            casting="same_kind",
            signature=types,
        )
        if losses is None:
            sums.append(float(loss.sum()))
        else:
            losses[part] = loss


@dataclass(frozen=True)
class Classes:
    """The options that all rows share, and the operands that kernels take for each row."""

    count: int
    dtype: np.dtype[Any]
    weights: NDArray[Any] | None
    ignore_index: int
    smoothing: float

    def check_targets(
        self, caller: str, targets: Any, rows: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], bool]:
        """Return targets as an array, and whether they are class probabilities, or raise an error."""
        given = as_array(caller, "targets", targets)
        if given.shape == shape:
            return as_real_array(caller, "targets", given), True
        self._check_labels(caller, given, rows, shape)
        return given, False

    def _check_labels(
        self, caller: str, labels: NDArray[Any], rows: tuple[int, ...], shape: tuple[int, ...]
    ) -> None:
        """Raise an error that names the first label that is out of range."""
        if labels.shape != rows:
            raise ValueError(
                f"{caller}: targets has shape {labels.shape}, expected {rows} for labels, or {shape} "
                "for class probabilities"
            )
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{caller}: labels must be integers, got {labels.dtype}")
        for part in row_parts(rows, _MAX_ROWS):
            some = labels[part]
            wrong = some.astype(np.uintp) >= self.count  # negative labels wrap to large ones
            if wrong.any() and (wrong := wrong & (some != self.ignore_index)).any():
                first = np.argwhere(wrong)[0]
                if part is not ...:
                    first[0] += part.start
                position = f"[{', '.join(map(str, first))}]" if len(first) else ""
                raise ValueError(
                    f"{caller}: targets{position} is {labels[tuple(first)]}; labels are from 0 to "
                    f"{self.count - 1}, or {self.ignore_index} to ignore a row"
                )

    def divisor(self, targets: NDArray[Any], is_dense: bool, rows: tuple[int, ...]) -> float:
        """Return the divisor of the mean: the number of rows, or the total weight of their labels."""
        if is_dense:
            return float(math.prod(rows))
        parts = (targets[part] for part in row_parts(rows, _MAX_ROWS))
        if self.weights is None:
            return float(sum(np.count_nonzero(part != self.ignore_index) for part in parts))
        return float(np.sum([self._weights_of(part).sum(dtype=float) for part in parts]))

    def _weights_of(self, labels: NDArray[Any]) -> Any:
        """Return the weight of each label, 0 if ignored; without class weights, the scalar 1."""
        if self.weights is None:
            return self.inner.type(1)
        is_known = np.asarray(labels != self.ignore_index)
        weights = self.weights[np.where(is_known, labels, 0)] if self.count else self.inner.type(0)
        return np.where(is_known, weights, 0)

    @property
    def inner(self) -> np.dtype[Any]:
        """The dtype of the computation."""
        return inner_type(self.dtype)

    def of_labels(self, labels: NDArray[Any]) -> dict[str, Any]:
        """Return the operands for rows with labels."""
        weights = self._weights_of(labels)
        # In an unsigned dtype, a negative label would wrap to a valid one.
        index = labels.astype(np.intp, copy=False)
        if self.smoothing or self.ignore_index >= 0:
            index = np.where(labels == self.ignore_index, _IGNORED, index)
        found: dict[str, Any] = {"label": index, "weight": weights}
        if self.smoothing:
            found |= self._of_weights(np.zeros(self.count, self.dtype), 0.0)
            found["spike"] = weights * np.float64(1 - self.smoothing)
        return found

    def of_probabilities(self, probabilities: NDArray[Any]) -> dict[str, Any]:
        """Return the operands for rows with class probabilities."""
        found = self._of_weights(probabilities, 1 - self.smoothing)
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
    caller: str,
    count: int,
    dtype: np.dtype[Any],
    weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    weight_name: str = "weight",
) -> Classes:
    """Return the options of a call, or raise an error that names the invalid one."""
    if not (
        isinstance(label_smoothing, int | float | np.integer | np.floating)
        and 0 <= label_smoothing <= 1
    ):
        raise ValueError(
            f"{caller}: label_smoothing must be a number from 0 to 1, got {label_smoothing!r}"
        )
    weights = None
    if weight is not None:
        # Rounded to the dtype of the logits, as in the kernels for class probabilities.
        weights = as_real_array(caller, weight_name, weight).astype(dtype)
        weights = weights.astype(parameters_in(dtype.name))
        if weights.shape != (count,):
            raise ValueError(
                f"{caller}: {weight_name} has shape {weights.shape}, expected {(count,)}"
            )
    index = as_integer(caller, "ignore_index", ignore_index)
    return Classes(count, dtype, weights, index, float(label_smoothing))
