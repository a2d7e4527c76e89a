"""All activations by name."""

from __future__ import annotations

import difflib
from functools import cache

from fastact.activations import Activation, make_activation
from fastact.definitions import catalogue


@cache
def _activation(name: str) -> Activation:
    return make_activation(catalogue()[name])


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name, found in catalogue().items() for alias in found.aliases}


def names() -> list[str]:
    """Return the names of all activations, in the catalogue's order."""
    return list(catalogue())


def get(name: str) -> Activation:
    """Return the activation of this name or alias.

    Parameters
    ----------
    name : str
        Such as ``"relu"``; see `names`.

    Returns
    -------
    Activation
        The very object that ``fastact.<name>`` is.

    Raises
    ------
    ValueError
        If there is none; the message lists the names that there are.
    """
    own_name = _aliases().get(name, name)
    if own_name in catalogue():
        return _activation(own_name)
    near = difflib.get_close_matches(str(name), [*names(), *_aliases()], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no activation is called {name!r}.{hint} There are: {', '.join(names())}")
