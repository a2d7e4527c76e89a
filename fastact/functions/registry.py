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
    """Return the definitions outside the catalogue: variants for other conventions."""
    choices = [choice for found in catalogue().values() for choice in found.choices.values()]
    definitions = [definition for choice in choices for definition in choice.values()]
    return {each.name: each for each in definitions if each.name not in catalogue()}


def functions() -> list[Function]:
    """Return all functions, in all conventions."""
    return [function_of(each) for each in (*catalogue().values(), *_convention_variants().values())]


@cache
def aliases() -> dict[str, str]:
    """Return the name behind each alias, including names in other libraries."""
    found: dict[str, str] = {}
    for name, definition in catalogue("activation").items():
        for alias in (*definition.aliases, *definition.elsewhere.values()):
            if alias not in catalogue():
                found.setdefault(alias, name)
    return found


def names(*kinds: str) -> list[str]:
    """Return the names of all functions, or of some kinds, in the order of the catalogue.

    Parameters
    ----------
    *kinds : {"activation", "row", "packed", "cell", "dropout", "normalization", "loss"}
        Activations of elements or groups; row functions, such as softmax; functions of packed halves, such as gated
        units; recurrent cells; dropouts; normalizations; losses.

    Returns
    -------
    list of str
        The names, without aliases.

    Raises
    ------
    ValueError
        If a kind is unknown.

    Examples
    --------
    >>> fa.names("dropout")
    ['dropout', 'alpha_dropout']
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; the kinds are {', '.join(KINDS)}")
    return [name for kind in kinds or KINDS for name in catalogue(kind)]


def get(name: str, **parameters: Any) -> Any:
    """Return the function with this name or alias.

    Parameters
    ----------
    name : str
        A name such as ``"relu"``, or an alias such as ``"swish"``; see `names`.
    **parameters
        New defaults for its parameters, and choices such as ``convention="jax"``:
        ``fa.get("elu", alpha=0.5)(x)``.

    Returns
    -------
    Function
        ``fastact.<name>`` itself, or bound to the parameters if there are any.

    Raises
    ------
    ValueError
        If the name is unknown; the message has one that is near, or lists all.
    TypeError
        If a parameter is unknown, or the name is not a string.

    Examples
    --------
    >>> fa.get("swish") is fa.silu
    True
    >>> fa.get("elu", alpha=0.5)
    <activation 'elu', alpha=0.5>
    >>> fa.get("gelu", approximate="tanh")
    <activation 'gelu_tanh'>
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a function must be a string, got {name!r}")
    own_name = aliases().get(name, name)
    definition = (catalogue() | _convention_variants()).get(own_name)
    if definition is None:
        wanted = name.strip().lower()
        near = difflib.get_close_matches(wanted, [*names(), *aliases()])
        # Of those that are near, one of the same letters comes first: gelu, not glu, for gleu.
        near.sort(key=lambda each: sorted(each) != sorted(wanted))
        hint = f"Did you mean {near[0]!r}?" if near else f"The names are: {', '.join(names())}"
        raise ValueError(f"there is no function {name!r}. {hint}")
    return function_of(definition).choose(parameters).bind(**parameters)
