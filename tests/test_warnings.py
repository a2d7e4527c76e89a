"""Which warnings are errors in a run of the tests: those of our own code, and never what others deprecate."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_process import run_python


def function_of(module: str, body: str) -> Callable[[], Any]:
    """Return a function of no arguments as if a module had defined it."""
    names = {"__name__": module, "np": np, "warnings": warnings}
    exec(f"def function():\n{textwrap.indent(body, '    ')}", names)
    function: Callable[[], Any] = names["function"]
    return function


@pytest.mark.parametrize(
    "kind", ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"]
)
@pytest.mark.parametrize("caller", ["fastact.somewhere", "test_something", "somebody"])
def test_deprecations(kind: str, caller: str) -> None:
    """They are told, and no errors, be they blamed on the caller (level 2) or not."""
    for level in 1, 2:
        deprecated = function_of("somebody", f"warnings.warn('is old', {kind}, {level})")
        call = function_of(caller, "deprecated()")
        call.__globals__["deprecated"] = deprecated
        with warnings.catch_warnings(record=True) as told:
            call()
        assert [each.category.__name__ for each in told] == [kind]


def test_warnings_of_others() -> None:
    """They are told."""
    with warnings.catch_warnings(record=True) as told:
        function_of("somebody", "warnings.warn('is slow')")()
        function_of("somebody", "return np.array(1.0) / 0")()
    assert [each.category for each in told] == [UserWarning, RuntimeWarning]


@pytest.mark.parametrize(
    "body", ["return np.array(1.0) / 0", "return np.array([np.inf, -np.inf]).mean()"]
)
@pytest.mark.parametrize("module", ["fastact.somewhere", "benchmarks.calls", __name__, "cases"])
def test_arithmetic_of_our_own(module: str, body: str) -> None:
    """What NumPy complains of in a call of ours is an error, in its own functions as well."""
    with pytest.raises(RuntimeWarning):
        function_of(module, body)()


@pytest.mark.parametrize("module", ["fastact", "fastact.somewhere", "benchmarks.calls", __name__])
def test_other_warnings_of_our_own(module: str) -> None:
    """Whatever their kind."""
    with pytest.raises(UserWarning):
        function_of(module, "warnings.warn('is slow')")()


def test_compilation_warns_of_nothing(tmp_path: Path) -> None:
    """Nor does reading a kernel's references ask other modules for names that they deprecate."""
    done = run_python(
        """
        import fastact as fa

        print(fa.softmax_cross_entropy([[1.0, 2.0]], [0]), fa.relu([-1.0, 2.0]))
        """,
        "-W",
        "error",
        FASTACT_CACHE=str(tmp_path),
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("1.31326")
