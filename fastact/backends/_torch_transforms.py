"""Operators under the transforms of `torch.func`, whose gradients `torch.library` does not register."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastact.functions.options import ROW_AXIS


@dataclass(frozen=True, eq=False)
class OperatorCall:
    """A call of an operator as a function of its tensors.

    Attributes
    ----------
    operators : sequence of callable
        The operator of the value, and those of further orders.
    level : int
        Which of them is called.
    sizes : tuple of int
        The numbers of tensors in the lists that it takes first.
    names : tuple of str
        The names of the tensors after them.
    differentiable : tuple of bool
        Whether each of these has a gradient.
    others : mapping of str to Any
        The other arguments.
    count : int
        How many results have gradients.
    """

    operators: Sequence[Any]
    level: int
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    differentiable: tuple[bool, ...]
    others: Mapping[str, Any]
    count: int

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the operator."""
        each = iter(tensors)
        lists = [[next(each) for _ in range(size)] for size in self.sizes]
        given = dict(zip(self.names, each, strict=True))
        results = self.operators[self.level](*lists, **given, **self.others)
        return (results,) if isinstance(results, torch.Tensor) else tuple(results)

    @property
    def gradient(self) -> OperatorCall:
        """The call of the operator of the next order, which takes the gradients first."""
        if self.level + 1 == len(self.operators):
            raise NotImplementedError(f"{self.operators[0].name()}: there is no third derivative")
        count = sum(self.sizes) + sum(self.differentiable)
        return replace(self, level=self.level + 1, sizes=(self.count, *self.sizes), count=count)

    def of_inputs(self, gradients: Sequence[Any]) -> list[Any]:
        """Return the gradient of each tensor, None for those that have none."""
        each = iter(gradients)
        have = (*[True] * sum(self.sizes), *self.differentiable)
        return [next(each) if one else None for one in have]


class Transformed(torch.autograd.Function):
    """A call of an operator that transforms can differentiate and map."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: OperatorCall, *tensors: torch.Tensor) -> Any:
        """Call the operator."""
        return call(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save the tensors."""
        ctx.call, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Call the operator of the gradient."""
        call = ctx.call
        tensors = *gradients[: call.count], *ctx.saved_tensors
        return None, *call.of_inputs(Transformed.apply(call.gradient, *tensors))


def mapping(
    operator: Any, level: int, defaults: Mapping[str, Any], has_free_axes: bool
) -> Callable[..., tuple[Any, Any]]:
    """Return the rule of an operator under `torch.func.vmap`.

    Parameters
    ----------
    operator : callable
        The operator.
    level : int
        The number of lists that it takes first.
    defaults : mapping of str to Any
        The defaults of its other arguments.
    has_free_axes : bool
        Whether a call with one tensor may have more axes in front: then it maps in one call, and else in a loop.
    """

    def rule(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
        given = {**defaults, **dict(zip(defaults, args[level:], strict=False))}
        tensors = [name for name, each in given.items() if isinstance(each, torch.Tensor)]
        axis, lists = given.get(ROW_AXIS.name, -1), args[:level]
        of_lists = in_dims[:level]
        at = dict(zip(defaults, in_dims[level:], strict=False))

        def in_front(each: torch.Tensor, dim: int | None) -> torch.Tensor:
            if dim is None:
                return each.expand(info.batch_size, *each.shape)
            return each.movedim(dim, 0)

        def selected(each: torch.Tensor, dim: int | None, k: int) -> torch.Tensor:
            return each if dim is None else each.select(dim, k)

        if has_free_axes and len(tensors) == 1 and axis is not None:
            (name,) = tensors
            if ROW_AXIS.name in given:
                given[ROW_AXIS.name] = (
                    [n + (n >= 0) for n in axis] if isinstance(axis, list) else axis
                )
            given[name] = in_front(given[name], at[name])
            results = operator(
                *(list(map(in_front, *pair)) for pair in zip(lists, of_lists, strict=True)), **given
            )
        else:
            each = [
                operator(
                    *(
                        [selected(*pair, k) for pair in zip(some, dims, strict=True)]
                        for some, dims in zip(lists, of_lists, strict=True)
                    ),
                    **{**given, **{n: selected(given[n], at[n], k) for n in tensors}},
                )
                for k in range(info.batch_size)
            ]
            is_one = isinstance(each[0], torch.Tensor)
            results = (
                torch.stack(each) if is_one else list(map(torch.stack, zip(*each, strict=True)))
            )
        return results, 0 if isinstance(results, torch.Tensor) else [0] * len(results)

    return rule
