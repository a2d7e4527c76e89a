"""Eager calls on PyTorch's tensors, recorded by a `torch.autograd.Function`.

That takes 41 us for mish of 32 x 100 elements, forward and backward; an operator of `torch.library` takes 65, and one made
by `torch.library.custom_op` 79. Compilers and transforms of functions see neither arrays nor kernels, and get
`fastact.backends._torch_operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastact.backends._tape import TapedCall
from fastact.backends._torch_autograd import Plain, PlainCall, TapeCall
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

_transforms_are_active = torch._C._are_functorch_transforms_active
_count_modes = torch._C._len_torch_dispatch_stack
_is_tracing = torch._C._is_tracing
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})


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


def _plain_of(function: Function) -> Plain | None:
    """Return what plain calls share, if they draw nothing and can be differentiated twice."""
    if draws(function, ()):
        return None
    call = TapedCall(function, (0.0,), {})
    if not call.has_second_order:
        return None
    of_output = call.gradient_of_output
    return Plain(function, call.is_diagonal, of_output or call.gradient, of_output is not None)


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
    results = TapeCall.apply(taped, *taped.inputs.values())
    return results if len(results) > 1 else results[0]


def _eager_plain(plain: Plain, x: torch.Tensor) -> Any:
    """Make a call on one ordinary tensor."""
    if plain.is_diagonal and not x.is_contiguous():
        order = sorted(range(x.ndim), key=x.stride, reverse=True)
        if x.permute(order).is_contiguous():  # such as channels_last, which the results keep
            y = _eager_plain(plain, x.permute(order))
            return y.permute(sorted(range(x.ndim), key=order.__getitem__))
    if x.requires_grad and torch.is_grad_enabled():
        return PlainCall.apply(plain, x)
    return as_tensor(plain.function(as_array(x)))


def _with_seed(function: Function, options: dict[str, Any]) -> dict[str, Any]:
    """Return options with a seed from PyTorch's generator, if the call draws random numbers from there."""
    rng = options.get(RNG.name)
    if isinstance(rng, torch.Generator) or (rng is None and draws(function, options)):
        return {**options, RNG.name: int(seed_of(rng))}
    return dict(options)
