"""Eager calls on the tape of PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fastact.backends._tape import TapedGradient
from fastact.backends._torch_tensors import as_array, as_tensor
from fastact.functions.vjp import Vjp


class Plain(NamedTuple):
    """What calls of a function with one array and without options have in common."""

    function: Any
    is_diagonal: bool
    gradient: TapedGradient
    is_of_output: bool


class _Refused(torch.autograd.Function):
    """Gradients that cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, name: str, *gradients: Any) -> Any:
        ctx.name = name
        return gradients

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError(f"{ctx.name}: there is no derivative of its gradient")


class PlainCall(torch.autograd.Function):
    """A call of one array without options: `TapeCall` for nets of small layers, where the way there takes the time."""

    @staticmethod
    def forward(ctx: Any, plain: Plain, x: torch.Tensor) -> Any:
        array = as_array(x)
        y, vjp = plain.function.vjp(array)
        output = as_tensor(y)
        kept = [x if a is array else output if a is y else as_tensor(a) for a in vjp.saved]
        ctx.save_for_backward(output if plain.is_of_output else x, *kept)
        ctx.plain, ctx.recipe, ctx.options = plain, vjp._recipe, vjp.options
        return output

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> Any:
        again, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *TapeCall.apply(ctx.plain.gradient, dy, again)
        vjp = Vjp(ctx.recipe, tuple([as_array(each) for each in kept]), ctx.options)
        return None, as_tensor(vjp(as_array(dy)))


class TapeCall(torch.autograd.Function):
    """A call. Its backward pass is a call on the tape too where it is to be differentiated."""

    @staticmethod
    def forward(ctx: Any, taped: Any, *tensors: Any) -> Any:
        arrays = tuple(map(as_array, tensors))
        results, pullback = taped.vjp(*arrays)
        # What is an input or a result is saved as such, so that PyTorch notices if it is modified.
        known = {id(each): tensor for each, tensor in zip(arrays, tensors, strict=True)}
        outputs = _as_tensors(results, known)
        known |= {id(each): tensor for each, tensor in zip(results, outputs, strict=True)}
        kept = _as_tensors(pullback.saved, known)
        options = [known[id(each)] for each in pullback.options.values() if id(each) in known]
        again: list[Any] = []
        ctx.gradient = None
        if taped.has_second_order:
            of_output = taped.gradient_of_output
            ctx.gradient, again = (
                (of_output, outputs) if of_output else (taped.gradient, list(tensors))
            )
        ctx.save_for_backward(*again, *kept, *options)
        ctx.name, ctx.pullback, pullback.saved = taped.name, pullback, ()
        ctx.counts = len(again), len(again) + len(kept)
        ctx.mark_non_differentiable(*outputs[pullback.count :])
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        saved, (first, last) = ctx.saved_tensors, ctx.counts
        gradients = gradients[: ctx.pullback.count]
        if torch.is_grad_enabled() and ctx.gradient is not None:
            return None, *TapeCall.apply(ctx.gradient, *gradients, *saved[:first])
        with torch.no_grad():
            arrays = tuple(map(as_array, gradients))
            kept = tuple([None if each is None else as_array(each) for each in saved[first:last]])
            known = {id(each): tensor for each, tensor in zip(arrays, gradients, strict=True)}
            found = _as_tensors(ctx.pullback(*arrays, saved=kept), known)
        if not torch.is_grad_enabled():
            return None, *found
        there = [each.detach().requires_grad_() for each in found if each is not None]
        refused = iter(_Refused.apply(ctx.name, *there))
        return None, *(None if each is None else next(refused) for each in found)


def _as_tensors(arrays: Sequence[Any], known: Mapping[int, torch.Tensor]) -> list[Any]:
    """Return arrays as tensors, those that are known as they are."""
    return [
        None if each is None else known[id(each)] if id(each) in known else as_tensor(each)
        for each in arrays
    ]
