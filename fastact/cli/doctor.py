"""``fastact doctor``."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from fastact.cli._output import AsJson, write_json
from fastact.system import hooks

if TYPE_CHECKING:
    from fastact.bench.checkup import Finding, State

_COLORS = (typer.colors.GREEN, typer.colors.YELLOW, typer.colors.RED)  # by state


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what takes seconds: self-test and speed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what this installation can do, and what to do about what could be better.

    It needs nothing but typer. The exit code is 1 if something is wrong, and 0 if there is only advice.
    """
    from fastact.bench import checkup

    checks = [each for each in checkup.CHECKS if not (quick and each.is_slow)]
    status = Status()
    found = []
    with status:
        for finding in checkup.examine(checks, status.show):
            status.clear()
            found.append(finding)
            if not as_json:
                _print(finding)
    state = max(each.state for each in found)
    if as_json:
        content = {"state": str(state), "checks": [each.as_json() for each in found]}
        write_json(content)
    else:
        _print_wrapped(_summary([remark.state for each in found for remark in each.remarks]))
    raise typer.Exit(int(state is checkup.State.WRONG))


def _summary(states: list[State]) -> str:
    """Return how many things are not as they should be."""
    from fastact.bench.checkup import State

    wrong, better = (states.count(each) for each in (State.WRONG, State.BETTER))
    things = "1 thing" if better == 1 else f"{better} things" if better else "nothing"
    return f"{wrong or 'Nothing'} {'are' if wrong > 1 else 'is'} wrong, {things} could be better."


class Status:
    """The line of a terminal that says what is being done, and what is compiled for it.

    It does without rich, whose bar other commands have.
    """

    def __init__(self) -> None:
        self._is_on = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._doing = ""

    def __enter__(self) -> Status:
        self._compiling = hooks.compiling
        if self._is_on:
            hooks.compiling = lambda kernel: self._write(f"{self._doing}: compiling {kernel}")
        return self

    def __exit__(self, *error: object) -> None:
        hooks.compiling = self._compiling
        self.clear()

    def show(self, text: str) -> None:
        """Replace the line."""
        self._doing = text
        self._write(text)

    def clear(self) -> None:
        """Remove the line."""
        self.show("")

    def _write(self, text: str) -> None:
        if self._is_on:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
            sys.stderr.flush()


def _print(finding: Finding) -> None:
    """Print what a check has found."""
    title, state = finding.title, str(finding.state)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        title, state = typer.style(title, bold=True), typer.style(state, fg=_COLORS[finding.state])
    print(f"{title}: {state}")
    for remark in finding.remarks:
        _print_wrapped(remark.found, "  ")
        if remark.advice:
            _print_wrapped(remark.advice, "  -> ")


def _print_wrapped(text: str, opening: str = "") -> None:
    lines = textwrap.wrap(
        text,
        max(20, shutil.get_terminal_size().columns),
        initial_indent=opening,
        subsequent_indent=" " * len(opening),
        break_long_words=False,  # a path or a command is to be copied
        break_on_hyphens=False,
    )
    for line in lines:
        print(line)
