"""scikit-learn's own tests of ``neural_network``, plain, patched, and patched and back: ``python -m tools.foreign_suites.sklearn``.

As a plugin of pytest, this module patches scikit-learn before it imports the tests; ``FASTACT_UNPATCH=1`` takes that back.
"""

from __future__ import annotations

import os
import sys

from .comparison import compare, outcomes

TESTS = ["sklearn.neural_network"]
PLUGIN = "tools.foreign_suites.sklearn"


def pytest_configure() -> None:
    """Patch scikit-learn."""
    from sklearn.neural_network._base import ACTIVATIONS, DERIVATIVES

    from fastact.backends.sklearn import patch, unpatch

    before = [dict(ACTIVATIONS), dict(DERIVATIVES)]
    patch()
    assert before != [ACTIVATIONS, DERIVATIVES]
    if os.environ.get("FASTACT_UNPATCH"):
        unpatch()
        assert before == [ACTIVATIONS, DERIVATIVES]


if __name__ == "__main__":
    without = outcomes(TESTS)
    worse = compare(without, outcomes(TESTS, PLUGIN))
    os.environ["FASTACT_UNPATCH"] = "1"
    print("patched and back:")
    worse += compare(without, outcomes(TESTS, PLUGIN))
    sys.exit(min(worse, 1))
