"""Losses of rows of classes, such as the cross-entropy of a softmax, with their gradient in the same pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_array,
    as_axis,
    as_bool,
    as_integer,
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
)
from fastact.arrays.long_rows import LONG, run_in_chunks
from fastact.arrays.plans import Call, KernelPlan, Plan, are_plain
from fastact.arrays.rows import Axes, RowArray, row_parts, run_on_rows
from fastact.catalogue.definition import CrossEntropyDefinition, SoftmaxCrossEntropyDefinition
from fastact.catalogue.normalized import logsumexp
from fastact.functions.function import Function, function_of
from fastact.functions.losses import (
    gradient_by_loss,
    loss_family,
    loss_outputs,
    loss_shape,
    planned_results,
)
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, REDUCTION, Argument, array
from fastact.functions.rows import CHUNKS, OF_ROW
from fastact.kernels.algorithms.cross_entropy import IGNORED
from fastact.kernels.kernel import Kernel, Rows
from fastact.runtime.dtypes import inner_type, parameters_in
from fastact.runtime.output_pool import retry_without_pool
from fastact.runtime.replays import Input, Output

# Per-row temporaries are allocated for at most this many rows.
_MAX_ROWS = 2**15

_OF_LABELS = "x(n), label: intp, weight: parameter, scale: float64"
_OF_WEIGHTS = "x(n), targets(n), weights(n), label: intp, spike: float64, keep: float64, uniform: float64, scale: float64"
_DENSE, _WITH_PROBABILITIES = "dense_", "probabilities_"
_RESULTS = {"forward": "loss: float64", "forward_backward": "loss: float64, dx(n)"}
_PROBABILITIES = (
    Argument(
        "return_probabilities",
        "bool, default False",
        "Whether to return the softmax of the logits as well, also of ignored rows.",
        False,
        "bool",
    ),
    "Only with `return_probabilities`: the softmax of the logits, with their shape.",
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
_SOFTMAX_EXAMPLES = {
    "vjp": """\
>>> x, labels = np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0])
>>> loss, vjp = {f}.vjp(x, labels)
>>> vjp()
array([[ 0.125, -0.125],
       [-0.1  ,  0.1  ]])
>>> more = dict(return_probabilities=True)
>>> loss, y, vjp = {f}.vjp(x, labels, **more)
>>> y
array([[0.25, 0.75],
       [0.8 , 0.2 ]])""",
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
_EXAMPLES = {
    "vjp": """\
>>> x, labels = np.array([[0.25, 0.75], [0.8, 0.2]]), np.array([1, 0])
>>> loss, vjp = {f}.vjp(x, labels)
>>> dx = {f}.backward(1.0, x, labels)
>>> np.array_equal(vjp(), dx)
True""",
    "backward": """\
>>> x, labels = np.array([[0.25, 0.75], [0.8, 0.2]]), np.array([1, 0])
>>> one = {f}.backward(1.0, x, labels)
>>> two = {f}.backward(2.0, x, labels)
>>> np.allclose(two, 2 * one)
True""",
    "forward_backward": """\
>>> x, labels = np.array([[0.25, 0.75], [0.8, 0.2]]), np.array([1, 0])
>>> loss, dx = {f}.forward_backward(x, labels)
>>> h = np.array([[0.0, 1e-6], [0.0, 0.0]])
>>> rise = {f}(x + h, labels)
>>> rise -= {f}(x - h, labels)
>>> np.allclose(rise / 2e-6, dx[0, 1])
True""",
}


def family(definition: CrossEntropyDefinition) -> Family:
    """Return the family of a definition."""
    x, said = definition.input, definition.input.replace("_", " ")
    arrays = (
        array(x, f"The {said}, of any shape and a real dtype."),
        array(
            "targets",
            f"Labels: integers from 0 to the number of classes minus one, with the shape of `{x}` without the axis. Or "
            f"class probabilities, with the shape of `{x}`, converted to its dtype.",
            "array_like of int, or array_like",
            is_differentiable=False,
        ),
    )
    options = (_AXIS, WEIGHT, IGNORE_INDEX, LABEL_SMOOTHING, MEAN, OUT)
    gradients = {f"d{x}": f"The gradient with respect to the {said}, with their shape."}
    is_softmax = isinstance(definition, SoftmaxCrossEntropyDefinition)
    names = tuple(
        prefix + dense + name
        for prefix in ("", _WITH_PROBABILITIES)[: 1 + is_softmax]
        for dense in ("", _DENSE)
        for name in _RESULTS
    )
    if is_softmax:
        names += tuple(CHUNKS + name for name in names if _DENSE not in name)
    return loss_family(
        arrays,
        options,
        gradients,
        _run,
        _SOFTMAX_EXAMPLES if is_softmax else _EXAMPLES,
        names,
        partial(_kernel, definition),
        {"probabilities": _PROBABILITIES} if is_softmax else {},
    )


def _kernel(definition: CrossEntropyDefinition, name: str) -> Kernel:
    of_row = name.removeprefix(CHUNKS)
    own = of_row.removeprefix(_WITH_PROBABILITIES)
    is_dense = own.startswith(_DENSE)
    results = _RESULTS[own.removeprefix(_DENSE)] + (", probabilities(n)" if own != of_row else "")
    inputs = _OF_WEIGHTS if is_dense else _OF_LABELS
    if of_row != name:
        inputs += f", logit: parameter, {OF_ROW}"
    return Kernel.of(
        f"{inputs} -> {results}",
        Rows(lambda: partial(definition.algorithm, is_dense=is_dense)),
    )


def _run(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> CrossEntropyCall:
    caller = function.caller(operation.name)
    values = dict(zip(operation.inputs, arrays, strict=True))
    reduction, out = options.get("reduction", "mean"), options.get("out")
    name = _input_of(function)
    x = as_real_array(caller, name, values[name])
    axis = as_axis(caller, options.get("axis", -1), x.ndim)
    layout = Axes((axis,), x.shape)
    rows = layout.reduced_shape(keepdims=False)
    shape = loss_shape(caller, reduction, rows)
    dtype = float_type((values[name],), [x])
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
    has_probabilities = as_bool(
        caller, "return_probabilities", options.get("return_probabilities", False)
    )
    return CrossEntropyCall(
        function,
        operation,
        x,
        given,
        is_dense,
        classes,
        layout,
        gradient,
        reduction,
        has_probabilities,
        out,
    )


@dataclass(eq=False, repr=False)
class CrossEntropyCall(Call):
    """A call of the kernel of labels, or of that of class probabilities.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    x, targets : ndarray
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
    has_probabilities : bool
        Whether the softmax is among the results.
    out : ndarray or tuple, optional
        Where the results go.
    """

    function: Function
    operation: Operation
    x: NDArray[Any]
    targets: NDArray[Any]
    is_dense: bool
    classes: Classes
    layout: Axes
    gradient: NDArray[Any]
    reduction: str
    has_probabilities: bool
    out: Any

    @property
    def _kernel_name(self) -> str:
        name = "forward" if self.operation.name == "forward" else "forward_backward"
        if self.is_dense or self.classes.smoothing:
            name = _DENSE + name
        return _WITH_PROBABILITIES + name if self.has_probabilities else name

    def __call__(self) -> Any:
        """Make the call and return the results."""
        caller, name = self.function.caller(self.operation.name), self.operation.name
        x, given, classes, dtype = self.x, self.targets, self.classes, self.classes.dtype
        rows = self.layout.reduced_shape(keepdims=False)
        shapes = {"loss": self.gradient.shape, "dx": x.shape}
        if self.has_probabilities:
            shapes["probabilities"] = x.shape
        results = loss_outputs(name, caller, self.out, shapes, dtype)
        loss, outputs = results.get("loss"), tuple(results.values())
        losses = loss if self.reduction == "none" else None
        sums: list[float] = []
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            is_mean = self.reduction == "mean"
            divisor = classes.divisor(given, self.is_dense, rows) if is_mean else 1.0
            scale = np.asarray(self.gradient / np.float64(divisor))
            x, given = copy_overlapping([x, given], outputs)
            run_on_rows(
                self.layout,
                partial(self._run_rows, losses, sums),
                [RowArray(x, True), RowArray(given, self.is_dense), RowArray(scale, False)],
                [RowArray(each, True) for each in outputs if each is not loss],
            )
            if loss is not None and losses is None:
                loss[...] = sum(sums) / np.float64(divisor)
        return as_returned(outputs, self.out)

    def _run_rows(
        self,
        losses: NDArray[Any] | None,
        sums: list[float],
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
    ) -> None:
        """Compute losses, or append their sums, and gradients, for arrays with classes along the last axis."""
        x, targets, scale = inputs
        name, classes = self._kernel_name, self.classes
        kernel, ufunc = self.function._family.kernel(name), self.function.kernels[name]
        types = kernel.types(classes.dtype)
        for part in row_parts(x.shape[:-1], _MAX_ROWS):
            operands = {"x": x[part], "scale": scale[part] if scale.ndim else scale}
            of_part = classes.of_probabilities if self.is_dense else classes.of_labels
            operands |= of_part(targets[part])
            loss = np.empty(operands["x"].shape[:-1])
            results = (loss, *(array[part] for array in outputs))
            if self._is_long:
                self._run_in_chunks(operands, results)
            else:
                ufunc(
                    *(operands[each.name] for each in kernel.inputs),
                    out=results,
                    casting="same_kind",
                    signature=types,
                )
            if losses is None:
                sums.append(float(loss.sum()))
            else:
                losses[part] = loss

    @property
    def _is_long(self) -> bool:
        """Whether kernels of chunks run: those of labels."""
        is_softmax = isinstance(self.function._definition, SoftmaxCrossEntropyDefinition)
        return self.classes.count > LONG and is_softmax and _DENSE not in self._kernel_name

    def _run_in_chunks(
        self, operands: Mapping[str, Any], outputs: tuple[NDArray[Any], ...]
    ) -> None:
        f: Any = function_of(logsumexp)
        x, one, count = operands["x"], np.asarray(1, self.classes.inner), float(self.classes.count)
        labels = np.asarray(operands["label"])
        logits = np.take_along_axis(x, np.maximum(labels, 0)[..., None], -1)[..., 0]
        scalars = (labels, operands["weight"], operands["scale"], logits)

        def run(function: Any, key: str, *given: Any, **out: Any) -> Any:
            types = function._family.kernel(key).types(self.classes.dtype)
            return function.kernels[key](*given, **out, casting="same_kind", signature=types)

        def results_of(*given: Any) -> None:
            chunks, label, *others, top, totals, piece, into = given
            labels = label if label == IGNORED else label - np.arange(*piece)
            name, of_row = CHUNKS + self._kernel_name, (top, *totals, count)
            run(self.function, name, chunks, labels, *others, *of_row, out=tuple(into))

        run_in_chunks(
            partial(run, f, "tops"),
            lambda chunks, top: run(f, "totals_forward", chunks, one, top),
            results_of,
            [x, *(np.broadcast_to(each, x.shape[:-1]) for each in scalars)],
            outputs,
        )

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for labels, with classes along the last axis.

        It returns None unless the sum of losses is finite: at a label out of range, which may be that of a row to ignore,
        the kernel gives NaN.
        """
        classes, dtype, labels = self.classes, self.classes.dtype, self.targets
        if self.is_dense or classes.smoothing or classes.ignore_index >= 0 or self._is_long:
            return None
        if self.out is not None or not self.layout.is_last or not labels.size:
            return None
        if labels.dtype != np.intp or not are_plain([self.x], dtype):
            return None
        x_at, labels_at = positions.get(_input_of(self.function)), positions.get("targets")
        if x_at is None or labels_at is None or "dloss" in positions:  # a list, or one label
            return None
        weights_of = self._planned_weights(positions)
        if classes.weights is not None and weights_of is None:
            return None
        ufunc, is_mean = self.function.kernels[self._kernel_name], self.reduction == "mean"
        dloss = np.asarray(self.gradient.flat[0])
        count = float(labels.size) if is_mean else 1.0
        one, scale = np.asarray(1, classes.inner), np.asarray(dloss / np.float64(count))
        add, is_summed, is_single = np.add.reduce, self.reduction != "none", ufunc.nout == 1
        finish = (planned_results if is_summed else _planned_losses)(self.operation.name, dtype)

        def results_of(losses: NDArray[np.float64], others: Sequence[Any], divisor: float) -> Any:
            loss = float(add(losses, axis=None)) / divisor
            return finish(loss, others) if is_summed else finish(loss, losses, others)

        if weights_of is None:
            inputs = [Input(x_at), Input(labels_at), Input(one), Input(scale)]
            outputs = [Output(self.x.shape, dtype)] * ufunc.nout
            outputs[0] = Output(labels.shape, np.dtype(np.float64))
            first = -ufunc.nout

            def of_replay(*given: Any) -> Any:
                losses, *others = given[first:]
                return results_of(losses, others, count)

            return KernelPlan(ufunc, inputs, outputs, of_replay)

        def run(given: Sequence[Any]) -> Any:
            weight, own_scale, divisor = weights_of(given, given[labels_at]), scale, count
            if is_mean:
                divisor = float(add(weight, axis=None, dtype=np.float64))
                if not divisor:
                    return None
                own_scale = dloss / np.float64(divisor)
            results = ufunc(given[x_at], given[labels_at], weight, own_scale)
            losses, others = (results, ()) if is_single else (results[0], results[1:])
            return results_of(losses, others, divisor)

        return run

    def _planned_weights(self, positions: Mapping[str, int]) -> Callable[..., Any] | None:
        """Return a function from the values of a call and its labels to the weight of each label, or None."""
        if self.classes.weights is None or "weight" not in positions:
            return None
        at, dtype, inner = positions["weight"], self.classes.dtype, self.classes.inner

        def weights_of(given: Sequence[Any], labels: Any) -> Any:
            weights = given[at].astype(dtype, copy=False).astype(inner, copy=False)
            return weights.take(labels, mode="clip")

        return weights_of


def _input_of(function: Function) -> str:
    """Return the name of the array with the rows."""
    assert isinstance(function._definition, CrossEntropyDefinition)
    return function._definition.input


def _planned_losses(operation: str, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """Return a function from the sum of losses, the losses and further results to those of an operation.

    It returns None unless the sum is finite.
    """

    def results(total: float, losses: Any, others: Sequence[Any]) -> Any:
        if not math.isfinite(total):
            return None
        if operation == "backward":
            return others[0]
        with np.errstate(over="ignore"):
            loss = losses.astype(dtype, copy=False)
        return (loss, *others) if others else loss

    return results


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
        index = np.where(labels == self.ignore_index, IGNORED, index)
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
