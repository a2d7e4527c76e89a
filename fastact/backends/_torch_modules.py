"""Modules of PyTorch, one for each function of one tensor; where PyTorch has one of its own, ours is a subclass of it."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import torch

from fastact.backends import _torch_functional as functional
from fastact.backends._torch_calls import adapt
from fastact.catalogue.definition import REQUIRED
from fastact.functions.registry import get, names

MODULE = "fastact.backends.torch"
_KINDS = ("activation", "row", "packed", "dropout")


class FastactModule(torch.nn.Module):
    """The base of all modules: the computation, whose parameters are attributes.

    Attributes
    ----------
    function : str
        The name of the function.
    """

    function: ClassVar[str]
    # What the function says of itself, so that compilers need not ask it.
    _call: ClassVar[Callable[..., Any]]
    _defaults: ClassVar[dict[str, Any]]
    _learnable: ClassVar[tuple[str, ...]]
    _is_dropout: ClassVar[bool]
    _draws_slopes: ClassVar[bool]

    def __init_subclass__(cls, function: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        found = get(function)
        definition = found._definition
        cls.function, cls._call = function, staticmethod(getattr(functional, function))
        choices = dict.fromkeys(definition.choices, "none")
        cls._defaults = {
            n: v for n, v in (choices | found.parameters).items() if n not in found.learnable
        }
        cls._learnable, cls._is_dropout = found.learnable, found.kind == "dropout"
        cls._draws_slopes = bool(definition.drawn_between)

    def forward(self, x: torch.Tensor, **options: Any) -> Any:
        """Compute the function.

        Parameters
        ----------
        x : Tensor
            The input.
        **options
            Options of the function, such as ``bias=`` and ``residual=`` of an activation or ``where=`` and ``causal=`` of
            a softmax. ``dropout=`` counts in training only.
        """
        if not self.training:
            if self._is_dropout:
                return x
            options.pop("dropout", None)
        elif self._draws_slopes:
            options.setdefault("rng", torch.randint(2**63 - 1, ()))
        if hasattr(self, "dim"):
            dim = (
                torch.nn.functional._get_softmax_dim(self.function, x.ndim, 3)
                if self.dim is None
                else self.dim
            )
            if dim != -1:
                options.setdefault("axis", dim)
        for name in self._learnable:
            if hasattr(self, name):
                options.setdefault(name, getattr(self, name))
        given = {
            name: value
            for name, default in self._defaults.items()
            if (value := getattr(self, name, default)) != default
        }
        if not given or torch.compiler.is_compiling():
            return self._call(x, **given, **options)
        return _bound(self.function, tuple(given.items()))(x, **options)


@cache
def _bound(name: str, parameters: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Return a function of tensors with these parameters: a call without options is shorter."""
    return adapt(get(name, **dict(parameters)))


class _OwnModule(torch.nn.Module):
    """A module that PyTorch lacks."""

    def __init__(self, *args: Any, **parameters: Any) -> None:
        super().__init__()
        function = get(type(self).function)
        known = dict(function.parameters)
        if "derivative" not in function.operations and function.kind != "dropout":
            known["dim"] = -1
        if len(args) > len(known) or not parameters.keys() <= known.keys():
            raise TypeError(f"{type(self).__name__} takes {', '.join(known) or 'no parameters'}")
        given = known | dict(zip(known, args, strict=False)) | parameters
        for name, value in given.items():
            if value is REQUIRED:
                raise TypeError(f"{type(self).__name__}: missing the argument {name!r}")
            is_learnable = name in function.learnable
            setattr(
                self, name, torch.nn.Parameter(torch.as_tensor(value)) if is_learnable else value
            )
        self._shown = [name for name in given if name not in function.learnable]

    def extra_repr(self) -> str:
        """Return the parameters."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._shown)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


@cache
def twin_of(name: str) -> type[torch.nn.Module] | None:
    """Return PyTorch's own class of a function, if it has one."""
    theirs = get(name)._definition.elsewhere.get("pytorch")
    classes = {_plain(n): each for n, each in vars(torch.nn).items() if isinstance(each, type)}
    return classes.get(_plain(theirs)) if theirs else None


def modules() -> dict[str, str]:
    """Return the function of each class: PyTorch's name if it has one, and else the function's in camel case."""
    found = {}
    for name in names(*_KINDS):
        twin = twin_of(name)
        camel = "".join(part.capitalize() for part in name.split("_"))
        found[twin.__name__ if twin else camel] = name
    return found


@cache
def module_of(name: str) -> type[FastactModule]:
    """Return the class of a module."""
    function = modules()[name]
    said = f"`{MODULE}.functional.{function}` as a module."
    namespace = {"__doc__": said, "__module__": MODULE}
    bases = FastactModule, twin_of(function) or _OwnModule
    return types.new_class(name, bases, {"function": function}, lambda own: own.update(namespace))
