"""A linear layer fused with softmax cross-entropy, which never stores all logits at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_integer,
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
)
from fastact.arrays.plans import Call, Plan, are_plain
from fastact.catalogue.definition import CompositeDefinition
from fastact.catalogue.losses import softmax_cross_entropy
from fastact.functions.cross_entropy import (
    IGNORE_INDEX,
    LABEL_SMOOTHING,
    MEAN,
    WEIGHT,
    classes_of,
)
from fastact.functions.function import Function, function_of
from fastact.functions.losses import gradient_by_loss, loss_family, loss_outputs, loss_shape
from fastact.functions.operation import Family, Operation
from fastact.functions.options import OUT, Argument, array
from fastact.runtime.dtypes import inner_type
from fastact.runtime.output_pool import empty, with_output_pool

# Limits on the rows of a chunk. BLAS is slower with few rows: (512, 768) by (50257, 768) in float32 took 0.51 s on 2
# cores with chunks of 512 rows, 2% longer with 256, 13% with 128 and 29% with 64. So a chunk has 512 rows if their logits
# fit into 64 MiB (333 rows here), and more only if call overhead would otherwise exceed the arithmetic.
_MAX_BYTES = 2**26
_FAST_ROWS = 512
_FAST_BYTES = 2**20
_MIN_ROWS = 64
# Products are added to the gradient of the weights in blocks that stay in the processor's cache, which takes 2% longer
# than the product alone.
_BLOCK_BYTES = 2**22


_ARRAYS = (
    array("x", "The input, of shape ``(..., features)`` and a real dtype."),
    array("weight", "The weight matrix of the layer, of shape ``(classes, features)``."),
    array(
        "targets",
        "Labels: integers from 0 to the number of classes minus one, of shape ``(...)``. Or class probabilities, of "
        "shape ``(..., classes)``.",
        "array_like of int, or array_like",
        is_differentiable=False,
    ),
)
_OPTIONS = (
    Argument(
        "bias",
        "array_like, optional",
        "The bias of the layer, of shape ``(classes,)``.",
        annotation="ArrayLike | None",
        is_differentiable=True,
    ),
    Argument("class_weight", WEIGHT.kind, WEIGHT.text, annotation=WEIGHT.annotation),
    IGNORE_INDEX,
    LABEL_SMOOTHING,
    MEAN,
    Argument(
        "chunk",
        "int, optional",
        "The number of rows computed at a time. By default enough for BLAS to be fast, as long as their logits take at "
        "most 64 MiB.",
        annotation="int | None",
    ),
    OUT,
)
_GRADIENTS = {
    "dx": "The gradient with respect to `x`, with its shape.",
    "dweight": "The gradient with respect to `weight`, with its shape.",
    "dbias": "Only with `bias`: its gradient, with its shape.",
}
_EXAMPLES = {
    "vjp": """\
>>> x, z = np.eye(2), np.array([1, 0])
>>> w = np.log([[1.0, 4.0], [3.0, 1.0]])
>>> loss, vjp = {f}.vjp(x, w, z)
>>> dx, dw = vjp()
>>> dw
array([[ 0.125, -0.1  ],
       [-0.125,  0.1  ]])""",
    "backward": """\
>>> x, labels = np.eye(2), np.array([1, 0])
>>> w = np.log([[1.0, 4.0], [3.0, 1.0]])
>>> dx, dw = {f}.backward(2.0, x, w, labels)
>>> dw
array([[ 0.25, -0.2 ],
       [-0.25,  0.2 ]])""",
    "forward_backward": """\
>>> x, z = np.eye(2), np.array([1, 0])
>>> w = np.log([[1.0, 4.0], [3.0, 1.0]])
>>> loss, dx, dw = {f}.forward_backward(x, w, z)
>>> print(f"{{loss:.6f}}")
0.255413
>>> dw
array([[ 0.125, -0.1  ],
       [-0.125,  0.1  ]])""",
}


def family(definition: CompositeDefinition) -> Family:
    """Return the family of a definition."""

    def no_kernel(name: str) -> Any:
        raise KeyError(name)

    return loss_family(_ARRAYS, _OPTIONS, _GRADIENTS, LinearCall, _EXAMPLES, (), no_kernel)


@dataclass(eq=False, repr=False)
class LinearCall(Call):
    """A call whose arguments are not checked yet.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    inputs : tuple
        Its arrays.
    options : dict
        Its options.
    """

    function: Function
    operation: Operation
    inputs: tuple[Any, ...]
    options: dict[str, Any]

    def __call__(self) -> Any:
        """Make the call and return the results."""
        return _run(self.function, self.operation, self.inputs, self.options)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for the mean loss of few labels, with its gradients."""
        options = {name for name, value in self.options.items() if value is not None}
        names = ("x", "weight", "targets")
        if self.operation.name != "forward_backward" or not options <= {"bias"}:
            return None
        if not {*names} <= positions.keys() or "dloss" in positions:
            return None
        x, weight, targets, *dloss = self.inputs
        arrays = [x, weight, self.options["bias"]] if options else [x, weight]
        if any(each != 1.0 for each in dloss) or not are_plain(arrays, x.dtype):
            return None
        if x.ndim != 2 or targets.ndim != 1 or inner_type(x.dtype) is not x.dtype:
            return None
        if len(x) > _rows_at_a_time("", None, weight[:, 0].nbytes):
            return None
        x_at, weight_at, targets_at = (positions[name] for name in names)
        bias_at = positions.get("bias")
        cross_entropy: Any = function_of(softmax_cross_entropy)
        ones = np.ones(len(x), x.dtype)

        def run(given: Sequence[Any]) -> Any:
            x, weight = given[x_at], given[weight_at]
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                logits = np.matmul(x, weight.T)
                if bias_at is not None:
                    logits += given[bias_at]
                try:
                    loss, dlogits = cross_entropy.forward_backward(logits, given[targets_at])
                except (TypeError, ValueError):
                    return None  # the error is raised in the name of this function
                gradients = [np.matmul(dlogits, weight), np.matmul(dlogits.T, x)]
                if bias_at is not None:
                    gradients.append(np.matmul(dlogits.T, ones))
            return loss, *gradients

        return run


def _run(
    function: Function, operation: Operation, inputs: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    caller = function.caller(operation.name)
    values = dict(zip(operation.inputs, inputs, strict=True))
    bias, class_weight = options.get("bias"), options.get("class_weight")
    ignore_index = options.get("ignore_index", -100)
    label_smoothing = options.get("label_smoothing", 0.0)
    reduction, out = options.get("reduction", "mean"), options.get("out")
    given = {"x": values["x"], "weight": values["weight"]} | (
        {} if bias is None else {"bias": bias}
    )
    arrays = {name: as_real_array(caller, name, value) for name, value in given.items()}
    _check_shapes(caller, arrays)
    dtype = float_type(tuple(given.values()), list(arrays.values()))
    inner = inner_type(dtype)
    rows, count = arrays["x"].shape[:-1], len(arrays["weight"])
    classes = classes_of(
        caller, count, inner, class_weight, ignore_index, label_smoothing, "class_weight"
    )
    checked, is_dense = classes.check_targets(caller, values["targets"], rows, (*rows, count))
    of_loss = loss_shape(caller, reduction, rows)
    gradient = gradient_by_loss(caller, values.get("dloss", 1.0), of_loss)
    step = _rows_at_a_time(caller, options.get("chunk"), count * inner.itemsize)

    shapes = {"loss": of_loss} | {f"d{name}": array.shape for name, array in arrays.items()}
    results = loss_outputs(operation.name, caller, out, shapes, dtype)
    outputs = tuple(results.values())
    arrays["targets"] = checked
    copies = copy_overlapping(list(arrays.values()), outputs, in_place=False)
    arrays = dict(zip(arrays, copies, strict=True))
    total = math.prod(rows)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        divisor = classes.divisor(checked, is_dense, rows) if reduction == "mean" else 1.0
        scale = np.broadcast_to(gradient / np.float64(divisor), rows)
    problem = _Problem(
        arrays["x"].reshape(total, arrays["x"].shape[-1]),
        np.asarray(arrays["weight"], inner, order="A"),  # BLAS takes both orders
        arrays.get("bias"),
        arrays["targets"].reshape(total, *checked.shape[len(rows) :]),
        scale.reshape(total),
        {
            "weight": classes.weights,
            "ignore_index": classes.ignore_index,
            "label_smoothing": classes.smoothing,
            "reduction": "none",
        },
    )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        losses = with_output_pool(_compute, problem, step, results)
        if "loss" in results:
            results["loss"][...] = (
                losses.reshape(rows) if reduction == "none" else losses.sum() / divisor
            )
    return as_returned(outputs, out)


@dataclass(frozen=True)
class _Problem:
    """The arguments of a call, as matrices and vectors.

    Attributes
    ----------
    x : ndarray of shape (rows, features)
        The input, of any real dtype.
    weight : ndarray of shape (classes, features)
        The weights, in the dtype of the computation.
    bias : ndarray of shape (classes,) or None
        The bias.
    targets : ndarray of shape (rows,) or (rows, classes)
        Labels, or class probabilities.
    scale : ndarray of shape (rows,)
        The factor of the gradient of each row.
    options : dict
        The options of the cross-entropy of a chunk.
    """

    x: NDArray[Any]
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    targets: NDArray[Any]
    scale: NDArray[Any]
    options: dict[str, Any]


def _compute(problem: _Problem, step: int, results: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the loss of each row in float64, and write the gradients that are among the results."""
    x, weight = problem.x, problem.weight
    shapes = {"dx": x.shape, "dweight": weight.shape, "dbias": weight.shape[:1]}
    gradients = {
        name: _for_products(results[name], shape, weight.dtype)
        for name, shape in shapes.items()
        if name in results
    }
    cross_entropy: Any = function_of(softmax_cross_entropy)
    losses = np.empty(len(x))
    memory = empty((min(step, len(x)), len(weight)), weight.dtype)
    # At least one chunk: without rows, the products are 0.
    for first in range(0, max(1, len(x)), step):
        rows = slice(first, first + step)
        part = np.asarray(x[rows], weight.dtype, order="A")
        logits = np.matmul(part, weight.T, out=memory[: len(part)])
        if problem.bias is not None:
            logits += problem.bias
        if not gradients:
            cross_entropy(logits, problem.targets[rows], out=losses[rows], **problem.options)
            continue
        dlogits = logits
        cross_entropy.forward_backward(
            logits,
            problem.targets[rows],
            problem.scale[rows],
            out=(losses[rows], dlogits),
            **problem.options,
        )
        np.matmul(dlogits, weight, out=gradients["dx"][rows])
        _add_product(gradients["dweight"], dlogits.T, part, is_first=first == 0)
        if problem.bias is not None:
            ones = np.ones(len(part), weight.dtype)
            _add_product(gradients["dbias"], dlogits.T, ones, is_first=first == 0)
    for name, gradient in gradients.items():
        if not np.may_share_memory(gradient, results[name]):
            results[name][...] = gradient.reshape(results[name].shape)
    return losses


def _add_product(
    total: NDArray[Any], left: NDArray[Any], right: NDArray[Any], is_first: bool
) -> None:
    """Add a product to the total, or store the first one."""
    if is_first:
        np.matmul(left, right, out=total)
        return
    rows = max(_MIN_ROWS, _BLOCK_BYTES // max(1, total[:1].nbytes))
    memory = empty((min(rows, len(total)), *total.shape[1:]), total.dtype)
    for first in range(0, len(total), rows):
        block = total[first : first + rows]
        block += np.matmul(left[first : first + rows], right, out=memory[: len(block)])


def _for_products(
    result: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return an array that BLAS can write to: the result itself if possible."""
    if result.dtype == dtype and result.flags.c_contiguous:
        return result.reshape(shape)
    return empty(shape, dtype)


def _rows_at_a_time(caller: str, chunk: Any, row_bytes: int) -> int:
    """Return the number of rows of a chunk, or raise an error if `chunk` is invalid."""
    if chunk is None:
        row_bytes = max(1, row_bytes)
        fast = max(_FAST_ROWS, _FAST_BYTES // row_bytes)
        return max(_MIN_ROWS, min(fast, _MAX_BYTES // row_bytes))
    rows = as_integer(caller, "chunk", chunk)
    if rows < 1:
        raise ValueError(f"{caller}: chunk must be at least 1, got {chunk}")
    return rows


def _check_shapes(caller: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Raise an error that names the array whose shape does not match."""
    x, weight = arrays["x"], arrays["weight"]
    if not x.ndim:
        raise ValueError(f"{caller}: x has shape (), expected (..., features)")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(
            f"{caller}: weight has shape {weight.shape}, expected (classes, {x.shape[-1]}) for x of "
            f"shape {x.shape}"
        )
    if "bias" in arrays and arrays["bias"].shape != weight.shape[:1]:
        raise ValueError(
            f"{caller}: bias has shape {arrays['bias'].shape}, expected {weight.shape[:1]}"
        )
