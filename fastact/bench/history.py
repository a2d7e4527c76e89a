"""The history of fastact's speed: asv measures commits of a clone, and its pages draw them.

Results are kept in the clone (``results_dir`` of asv.conf.json), in a folder for each kind of machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastact
from fastact.system.machine import available_cpus
from fastact.system.target import TARGET

CONFIGURATION = "asv.conf.json"
#: Where a clone keeps what the pages load from elsewhere.
SCRIPTS = Path("benchmarks", "scripts")
#: Of all branches, only changes of these files may change a result.
MEASURED = "fastact"

_FROM_ELSEWHERE = re.compile(
    r"""<(?P<tag>script|link)\b[^>]*\b(?P<attribute>src|href)="https?://[^"]*/(?P<name>[^"/]+)"[^>]*>"""
)


def find_clone(start: Path) -> Path:
    """Return the clone that a folder is in, or the one that this package is run from.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    start = start.resolve()
    for folder in (start, *start.parents, Path(fastact.__file__).resolve().parents[1]):
        if (folder / CONFIGURATION).is_file() and (folder / "benchmarks").is_dir():
            return folder
    raise FileNotFoundError(f"no clone of the repository here: {start} is in none")


def machine_name() -> str:
    """Return the name of this kind of machine: its results are one line in the graphs."""
    return f"{TARGET.cpu}-{available_cpus()}-cpus"


def spread_commits(clone: Path, count: int) -> list[str]:
    """Return commits that are evenly spread over those that changed the package, newest first."""
    listed = _git(clone, "rev-list", "--first-parent", "HEAD", "--", MEASURED).split()
    last = max(1, min(count, len(listed)) - 1)
    return [listed[round(i * (len(listed) - 1) / last)] for i in range(min(count, len(listed)))]


def is_shallow(clone: Path) -> bool:
    """Whether a clone lacks commits, so that its graphs are short."""
    return _git(clone, "rev-parse", "--is-shallow-repository").strip() == "true"


def measure(clone: Path, commits: Sequence[str]) -> int:
    """Measure the commits that have no results on this kind of machine, and return asv's exit code.

    Each commit's results are kept when it is done, and asv asks nothing.
    """
    _register_machine()
    with _file_of_lines(clone, commits) as hashes:
        command = ["run", "--machine", machine_name(), "--skip-existing-commits", "--show-stderr"]
        return int(_asv(clone, *command, f"HASHFILE:{hashes}").returncode)


def publish(clone: Path, pages: Path) -> list[str]:
    """Write the pages to a folder, and return what they still load from elsewhere.

    Raises
    ------
    RuntimeError
        If asv fails; the message is its output.
    """
    done = _asv(clone, "publish", "--html-dir", str(pages.resolve()), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"asv publish failed:\n{done.stdout}{done.stderr}".rstrip())
    return make_local(pages, clone / SCRIPTS)


def make_local(pages: Path, scripts: Path) -> list[str]:
    """Let pages load copies of scripts and style sheets, and return the names of those that there are no copies of."""
    missing = []
    index = pages / "index.html"

    def local(match: re.Match[str]) -> str:
        name = match["name"]
        for copy in (name, name.replace(".min.", ".")):
            if (scripts / copy).is_file():
                shutil.copyfile(scripts / copy, pages / copy)
                kind = ' rel="stylesheet"' if match["tag"] == "link" else ""
                return f'<{match["tag"]}{kind} {match["attribute"]}="{copy}">'
        missing.append(name)
        return match[0]

    index.write_text(_FROM_ELSEWHERE.sub(local, index.read_text()))
    return missing


def server(pages: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of the pages for this machine only, on a free port if the wanted one is taken."""
    handler = partial(_QuietHandler, directory=str(pages))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)


class _QuietHandler(SimpleHTTPRequestHandler):
    """A handler that prints no line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _register_machine() -> None:
    """Tell asv what this machine is, which it would ask on the terminal."""
    from asv.machine import Machine, MachineCollection

    MachineCollection.save(machine_name(), {**Machine.get_defaults(), "machine": machine_name()})


@contextmanager
def _file_of_lines(clone: Path, lines: Sequence[str]) -> Iterator[Path]:
    """Write lines to a file for as long as the context lasts."""
    folder = clone / ".asv"
    folder.mkdir(exist_ok=True)
    file = folder / "commits"
    file.write_text("\n".join(lines) + "\n")
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def _asv(clone: Path, *arguments: str, capture_output: bool = False) -> Any:
    command = [sys.executable, "-m", "asv", *arguments]
    return subprocess.run(command, cwd=clone, text=True, check=False, capture_output=capture_output)


def _git(clone: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=clone, text=True, capture_output=True, check=True
    )
    return done.stdout
