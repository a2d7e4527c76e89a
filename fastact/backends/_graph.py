"""What adapters to graphs of variables share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def gradients_of(function: Any) -> int:
    """Return how many results of a function have gradients; they come first."""
    return sum(each.is_gradient for each in function.operations["backward"].arrays)


def name_after(function: Any, operation: Callable[..., Any], variables: str, **more: Any) -> None:
    """Give a function of variables the name, the signature and a docstring of the function that it computes.

    Parameters
    ----------
    function : Function
        The function.
    operation : callable
        That of variables.
    variables : str
        What the library calls them.
    **more
        The names and defaults of its own keyword arguments.
    """
    kinds = inspect.Parameter
    own = function.operations["forward"].signature.parameters.values()
    others = [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in more.items()]
    vars(operation)["__signature__"] = inspect.Signature([*own, *others])
    operation.__name__ = operation.__qualname__ = function.name
    operation.__doc__ = (
        f"Compute `fastact.{function.name}` of {variables}, with the same arguments."
    )
