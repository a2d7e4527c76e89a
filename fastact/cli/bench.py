"""``fastact bench``."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastact.cli import _completion
from fastact.cli._base import check_names, fail, require_extra
from fastact.cli._output import (
    Dark,
    JsonFile,
    check_file,
    console,
    is_stdout,
    print_rich,
    progress,
    write_json,
)

if TYPE_CHECKING:
    from fastact.bench.report import Result, Settings


def bench(
    activations: Annotated[
        list[str] | None,
        typer.Option(
            "--activation",
            help="An activation; may be repeated. Default: all.",
            metavar="NAME",
            autocompletion=_completion.functions,
        ),
    ] = None,
    elements: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="A length of the input; may be repeated. Default: eight.", metavar="N"
        ),
    ] = None,
    operations: Annotated[
        list[str] | None,
        typer.Option(
            "--operation",
            help="forward, backward or forward_backward; may be repeated. Default: all three.",
            metavar="NAME",
            autocompletion=_completion.operations,
        ),
    ] = None,
    implementations: Annotated[
        list[str] | None,
        typer.Option(
            "--implementation",
            help="A competitor, such as numpy; may be repeated. Default: all that are installed.",
            metavar="NAME",
            autocompletion=_completion.implementations,
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The type of all arrays.")
    ] = "float32",
    samples: Annotated[int, typer.Option(min=1, help="Samples for each call.", metavar="N")] = 11,
    given_outputs: Annotated[
        bool, typer.Option("--given-outputs", help="Write to existing arrays.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Instead: rows, gated units, a loss and a bias, at fixed shapes, in float32.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few activations, sizes and samples: about a minute.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Measure nothing: take the results of a file that --json has written.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    json_file: JsonFile = None,
    charts: Annotated[
        list[Path] | None,
        typer.Option(
            "--chart",
            help="Draw a chart to a .png or .svg file; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
    dark: Dark = False,
    markdown: Annotated[
        Path | None,
        typer.Option(
            help="Write the results as a page; with --layers, as the last section of the page.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Compare fastact with plain NumPy, Numba, PyTorch, JAX and other installed peers.

    Each runs in its own process. Everything takes more than an hour: the options choose less.
    Ctrl-C ends it, and prints what has been measured.
    """
    samples = min(samples, 3) if quick else samples
    for option, file in (
        ("--json", json_file),
        ("--markdown", markdown),
        *(("--chart", each) for each in charts or ()),
    ):
        check_file(option, file)
    if layers:
        if activations or elements or dtype != "float32" or given_outputs or charts or source:
            fail(
                "--layers takes --operation, --implementation, --samples, --quick, --json and --markdown only"
            )
        _bench_layers(operations, implementations, samples, json_file, markdown)
        return
    from fastact.bench import chart, contenders, report, timing

    try:
        if source:
            results, settings, machine = _read_results(
                source, activations, elements, operations, implementations
            )
        else:
            machine = timing.machine()
            settings = report.Settings(
                _activations(activations, quick),
                elements or _sizes(quick),
                _operations(operations),
                _implementations(implementations, contenders.installed_implementations()),
                dtype,
                given_outputs,
                samples,
            )
    except ValueError as error:
        fail(error)
    measured = (
        nullcontext(results) if source else _measured(report.measure(settings), len(settings))
    )
    with measured as results:
        tables = (
            (report.heading(operation, count, settings), cells)
            for operation, count, cells in report.tables(results, settings)
        )
        _tell(tables, results, settings, machine, json_file)
    if markdown:
        _write_page(markdown, results, settings, machine, charts or [])
    if charts:
        with require_extra("plot"):
            chart.draw(results, settings, machine, charts, dark=dark)


def _read_results(
    source: Path,
    activations: list[str] | None,
    elements: list[int] | None,
    operations: list[str] | None,
    implementations: list[str] | None,
) -> tuple[list[Result], Settings, dict[str, Any]]:
    """Return what has been measured before, or what the options choose of it."""
    import dataclasses
    import json

    from fastact.bench import report

    try:
        results, settings, machine = report.from_json(json.loads(source.read_text()))
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"--from: {str(source)!r} is no file that bench --json has written"
        ) from None
    check_names("size", map(str, elements or ()), list(map(str, settings.elements)))
    check_names("operation", operations or (), settings.operations)
    names = _activations(activations, quick=False) if activations else settings.activations
    check_names("result of", names, settings.activations)
    settings = dataclasses.replace(
        settings,
        activations=names,
        elements=elements or settings.elements,
        operations=operations or settings.operations,
        implementations=_implementations(implementations, settings.implementations),
    )
    return report.chosen(results, settings), settings, machine


def _bench_layers(
    operations: list[str] | None,
    implementations: list[str] | None,
    samples: int,
    json_file: Path | None,
    markdown: Path | None,
) -> None:
    from fastact.bench import contenders, layers, report, timing

    installed = contenders.installed_implementations(of_layers=True)
    try:
        competitors = _implementations(implementations, installed)
        chosen = _operations(operations)
    except ValueError as error:
        fail(error)
    names = [name for name, _ in layers.WORKLOADS]
    settings = report.Settings(names, [], chosen, competitors, samples=samples)
    machine = timing.machine()
    total = len(names) * len(chosen)
    with _measured(layers.measure(layers.WORKLOADS, settings), total) as results:
        _tell(layers.tables(results, settings), results, settings, machine, json_file)
    if markdown:
        section = layers.markdown_section(results, settings, timing.describe(machine))
        markdown.write_text(layers.replace_section(_read(markdown), section))


def _activations(chosen: list[str] | None, quick: bool) -> list[str]:
    import fastact

    if chosen:
        return [fastact.get(name).name for name in chosen]
    return ["relu", "gelu", "sigmoid", "tanh"] if quick else fastact.names("activation")


def _sizes(quick: bool) -> list[int]:
    if quick:
        return [1000, 1_000_000]
    return [1, 1000, 10_000, 30_000, 100_000, 1_000_000, 4_000_000, 20_000_000]


def _operations(chosen: list[str] | None) -> list[str]:
    from fastact.bench.contenders import OPERATIONS

    check_names("operation", chosen or (), OPERATIONS)
    return chosen or list(OPERATIONS)


def _implementations(chosen: list[str] | None, installed: Sequence[str]) -> list[str]:
    """Return fastact and the other implementations, by default all that are installed."""
    check_names("implementation", chosen or (), installed)
    # torch.compile takes seconds for each function and size: only on request.
    others = chosen or [each for each in installed if each != "torch_compile"]
    return ["fastact", *(each for each in others if each != "fastact")]


@contextmanager
def _measured(measurements: Generator[Result], total: int) -> Iterator[list[Result]]:
    """Measure, and give the results to the caller: after Ctrl-C those that there are, and then end.

    What measures them is ended before, however that comes.
    """
    results: list[Result] = []
    interrupted = False
    try:
        with require_extra("cli"), closing(measurements), progress("measuring", total) as shown:
            shown.tell("starting all competitors")
            for each in measurements:
                results.append(each)
                shown.advance()
    except KeyboardInterrupt:
        interrupted = True
    if results or not interrupted:
        yield results
    if interrupted:
        raise typer.Exit(130)


def _tell(
    tables: Iterable[tuple[str, list[list[str]]]],
    results: list[Result],
    settings: Settings,
    machine: dict[str, Any],
    json_file: Path | None,
) -> None:
    """Print the results, and write them as JSON."""
    from fastact.bench import report, timing

    if json_file:
        write_json(report.as_json(results, settings, machine), json_file)
    if is_stdout(json_file):
        return
    to = console()
    width = to.width if to.is_terminal else None  # a file has lines of any length
    for title, cells in tables:
        parts = [report.rich_table(each) for each in report.columns_that_fit(cells, width)]
        if len(cells) > 1:
            print_rich(f"{title}.", *parts, "")
    print_rich(*report.notes(results), "", report.summary(results), "", timing.describe(machine))


def _write_page(
    file: Path,
    results: list[Result],
    settings: Settings,
    machine: dict[str, Any],
    charts: Sequence[Path],
) -> None:
    """Write the page, with a link to the last chart; keep the section about layers."""
    import os

    from fastact.bench import layers, report, timing

    picture = os.path.relpath(charts[-1], file.parent) if charts else None
    page = report.markdown_page(results, settings, timing.describe(machine), picture)
    file.write_text(layers.keep_section(_read(file), page))


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
