"""Machine code on disk: an entry is found only by whoever would compile the very same thing.

The key of an entry is a digest of everything that the code depends on: all of fastact's sources, the
versions of what compiles, the CPU and the name of the kernel. So an upgrade, another machine or an
edited file never meets old code, and no two kernels share an entry. An entry is written under another name
and then renamed, and starts with a digest of its content: a reader sees a whole entry or none.

The environment variable ``FASTACT_CACHE`` turns the cache off (``0``) or names its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import re
import sys
import tempfile
from functools import cache
from pathlib import Path

from fastact.target import TARGET

_DIGEST_BYTES = hashlib.sha256().digest_size
# A key, or what an interrupted write has left.
_ENTRY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}|tmp\w{8}\.part")


@cache
def directory() -> Path | None:
    """Return the folder of the cache, or None where it is turned off."""
    chosen = os.environ.get("FASTACT_CACHE")
    if chosen == "0":
        return None
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fastact"


@cache
def _environment() -> bytes:
    """Digest all that one process's kernels have in common."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    compilers = [importlib.metadata.version(name) for name in ("numba", "llvmlite")]
    digest.update(repr((compilers, sys.version_info, sys.platform, TARGET)).encode())
    return digest.digest()


def _prefix() -> str:
    """Return how the names of all entries begin that this installation can use on this machine."""
    return f"{_environment().hex()[:16]}-"


def key(name: str) -> str:
    """Return the key of the kernel of this name."""
    return _prefix() + hashlib.sha256(_environment() + name.encode()).hexdigest()


def entries() -> tuple[list[Path], list[Path]]:
    """Return the files of the cache: those of this installation, and those that others have left there."""
    folder = directory()
    if folder is None or not folder.is_dir():
        return [], []
    # Nothing else is touched, should somebody have chosen a folder with other files in it.
    files = [file for file in folder.iterdir() if _ENTRY.fullmatch(file.name)]
    own = [file for file in files if file.name.startswith(_prefix())]
    return own, [file for file in files if file not in own]


def read(name: str) -> bytes | None:
    """Return what `write` stored, or None where nothing whole is found."""
    folder = directory()
    if folder is None:
        return None
    try:
        content = (folder / key(name)).read_bytes()
    except OSError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def write(name: str, content: bytes) -> None:
    """Store an entry. A folder that cannot be written to leaves the cache as it is."""
    folder = directory()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            file.write(hashlib.sha256(content).digest() + content)
        try:
            os.replace(file.name, folder / key(name))
        except OSError:
            os.unlink(file.name)
