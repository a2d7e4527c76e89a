"""SciPy's own tests of what fastact has too, without it and with it: ``python -m tools.foreign_suites.scipy``.

As a plugin of pytest, this module replaces the functions in the tests' modules, once these are imported. Calls that fastact
has no counterpart of, those with complex numbers and long doubles, go to SciPy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .comparison import compare, outcomes

TESTS = [f"scipy.special.tests.{each}" for each in ("test_logit", "test_logsumexp")]
#: fastact's names of functions in `scipy.special`.
NAMES = {
    "expit": "sigmoid",
    "log_expit": "logsigmoid",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "logsumexp": "logsumexp",
}


def replacement(own: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with SciPy's defaults."""
    import numpy as np

    import fastact as fa

    function: Any = fa.get(own)

    def call(x: Any, *args: Any, **options: Any) -> Any:
        is_known = len(args) < 2 and options.keys() <= {"axis", "keepdims"}
        array = np.asarray(x)
        if not is_known or array.dtype.char in "FDGg":
            return theirs(x, *args, **options)
        CALLS[own] = CALLS.get(own, 0) + 1
        if function.kind == "row" and not args:
            options = {"axis": None, **options}
        return function(x, *args, **options)

    return call


CALLS: dict[str, int] = {}


def pytest_collection_finish(session: Any) -> None:
    """Replace the functions."""
    for module in {item.module for item in session.items}:
        for theirs, own in NAMES.items():
            if hasattr(module, theirs):
                setattr(module, theirs, replacement(own, getattr(module, theirs)))


def pytest_sessionfinish() -> None:
    """Fail unless each has been called."""
    assert CALLS.keys() == set(NAMES.values()), CALLS


if __name__ == "__main__":
    sys.exit(min(compare(outcomes(TESTS), outcomes(TESTS, "tools.foreign_suites.scipy")), 1))
