"""What the suites that pytest runs have in common: two runs, and a library's functions replaced by fastact's."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import fastact as fa

_OUTCOME = re.compile(
    r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+)(?: - (.*))?$", re.MULTILINE
)
_REFUSED = "NotImplementedError: "  # in one line, instead of a wrong number


#: How many calls of the replaced functions fastact and the library have computed.
calls: Counter[str] = Counter()
_KINDS = {
    "PASSED": "passed",
    "XPASS": "passed",
    "FAILED": "failed",
    "ERROR": "failed",
    "REFUSED": "refused",
}
_SHOWN = ("passed", "failed", "refused", "skipped")


def run(tests: Iterable[str], plugin: Path | None) -> dict[str, str]:
    """Run tests in a process of their own, and return the outcome of each."""
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=line", "-c", os.devnull, *tests]
    if plugin is not None:
        command += ["-p", plugin.stem]
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "500"}
    with tempfile.TemporaryDirectory() as folder:  # not in ours, whose settings pytest would take
        found = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=folder, check=False
        )
    outcomes = {
        name: "REFUSED" if reason.startswith(_REFUSED) else outcome
        for outcome, name, reason in _OUTCOME.findall(found.stdout)
    }
    if not outcomes:
        raise RuntimeError(found.stdout + found.stderr)
    for line in re.findall(r"^(?:replaced|calls): .*$", found.stdout, re.MULTILINE):
        print(line)
    return outcomes


def compare(plugin: str, tests: Iterable[str]) -> int:
    """Run tests as they ship and with a plugin, print the counts, and return the exit status."""
    tests = [str(Path(each).resolve()) if Path(each).exists() else each for each in tests]
    before, after = run(tests, None), run(tests, Path(plugin))
    for name, outcomes in (("without", before), ("with", after)):
        counts = Counter(_KINDS.get(each, "skipped") for each in outcomes.values())
        print(f"{name:<8} fastact:", ", ".join(f"{counts[each]} {each}" for each in _SHOWN))
    changed = {name: after.get(name) for name, each in before.items() if each == "PASSED"}
    broken = [name for name, each in changed.items() if each not in ("PASSED", "REFUSED")]
    refused = [name for name, each in changed.items() if each == "REFUSED"]
    print("not implemented with fastact:", *(refused or ["none"]), sep="\n    ")
    print("fail with fastact only:", *(broken or ["none"]), sep="\n    ")
    return int(bool(broken))


def replace_functions(
    modules: Iterable[ModuleType], adapted: Callable[[str], Any]
) -> dict[Any, Any]:
    """Replace functions of modules by fastact's of the same name and value; return and print what has been replaced.

    Calls with what fastact does not take, such as complex numbers or options of other names, remain the library's.
    """
    x, replaced = np.linspace(0.1, 0.9, 4), {}
    print("\nreplaced:", end="")
    for module in modules:
        for name in fa.names("activation", "row"):
            definition = fa.get(name)._definition
            known = {name, *definition.aliases, *definition.elsewhere.values()}
            for theirs in sorted(known & vars(module).keys()):
                own = getattr(module, theirs)
                made = _replacement(own, adapted(name))
                try:
                    is_same = np.allclose(own(x), made(x))
                except TypeError:
                    continue
                if is_same:
                    setattr(module, theirs, made)
                    replaced[own] = made
                    print(f" {module.__name__}.{theirs}", end="")
    print()
    return replaced


def _replacement(theirs: Any, ours: Any) -> Any:
    """Return our function under the conventions of theirs."""
    axis = {}
    with suppress(ValueError):  # a ufunc has none
        parameters = inspect.signature(theirs).parameters
        axis = {"axis": parameters["axis"].default} if "axis" in parameters else {}

    def function(*args: Any, **options: Any) -> Any:
        if len(args) == 1:
            try:
                found = ours(*args, **{**axis, **options})
            except (TypeError, ValueError):
                pass
            else:
                calls["fastact"] += 1
                return found
        calls["the library"] += 1
        return theirs(*args, **options)

    function.__name__ = theirs.__name__
    return function
