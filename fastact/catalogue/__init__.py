"""The catalogue: one short definition for each function, one file for each family.

Files added here are found automatically. Names with a leading underscore are not in the catalogue: they are variants
for the conventions of other libraries.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from fastact.catalogue.definition import Definition
from fastact.system.first_use import first_use


@cache
@first_use()
def _all() -> dict[str, Definition]:
    """Return all definitions by name, in the order of the files and of the definitions in them."""
    found = {}
    for file in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        for name, value in vars(importlib.import_module(file.name)).items():
            if isinstance(value, Definition) and not name.startswith("_"):
                found[value.name] = value
    return found


@cache
def catalogue(kind: str | None = None) -> dict[str, Definition]:
    """Return the definitions of a kind, or all, by name."""
    return {name: each for name, each in _all().items() if kind in (None, each.kind)}
