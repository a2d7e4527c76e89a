"""The cross-entropy of a sigmoid, and its gradient by the logits in the same pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastact.arrays.arguments import as_real_array, as_returned, float_type, outputs_for
from fastact.arrays.channels import channel_axis, run_on_channels
from fastact.arrays.dtypes import inner_type, parameters_in
from fastact.functions.layer import Layer
from fastact.functions.losses import gradient_by_loss, loss_shape
from fastact.simd import select
from fastact.vecmath.logarithm import softplus_and_derivative

if TYPE_CHECKING:
    from fastact.runtime.loading import LoopFunction

_INPUTS = ("x", "targets", "pos_weight", "scale")


def _loss_and_gradient(x: Any, targets: Any, pos_weight: Any) -> Any:
    # Of -|x|, neither softplus nor logistic function have cancellation; those of |x| follow.
    softplus, logistic = softplus_and_derivative(-abs(x))
    is_positive = x > 0
    of_zero = select(is_positive, x + softplus, softplus)
    of_one = select(is_positive, softplus, softplus - x)
    complement = 1 - logistic
    others, positives = 1 - targets, pos_weight * targets
    # A loss may be infinite for a target that has no share.
    loss = select(others == 0, 0, others * of_zero) + select(positives == 0, 0, positives * of_one)
    gradient = others * select(is_positive, complement, logistic) - positives * select(
        is_positive, logistic, complement
    )
    return loss, gradient


class _Operation(NamedTuple):
    """One of the ufuncs: whether it has the gradient too, and whether losses are summed."""

    has_gradient: bool
    is_summed: bool

    @property
    def outputs(self) -> tuple[str, ...]:
        """The results that have the logits' shape."""
        losses = () if self.is_summed else ("loss",)
        return (*losses, "dx") if self.has_gradient else losses

    @property
    def compute(self) -> Callable[..., Any]:
        """What it computes of vectors: what is summed comes last."""
        if not self.has_gradient:
            return lambda x, targets, pos_weight, scale: (
                _loss_and_gradient(x, targets, pos_weight)[0],
            )

        def both(x: Any, targets: Any, pos_weight: Any, scale: Any) -> Any:
            loss, gradient = _loss_and_gradient(x, targets, pos_weight)
            return loss, gradient * scale

        def reverse(x: Any, targets: Any, pos_weight: Any, scale: Any) -> Any:
            loss, gradient = _loss_and_gradient(x, targets, pos_weight)
            return gradient * scale, loss

        return reverse if self.is_summed else both


_OPERATIONS = {
    "forward": _Operation(has_gradient=False, is_summed=False),
    "forward_backward": _Operation(has_gradient=True, is_summed=False),
    "summed_forward": _Operation(has_gradient=False, is_summed=True),
    "summed_forward_backward": _Operation(has_gradient=True, is_summed=True),
}


class SigmoidBinaryCrossEntropy(Layer):
    """Sigmoid binary cross-entropy: how far logits are from yes or no, or from a probability between.

    ``loss, dlogits = fa.sigmoid_binary_cross_entropy.forward_backward(logits, targets)`` gives the loss and its
    gradient in one pass over the logits; `dlogits` may overwrite them.

    Notes
    -----
    With targets `z` and the positive weight `w`, ``loss = w * z * softplus(-x) + (1 - z) * softplus(x)`` and
    ``dx = (1 - z) * sigmoid(x) - w * z * sigmoid(-x)``: what PyTorch's ``binary_cross_entropy_with_logits`` computes.

    Errors: losses and gradients are within 4 units in the last place of float32, at the scale of the terms that
    they are sums of. A loss near 0 keeps its digits. A target of 0 or 1 takes nothing from the other term, not
    even where the logit is infinite, which gives NaN in PyTorch. Results do not depend on the number of threads:
    losses are summed in float64 over blocks that depend on the shape alone.
    """

    formula = r"-w z \ln \sigma(x) - (1 - z) \ln \sigma(-x)"

    def __init__(self, name: str) -> None:
        super().__init__(name, tuple(_OPERATIONS), self._make)

    def __call__(
        self,
        logits: Any,
        targets: Any,
        /,
        *,
        pos_weight: Any = None,
        axis: int = -1,
        reduction: str = "mean",
        out: Any = None,
    ) -> Any:
        """Compute the loss.

        Parameters
        ----------
        logits : array_like
            Of any shape; a real type.
        targets : array_like
            Of the shape of `logits`: 0 or 1, or a probability between. Computed in the type of the logits.
        pos_weight : float or array_like, optional
            What the losses of positive targets are multiplied by: one number, or one for each class along `axis`.
        axis : int, default -1
            The axis of the classes, for `pos_weight`.
        reduction : {"mean", "sum", "none"}, default "mean"
            The mean divides by the number of elements; of none it is NaN.
        out : ndarray, optional
            Where the result goes.

        Returns
        -------
        scalar or ndarray
            Of the type of the logits; without a reduction, of their shape.

        Raises
        ------
        TypeError
            If an input is not real.
        ValueError
            If shapes do not fit together, the reduction is none of the above, or `out` does not fit.
        """
        given = out if isinstance(out, tuple) else (out,)
        return self._run("forward", logits, targets, 1.0, pos_weight, axis, reduction, given)

    def forward_backward(
        self,
        logits: Any,
        targets: Any,
        dloss: Any = 1.0,
        /,
        *,
        pos_weight: Any = None,
        axis: int = -1,
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
        given = out if isinstance(out, tuple) else (out, None)
        return self._run(
            "forward_backward", logits, targets, dloss, pos_weight, axis, reduction, given
        )

    def backward(
        self,
        dloss: Any,
        logits: Any,
        targets: Any,
        /,
        *,
        pos_weight: Any = None,
        axis: int = -1,
        reduction: str = "mean",
        out: Any = None,
    ) -> Any:
        """Compute the gradient by the logits alone; see `forward_backward`."""
        given = (None, *(out if isinstance(out, tuple) else (out,)))
        return self._run("backward", logits, targets, dloss, pos_weight, axis, reduction, given)[1]

    def _run(
        self,
        operation: str,
        logits: Any,
        targets: Any,
        dloss: Any,
        pos_weight: Any,
        axis: Any,
        reduction: Any,
        out: tuple[Any, ...],
    ) -> Any:
        where = self._where(operation)
        x, given = (
            as_real_array(where, name, value)
            for name, value in (("logits", logits), ("targets", targets))
        )
        if given.shape != x.shape:
            raise ValueError(f"{where}: targets has shape {given.shape}, logits has {x.shape}")
        dtype = float_type((logits,), [x])
        inner = inner_type(dtype)
        weight = as_real_array(where, "pos_weight", 1.0 if pos_weight is None else pos_weight)
        found_axis = channel_axis(where, "pos_weight", x, weight, axis)
        shape = loss_shape(where, reduction, x.shape)
        gradient = gradient_by_loss(where, dloss, shape)
        divisor = np.float64(x.size if reduction == "mean" else 1)
        results = outputs_for(where, out, (shape, x.shape)[: len(out)], (dtype,) * len(out))
        is_summed = reduction != "none"
        name = "forward" if operation == "forward" else "forward_backward"
        sums = np.empty(weight.shape) if is_summed else None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            run_on_channels(
                self.ufuncs[f"summed_{name}" if is_summed else name],
                (x, given),
                (
                    np.require(weight, inner, ["C", "A"]),
                    np.asarray(gradient / divisor if is_summed else 1, inner),
                ),
                results[1:] if is_summed else results,
                sums,
                found_axis,
                dtype,
            )
            if sums is not None:
                results[0][...] = sums.sum() / divisor
            elif len(results) > 1 and not np.all(np.asarray(dloss) == 1):
                np.multiply(results[1], gradient, out=results[1], casting="same_kind")
        return as_returned(results, out)

    def _make(self, name: str) -> np.ufunc:
        operation = _OPERATIONS[name]
        sums = ["sum"] if operation.is_summed else []
        outputs = ",".join(["(n,c,s)"] * len(operation.outputs) + ["(c)"] * len(sums))
        return self._ufunc(
            name,
            _INPUTS,
            (*operation.outputs, *sums),
            partial(_build, operation),
            f"(n,c,s),(n,c,s),(c),()->{outputs}",
            lambda dtype: [*_operand_types(operation, dtype), *["float64" for _ in sums]],
        )


def _operand_types(operation: _Operation, dtype: str) -> list[str]:
    return [dtype, dtype, *[parameters_in(dtype)] * 2, *[dtype] * len(operation.outputs)]


def _build(operation: _Operation, dtype: str) -> LoopFunction:
    from fastact import kernels
    from fastact.simd.operands import Operands
    from fastact.simd.storage import Storage

    storages = tuple(map(Storage, _operand_types(operation, dtype)))
    operands = Operands(storages, arrays=2, parameters=2)
    return kernels.channel_sums(operation.compute, operands, operation.is_summed)


sigmoid_binary_cross_entropy = SigmoidBinaryCrossEntropy("sigmoid_binary_cross_entropy")
