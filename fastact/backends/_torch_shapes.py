"""The results of a call on PyTorch's tensors without elements: what compilers ask of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch

from fastact.catalogue.definition import ElementwiseLossDefinition
from fastact.functions.function import Function

_FLOATS_OF_INTEGERS = {1: torch.float16, 2: torch.float32}


def results_without_elements(function: Function, given: Mapping[str, Any]) -> list[torch.Tensor]:
    """Return tensors of the shapes and dtypes of a call's results.

    Parameters
    ----------
    function : Function
        The function.
    given : dict of str to Any
        The arguments of the call.
    """
    operation = function.operations["forward"]
    first, arguments = given[operation.inputs[0]], operation.arguments
    inputs = [each for name, each in given.items() if arguments[name].is_differentiable]
    dtype = reduce(torch.promote_types, (_floating(each.dtype) for each in inputs))
    shapes = _SHAPES.get(function.kind, _like_first)(function, given, list(first.shape))
    return [first.new_empty(shape, dtype=dtype) for shape in shapes]


def _floating(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of results for inputs of a dtype, which is NumPy's for integers."""
    if dtype.is_floating_point:
        return dtype
    return _FLOATS_OF_INTEGERS.get(dtype.itemsize, torch.float64)


def _like_first(function: Function, given: Mapping[str, Any], shape: list[int]) -> list[Any]:
    return [
        shape,
        *(given[name].shape for name in ("running_mean", "running_var") if name in given),
    ]


def _of_activation(function: Function, given: Mapping[str, Any], shape: list[int]) -> list[Any]:
    if "derivative" not in function.operations:  # one of each group
        shape[given.get("axis", -1)] //= given["pieces"]
    return [shape]


def _of_rows(function: Function, given: Mapping[str, Any], shape: list[int]) -> list[Any]:
    if not function._definition.is_reduced:  # type: ignore[attr-defined]
        return [shape]
    axis = given.get("axis", -1)
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, list) else [axis]
    reduced = {each % len(shape) for each in axes}
    length = len(given["lengths"]) if "lengths" in given else 1
    keeps = given.get("keepdims") or "lengths" in given
    return [
        [length if k in reduced else n for k, n in enumerate(shape) if keeps or k not in reduced]
    ]


def _of_halves(function: Function, given: Mapping[str, Any], shape: list[int]) -> list[Any]:
    axis = given.get("axis", -1)
    if "second" not in function.operations["forward"].inputs:
        shape[axis] *= 2
    elif "second" not in given:
        shape[axis] //= 2
    return [shape]


def _of_cell(function: Function, given: Mapping[str, Any], shape: list[int]) -> list[Any]:
    operation = function.operations["forward"]
    return [given[operation.inputs[-1]].shape] * len(operation.outputs)


def _of_loss(function: Function, given: Mapping[str, Any], shape: list[int]) -> list[Any]:
    whole = [shape] if given.get("return_probabilities") else []
    if given.get("reduction", "mean") != "none":
        return [[], *whole]
    if isinstance(function._definition, ElementwiseLossDefinition):
        return [shape]
    axis = given.get("axis", -1) % len(shape)
    return [[n for k, n in enumerate(shape) if k != axis], *whole]


_SHAPES = {
    "activation": _of_activation,
    "row": _of_rows,
    "packed": _of_halves,
    "cell": _of_cell,
    "loss": _of_loss,
}
