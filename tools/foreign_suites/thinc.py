"""thinc's own tests with `NumpyOps`, and with `FastactOps` under its name: ``python -m tools.foreign_suites.thinc``.

As a plugin of pytest, this module replaces `NumpyOps`, which is also what models take by default. The tests need ``mock``.
"""

from __future__ import annotations

import sys

import thinc.api
import thinc.backends

from .comparison import compare, outcomes

# The others compute no activations.
TESTS = [f"thinc.tests.{each}" for each in ("backends.test_ops", "layers", "model", "test_loss")]


def pytest_configure() -> None:
    """Replace `NumpyOps` before the tests import it."""
    from fastact.backends.thinc import FastactOps

    replacement = type("NumpyOps", (FastactOps,), {"name": "numpy"})
    thinc.api.registry.ops("NumpyOps")(replacement)
    thinc.api.NumpyOps = thinc.backends.NumpyOps = replacement


if __name__ == "__main__":
    sys.exit(min(compare(outcomes(TESTS), outcomes(TESTS, "tools.foreign_suites.thinc")), 1))
