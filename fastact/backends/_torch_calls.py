"""Eager calls on PyTorch's tensors, recorded by one `torch.autograd.Function`.

That costs half of what an operator of `torch.library` does: 41 us instead of 79 for the passes of 32 x 100 elements.
Compilers and transforms of functions see neither arrays nor kernels, and get `fastact.backends._torch_operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fastact.backends._tape import TapedCall, TapedGradient
from fastact.backends._torch_operators import operators_of
from fastact.backends._torch_tensors import (
    arrays_in,
    as_array,
    as_results,
    as_tensor,
    check,
    draws,
    seed_of,
)
from fastact.functions.function import Function
from fastact.functions.options import OUT, RNG
from fastact.functions.vjp import Vjp

_transforms_are_active = torch._C._are_functorch_transforms_active
_count_modes = torch._C._len_torch_dispatch_stack
_is_tracing = torch._C._is_tracing
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})


class _Plain(NamedTuple):
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


class _PlainCall(torch.autograd.Function):
    """A call of one array without options: `_Call` for nets of small layers, where the way there takes the time."""

    @staticmethod
    def forward(ctx: Any, plain: _Plain, x: torch.Tensor) -> Any:
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
            return None, *_Call.apply(ctx.plain.gradient, dy, again)
        vjp = Vjp(ctx.recipe, tuple([as_array(each) for each in kept]), ctx.options)
        return None, as_tensor(vjp(as_array(dy)))


class _Call(torch.autograd.Function):
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
            return None, *_Call.apply(ctx.gradient, *gradients, *saved[:first])
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


def adapt(function: Function) -> Callable[..., Any]:
    """Return a function as one of PyTorch's tensors.

    Parameters
    ----------
    function : Function
        A function of fastact, such as ``fa.get("elu", alpha=0.5)``, or one of your own, made by ``fa.activation`` or
        ``fa.elementwise``.

    Returns
    -------
    callable
        It takes what the function takes, and tensors in place of arrays. Random numbers come from PyTorch's generator
        unless ``rng=`` is given.
    """
    if not isinstance(function, Function):
        raise TypeError(f"wrap takes a function of fastact, got {function!r}")
    operators, plain, bound = operators_of(function), _plain_of(function), function._bound

    def call(*args: Any, **options: Any) -> Any:
        if not (args and isinstance(args[0], torch.Tensor)):
            raise TypeError(f"{function.name}: the first argument must be a tensor")
        own = plain if len(args) == 1 and not options else None
        tensors = (
            args
            if own is not None
            else [e for e in (*args, *options.values()) if isinstance(e, torch.Tensor)]
        )
        if torch.compiler.is_compiling() or _is_special(tensors):
            return operators(args, options, bound)
        check(function.name, tensors)
        return _eager(function, args, options) if own is None else _eager_plain(own, *args)

    call.__name__, call.__doc__ = function.name, function.__doc__
    return call


def _is_special(tensors: Sequence[Any]) -> bool:
    """Tell whether tensors are other than arrays, or a mode or a transform looks at what is called."""
    if _transforms_are_active() or _count_modes() or _is_tracing():
        return True
    return any(type(each) not in _PLAIN or each.is_meta for each in tensors)


def _plain_of(function: Function) -> _Plain | None:
    """Return what plain calls share, if they draw nothing and can be differentiated twice."""
    if draws(function, ()):
        return None
    call = TapedCall(function, (0.0,), {})
    if not call.has_second_order:
        return None
    of_output = call.gradient_of_output
    return _Plain(function, call.is_diagonal, of_output or call.gradient, of_output is not None)


def _eager(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Make a call on ordinary tensors."""

    def is_recorded(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled()

    options = _with_seed(function, options)
    out = options.pop(OUT.name, None)
    if out is not None:
        if any(map(is_recorded, (*args, *options.values()))):
            raise TypeError(
                f"{function.name}: out takes no gradient; leave it out, or call in torch.no_grad()"
            )
        arrays = [as_array(each) if isinstance(each, torch.Tensor) else each for each in args]
        function(*arrays, **arrays_in(options), out=as_array(out))
        return out
    taped = TapedCall(function, args, options, is_recorded)
    taped.others = arrays_in(taped.others)
    if not taped.inputs:
        return as_results(taped())
    results = _Call.apply(taped, *taped.inputs.values())
    return results if len(results) > 1 else results[0]


def _eager_plain(plain: _Plain, x: torch.Tensor) -> Any:
    """Make a call on one ordinary tensor."""
    if plain.is_diagonal and not x.is_contiguous():
        order = sorted(range(x.ndim), key=x.stride, reverse=True)
        if x.permute(order).is_contiguous():  # such as channels_last, which the results keep
            y = _eager_plain(plain, x.permute(order))
            return y.permute(sorted(range(x.ndim), key=order.__getitem__))
    if x.requires_grad and torch.is_grad_enabled():
        return _PlainCall.apply(plain, x)
    return as_tensor(plain.function(as_array(x)))


def _with_seed(function: Function, options: dict[str, Any]) -> dict[str, Any]:
    """Return options with a seed from PyTorch's generator, if the call draws random numbers from there."""
    rng = options.get(RNG.name)
    if isinstance(rng, torch.Generator) or (rng is None and draws(function, options)):
        return {**options, RNG.name: int(seed_of(rng))}
    return dict(options)
