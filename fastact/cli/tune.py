"""``fastact tune`` and ``fastact info``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fastact.cli._base import fail, require_extra
from fastact.cli._output import (
    AsJson,
    JsonFile,
    check_file,
    is_stdout,
    listing,
    print_rich,
    progress,
    write_json,
)

if TYPE_CHECKING:
    from fastact.bench.tuning import Finding
    from fastact.runtime.settings import Value


def info(
    as_json: AsJson = False,
) -> None:
    """Print all settings, and where each value comes from."""
    import fastact

    found = fastact.info()
    if as_json:
        write_json({name: each._asdict() for name, each in found.items()})
        return
    with require_extra("cli"):
        from rich.text import Text

        rows = [
            (Text(name, "bold"), Text(f"{_value(each)}; {each.source}: {each.reason}"))
            for name, each in found.items()
        ]
        print_rich(listing((), rows))


def _value(setting: Value) -> str:
    """Return a setting with its unit."""
    if isinstance(setting.value, int | float):
        return f"{setting.value:,} {setting.unit}"
    return str(setting.value)


def tune(
    seconds: Annotated[
        float, typer.Option(min=0, help="How long to measure, about.", metavar="N")
    ] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, but keep nothing.")] = False,
    json_file: JsonFile = None,
    show: Annotated[
        bool, typer.Option("--show", help="Instead: print what was found before.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Instead: delete it.")] = False,
) -> None:
    """Measure from which sizes threads, streaming stores and reuse of memory pay on this machine.

    The result is kept beside the compiled kernels, for this processor and as many CPUs, and later
    processes use it.
    """
    from fastact.runtime import cache_folder, tuned

    check_file("--json", json_file)
    if show and forget:
        fail("--show and --forget exclude each other")
    if show or forget:
        _show() if show else _forget()
        return
    reason = cache_folder.why_unusable()
    if reason and not dry_run:
        fail(f"there is nowhere to keep the result: {reason}; --dry-run only measures", code=1)
    from fastact.bench import timing, tuning

    machine = timing.machine()
    found = _measure(seconds)
    if json_file:
        write_json({"machine": machine, "settings": tuning.as_json(found)}, json_file)
    if not is_stdout(json_file):
        _print(found, timing.describe(machine))
    if not dry_run:
        try:
            tuned.write({each.setting.name: each.choice.value for each in found})
        except OSError as error:
            fail(f"the result cannot be kept: {error}", code=1)
        print(
            f"Later processes use this: {tuned.file()}",
            file=sys.stderr if is_stdout(json_file) else None,
        )


def _show() -> None:
    from fastact.runtime import settings, tuned

    found = settings.measured()
    if found is None:
        fail(f"nothing has been measured on this machine ({tuned.this_machine()})", code=1)
    print(f"{tuned.file()} of {found.when}: {tuned.this_machine()}")
    for name, value in found.values.items():
        print(f"{name}: {value:,}")


def _forget() -> None:
    from fastact.runtime import tuned

    path = tuned.file()
    try:
        print(f"deleted {path}" if tuned.forget() else "there was nothing to forget")
    except OSError as error:
        fail(f"{path} cannot be deleted: {error.strerror}", code=1)


def _measure(seconds: float) -> list[Finding]:
    """Measure behind a progress bar."""
    from fastact.bench import tuning

    with require_extra("cli"), progress("measuring") as shown:

        def start(count: int) -> None:
            shown.total = count
            shown.tell("measuring, compiling what it needs first")

        return tuning.tune(seconds, start, shown.advance)


def _print(found: list[Finding], machine: str) -> None:
    """Print what was found beside the defaults."""
    import os

    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    for column in ("default", "found", "gain"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for each in found:
        gain = f"{each.choice.gain:.2f}" if each.choice.gain > 1 else "-"
        values = (f"{value:,}" for value in (each.default, each.choice.value))
        table.add_row(each.setting.name, *values, gain, each.setting.unit)
    explained = "gain: how many times as long calls of the sizes in between take with the default."
    overridden = [
        f"{each.setting.variable} is set, and counts for more."
        for each in found
        if os.environ.get(each.setting.variable or "", "").strip()
    ]
    print_rich(table, explained, machine, *overridden)
