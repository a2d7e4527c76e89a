"""Tensors of PyTorch as arrays of NumPy, and back, which share their memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from fastact.functions.options import RNG
from fastact.runtime.dtypes import dtype_of


def as_array(tensor: torch.Tensor) -> Any:
    """Return the array that shares a tensor's memory."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(dtype_of("bfloat16"))
    return tensor.numpy()


def as_tensor(array: Any) -> torch.Tensor:
    """Return the tensor that shares an array's memory."""
    if type(array) is not np.ndarray:
        array = np.asarray(array)
    if array.dtype.kind == "V":  # bfloat16, whose arrays PyTorch does not know
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_results(results: Any) -> Any:
    """Return one tensor or several."""
    return tuple(map(as_tensor, results)) if isinstance(results, tuple) else as_tensor(results)


def arrays_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with arrays instead of tensors."""
    return {n: as_array(v) if isinstance(v, torch.Tensor) else v for n, v in options.items()}


def check(caller: str, tensors: Iterable[torch.Tensor]) -> None:
    """Raise an error unless tensors are dense and on the CPU, or have no elements at all."""
    for each in tensors:
        if not (each.is_cpu or each.is_meta):
            raise TypeError(f"{caller}: fastact computes on the CPU, got a tensor on {each.device}")
        if each.layout is not torch.strided:
            raise TypeError(f"{caller}: fastact takes dense tensors, got {each.layout}")


def draws(function: Any, names: Iterable[str]) -> bool:
    """Tell whether a call with these arguments draws random numbers unasked."""
    known = function.operations["forward"].option_names
    return RNG.name in known and ("dropout" not in known or "dropout" in names)


def seed_of(rng: Any = None) -> Any:
    """Return a seed as a tensor, drawn from PyTorch's own generator or from the one given."""
    if isinstance(rng, int):
        return torch.tensor(rng)
    return torch.randint(2**63 - 1, (), generator=rng)
