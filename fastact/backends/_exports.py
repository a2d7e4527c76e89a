"""Modules that offer every function of the registry under its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from fastact.functions.registry import aliases, get, names


def exports(
    module: str, adapt: Callable[[Any], Any], *kinds: str
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
    """

    def known() -> set[str]:
        found = set(names(*kinds))
        return found | {alias for alias, name in aliases().items() if name in found}

    @cache
    def adapted(name: str) -> Any:
        return adapt(get(name))

    def __getattr__(name: str) -> Any:
        if name.startswith("__") or name not in known():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = adapted(aliases().get(name, name))
        setattr(sys.modules[module], name, found)  # from now on an ordinary attribute: 15 us less
        return found

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[module]), *names(*kinds)})

    return __getattr__, __dir__
