"""All activations by name."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from fastact.catalogue import catalogue, row_catalogue
from fastact.catalogue.definition import Definition
from fastact.functions import Activation, make_activation
from fastact.functions.layers import layers

_made: dict[str, Activation] = {}


def activation(definition: Definition) -> Activation:
    """Return the one object of a definition of fastact's own."""
    if definition.name not in _made:
        _made.setdefault(definition.name, make_activation(definition))
    return _made[definition.name]


@cache
def _others() -> dict[str, Definition]:
    """Return the definitions that are not in the catalogue: what it becomes in other conventions."""
    choices = [choice for found in catalogue().values() for choice in found.choices.values()]
    definitions = [definition for choice in choices for definition in choice.values()]
    return {each.name: each for each in definitions if each.name not in catalogue()}


def activations() -> list[Activation]:
    """Return all there are, in all conventions."""
    definitions = (*catalogue().values(), *row_catalogue().values(), *_others().values())
    return [activation(each) for each in definitions]


@cache
def aliases() -> dict[str, str]:
    """Return the name that each alias stands for: other names, and what other libraries say."""
    found: dict[str, str] = {}
    for name, definition in catalogue().items():
        for alias in (*definition.aliases, *definition.elsewhere.values()):
            if alias not in catalogue():
                found.setdefault(alias, name)
    return found


def names() -> list[str]:
    """Return the names of all activations, in the catalogue's order."""
    return list(catalogue())


def row_names() -> list[str]:
    """Return the names of all functions of whole rows, such as the softmax."""
    return list(row_catalogue())


def layer_names() -> list[str]:
    """Return the names of all layers, such as the gated units."""
    return list(layers())


def get(name: str, **parameters: Any) -> Any:
    """Return the activation of this name or alias, or the function of rows or the layer of this name.

    Parameters
    ----------
    name : str
        Such as ``"relu"`` or ``"swish"``; see `names`.
    **parameters
        Other defaults for its parameters, and choices such as ``convention="jax"``:
        ``fa.get("elu", alpha=0.5)(x)``.

    Returns
    -------
    Activation or Layer
        The very object that ``fastact.<name>`` is, or with parameters one bound to them.

    Raises
    ------
    ValueError
        If there is none; the message lists the names that there are.
    TypeError
        If it has no such parameter, or the name is no string.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of an activation is a string, got {name!r}")
    own_name = aliases().get(name, name)
    definition = (catalogue() | row_catalogue() | _others()).get(own_name)
    if definition is None and name in layers():
        for parameter in parameters:
            raise TypeError(f"{name}: unknown parameter {parameter!r}; a layer binds none")
        return layers()[name]
    if definition is None:
        near = difflib.get_close_matches(name, [*names(), *aliases(), *layers()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no activation is called {name!r}.{hint} There are: {', '.join(names())}")
    return activation(definition).choose(parameters).bind(**parameters)
