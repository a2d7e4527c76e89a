"""The on-disk cache of machine code: never stale, never planted by someone else, never torn.

**Never stale.** The key of an entry is a digest of everything that its code depends on: the
semantics of fastact's sources (`fastact.runtime.sources`: comments and docstrings do not count),
the versions of the compiler's packages, the CPU, and the name of the kernel, which for a user's own
activation contains the digest of the snapshot that it is compiled from (`fastact.custom.snapshot`).
Compiler settings are not part of the key, because kernels are compiled with fixed ones
(`fastact.runtime.compiler`). A process whose sources were edited while it ran may have imported a
mixture, and stores nothing.

**Never planted, never torn.** Entries are files of a trusted folder (`fastact.runtime.cache_folder`).
Each starts with a digest of its key and content.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numpy as np

from fastact.runtime import cache_folder, sources
from fastact.system.target import TARGET

_DIGEST_BYTES = hashlib.sha256().digest_size
_ENTRY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")


@cache
def _environment() -> bytes | None:
    """Return the digest of all that this process's kernels have in common, or None if unknown."""
    semantics = _semantics()
    if semantics is None:
        return None
    system = sys.version_info, sys.platform, getattr(sys.implementation, "_multiarch", "")
    versions = _numba_version(), llvmlite.__version__, np.__version__
    return hashlib.sha256(repr((semantics, versions, system, TARGET)).encode()).digest()


def _numba_version() -> bytes | str:
    """Return something that identifies the release of Numba, usually without importing it."""
    spec: Any = importlib.util.find_spec("numba")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        # `importlib.metadata` takes 7 ms for the same, a twentieth of the time to a process's first
        # result.
        file = os.path.join(os.path.dirname(spec.origin), "_version.py")
        text: bytes = spec.loader.get_data(file)
        if b'"version":' in text:  # a release, not a clone of the repository
            return text
    return str(importlib.import_module("numba").__version__)


def _semantics() -> str | None:
    """Return `fastact.runtime.sources.semantic_digest`, cached on disk; in an empty cache the digest of the text.

    Where there is no kernel yet that other sources could share, the text identifies it just as well, without a second of
    compiling to bytecode.
    """
    if sources.AT_START is None:
        return None
    key, folder = _semantics_key(sources.AT_START), cache_folder.trusted_directory()
    cached = _read(folder, key)
    if cached is not None:
        return cached.decode()
    is_empty = folder is None or not any(_ENTRY.fullmatch(each.name) for each in folder.iterdir())
    is_simple = is_empty and sources.is_bytecode_newer()
    semantics = sources.AT_START if is_simple else sources.semantic_digest()
    if semantics is not None:
        _write(cache_folder.create_directory(), key, semantics.encode())
    return semantics


def _semantics_key(source_digest: str) -> str:
    digest = hashlib.sha256(f"semantics {source_digest}".encode()).hexdigest()
    return f"{source_digest[:16]}-{digest}"


def key(name: str) -> str | None:
    """Return the key of the kernel of this name, or None if the cache cannot be used."""
    environment = _environment()
    if environment is None:
        return None
    return f"{environment.hex()[:16]}-{hashlib.sha256(environment + name.encode()).hexdigest()}"


class Entries(NamedTuple):
    """The files of the cache.

    Attributes
    ----------
    own : list of Path
        Kernels of this installation.
    others : list of Path
        Files of other versions, environments and machines.
    metadata : list of Path
        Files of this installation other than kernels.
    """

    own: list[Path]
    others: list[Path]
    metadata: list[Path]


def entries() -> Entries:
    """Return the files of the cache; foreign files in the same folder are left out."""
    found = Entries([], [], [])
    folder = cache_folder.trusted_directory()
    for file in () if folder is None else folder.iterdir():
        if file.name == _semantics_key(sources.AT_START or ""):
            found.metadata.append(file)
        elif _ENTRY.fullmatch(file.name) and file.name.startswith(str(key(""))[:17]):
            found.own.append(file)
        elif _ENTRY.fullmatch(file.name) or cache_folder.UNFINISHED.fullmatch(file.name):
            found.others.append(file)
    return found


def read(name: str) -> bytes | None:
    """Return what `write` stored under a name, or None if there is no intact entry."""
    folder = cache_folder.trusted_directory()
    found = key(name) if folder else None  # the first call reads all sources
    return _read(folder, found) if found else None


def write(name: str, content: bytes) -> None:
    """Store an entry; do nothing if the folder is not writable."""
    folder = cache_folder.create_directory()
    found = key(name) if folder and sources.are_unchanged() else None
    if found:
        _write(folder, found, content)


def _read(folder: Path | None, key: str) -> bytes | None:
    if folder is None:
        return None
    try:
        content = cache_folder.read_file(folder / key)
    except cache_folder.UnsafeFileError as error:
        cache_folder.warn(
            f"a kernel in its cache {folder} is not safe, as it {error}; delete {key}"
        )
        return None
    if content is None:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return content if _digest(key, content) == digest else None


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _write(folder: Path | None, key: str, content: bytes) -> None:
    if folder is None:
        return
    with contextlib.suppress(OSError):
        cache_folder.write_file(folder / key, _digest(key, content) + content)
