"""The on-disk cache of machine code: never stale, never planted by someone else, never torn.

**Never stale.** The key of an entry is a digest of everything that its code depends on: the
semantics of fastact's sources (`fastact.runtime.sources`: comments and docstrings do not count),
the versions of the compiler's packages, the CPU, and the name of the kernel, which for a user's own
activation contains the digest of the snapshot that it is compiled from (`fastact.custom.snapshot`).
Compiler settings are not part of the key, because kernels are compiled with fixed ones
(`fastact.runtime.compiler`). A process whose sources were edited while it ran may have imported a
mixture, and stores nothing.

**Never planted.** Code from the cache is executed. So the folder is used only if nobody but this
user and root can write to it or to any folder above it, and an entry only if it belongs to one of
the two; see SECURITY.md.

**Never torn.** An entry is written under a temporary name and then renamed, and starts with a
digest of its key and content: a reader sees a whole entry or none. The next process deletes what a
killed one left behind.

The environment variable ``FASTACT_CACHE`` disables the cache (``0``) or sets its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numpy as np

from fastact.runtime import sources
from fastact.system.target import TARGET

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_DIGEST_BYTES = hashlib.sha256().digest_size
_ENTRY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")
_UNFINISHED = re.compile(r"tmp\w{8}\.part")
_HOMELESS = "this user has no home folder; set FASTACT_CACHE to a folder of its own"
_ABANDONED_AFTER = 3600  # seconds, on systems that cannot tell whether the writer is still alive


@cache
def directory() -> Path | None:
    """Return the folder of the cache, or None if it is disabled or the user has no home folder."""
    folder = _locate()
    if folder is None and not _is_disabled():
        _warn(_HOMELESS)
    return folder


def _is_disabled() -> bool:
    return os.environ.get("FASTACT_CACHE") == "0"


def _locate() -> Path | None:
    """Return what `directory` does, without a warning."""
    if _is_disabled():
        return None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(os.environ.get("FASTACT_CACHE") or f"{base}/fastact").expanduser()
    except RuntimeError:
        return None
    return Path(os.path.realpath(folder))


@cache
def _warn(reason: str) -> None:
    """Warn, once for each reason, that every process has to compile."""
    warnings.warn(
        f"fastact compiles its kernels anew in each process: {reason}", RuntimeWarning, stacklevel=2
    )


def _user() -> int | None:
    """Return the effective user id, or None on Windows, where permissions work differently."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def _trusted_directory() -> Path | None:
    """Return the folder of the cache if it exists and can be trusted."""
    folder = directory()
    if folder is None or not os.path.isdir(folder):  # False also without access
        return None
    reason = _distrust(folder, _user())
    if reason is None:
        return folder
    _warn(reason)
    return None


@cache
def _distrust(folder: Path, user: int | None) -> str | None:
    """Return why others could modify a folder's content; if they cannot, delete abandoned files."""
    with contextlib.suppress(OSError):
        for each in (folder, *folder.parents):
            fault = _fault(os.lstat(each), user, is_parent=each != folder)
            if fault:
                return (
                    f"its cache {folder} is not safe, as {each} {fault}; change that, or set "
                    "FASTACT_CACHE to a folder of your own"
                )
        for file in folder.iterdir():
            if _UNFINISHED.fullmatch(file.name):
                _delete_abandoned(file)
    return None


def why_unusable() -> str | None:
    """Return why kernels cannot be cached, or None if they can."""
    folder = directory()
    if folder is None:
        return "FASTACT_CACHE is 0" if _is_disabled() else _HOMELESS
    _create_directory()
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to"
    return _distrust(folder, _user())


def _fault(status: os.stat_result, user: int | None, *, is_parent: bool = False) -> str | None:
    """Return who else can modify a file or folder, or None.

    A sticky folder, such as /tmp, is fine as a parent: everybody can create files there, but only
    their owner can rename or delete them.
    """
    if user is None:
        return None
    if status.st_uid not in (0, user):
        return f"belongs to the user {status.st_uid}"
    is_sticky = bool(status.st_mode & stat.S_ISVTX) and is_parent
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
        return f"can be written to by others (its mode is {stat.S_IMODE(status.st_mode):o})"
    return None


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
    """Return `fastact.runtime.sources.semantic_digest`, cached on disk."""
    if sources.AT_START is None:
        return None
    key = _semantics_key(sources.AT_START)
    cached = _read(_trusted_directory(), key)
    if cached is not None:
        return cached.decode()
    semantics = sources.semantic_digest()
    if semantics is not None:
        _write(_create_directory(), key, semantics.encode())
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
    folder = _trusted_directory()
    for file in () if folder is None else folder.iterdir():
        if file.name == _semantics_key(sources.AT_START or ""):
            found.metadata.append(file)
        elif _ENTRY.fullmatch(file.name) and file.name.startswith(str(key(""))[:17]):
            found.own.append(file)
        elif _ENTRY.fullmatch(file.name) or _UNFINISHED.fullmatch(file.name):
            found.others.append(file)
    return found


def read(name: str) -> bytes | None:
    """Return what `write` stored under a name, or None if there is no intact entry."""
    folder = _trusted_directory()
    found = key(name) if folder else None  # the first call reads all sources
    return _read(folder, found) if found else None


def write(name: str, content: bytes) -> None:
    """Store an entry; do nothing if the folder is not writable."""
    folder = _create_directory()
    found = key(name) if folder and sources.are_unchanged() else None
    if found:
        _write(folder, found, content)


class UnsafeFileError(Exception):
    """A file in the cache's folder that others could have written; the message says why."""


def _read(folder: Path | None, key: str) -> bytes | None:
    if folder is None:
        return None
    try:
        content = _read_file(folder / key)
    except UnsafeFileError as error:
        _warn(f"a kernel in its cache {folder} is not safe, as it {error}; delete {key}")
        return None
    if content is None:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return content if _digest(key, content) == digest else None


def _read_file(path: Path) -> bytes | None:
    """Return the content of a regular file, or None if there is none that can be read."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            fault = _fault(status, _user())
            if fault:
                raise UnsafeFileError(fault)
            return file.read()
    except OSError:
        return None


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _write(folder: Path | None, key: str, content: bytes) -> None:
    if folder is None:
        return
    with contextlib.suppress(OSError):
        _write_file(folder / key, _digest(key, content) + content)


def _write_file(target: Path, content: bytes) -> None:
    descriptor, path = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file, _locked(descriptor):
            if hasattr(os, "fchmod"):  # a cache that root fills in an image serves all users
                os.fchmod(descriptor, 0o644)
            file.write(content)
        os.replace(path, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def read_beside(name: str) -> bytes | None:
    """Return the content of a file that `write_beside` has written, or None if there is none.

    Without a warning where there is no folder that can be trusted: whoever loads a kernel gets it.

    Raises
    ------
    UnsafeFileError
        If others could have written the file.
    """
    folder = _locate()
    if folder is None or not os.path.exists(folder / name) or _distrust(folder, _user()):
        return None
    return _read_file(folder / name)


def write_beside(name: str, content: bytes) -> None:
    """Write a file of another kind to the cache's folder, whole or not at all.

    Raises
    ------
    OSError
        If there is no folder that can be trusted and written to.
    """
    reason = why_unusable()
    folder = directory()
    if reason or folder is None:
        raise OSError(reason)
    _write_file(folder / name, content)


def _create_directory() -> Path | None:
    """Create the folder of the cache if needed, and return it if it can be trusted.

    Whatever the umask, nobody else can write to the created folders.
    """
    folder = directory()
    if folder is not None:
        with contextlib.suppress(OSError):
            for each in (*reversed(folder.parents), folder):
                if not each.exists():
                    each.mkdir(0o755, exist_ok=True)
    return _trusted_directory()


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Hold a lock that dies with the process: it tells `_delete_abandoned` that the writer lives."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield


def _delete_abandoned(path: Path) -> None:
    """Delete an unfinished file whose writer is dead."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except (AttributeError, OSError):  # no locks
            if time.time() - os.fstat(descriptor).st_mtime < _ABANDONED_AFTER:
                return
        finally:
            os.close(descriptor)
        path.unlink()
