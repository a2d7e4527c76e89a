"""A linear layer and the cross-entropy of its softmax, whose logits are never there all at once."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_real_array, as_returned, float_type, outputs_for
from fastact.arrays.dtypes import inner_type
from fastact.functions.cross_entropy import classes_of, softmax_cross_entropy
from fastact.functions.layer import Layer
from fastact.functions.losses import gradient_by_loss, loss_shape
from fastact.runtime.output_pool import empty, with_output_cache

# How many rows are computed at a time. BLAS is slower with few of them: (512, 768) by (50257, 768) in float32 took
# 0.51 s on 2 cores with 512 rows at a time, 2% longer with 256, 13% with 128 and 29% with 64. So there are 512 where
# their logits fit into 64 MiB, which here are 333; more only where a call would take longer than its arithmetic.
_MOST_BYTES = 2**26
_FAST_ROWS = 512
_FAST_BYTES = 2**20
_LEAST_ROWS = 64
# What is added to the gradient by the weights is made in blocks, which stay in the processor's cache:
# that took 2% longer than the product alone.
_BLOCK_BYTES = 2**22


class LinearCrossEntropy(Layer):
    """Linear layer with softmax cross-entropy: the loss of a classifier, or of a language model's last layer.

    ``loss, dx, dweight = fa.linear_cross_entropy.forward_backward(x, weight, labels)`` gives what
    ``fa.softmax_cross_entropy`` does of ``x @ weight.T``, and the gradients. It takes rows in chunks, so that neither
    all logits nor their gradients are ever stored.

    Notes
    -----
    With ``logits = x @ weight.T + bias``, and `dlogits` the gradient by them: ``dx = dlogits @ weight``,
    ``dweight = dlogits.T @ x``, and `dbias` is the sum of `dlogits` over all rows. The products are those of
    `numpy.matmul`, in the type that the arrays have together; float16 and bfloat16 are computed in float32, with
    copies of the weights and of the gradients. Beside them and the results, a call takes at most 64 MiB for the
    logits of a chunk, unless 64 rows take more, and 4 MiB for a block of `dweight`: for (8192, 768) by (50257, 768) in
    float32, 72 MB where all logits are 1.65 GB. BLAS has memory of its own.

    Results depend on the chunk, which is chosen from the shapes alone, and not on fastact's threads. Whether the
    threads of BLAS change the last bits is up to BLAS. A row that is ignored has no gradient, but what is not
    finite in it spoils `dweight`, as in PyTorch.
    """

    def __call__(
        self,
        x: Any,
        weight: Any,
        targets: Any,
        /,
        *,
        bias: Any = None,
        class_weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        chunk: int | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the loss.

        Parameters
        ----------
        x : array_like
            Of shape ``(..., features)``; a real type.
        weight : array_like
            The weights of the layer, of shape ``(classes, features)``.
        targets : array_like
            Labels: integers of shape ``(...)``, from 0 to the number of classes less one. Or what share each class
            has, of shape ``(..., classes)``.
        bias : array_like, optional
            What is added to the logits, of shape ``(classes,)``.
        class_weight : array_like, optional
            A weight for each class.
        ignore_index : int, default -100
            Rows with this label add nothing, and have no gradient.
        label_smoothing : float, default 0
            What part of the shares is spread over all classes, from 0 to 1.
        reduction : {"mean", "sum", "none"}, default "mean"
            The mean divides by the sum of the weights of the labels that are not ignored, in all chunks, or with
            shares by the number of rows, as in PyTorch. It is NaN where there is none, and gradients then 0.
        chunk : int, optional
            How many rows are computed at a time. By default as many as BLAS is fast with, if their logits take at
            most 64 MiB.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        scalar or ndarray
            The loss; without a reduction, of shape ``(...)``.

        Raises
        ------
        TypeError
            If an input is not real, labels are no integers, or `chunk` is no integer.
        ValueError
            If a label is out of range (the message gives its position), shapes do not fit together, or an option is
            none of the above. Nothing is written then.
        """
        return self._run(
            "forward",
            x,
            weight,
            targets,
            1.0,
            bias,
            class_weight,
            ignore_index,
            label_smoothing,
            reduction,
            chunk,
            out,
        )

    def forward_backward(
        self,
        x: Any,
        weight: Any,
        targets: Any,
        dloss: Any = 1.0,
        /,
        *,
        bias: Any = None,
        class_weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        chunk: int | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the loss and all gradients; arguments as for a call.

        Parameters
        ----------
        dloss : array_like, default 1
            The gradient by the loss; without a reduction, it broadcasts with it.
        out : tuple of ndarray or None, optional
            Where the results go.

        Returns
        -------
        loss, dx, dweight
            As of a call, and of the shapes of `x` and `weight`. With `bias`, ``loss, dx, dweight, dbias``.
        """
        return self._run(
            "forward_backward",
            x,
            weight,
            targets,
            dloss,
            bias,
            class_weight,
            ignore_index,
            label_smoothing,
            reduction,
            chunk,
            out,
        )

    def backward(
        self,
        dloss: Any,
        x: Any,
        weight: Any,
        targets: Any,
        /,
        *,
        bias: Any = None,
        class_weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        chunk: int | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the gradients alone: ``dx, dweight``, and with `bias`, `dbias`; see `forward_backward`."""
        return self._run(
            "backward",
            x,
            weight,
            targets,
            dloss,
            bias,
            class_weight,
            ignore_index,
            label_smoothing,
            reduction,
            chunk,
            out,
        )

    def _run(
        self,
        operation: str,
        x: Any,
        weight: Any,
        targets: Any,
        dloss: Any,
        bias: Any,
        class_weight: Any,
        ignore_index: int,
        label_smoothing: Any,
        reduction: str,
        chunk: Any,
        out: Any,
    ) -> Any:
        where = self._where(operation)
        given = {"x": x, "weight": weight} | ({} if bias is None else {"bias": bias})
        arrays = {name: as_real_array(where, name, value) for name, value in given.items()}
        _check_shapes(where, arrays)
        dtype = float_type(tuple(given.values()), list(arrays.values()))
        inner = inner_type(dtype)
        rows, count = arrays["x"].shape[:-1], len(arrays["weight"])
        classes = classes_of(
            where, count, inner, class_weight, ignore_index, label_smoothing, "class_weight"
        )
        checked, is_dense = classes.check_targets(where, targets, rows, (*rows, count))
        of_loss = loss_shape(where, reduction, rows)
        gradient = gradient_by_loss(where, dloss, of_loss)
        step = _rows_at_a_time(where, chunk, count * inner.itemsize)

        shapes = {"loss": of_loss} | {f"d{name}": array.shape for name, array in arrays.items()}
        names = {"forward": ["loss"], "backward": list(shapes)[1:]}.get(operation, list(shapes))
        outputs = outputs_for(
            where, out, tuple(shapes[name] for name in names), (dtype,) * len(names)
        )
        arrays = _apart_from(outputs, arrays | {"targets": checked})
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
        results = dict(zip(names, outputs, strict=True))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            losses = with_output_cache(_compute, problem, step, results)
            if "loss" in results:
                results["loss"][...] = (
                    losses.reshape(rows) if reduction == "none" else losses.sum() / divisor
                )
        return as_returned(outputs, out)


def _apart_from(
    outputs: tuple[NDArray[Any], ...], arrays: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return arrays, with copies of those over which results will be written while they are still read."""
    return {
        name: array.copy()
        if any(np.may_share_memory(array, output) for output in outputs)
        else array
        for name, array in arrays.items()
    }


@dataclass(frozen=True)
class _Problem:
    """What is computed, as matrices and vectors.

    Attributes
    ----------
    x : ndarray of shape (rows, features)
        Of any real type.
    weight : ndarray of shape (classes, features)
        In the type that is computed in.
    bias : ndarray of shape (classes,) or None
        What is added to the logits.
    targets : ndarray of shape (rows,) or (rows, classes)
        Labels, or shares of the classes.
    scale : ndarray of shape (rows,)
        What the gradient of each row is multiplied by.
    options : dict
        Those of the cross-entropy of a chunk.
    """

    x: NDArray[Any]
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    targets: NDArray[Any]
    scale: NDArray[Any]
    options: dict[str, Any]


def _compute(problem: _Problem, step: int, results: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the loss of each row in float64, and write those gradients that are among the results."""
    x, weight = problem.x, problem.weight
    shapes = {"dx": x.shape, "dweight": weight.shape, "dbias": weight.shape[:1]}
    gradients = {
        name: _for_products(results[name], shape, weight.dtype)
        for name, shape in shapes.items()
        if name in results
    }
    losses = np.empty(len(x))
    memory = empty((min(step, len(x)), len(weight)), weight.dtype)
    # At least one chunk: products over no rows are 0.
    for first in range(0, max(1, len(x)), step):
        rows = slice(first, first + step)
        part = np.asarray(x[rows], weight.dtype, order="A")
        logits = np.matmul(part, weight.T, out=memory[: len(part)])
        if problem.bias is not None:
            logits += problem.bias
        if not gradients:
            softmax_cross_entropy(
                logits, problem.targets[rows], out=losses[rows], **problem.options
            )
            continue
        dlogits = logits
        softmax_cross_entropy.forward_backward(
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
    """Add a product to what there is, or write the first one."""
    if is_first:
        np.matmul(left, right, out=total)
        return
    rows = max(_LEAST_ROWS, _BLOCK_BYTES // max(1, total[:1].nbytes))
    memory = empty((min(rows, len(total)), *total.shape[1:]), total.dtype)
    for first in range(0, len(total), rows):
        block = total[first : first + rows]
        block += np.matmul(left[first : first + rows], right, out=memory[: len(block)])


def _for_products(
    result: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return memory that BLAS can write to: that of the result if possible."""
    if result.dtype == dtype and result.flags.c_contiguous:
        return result.reshape(shape)
    return empty(shape, dtype)


def _rows_at_a_time(where: str, chunk: Any, row_bytes: int) -> int:
    """Return the length of a chunk, or raise an error if what was given is none."""
    if chunk is None:
        row_bytes = max(1, row_bytes)
        fast = max(_FAST_ROWS, _FAST_BYTES // row_bytes)
        return max(_LEAST_ROWS, min(fast, _MOST_BYTES // row_bytes))
    try:
        rows = operator.index(chunk)
    except TypeError:
        raise TypeError(f"{where}: chunk must be an integer, got {chunk!r}") from None
    if rows < 1:
        raise ValueError(f"{where}: chunk must be at least 1, got {chunk}")
    return rows


def _check_shapes(where: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Raise an error that names the array whose shape does not fit."""
    x, weight = arrays["x"], arrays["weight"]
    if not x.ndim:
        raise ValueError(f"{where}: x has shape (), expected is (..., features)")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(
            f"{where}: weight has shape {weight.shape}, expected is (classes, {x.shape[-1]}) for x of "
            f"shape {x.shape}"
        )
    if "bias" in arrays and arrays["bias"].shape != weight.shape[:1]:
        raise ValueError(
            f"{where}: bias has shape {arrays['bias'].shape}, expected is {weight.shape[:1]}"
        )


linear_cross_entropy = LinearCrossEntropy("linear_cross_entropy")
