"""autograd's own tests, with and without fastact: as they ship, and with its functions replaced by fastact's.

    pip download --no-binary :all: --no-deps autograd==1.9.1 && tar xzf autograd-1.9.1.tar.gz
    python tools/foreign_suites/autograd_checks.py autograd-1.9.1/tests

With fastact, its primitives replace the functions of the same name in autograd.numpy and autograd.scipy.special, so that
autograd's own checks of derivatives in both modes and to the second order check ours.
"""

from __future__ import annotations

import sys
from typing import Any

from pytest_runs import calls, compare, replace_functions


def pytest_configure(config: Any) -> None:
    """Replace autograd's functions: pytest loads this file as a plugin."""
    import autograd.numpy
    import autograd.scipy.special

    from fastact.backends import autograd as backend

    modules = autograd.numpy, autograd.scipy.special
    replace_functions(modules, lambda name: getattr(backend, name))


def pytest_unconfigure(config: Any) -> None:
    """Print who has computed."""
    print("\ncalls:", ", ".join(f"{count} by {each}" for each, count in calls.items()))


if __name__ == "__main__":
    sys.exit(compare(__file__, sys.argv[1:]))
