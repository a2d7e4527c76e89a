"""Errors of commands, a line each.

Imported before all other modules of the command line, so that a missing typer is reported in one line, too.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

MISSING = 'this needs the package {}, which is not installed: pip install "fastact[{}]"'

try:
    import typer
except ModuleNotFoundError as error:
    raise SystemExit(f"fastact: {MISSING.format(error.name, 'cli')}") from None
except KeyboardInterrupt:
    raise SystemExit(130) from None


def complain(message: object) -> None:
    """Print a line on standard error."""
    print(f"fastact: {message}", file=sys.stderr, flush=True)


def fail(message: object, code: int = 2) -> NoReturn:
    """Print an error and exit; code 2 means wrong arguments."""
    complain(message)
    raise typer.Exit(code) from None


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Replace the traceback of a missing package by one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "fastact").startswith("fastact"):
            raise  # a bug in fastact
        complain(MISSING.format(error.name, extra))
        raise typer.Exit(1) from None


def check_names(kind: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise a ValueError that lists the allowed names if one is unknown."""
    for name in names:
        if name not in allowed:
            raise ValueError(f"there is no {kind} {name!r} here; there are {', '.join(allowed)}")
