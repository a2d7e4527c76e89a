"""The sources that shape machine code, as one digest: of what they do, whatever comments and docstrings say.

Reading the sources takes 3 ms, and telling what they do a hundred times as long; so the cache keeps the digest of their
meaning under that of their text. Sources are found as Python finds them, in folders, in zip files, as ``.pyc`` files
alone or frozen; where they cannot be read, there is no digest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import CodeType
from typing import Any

# What is never loaded where a kernel is compiled, as tests/test_sources.py checks.
_WITHOUT = frozenset(
    f"fastact.{name}"
    for name in (
        "baseline",
        "bench",
        "cli",
        "show",
    )
)


def specs() -> list[ModuleSpec]:
    """Return what the import system knows of each module."""
    package = importlib.util.find_spec("fastact")
    return [] if package is None else [package, *_below(package)]


def _below(package: ModuleSpec) -> Iterator[ModuleSpec]:
    places = package.submodule_search_locations
    for found in pkgutil.iter_modules(places, f"{package.name}."):
        finder: Any = found.module_finder
        spec = None if found.name in _WITHOUT else finder.find_spec(found.name)
        if spec is not None:
            yield spec
            if found.ispkg:
                yield from _below(spec)


def text_digest() -> str | None:
    """Return the digest of all sources as they are now, or None where they cannot be read."""
    digest = hashlib.sha256()
    try:
        found = specs()
        for spec in found:
            loader: Any = spec.loader
            digest.update(f"{spec.name}\0".encode() + loader.get_data(spec.origin))
    except (AttributeError, ImportError, OSError, TypeError):
        return None
    return digest.hexdigest() if len(found) > 1 else None


#: The digest of the sources that this process has begun with.
AT_START = text_digest()


def are_unchanged() -> bool:
    """Whether the sources are what they were when the process began.

    If not, modules imported later may be newer than those before, and what they make is neither the old nor the new.
    """
    return text_digest() == AT_START


def meaning_digest() -> str | None:
    """Return the digest of what the sources do, or None where Python runs something else, such as an old ``.pyc`` file."""
    digest = hashlib.sha256()
    for spec in specs():
        loader: Any = spec.loader
        code = loader.get_code(spec.name)
        if str(spec.origin).endswith(".py"):
            source = loader.get_data(spec.origin)
            if code != compile(source, str(spec.origin), "exec", dont_inherit=True):
                return None
            without_docstrings = 2
            code = compile(source, "", "exec", dont_inherit=True, optimize=without_docstrings)
        digest.update(repr((spec.name, list(_facts(code)))).encode())
    return digest.hexdigest()


def _facts(code: CodeType) -> Iterator[Any]:
    """Yield what a piece of code does, but not where it stands in its file."""
    yield code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    yield code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_exceptiontable
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _facts(constant)
        else:  # a set has no order of its own
            yield sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
