"""The application, and error messages that all commands share.

Imported before all command modules, so that a missing typer is reported in one line.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

MISSING = 'fastact: this needs the package {}, which is not installed: pip install "fastact[{}]"'

try:
    import typer
except ModuleNotFoundError as error:
    raise SystemExit(MISSING.format(error.name, "demo")) from None

app = typer.Typer(
    help="Fast activation functions for NumPy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def _print_version(wanted: bool) -> None:
    """Print the version and exit, if requested."""
    if wanted:
        import fastact

        typer.echo(f"fastact {fastact.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Fast activation functions for NumPy."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fastact: %(message)s"))
    logger = logging.getLogger("fastact")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]  # one, however often a process runs commands


def fail(message: object, code: int = 2) -> NoReturn:
    """Print an error and exit; code 2 means wrong arguments."""
    typer.echo(f"fastact: {message}", err=True)
    raise typer.Exit(code) from None


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Replace the traceback of a missing package by one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "fastact").startswith("fastact"):
            raise  # a bug in fastact
        typer.echo(MISSING.format(error.name, extra), err=True)
        raise typer.Exit(1) from None


def check_names(kind: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise a ValueError that lists the allowed names if one is unknown."""
    for name in names:
        if name not in allowed:
            raise ValueError(f"there is no {kind} {name!r} here; there are {', '.join(allowed)}")
