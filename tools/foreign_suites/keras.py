"""Keras' own tests of activations on its NumPy backend, without fastact and with it: ``python -m tools.foreign_suites.keras``.

As a plugin of pytest, this module patches Keras before it imports the tests. They need absl-py and JAX, as that backend does.
"""

from __future__ import annotations

import os
import sys

from .comparison import compare, outcomes

TESTS = [f"keras.src.{each}" for each in ("ops.nn_test", "activations", "layers.activations")]


def pytest_configure() -> None:
    """Patch Keras."""
    from fastact.backends.keras import patch

    patch()


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "numpy"
    sys.exit(min(compare(outcomes(TESTS), outcomes(TESTS, "tools.foreign_suites.keras")), 1))
