"""Checks of what is installed, and of what fastact keeps."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from fastact.bench.checkup.remarks import Remark, Tell, better, good, size_of, wrong

PIP = "python -m pip install"
_LITTLE_DISK = 2**26


def versions(tell: Tell) -> Iterator[Remark]:
    """Compare the packages with what the installed metadata asks for."""
    import fastact

    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield good(f"{python} on {platform.platform(terse=True)}")
    found = [f"fastact {fastact.__version__}"]
    faults = []
    for name, least in (*required(), ("llvmlite", "")):
        number = _version(name)
        found.append(f"{name} {number or 'missing'}")
        # Without TBB, OpenMP serves: the check of threads says so.
        is_old = number and _as_numbers(number) < _as_numbers(least)
        if is_old or not (number or name == "tbb"):
            faults.append(
                wrong(f"fastact needs {name}>={least}", f'{PIP} --upgrade "{name}>={least}"')
            )
    yield good(", ".join(found))
    yield from faults
    missing = [name for name, _ in required("cli") if not _version(name)]
    if missing:
        yield better(
            f"some commands need {', '.join(missing)}, which is not installed",
            f'{PIP} "fastact[cli]"',
        )


def required(extra: str = "") -> list[tuple[str, str]]:
    """Return the packages that fastact, or an extra, asks for on this machine, with their lower bounds."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        found = []
        for line in metadata.requires("fastact") or ():
            what, _, marker = line.partition(";")
            of = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
            name, _, least = what.strip().partition(">=")
            is_here = "platform_machine" not in marker or platform.machine() in marker
            if is_here and (of[1] if of else "") == extra:
                found.append((name, least.partition(",")[0].strip()))
        return found
    return [(name, "") for name in ("numpy", "numba", "tbb")] if not extra else []


def _version(name: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return ""


def _as_numbers(version: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", version)[:3]]


def kernel_cache(tell: Tell) -> Iterator[Remark]:
    """Say where compiled kernels are kept, and why not if they are not."""
    from fastact.runtime import cache_folder, kernel_cache

    folder, reason = cache_folder.directory(), cache_folder.why_unusable()
    if folder is None:
        state = better if os.environ.get("FASTACT_CACHE") == "0" else wrong
        yield state(
            f"none: {reason}. Each process compiles anew, a second for each kernel",
            "unset FASTACT_CACHE, or set it to a folder of your own",
        )
        return
    found = kernel_cache.entries()
    if reason and not found.own:
        yield wrong(
            f"not used: {reason}. Each process compiles anew, a second for each kernel",
            "make that folder writable by you alone (chown, chmod go-w), or set FASTACT_CACHE to one that is",
        )
        return
    yield good(f"{folder}, trusted: {_kernels(found.own)} of this installation")
    if reason:
        yield better(
            f"new kernels are not kept: {reason}", "fill it as its owner: fastact cache warm"
        )
        return
    if found.others:
        yield better(
            f"{_kernels(found.others)} of other versions, environments or machines",
            "fastact cache clear --others, unless they are in use",
        )
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_DISK:
        yield better(
            f"its disk is full: {size_of(free)} are left", "make room, or set FASTACT_CACHE"
        )


def _kernels(files: Sequence[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    return f"{len(files)} kernel{'s' * (len(files) != 1)} ({size_of(size)})"


def settings(tell: Tell) -> Iterator[Remark]:
    """Say what each setting is, and where it comes from."""
    from fastact.runtime import settings

    known = {each.variable for each in settings.TABLE} | {"FASTACT_CACHE"}
    for name, each in settings.info().items():
        number = f"{each.value:,}" if isinstance(each.value, int) else each.value
        if name != "kernel_cache":
            yield good(f"{name}: {number} {each.unit} ({each.source}: {each.reason})")
    for name in sorted(os.environ.keys() - known):
        if name.startswith("FASTACT_"):
            others = ", ".join(sorted(filter(None, known)))
            yield better(f"{name} is set, which means nothing here", f"there are {others}")
    if settings.measured() is None:
        yield better(
            "the thresholds are defaults, measured on other machines",
            "fastact tune measures them here, in a minute",
        )
