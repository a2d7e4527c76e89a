"""``fastact bench``."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastact.cli._base import check_names, fail, require_extra

if TYPE_CHECKING:
    from fastact.bench.report import Result, Settings


def bench(
    activations: Annotated[
        list[str] | None,
        typer.Option("--activation", help="An activation; may be repeated. Default: all."),
    ] = None,
    elements: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A length of the input; may be repeated. Default: eight lengths."),
    ] = None,
    operations: Annotated[
        list[str] | None,
        typer.Option("--operation", help="May be repeated. Default: all three."),
    ] = None,
    implementations: Annotated[
        list[str] | None,
        typer.Option("--implementation", help="A competitor; may be repeated."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The type of all arrays.")
    ] = "float32",
    samples: Annotated[int, typer.Option(min=1, help="Samples for each call.")] = 11,
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
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all results to a file.", dir_okay=False)
    ] = None,
    charts: Annotated[
        list[Path] | None,
        typer.Option("--chart", help="Draw a chart to a .png or .svg file; may be repeated."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            help="Write the results as a page; with --layers, as the last section of the page.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Compare fastact with plain NumPy, Numba, PyTorch, JAX and other installed peers, each in its own process.

    Everything takes more than an hour: the options choose less.
    """
    samples = min(samples, 3) if quick else samples
    if layers:
        if activations or elements or dtype != "float32" or given_outputs or charts:
            fail(
                "--layers takes --operation, --implementation, --samples, --quick, --json and --markdown only"
            )
        _bench_layers(operations, implementations, samples, json_file, markdown)
        return
    from fastact.bench import chart, contenders, report, timing

    try:
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
    machine = timing.machine()
    results = _track(report.measure(settings), len(settings))
    tables = (
        (report.heading(operation, count, settings), cells)
        for operation, count, cells in report.tables(results, settings)
    )
    _print(tables, results, machine)
    if json_file:
        _write_json(json_file, results, settings, machine)
    if markdown:
        _write_page(markdown, results, settings, machine, charts or [])
    if charts:
        with require_extra("plot"):
            chart.draw(results, settings, charts)


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
    results = _track(layers.measure(layers.WORKLOADS, settings), len(names) * len(chosen))
    _print(layers.tables(results, settings), results, machine)
    if json_file:
        _write_json(json_file, results, settings, machine)
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


def _track(results: Generator[Result], total: int) -> list[Result]:
    """Collect results behind a progress bar, and end what measures them, however that ends.

    The bar is drawn between measurements only: a thread that drew it would take a core from who is measured.
    """
    with require_extra("cli"):
        from rich.console import Console
        from rich.progress import Progress

    collected = []
    console = Console(stderr=True)
    with closing(results), Progress(console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("measuring", total=total)
        for result in results:
            collected.append(result)
            bar.advance(task)
            bar.refresh()
    return collected


def _print(
    tables: Iterable[tuple[str, list[list[str]]]], results: list[Result], machine: dict[str, Any]
) -> None:
    from rich.console import Console

    from fastact.bench import report, timing

    console = Console(highlight=False)
    for title, cells in tables:
        console.print(f"{title}.", report.rich_table(cells), "", sep="\n")
    console.print(*report.notes(results), "", report.summary(results), "", sep="\n")
    console.print(timing.describe(machine))


def _write_json(
    file: Path, results: list[Result], settings: Settings, machine: dict[str, Any]
) -> None:
    import json

    from fastact.bench import report

    file.write_text(json.dumps(report.as_json(results, settings, machine), indent=2) + "\n")


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
