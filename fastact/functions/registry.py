"""All functions by name."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from fastact.catalogue import catalogue
from fastact.catalogue.definition import KINDS, Definition
from fastact.functions import Function, function_of


@cache
def _convention_variants() -> dict[str, Definition]:
    """Return the definitions that are not in the catalogue: what it becomes in other conventions."""
    choices = [choice for found in catalogue().values() for choice in found.choices.values()]
    definitions = [definition for choice in choices for definition in choice.values()]
    return {each.name: each for each in definitions if each.name not in catalogue()}


def functions() -> list[Function]:
    """Return all there are, in all conventions."""
    return [function_of(each) for each in (*catalogue().values(), *_convention_variants().values())]


@cache
def aliases() -> dict[str, str]:
    """Return the name that each alias stands for: other names, and what other libraries say."""
    found: dict[str, str] = {}
    for name, definition in catalogue("activation").items():
        for alias in (*definition.aliases, *definition.elsewhere.values()):
            if alias not in catalogue():
                found.setdefault(alias, name)
    return found


def names(*kinds: str) -> list[str]:
    """Return the names of all functions, or of those of some kinds, in the catalogue's order.

    Parameters
    ----------
    *kinds : {"activation", "row", "packed", "dropout", "loss"}
        Activations of an element or of a group; functions of rows, such as the softmax; gated units and others whose
        arrays hold two halves; dropouts; losses.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    return [name for kind in kinds or KINDS for name in catalogue(kind)]


def get(name: str, **parameters: Any) -> Any:
    """Return the function of this name or alias.

    Parameters
    ----------
    name : str
        Such as ``"relu"`` or ``"swish"``; see `names`.
    **parameters
        Other defaults for its parameters, and choices such as ``convention="jax"``:
        ``fa.get("elu", alpha=0.5)(x)``.

    Returns
    -------
    Function
        The very object that ``fastact.<name>`` is, or with parameters one bound to them.

    Raises
    ------
    ValueError
        If there is none; the message lists the names that there are.
    TypeError
        If it has no such parameter, or the name is no string.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a function is a string, got {name!r}")
    own_name = aliases().get(name, name)
    definition = (catalogue() | _convention_variants()).get(own_name)
    if definition is None:
        near = difflib.get_close_matches(name, [*names(), *aliases()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no function is called {name!r}.{hint} There are: {', '.join(names())}")
    return function_of(definition).choose(parameters).bind(**parameters)
