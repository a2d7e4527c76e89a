"""numpy-ml's own tests of activations, without fastact and with it: ``python -m tools.foreign_suites.numpy_ml``.

As a plugin of pytest, this module replaces numpy-ml's activations that fastact has before the tests import them;
``FASTACT_PLAIN=1`` leaves them. The tests need PyTorch and SciPy.
"""

from __future__ import annotations

import collections
import collections.abc
import os
import sys
from collections.abc import Callable
from typing import Any

from .comparison import compare, outcomes

TESTS = ["numpy_ml.tests.test_nn_activations"]
PLUGIN = "tools.foreign_suites.numpy_ml"

# numpy-ml 0.1.2 imports it from there, where it is no more since Python 3.10.
vars(collections)["Hashable"] = collections.abc.Hashable


def replacement(name: str) -> Callable[..., Any]:
    """Return what makes an activation, with parameters in the order of its own."""
    from fastact import get
    from fastact.backends.numpy_ml import Activation

    def make(*args: Any, **options: Any) -> Any:
        values = (*args, *options.values())
        return Activation(name, **dict(zip(get(name).parameters, values, strict=False)))

    return make


def pytest_configure() -> None:
    """Replace activations."""
    from numpy_ml.neural_nets import activations

    import fastact

    if os.environ.get("FASTACT_PLAIN"):
        return
    known = {name.replace("_", ""): name for name in fastact.names("activation")}
    theirs = [each for each in vars(activations) if each.lower() in known]
    assert theirs
    for each in theirs:
        setattr(activations, each, replacement(known[each.lower()]))


if __name__ == "__main__":
    os.environ["FASTACT_PLAIN"] = "1"
    without = outcomes(TESTS, PLUGIN)
    del os.environ["FASTACT_PLAIN"]
    sys.exit(min(compare(without, outcomes(TESTS, PLUGIN)), 1))
