"""Operators of `torch.library`, three for each function: value, gradient, and what is propagated through the gradient.

Compilers see each as one node, and transforms such as `torch.func.vmap` map over it. Its schema, of tensors, numbers and
strings, derives from the function's signature. An operator keeps nothing for another: gradients are computed from inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from fastact.backends._tape import TapedCall
from fastact.backends._torch_schemas import AXES, declared, schema_type
from fastact.backends._torch_shapes import results_without_elements
from fastact.backends._torch_tensors import (
    arrays_in,
    as_array,
    as_tensor,
    check,
    draws,
    seed_of,
)
from fastact.backends._torch_transforms import OperatorCall, Transformed, mapping
from fastact.catalogue.definition import Definition
from fastact.functions.function import Function
from fastact.functions.options import OUT, RNG, ROW_AXIS
from fastact.functions.pointwise import UFUNC_OPTIONS

_LISTS = ((), ("Tensor[] gradients",), ("Tensor[] second", "Tensor[] gradients"))
_names: dict[str, Definition] = {}


class Operators:
    """The operators of a function."""

    def __init__(self, function: Function) -> None:
        self.function, forward = function, function.operations["forward"]
        arguments = {
            name: each
            for name, each in forward.arguments.items()
            if each is not OUT and each not in UFUNC_OPTIONS
        }
        self._types = {n: schema_type(each, n in forward.inputs) for n, each in arguments.items()}
        self._defaults = {name: each.default for name, each in arguments.items()}
        self._differentiable = [n for n, each in arguments.items() if each.is_differentiable]
        self._is_single = len(forward.outputs) == 1
        self._draws = draws(function, ()), draws(function, ("dropout",))
        self._count = sum(each.is_gradient for each in function.operations["backward"].arrays)
        name = function.name
        while _names.setdefault(name, function._definition) is not function._definition:
            name += "_"  # a function of one's own, of the name of another
        self._operators = [self._define(name, level) for level in range(len(_LISTS))]

    def __call__(
        self, args: Sequence[Any], options: Mapping[str, Any], bound: Mapping[str, Any]
    ) -> Any:
        """Call the operator of the value, with the parameters that a function is bound to."""
        given = {**bound, **dict(zip(self._types, args, strict=False)), **options}
        for name in given:
            if name not in self._types:
                raise TypeError(f"{self.function.name}: an operator takes no {name!r}")
        is_compiling = torch.compiler.is_compiling()
        if not is_compiling and AXES in self._types.values() and torch.jit.is_tracing():
            name = self.function.name
            raise NotImplementedError(
                f"{name}: torch.jit.trace cannot record axes; use torch.export"
            )
        given = {n: v for n, v in given.items() if self._is_given(n, v)}
        if self._draws["dropout" in given]:
            given[RNG.name] = seed_of(given.get(RNG.name))
        for name, value in given.items():
            if self._types[name] == AXES and isinstance(value, int):
                given[name] = [value]
            elif self._types[name].startswith("Tensor") and not isinstance(value, torch.Tensor):
                given[name] = torch.as_tensor(value)
        if is_compiling or not torch._C._are_functorch_transforms_active():
            results = self._operators[0](**given)
            return results if self._is_single else tuple(results)
        names = tuple(n for n, each in given.items() if isinstance(each, torch.Tensor))
        have = tuple(name in self._differentiable for name in names)
        others = {n: each for n, each in given.items() if n not in names}
        call = OperatorCall(self._operators, 0, (), names, have, others, self._count)
        results = Transformed.apply(call, *(given[name] for name in names))
        return results[0] if self._is_single else results

    def _is_given(self, name: str, value: Any) -> bool:
        """Tell whether an argument differs from its default, which some options may not even be named beside."""
        return isinstance(value, torch.Tensor) or value != self._defaults[name]

    def _define(self, name: str, level: int) -> Any:
        """Register an operator, and return it: of the value, the gradient, or what goes through the gradient."""
        name += ("", "_backward", "_double_backward")[level]
        is_single = self._is_single and not level
        arguments = [declared(n, kind, self._defaults[n]) for n, kind in self._types.items()]
        result = "Tensor" if is_single else "Tensor[]"

        def of_results(compute: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any) -> Any:
                named = zip(self._types, args[level:], strict=False)
                given = {n: v for n, v in named if self._is_given(n, v)}
                results = compute(args[:level], given)
                return results[0] if is_single else results

            return run

        def keep(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
            flat, ctx.structure = tree_flatten(inputs)
            ctx.others = [None if isinstance(each, torch.Tensor) else each for each in flat]
            ctx.at = [k for k, each in enumerate(flat) if isinstance(each, torch.Tensor)]
            ctx.save_for_backward(*(flat[k] for k in ctx.at))

        def backward(ctx: Any, *gradients: Any) -> Any:
            flat = list(ctx.others)
            for k, tensor in zip(ctx.at, ctx.saved_tensors, strict=True):
                flat[k] = tensor
            inputs = tree_unflatten(flat, ctx.structure)
            wanted = list(gradients) if is_single else gradients[0]
            found = self._operators[level + 1](
                wanted[: self._count] if not level else wanted, *inputs
            )
            first = [found[: len(inputs[0])]] if level else []
            each = iter(found[len(first and first[0]) :])
            have = [
                name in self._differentiable and value is not None
                for name, value in zip(self._types, inputs[level:], strict=True)
            ]
            # PyTorch drops arguments that are equal to their defaults, but only here.
            return (*first, *(next(each) if one else None for one in have))[
                : len(ctx.needs_input_grad)
            ]

        known = f"fastact::{name}"
        schema = f"({', '.join((*_LISTS[level], *arguments))}) -> {result}"
        torch.library.define(known, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(known, "cpu", of_results(self._computed))
        torch.library.register_fake(known, of_results(self._without_elements))
        if level + 1 < len(_LISTS):
            torch.library.register_autograd(known, backward, setup_context=keep)
        operator = getattr(torch.ops.fastact, name).default
        has_free_axes = "derivative" in self.function.operations or self.function.kind == "row"
        torch.library.register_vmap(known, mapping(operator, level, self._defaults, has_free_axes))
        return operator

    def _computed(self, lists: Sequence[Any], given: dict[str, Any]) -> list[torch.Tensor]:
        """Compute the results."""
        check(self.function.name, (v for v in given.values() if isinstance(v, torch.Tensor)))
        if RNG.name in given:
            given[RNG.name] = int(given[RNG.name])
        axis = given.get(ROW_AXIS.name)
        if isinstance(axis, list):
            given[ROW_AXIS.name] = axis[0] if len(axis) == 1 else tuple(axis)
        given = arrays_in(given)
        names = [n for n in self.function.operations["forward"].inputs if n in given]
        args = tuple(given.pop(n) for n in names)
        call = TapedCall(self.function, args, given)
        inputs = [*(as_array(each) for each in chain(*lists[::-1][:1])), *call.inputs.values()]
        if not lists:
            results = call(*inputs)
        elif len(lists) == 1:
            results = call.gradient(*inputs)
        else:
            results = call.gradient.vjp(*inputs)[1](*map(as_array, lists[0]))
            results = [
                np.zeros_like(x) if y is None else y for x, y in zip(inputs, results, strict=True)
            ]
        results = results if isinstance(results, tuple | list) else (results,)
        # Operators return new tensors; a gradient may be that of the result itself.
        return [
            as_tensor(np.array(each) if any(each is x for x in inputs) else each).contiguous()
            for each in results
        ]

    def _without_elements(self, lists: Sequence[Any], given: dict[str, Any]) -> list[torch.Tensor]:
        """Return tensors of the shapes and dtypes of the results."""
        if not lists:
            return results_without_elements(self.function, given)
        like = [given[name] for name in self._differentiable if name in given]
        if len(lists) == 2:
            like = [*lists[1], *like]
        return [each.new_empty(each.shape) for each in like]


_operators: dict[Definition, Operators] = {}


def operators_of(function: Function) -> Operators:
    """Return the operators of a function, which it shares with those bound to other parameters."""
    definition = function._definition
    if definition not in _operators:
        _operators[definition] = Operators(function)
    return _operators[definition]
