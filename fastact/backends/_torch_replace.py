"""Nets of PyTorch whose activations fastact computes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import torch

from fastact.backends._torch_modules import FastactModule, module_of, modules, twin_of
from fastact.functions.registry import get

_M = TypeVar("_M", bound=torch.nn.Module)
_ROUNDS = 7


def replace(model: _M, *inputs: Any, functions: Iterable[str] | None = None) -> _M:
    """Let fastact compute the activations of a net.

    Parameters
    ----------
    model : torch.nn.Module
        The net. Its modules of PyTorch's own classes change to subclasses of these: parameters, hooks, the state of
        training and the keys of `state_dict` remain. What PyTorch's functions compute inside other modules, such as the
        softmax of ``nn.MultiheadAttention``, remains theirs, and ``inplace`` is ignored.
    *inputs
        An example of what the net takes. If given, both libraries compute what reaches each module, with its gradient,
        and the faster one keeps it: for small layers, and those that wait for memory, that may be PyTorch.
    functions : iterable of str, optional
        The functions to replace, by fastact's names. By default all with `inputs`, and without them those that evaluate
        an elementary function such as an exponential.

    Returns
    -------
    torch.nn.Module
        The net itself.

    Examples
    --------
    >>> import torch
    >>> from fastact.backends.torch import replace
    >>> net = replace(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Mish(), torch.nn.ReLU()))
    >>> [type(each).__module__ for each in net]
    ['torch.nn.modules.linear', 'fastact.backends.torch', 'torch.nn.modules.activation']
    """
    if functions is None:
        wanted = set(modules().values() if inputs else _not_memory_bound())
    else:
        wanted = {get(each).name for each in functions}
    ours = {twin_of(function): name for name, function in modules().items() if function in wanted}
    ours.pop(None, None)
    found = {each: module_of(ours[type(each)]) for each in model.modules() if type(each) in ours}
    reached = _inputs_of(model, found, inputs) if inputs else {}
    for module, made in found.items():
        theirs = type(module)
        before = _seconds(module, reached[module]) if module in reached else None
        module.__class__ = made
        if before is not None and _seconds(module, reached[module]) > before:
            module.__class__ = theirs
    return model


def restore(model: _M) -> _M:
    """Undo `replace`.

    Parameters
    ----------
    model : torch.nn.Module
        The net.

    Returns
    -------
    torch.nn.Module
        The net itself.
    """
    for module in model.modules():
        twin = twin_of(module.function) if isinstance(module, FastactModule) else None
        if twin is not None:
            module.__class__ = twin
    return model


@cache
def _not_memory_bound() -> list[str]:
    """Return the functions that evaluate an elementary function."""
    from fastact.simd.compilable import is_memory_bound  # which needs Numba

    functions = map(get, modules().values())
    return [
        each.name
        for each in functions
        if each.kind != "activation" or not is_memory_bound(each._definition.function)
    ]


def _inputs_of(
    model: torch.nn.Module, wanted: Iterable[torch.nn.Module], inputs: tuple[Any, ...]
) -> dict[torch.nn.Module, torch.Tensor]:
    """Return what reaches each module if the net takes these inputs, in inference so that the net stays as it is."""
    reached: dict[torch.nn.Module, torch.Tensor] = {}

    def keep(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        reached[module] = args[0].detach().clone()

    training = {each: each.training for each in model.modules()}
    handles = [each.register_forward_hook(keep) for each in wanted]
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for each, was_training in training.items():
            each.training = was_training
    return reached


def _seconds(module: torch.nn.Module, x: torch.Tensor) -> float:
    """Return the shortest time that a module takes for the value and the gradient."""
    x, times = x.requires_grad_(x.is_floating_point()), []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        y = module.forward(x.clone())  # which it may overwrite
        torch.autograd.grad(y, x, torch.ones_like(y))
        times.append(time.perf_counter() - start)
    return min(times)
