"""SciPy's own tests of expit, log_expit, softmax, log_softmax and logsumexp, with and without fastact in their place.

    python tools/foreign_suites/scipy_special.py

The tests are those that SciPy's wheel ships.
"""

from __future__ import annotations

import sys
from typing import Any

from pytest_runs import calls, compare, replace_functions

TESTS = ("test_logit", "test_logsumexp")


def pytest_configure(config: Any) -> None:
    """Replace SciPy's functions: pytest loads this file as a plugin."""
    import scipy.special
    from scipy._lib._array_api import xp_capabilities_table

    import fastact as fa

    for theirs, ours in replace_functions([scipy.special], fa.get).items():
        if theirs in xp_capabilities_table:
            xp_capabilities_table[ours] = xp_capabilities_table[theirs]


def pytest_unconfigure(config: Any) -> None:
    """Print who has computed."""
    print("\ncalls:", ", ".join(f"{count} by {each}" for each, count in calls.items()))


if __name__ == "__main__":
    sys.exit(compare(__file__, ["--pyargs", *(f"scipy.special.tests.{name}" for name in TESTS)]))
