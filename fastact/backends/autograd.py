"""HIPS autograd: every function as a primitive of the same name, with gradients to the second order.

Examples
--------
>>> import numpy as np
>>> from autograd import elementwise_grad
>>> from fastact.backends import autograd as fad
>>> elementwise_grad(fad.gelu)(np.array([0.0, 1.0]))
array([0.5       , 1.08331547])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastact.backends._exports import exports
from fastact.backends._requirements import require
from fastact.backends._tape import TapedCall, TapedGradient
from fastact.functions.function import Function

require(__name__)

import autograd.numpy as anp
from autograd.core import sum_outgrads
from autograd.extend import defjvp_argnums, defvjp_argnums, primitive, vspace
from autograd.tracer import isbox


class _Record:
    """A call on autograd's tape, and once it has been made, the function that computes its gradients."""

    __slots__ = ("pullback", "taped")

    def __init__(self, taped: TapedCall | TapedGradient) -> None:
        self.taped = taped
        self.pullback: Any = None


@primitive
def _call(record: _Record, *inputs: Any) -> Any:
    results, record.pullback = record.taped.vjp(*inputs)
    return results[0] if len(results) == 1 else results


def _gradients(record: _Record, gradients: Iterable[Any], inputs: Sequence[Any]) -> Any:
    """Return the gradients of a call: on the tape if what they depend on is."""
    gradients = tuple(gradients)
    if not any(map(isbox, (*gradients, *inputs))):
        return record.pullback(*gradients)
    found = _call(_Record(record.taped.gradient), *gradients, *inputs)
    return found if len(inputs) > 1 else (found,)


def _vjp(argnums: Sequence[int], result: Any, args: Any, kwargs: Any) -> Callable[[Any], Any]:
    record, *inputs = args

    def vjp(gradient: Any) -> Any:
        is_one = not isinstance(result, tuple)
        each: Any = (gradient,) if is_one else (gradient[k] for k in range(len(result)))
        found = _gradients(record, each, inputs)
        each = [found[k - 1] for k in argnums]
        return [
            vspace(args[k]).zeros() if one is None else one
            for k, one in zip(argnums, each, strict=True)
        ]

    return vjp


def _jvp(
    argnums: Sequence[int], gradients: Sequence[Any], result: Any, args: Any, kwargs: Any
) -> Any:
    record, *inputs = args
    pairs = zip(argnums, gradients, strict=True)
    return sum_outgrads(_tangent(record, k - 1, each, result, inputs) for k, each in pairs)


def _tangent(record: _Record, k: int, g: Any, result: Any, inputs: list[Any]) -> Any:
    """Return the tangent of a result for that of one input, from gradients: their Jacobians are symmetric."""
    taped = record.taped
    if taped.is_diagonal:
        return _gradients(record, (g,), inputs)[k]
    if isinstance(taped, TapedGradient):
        count = len(inputs) - len(taped.call.inputs)
        if k < count == 1:  # it is linear in them
            return _call(_Record(taped), g, *inputs[1:])
        each = [g if n == k else None for n in range(count, len(inputs))]
        found = _gradients(record, each, inputs)[count:]
        return found if len(found) > 1 else found[0]
    if taped.is_reduced:
        weights = _gradients(record, (vspace(result).ones(),), inputs)[0]
        axis, keepdims = taped.others.get("axis", -1), taped.others.get("keepdims", False)
        return anp.sum(g * weights, axis=axis, keepdims=keepdims)
    raise NotImplementedError(
        f"{taped.name}: there is no forward mode, but for activations of one array and reductions of rows"
    )


defvjp_argnums(_call, _vjp)
defjvp_argnums(_call, _jvp)


def wrap(function: Function) -> Callable[..., Any]:
    """Return a function as a primitive of autograd.

    Parameters
    ----------
    function : Function
        A function of fastact, such as ``fa.get("elu", alpha=0.5)``, or one of your own, made by ``fa.activation`` or
        ``fa.elementwise``.

    Returns
    -------
    callable
        It takes what the function takes. Inputs, bias and learnable parameters may be traced by autograd.

    Examples
    --------
    >>> from autograd import grad
    >>> import fastact as fa
    >>> from fastact.backends import autograd as fad
    >>> grad(fad.wrap(fa.get("elu", alpha=0.5)))(0.0)
    np.float64(0.5)
    """
    if not isinstance(function, Function):
        raise TypeError(f"wrap takes a function of fastact, got {function!r}")

    own: Any = function

    def traced(*args: Any, **options: Any) -> Any:
        if not any(map(isbox, (*args, *options.values()))):
            return own(*args, **options)
        taped = TapedCall(own, args, options, isbox)
        return _call(_Record(taped), *taped.inputs.values())

    traced.__name__, traced.__doc__ = function.name, function.__doc__
    return traced


__getattr__, __dir__ = exports(__name__, wrap)
