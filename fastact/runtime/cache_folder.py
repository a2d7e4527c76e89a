"""The folder of the kernel cache, and files in it that nobody else can have planted or torn.

**Never planted.** Code from the cache is executed. So the folder is used only if nobody but this
user and root can write to it or to any folder above it, and a file only if it belongs to one of the
two; see SECURITY.md.

**Never torn.** A file is written under a temporary name and then renamed: a reader sees a whole one
or none. The next process deletes what a killed one left behind.

The environment variable ``FASTACT_CACHE`` disables the cache (``0``) or sets its folder.
"""

from __future__ import annotations

import contextlib
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

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = re.compile(r"tmp\w{8}\.part")
_HOMELESS = "this user has no home folder; set FASTACT_CACHE to a folder of its own"
_ABANDONED_AFTER = 3600  # seconds, on systems that cannot tell whether the writer is still alive


@cache
def directory() -> Path | None:
    """Return the folder of the cache, or None if it is disabled or the user has no home folder."""
    folder = _locate()
    if folder is None and not _is_disabled():
        warn(_HOMELESS)
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
def warn(reason: str) -> None:
    """Warn, once for each reason, that every process has to compile."""
    warnings.warn(
        f"fastact compiles its kernels anew in each process: {reason}", RuntimeWarning, stacklevel=2
    )


def _user() -> int | None:
    """Return the effective user id, or None on Windows, where permissions work differently."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def trusted_directory() -> Path | None:
    """Return the folder of the cache if it exists and can be trusted."""
    folder = directory()
    if folder is None or not os.path.isdir(folder):  # False also without access
        return None
    reason = distrust(folder, _user())
    if reason is None:
        return folder
    warn(reason)
    return None


@cache
def distrust(folder: Path, user: int | None) -> str | None:
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
            if UNFINISHED.fullmatch(file.name):
                _delete_abandoned(file)
    return None


def why_unusable() -> str | None:
    """Return why kernels cannot be cached, or None if they can."""
    folder = directory()
    if folder is None:
        return "FASTACT_CACHE is 0" if _is_disabled() else _HOMELESS
    create_directory()
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to"
    return distrust(folder, _user())


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


def create_directory() -> Path | None:
    """Create the folder of the cache if needed, and return it if it can be trusted.

    Whatever the umask, nobody else can write to the created folders.
    """
    folder = directory()
    if folder is not None:
        with contextlib.suppress(OSError):
            for each in (*reversed(folder.parents), folder):
                if not each.exists():
                    each.mkdir(0o755, exist_ok=True)
    return trusted_directory()


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


class UnsafeFileError(Exception):
    """A file in the cache's folder that others could have written; the message says why."""


def read_file(path: Path) -> bytes | None:
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


def write_file(target: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
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


def read(name: str) -> bytes | None:
    """Return the content of a file that `write` has written, or None if there is none.

    Without a warning where there is no folder that can be trusted: whoever loads a kernel gets it.

    Raises
    ------
    UnsafeFileError
        If others could have written the file.
    """
    folder = _locate()
    if folder is None or not os.path.exists(folder / name) or distrust(folder, _user()):
        return None
    return read_file(folder / name)


def write(name: str, content: bytes) -> None:
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
    write_file(folder / name, content)
