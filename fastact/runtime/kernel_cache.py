"""Machine code on disk: an entry is found only by whoever would compile the very same thing, and by nobody else's doing.

**Nothing stale.** The key of an entry is a digest of everything that the code depends on: what fastact's sources do
(`fastact.runtime.sources`; comments and docstrings do nothing), the versions of what compiles, the CPU, and the name of the
kernel, which for a user's own activation holds the digest of the snapshot that it is compiled from
(`fastact.custom.snapshot`). Settings of the compiler are not in it, as kernels are compiled with fixed ones
(`fastact.runtime.compiler`). A process that may have loaded sources of two kinds, because they have been edited meanwhile,
stores nothing.

**Nothing planted.** Code from the cache is run. So the folder is used only where nobody but this user and root can
write to it or to a folder above it, and an entry only if it is one of theirs; see SECURITY.md.

**Nothing broken.** An entry is written under another name and then renamed, and starts with a digest of its key and its
content: a reader sees a whole entry or none. What a killed process leaves, the next one deletes.

The environment variable ``FASTACT_CACHE`` turns the cache off (``0``) or names its folder.
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
_ABANDONED_AFTER = 3600  # seconds, where the system does not tell whether the writer still lives


@cache
def directory() -> Path | None:
    """Return the folder of the cache, or None where it is turned off or there is no home to keep it in."""
    chosen = os.environ.get("FASTACT_CACHE")
    if chosen == "0":
        return None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(chosen or f"{base}/fastact").expanduser()
    except RuntimeError:
        _warn(_HOMELESS)
        return None
    return Path(os.path.realpath(folder))


@cache
def _warn(reason: str) -> None:
    """Warn, once of each reason, of whatever slows every process down."""
    warnings.warn(
        f"fastact compiles its kernels anew in each process: {reason}", RuntimeWarning, stacklevel=2
    )


def _user() -> int | None:
    """Return the number of the user, or None on Windows, whose rights are others."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def _usable_directory() -> Path | None:
    """Return the folder of the cache if it is there and can be trusted."""
    folder = directory()
    if folder is None or not os.path.isdir(folder):  # False too where it is out of reach
        return None
    reason = _distrust(folder, _user())
    if reason is None:
        return folder
    _warn(reason)
    return None


@cache
def _distrust(folder: Path, user: int | None) -> str | None:
    """Say why somebody else could change what is in a folder, if so; else sweep it."""
    with contextlib.suppress(OSError):
        for place in (folder, *folder.parents):
            fault = _fault(os.lstat(place), user, is_above=place != folder)
            if fault:
                return (
                    f"its cache {folder} is not safe, as {place} {fault}; change that, or set "
                    "FASTACT_CACHE to a folder of your own"
                )
        for file in folder.iterdir():
            if _UNFINISHED.fullmatch(file.name):
                _delete_abandoned(file)
    return None


def trouble() -> str | None:
    """Say why kernels cannot be kept, if they cannot."""
    folder = directory()
    if folder is None:
        return "FASTACT_CACHE is 0" if os.environ.get("FASTACT_CACHE") == "0" else _HOMELESS
    _made_directory()
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to"
    return _distrust(folder, _user())


def _fault(status: os.stat_result, user: int | None, *, is_above: bool = False) -> str | None:
    """Say who else can change a file or folder, if anybody can.

    In a sticky folder, such as /tmp, everybody can make files, but only their owner can rename or delete them: it may
    stand above.
    """
    if user is None:
        return None
    if status.st_uid not in (0, user):
        return f"belongs to the user {status.st_uid}"
    is_sticky = bool(status.st_mode & stat.S_ISVTX) and is_above
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
        return f"can be written to by others (its mode is {stat.S_IMODE(status.st_mode):o})"
    return None


@cache
def _environment() -> bytes | None:
    """Digest all that one process's kernels have in common; None where that cannot be told."""
    meaning = _meaning()
    if meaning is None:
        return None
    system = sys.version_info, sys.platform, getattr(sys.implementation, "_multiarch", "")
    versions = _release_of_numba(), llvmlite.__version__, np.__version__
    return hashlib.sha256(repr((meaning, versions, system, TARGET)).encode()).digest()


def _release_of_numba() -> bytes | str:
    """Return what tells one release of Numba from another, mostly without importing it."""
    spec: Any = importlib.util.find_spec("numba")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        # `importlib.metadata` takes 7 ms to say the same, a twentieth of a process's first result.
        file = os.path.join(os.path.dirname(spec.origin), "_version.py")
        text: bytes = spec.loader.get_data(file)
        if b'"version":' in text:  # a release, and no clone of its repository
            return text
    return str(importlib.import_module("numba").__version__)


def _meaning() -> str | None:
    """Return `fastact.runtime.sources.meaning_digest`, from the cache or anew."""
    if sources.AT_START is None:
        return None
    key = _meaning_key(sources.AT_START)
    kept = _read(_usable_directory(), key)
    if kept is not None:
        return kept.decode()
    meaning = sources.meaning_digest()
    if meaning is not None:
        _write(_made_directory(), key, meaning.encode())
    return meaning


def _meaning_key(text_digest: str) -> str:
    return f"{text_digest[:16]}-{hashlib.sha256(f'meaning {text_digest}'.encode()).hexdigest()}"


def key(name: str) -> str | None:
    """Return the key of the kernel of this name, or None where the cache cannot be used."""
    environment = _environment()
    if environment is None:
        return None
    return f"{environment.hex()[:16]}-{hashlib.sha256(environment + name.encode()).hexdigest()}"


class Entries(NamedTuple):
    """The files of the cache.

    Attributes
    ----------
    own : list of Path
        The kernels of this installation.
    others : list of Path
        What others have left there.
    notes : list of Path
        What this installation keeps beside its kernels.
    """

    own: list[Path]
    others: list[Path]
    notes: list[Path]


def entries() -> Entries:
    """Return the files of the cache; others, should somebody have chosen a folder with such in it, are not touched."""
    found = Entries([], [], [])
    folder = _usable_directory()
    for file in () if folder is None else folder.iterdir():
        if file.name == _meaning_key(sources.AT_START or ""):
            found.notes.append(file)
        elif _ENTRY.fullmatch(file.name) and file.name.startswith(str(key(""))[:17]):
            found.own.append(file)
        elif _ENTRY.fullmatch(file.name) or _UNFINISHED.fullmatch(file.name):
            found.others.append(file)
    return found


def read(name: str) -> bytes | None:
    """Return what `write` stored, or None where nothing whole is found."""
    folder = _usable_directory()
    found = key(name) if folder else None  # the first of which reads all sources
    return _read(folder, found) if found else None


def write(name: str, content: bytes) -> None:
    """Store an entry. A folder that cannot be written to leaves the cache as it is."""
    folder = _made_directory()
    found = key(name) if folder and sources.are_unchanged() else None
    if found:
        _write(folder, found, content)


def _read(folder: Path | None, key: str) -> bytes | None:
    if folder is None:
        return None
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(folder / key, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            fault = _fault(status, _user())
            if fault:
                _warn(f"a kernel in its cache {folder} is not safe, as it {fault}; delete {key}")
                return None
            content = file.read()
    except OSError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return content if _digest(key, content) == digest else None


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _write(folder: Path | None, key: str, content: bytes) -> None:
    if folder is None:
        return
    with contextlib.suppress(OSError):
        descriptor, path = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file, _locked(descriptor):
                if hasattr(os, "fchmod"):  # what root has put into an image serves all its users
                    os.fchmod(descriptor, 0o644)
                file.write(_digest(key, content) + content)
            os.replace(path, folder / key)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise


def _made_directory() -> Path | None:
    """Return the folder of the cache, made if need be, if it can be trusted.

    Whatever the umask allows, nobody else can write to the folders that are made.
    """
    folder = directory()
    if folder is not None:
        with contextlib.suppress(OSError):
            for place in (*reversed(folder.parents), folder):
                if not place.exists():
                    place.mkdir(0o755, exist_ok=True)
    return _usable_directory()


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Hold a lock, which ends with its process at the latest: `_delete_abandoned` sees who still writes."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield


def _delete_abandoned(path: Path) -> None:
    """Delete an unfinished file whose writer has died."""
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
