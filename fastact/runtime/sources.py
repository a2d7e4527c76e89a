"""A digest of the semantics of the sources that shape machine code.

Comments and docstrings do not count. Reading the sources takes 3 ms, compiling them to bytecode a
hundred times as long; so the kernel cache stores the semantic digest under the digest of the text.
Sources are found as Python finds them: in folders, in zip files, as bare ``.pyc`` files or frozen.
If they cannot be read, there is no digest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pkgutil
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import CodeType
from typing import Any

# Never imported to compile a kernel, as tests/runtime/test_sources.py checks.
_EXCLUDED = frozenset({"fastact.baseline", "fastact.bench", "fastact.cli", "fastact.show"})


def specs() -> list[ModuleSpec]:
    """Return the import spec of each module."""
    package = importlib.util.find_spec("fastact")
    return [] if package is None else [package, *_submodules(package)]


def _submodules(package: ModuleSpec) -> Iterator[ModuleSpec]:
    locations = package.submodule_search_locations
    for found in pkgutil.iter_modules(locations, f"{package.name}."):
        finder: Any = found.module_finder
        spec = None if found.name in _EXCLUDED else finder.find_spec(found.name)
        if spec is not None:
            yield spec
            if found.ispkg:
                yield from _submodules(spec)


def source_digest() -> str | None:
    """Return the digest of the current text of all sources, or None if they cannot be read."""
    digest = hashlib.sha256()
    try:
        found = specs()
        for spec in found:
            loader: Any = spec.loader
            digest.update(f"{spec.name}\0".encode() + loader.get_data(spec.origin))
    except (AttributeError, ImportError, OSError, TypeError):
        return None
    return digest.hexdigest() if len(found) > 1 else None


#: The digest of the sources when this process started.
AT_START = source_digest()


def are_unchanged() -> bool:
    """Whether the sources are still those of the process's start.

    If not, later imports may mix with older ones, and their kernels belong to neither version.
    """
    return source_digest() == AT_START


def is_bytecode_newer() -> bool:
    """Whether all ``.pyc`` files were written after the last change of their sources, so that none can be stale.

    Other ways to the same answer take a second.
    """
    return os.name == "posix" and all(map(_is_bytecode_newer, specs()))


def _is_bytecode_newer(spec: ModuleSpec) -> bool:
    if spec.origin is None or spec.cached is None:
        return False
    try:
        changed = os.stat(spec.origin).st_ctime_ns
    except OSError:
        return False
    try:
        return changed < os.stat(spec.cached).st_mtime_ns
    except OSError:
        return True  # there is no bytecode


def semantic_digest() -> str | None:
    """Return the digest of the sources' semantics, or None if Python runs stale ``.pyc`` files."""
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
        digest.update(repr((spec.name, list(_semantics(code)))).encode())
    return digest.hexdigest()


def _semantics(code: CodeType) -> Iterator[Any]:
    """Yield everything that a code object does, without its line numbers."""
    yield code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    yield code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_exceptiontable
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _semantics(constant)
        else:  # the order of a set varies between processes
            yield sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
