"""Modules that offer every function of the registry under its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from fastact.functions.registry import aliases, get, names


def exports(
    module: str, adapt: Callable[[Any], Any], *kinds: str, spell: Callable[[str], str] = str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a module that adapts the functions of the registry on first use.

    Parameters
    ----------
    module : str
        The module's ``__name__``.
    adapt : callable
        Takes a `fastact.functions.Function` and returns what the module offers under its name.
    *kinds : str
        The kinds of functions that it offers, as in `fastact.names`; all by default.
    spell : callable
        Takes a name in the registry and returns that in the module.
    """

    def known() -> dict[str, str]:
        own = names(*kinds)
        found = {spell(name): name for name in own}
        for alias, name in aliases().items():
            if name in own:
                found.setdefault(spell(alias), name)
        return found

    @cache
    def adapted(name: str) -> Any:
        return adapt(get(name))

    def __getattr__(name: str) -> Any:
        if name.startswith("__") or name not in (by_name := known()):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = adapted(by_name[name])
        setattr(sys.modules[module], name, found)  # which later look-ups find without this function
        return found

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[module]), *map(spell, names(*kinds))})

    return __getattr__, __dir__


def class_name(name: str) -> str:
    """Return the name of a class: ``LeakyRelu`` for ``leaky_relu``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
