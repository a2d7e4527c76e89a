"""PyTorch on the CPU: every function on tensors, with autograd and for compilers, and modules that replace PyTorch's own.

`functional` has every function of the registry on tensors, whose memory it shares. The classes of modules are attributes
of this module: ``Mish``, ``Softmax``, ``Swiglu`` and others. `replace` lets fastact compute the activations of a net.

Examples
--------
>>> import torch
>>> from fastact.backends.torch import functional
>>> x = torch.tensor([0.0, 1.0], requires_grad=True)
>>> functional.gelu(x).sum().backward()
>>> x.grad
tensor([0.5000, 1.0833])
"""

from __future__ import annotations

import sys
from typing import Any

from fastact.backends._requirements import require

require(__name__)

from fastact.backends import _torch_functional as functional
from fastact.backends._torch_calls import adapt as wrap
from fastact.backends._torch_modules import module_of, modules
from fastact.backends._torch_replace import replace, restore

__all__ = ["functional", "replace", "restore", "wrap"]


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name not in modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return module_of(name)


def __dir__() -> list[str]:
    return sorted({*vars(sys.modules[__name__]), *modules()})
