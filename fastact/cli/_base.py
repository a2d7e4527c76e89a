"""The application: its help, and the place where all its errors arrive, whatever the command."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fastact.cli._errors import check_names, complain, fail, require_extra
from fastact.cli._output import tell_compilation
from fastact.cli._streams import adapt_streams, discard_output, flush_output
from fastact.system import hooks

__all__ = ["App", "app", "check_names", "complain", "fail", "require_extra"]

_WIDEST = 100  # columns of help

# Help ------------------------------------------------------------------------------------------


# It is Click's, which some releases of Typer contain.
_HelpFormatter: Any = typer.Context.formatter_class


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
    hooks.compiling = tell_compilation
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fastact: %(message)s"))
    logging.getLogger("fastact").handlers = [handler]  # one, however often a process runs commands
