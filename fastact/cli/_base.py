"""The application: its help, its errors and exit codes, whatever the command.

Imported before all command modules, so that a missing typer is reported in one line.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

from fastact.cli._streams import adapt_streams, discard_output, flush_output
from fastact.system import hooks

MISSING = 'this needs the package {}, which is not installed: pip install "fastact[{}]"'
_WIDEST = 100  # columns of help

try:
    import typer
    from typer.core import TyperCommand, TyperGroup
except ModuleNotFoundError as error:
    raise SystemExit(f"fastact: {MISSING.format(error.name, 'cli')}") from None
except KeyboardInterrupt:
    raise SystemExit(130) from None

# Help ------------------------------------------------------------------------------------------


_HelpFormatter: Any = (
    typer.Context.formatter_class
)  # of Click, which some releases of Typer contain


class _Formatter(_HelpFormatter):
    """Leaves half of a narrow terminal to the descriptions."""

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class _Help:
    """The help of a command; an epilog consists of examples, one on each line."""

    def get_help(self, ctx: Any) -> str:
        ctx.formatter_class = _Formatter
        return str(super().get_help(ctx))  # type: ignore[misc]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if examples := self.epilog:  # type: ignore[attr-defined]
            with formatter.section("Examples"):
                for line in examples.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_Help, TyperCommand):
    """A command."""


class Group(_Help, TyperGroup):
    """A command with subcommands; of the whole application, the place where all errors arrive."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, those of a panel together."""
        panels: dict[str, list[tuple[str, str]]] = {}
        commands: Any = self.commands
        for name, each in commands.items():
            panel = each.rich_help_panel if isinstance(each.rich_help_panel, str) else "Commands"
            panels.setdefault(panel, []).append((name, each.get_short_help_str(1000)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command, and exit."""
        adapt_streams()
        extra["standalone_mode"] = False  # errors arrive here
        extra.setdefault("terminal_width", min(shutil.get_terminal_size().columns, _WIDEST))
        try:
            code = super().main(*args, **extra)
            flush_output()
        except OSError as error:
            code = 1
            if not isinstance(error, BrokenPipeError):
                complain(f"{error.filename}: {error.strerror}" if error.filename else error)
            discard_output()
        except Exception as error:
            if not hasattr(error, "show"):
                raise
            code = _report_usage(error)
        sys.exit(code)


def _report_usage(error: Any) -> int:
    """Print what is wrong with the arguments in one line; return the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        command = error.ctx.command_path if error.ctx else "fastact"
        complain(f"{message[:1].lower()}{message[1:]}; see {command} -h")
    return int(error.exit_code)


# The application -------------------------------------------------------------------------------


class App(typer.Typer):
    """An application, or a group of commands, in plain text: no frames, no colors, any width."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            cls=Group,
            no_args_is_help=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
            **settings,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a command; `epilog` has its examples, `rich_help_panel` the heading it stands under."""
        return super().command(name, cls=Command, **settings)


app = App()


def _print_version(wanted: bool) -> None:
    """Print the version and exit, if requested."""
    if wanted:
        import fastact

        print(f"fastact {fastact.__version__}")
        raise typer.Exit


@app.callback(
    epilog="fastact list\nfastact show gelu\nfastact plot relu silu mish\nfastact demo\nfastact cache warm relu"
)
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Fast activation functions for NumPy.

    Each command has help of its own, with examples: fastact bench -h.
    """
    from fastact.cli._output import tell_compilation

    hooks.compiling = tell_compilation
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fastact: %(message)s"))
    logging.getLogger("fastact").handlers = [handler]  # one, however often a process runs commands


# Errors ----------------------------------------------------------------------------------------


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
