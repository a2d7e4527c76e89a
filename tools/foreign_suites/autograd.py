"""autograd's own tests, without fastact and with it: ``python -m tools.foreign_suites.autograd [FOLDER]``.

The folder is that of the tests in autograd's source distribution, which pip downloads if it is not given. As a plugin of
pytest, this module replaces the functions of the same name in autograd.numpy and autograd.scipy.special by fastact's
primitives, so that autograd's checks of derivatives in both modes and to the second order check these. Tests that ask for
third derivatives are refused.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastact as fa

from .comparison import compare, outcomes

CALLS: Counter[str] = Counter()


def pytest_configure() -> None:
    """Replace autograd's functions."""
    import autograd.numpy
    import autograd.scipy.special

    from fastact.backends import autograd as backend

    replace_functions((autograd.numpy, autograd.scipy.special), lambda name: getattr(backend, name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Any:
    """Skip what asks for third derivatives, which fastact refuses."""
    try:
        return (yield)
    except NotImplementedError as error:
        pytest.skip(str(error))


def pytest_unconfigure() -> None:
    """Print what fastact has computed."""
    print("\ncalls of fastact:", ", ".join(f"{k} {n}" for k, n in sorted(CALLS.items())))
    assert CALLS


def replace_functions(modules: Iterable[ModuleType], adapted: Callable[[str], Any]) -> None:
    """Replace functions of modules by fastact's of the same name and value.

    Calls with what fastact does not take, such as complex numbers or options of other names, remain the library's.
    """
    x = np.linspace(0.1, 0.9, 4)
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
                CALLS[theirs.__name__] += 1
                return found
        return theirs(*args, **options)

    function.__name__ = theirs.__name__
    return function


def download(folder: str) -> Path:
    """Return the tests in the source distribution of the installed release."""
    release = f"autograd=={version('autograd')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:"]
    subprocess.run([*command, "--no-deps", "--dest", folder, release], check=True)
    (archive,) = Path(folder).glob("autograd-*.tar.gz")
    with tarfile.open(archive) as found:
        # Security releases have filters: Python 3.11.4 and later, but not Debian 12's.
        filters: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        found.extractall(folder, **filters)
    return Path(folder, archive.name.removesuffix(".tar.gz"), "tests")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        tests = [str(Path(*sys.argv[1:2]).resolve() if sys.argv[1:] else download(place))]
        found = [outcomes(tests), outcomes(tests, "tools.foreign_suites.autograd")]
    sys.exit(min(compare(*found), 1))
