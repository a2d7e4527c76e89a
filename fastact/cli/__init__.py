"""The command line: ``fastact list``, ``fastact show`` and ``fastact demo``.

Whatever takes long to import, this module imports inside the command that needs it, so that
``fastact --help`` answers at once.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

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


def print_version(wanted: bool) -> None:
    """Print the version and exit, if it is wanted."""
    if wanted:
        import fastact

        typer.echo(f"fastact {fastact.__version__}")
        raise typer.Exit


@contextmanager
def one_line_if_missing(extra: str) -> Iterator[None]:
    """Turn the traceback about a missing package into one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "fastact").startswith("fastact"):
            raise  # then it is fastact's own fault
        typer.echo(MISSING.format(error.name, extra), err=True)
        raise typer.Exit(1) from None


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Fast activation functions for NumPy."""


@app.command("list")
def list_activations(
    library: Annotated[
        Literal["pytorch", "jax", "keras", "onnx", "thinc", "chainer", "tensorflow"] | None,
        typer.Option(help="Only those that this library has, with their names there."),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Only those whose derivative is continuous.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Print nothing but the names, one on each line.")
    ] = False,
) -> None:
    """List the activations, the functions of rows and the layers."""
    import fastact

    chosen = [
        each
        for each in map(fastact.get, fastact.names("activation", "row"))
        if (library is None or library in each._definition.elsewhere)
        and not (smooth and each.kinks)
    ]
    is_whole = library is None and not smooth  # which is told of activations only
    layers = (
        [fastact.get(name) for name in fastact.names("packed", "dropout", "loss")]
        if is_whole
        else []
    )
    if names:
        typer.echo("\n".join(each.name for each in (*chosen, *layers)))
        return
    with one_line_if_missing("cli"):
        from rich.console import Console

        from fastact.show.terminal import layer_table, table

        console = Console(highlight=False)
        console.print(table(chosen, library))
        if layers:
            console.print("", layer_table(layers), sep="\n")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The name of an activation or a layer, or an alias.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a parameter; may be repeated.", metavar="PARAMETER=VALUE"),
    ] = None,
    convention: Annotated[
        str | None, typer.Option(help="The library whose choices to follow.", metavar="LIBRARY")
    ] = None,
) -> None:
    """Show all there is to know of an activation, with a plot, or of a layer."""
    import fastact

    try:
        parameters = dict(map(parse_setting, settings or []))
        if convention is not None:
            parameters["convention"] = convention
        found = fastact.get(name, **parameters)
    except (TypeError, ValueError) as error:
        typer.echo(f"fastact: {error}", err=True)
        raise typer.Exit(2) from None
    with one_line_if_missing("cli"):
        from rich.console import Console

        from fastact.show.terminal import layer_sheet, sheet

        console = Console(highlight=False)
        width = min(console.width, 80)
        is_curve = found.kind in ("activation", "row")
        console.print(sheet(found, width) if is_curve else layer_sheet(found))


@app.command()
def bench(
    activations: Annotated[
        list[str] | None,
        typer.Option("--activation", help="An activation; may be repeated. Without it, all."),
    ] = None,
    elements: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A length of the input; may be repeated. Without it, six."),
    ] = None,
    operations: Annotated[
        list[str] | None,
        typer.Option("--operation", help="May be repeated. Without it, forward_backward."),
    ] = None,
    implementations: Annotated[
        list[str] | None,
        typer.Option("--implementation", help="Who takes part; may be repeated."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The type of all arrays.")
    ] = "float32",
    samples: Annotated[int, typer.Option(min=1, help="How many to take of each.")] = 11,
    given_outputs: Annotated[
        bool, typer.Option("--given-outputs", help="Write to arrays that exist already.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Instead: rows, gated units, a loss, a bias, at shapes of their own, in float32.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few activations, sizes and samples: under a minute.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures there.", dir_okay=False)
    ] = None,
    charts: Annotated[
        list[Path] | None,
        typer.Option("--chart", help="Draw them there: a .png or .svg file; may be repeated."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            help="Write them there as a page; with --layers, as the last section of that page.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Measure fastact beside plain NumPy, PyTorch, JAX and whatever else of its peers is installed."""
    if layers:
        if activations or elements or operations or dtype != "float32" or given_outputs or charts:
            typer.echo(f"fastact: {NOT_WITH_LAYERS}", err=True)
            raise typer.Exit(2)
        bench_layers(implementations, min(samples, 5) if quick else samples, json_file, markdown)
        return
    import json
    import os

    import fastact
    from fastact.bench import chart, contenders, report, timing
    from fastact.bench import layers as of_layers

    installed = contenders.installed_implementations()
    # torch.compile takes seconds for each function and size: only where it is asked for.
    wanted = implementations or [each for each in installed if each != "torch_compile"]
    try:
        one_of("implementation", wanted, installed)
        one_of("operation", operations or (), contenders.OPERATIONS)
        if activations:
            names = [fastact.get(name).name for name in activations]
        else:
            names = ["relu", "gelu", "sigmoid", "tanh"] if quick else fastact.names()
    except ValueError as error:
        typer.echo(f"fastact: {error}", err=True)
        raise typer.Exit(2) from None
    sizes = [1000, 1_000_000] if quick else [1, 1000, 10_000, 100_000, 1_000_000, 20_000_000]
    settings = report.Settings(
        names,
        elements or sizes,
        operations or ["forward_backward"],
        ["fastact", *(each for each in wanted if each != "fastact")],
        dtype,
        given_outputs,
        min(samples, 5) if quick else samples,
    )
    with one_line_if_missing("cli"):
        from rich.console import Console
        from rich.progress import track

    where = timing.machine()
    console = Console()
    results = list(
        track(
            report.measure(settings),
            "measuring",
            total=len(settings),
            console=Console(stderr=True),
            transient=True,
        )
    )
    for title, cells in report.tables(results, settings):
        console.print(f"{title}.", report.rich_table(cells), "", sep="\n", highlight=False)
    console.print(report.summary(results), "", timing.describe(where), sep="\n", highlight=False)
    if json_file:
        text = json.dumps(report.as_json(results, settings, where), indent=2)
        json_file.write_text(text + "\n")
    if markdown:
        pictures = [os.path.relpath(file, markdown.parent) for file in charts or []]
        picture = pictures[-1] if pictures else None
        page = report.markdown_page(results, settings, timing.describe(where), picture)
        old_page = markdown.read_text() if markdown.exists() else ""
        markdown.write_text(of_layers.keep_section(old_page, page))
    if charts:
        with one_line_if_missing("plot"):
            chart.draw(results, settings, charts)


NOT_WITH_LAYERS = "--layers takes --implementation, --samples, --quick, --json and --markdown only"


def bench_layers(
    implementations: list[str] | None, samples: int, json_file: Path | None, markdown: Path | None
) -> None:
    """Measure rows, layers and a bias beside their peers."""
    import json

    from fastact.bench import contenders, layers, report, timing

    installed = [each for each in contenders.installed_implementations() if each in layers.MAKERS]
    wanted = implementations or installed
    try:
        one_of("implementation", wanted, installed)
    except ValueError as error:
        typer.echo(f"fastact: {error}", err=True)
        raise typer.Exit(2) from None
    with one_line_if_missing("cli"):
        from rich.console import Console
        from rich.progress import track

    where, console, workloads = timing.machine(), Console(), layers.available(layers.WORKLOADS)
    everybody = ["fastact", *(each for each in wanted if each != "fastact")]
    settings = report.Settings(
        [name for name, _ in workloads], [], [layers.OPERATION], everybody, samples=samples
    )
    results = list(
        track(
            layers.measure(workloads, settings),
            "measuring",
            total=len(workloads),
            console=Console(stderr=True),
            transient=True,
        )
    )
    cells = report.rows(results, settings.implementations, with_spread=False)
    console.print(f"{layers.TITLE}.", report.rich_table(cells), "", sep="\n", highlight=False)
    console.print(report.summary(results), "", timing.describe(where), sep="\n", highlight=False)
    if json_file:
        text = json.dumps(report.as_json(results, settings, where), indent=2)
        json_file.write_text(text + "\n")
    if markdown:
        section = layers.markdown_section(results, settings, timing.describe(where))
        page = markdown.read_text() if markdown.exists() else ""
        markdown.write_text(layers.replace_section(page, section))


def one_of(what: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise an error with the list of allowed names where another one is given."""
    for name in given:
        if name not in allowed:
            raise ValueError(f"there is no {what} {name!r} here; there are {', '.join(allowed)}")


def parse_setting(setting: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``; the value is a number if it looks like one."""
    name, equals, value = setting.partition("=")
    if not equals:
        raise ValueError(f"--set takes PARAMETER=VALUE, got {setting!r}")
    try:
        return name, float(value)
    except ValueError:
        return name, value


cache_app = typer.Typer(help="Look after the compiled kernels on disk.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")


@cache_app.command("info")
def cache_info() -> None:
    """Tell where the compiled kernels are kept, how many, and how large they are."""
    from fastact.runtime import kernel_cache

    found, trouble = kernel_cache.entries(), kernel_cache.trouble()
    typer.echo(f"folder: {kernel_cache.directory() or 'none'}{f' ({trouble})' if trouble else ''}")
    for title, files in (("of this installation", found.own), ("of others", found.others)):
        size = sum(file.stat().st_size for file in files) / 2**20
        typer.echo(f"{title}: {len(files)} kernels, {size:.1f} MiB")


@cache_app.command("clear")
def clear_cache(
    others: Annotated[
        bool, typer.Option("--others", help="Only what other versions and machines have left.")
    ] = False,
) -> None:
    """Delete compiled kernels; they are compiled again when they are needed."""
    from fastact.runtime import kernel_cache

    found = kernel_cache.entries()
    files = found.others if others else found.own + found.others
    for file in files if others else files + found.notes:
        file.unlink(missing_ok=True)
    typer.echo(f"deleted {len(files)} kernels")


@cache_app.command("warm")
def warm_cache(
    names: Annotated[
        list[str] | None, typer.Argument(help="The activations; without any, all of them.")
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option("--dtype", help="A type; may be repeated. Without it: float32."),
    ] = None,
) -> None:
    """Compile kernels ahead, so that no later process has to."""
    from fastact.cli import warming
    from fastact.runtime import kernel_cache

    trouble = kernel_cache.trouble()
    if trouble:
        typer.echo(f"fastact: there is no cache: {trouble}", err=True)
        raise typer.Exit(1)
    try:
        kernels = list(warming.kernels(names or None, dtypes or ["float32"]))
    except (TypeError, ValueError) as error:
        typer.echo(f"fastact: {error}", err=True)
        raise typer.Exit(2) from None
    with one_line_if_missing("cli"):
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        for kernel in track(kernels, "compiling", console=console, transient=True):
            kernel()
    cache_info()


@app.command()
def demo(
    activation: Annotated[
        str, typer.Option(help="The activation of the hidden layer.", metavar="NAME")
    ] = "relu",
    every: Annotated[
        bool, typer.Option("--all", help="Take one activation after another.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The precision of all numbers.")
    ] = "float32",
    epochs: Annotated[int, typer.Option(min=1, help="How often each image is seen.")] = 60,
    hidden: Annotated[int, typer.Option(min=1, help="The number of hidden units.")] = 1024,
    batch_size: Annotated[int, typer.Option(min=1, help="The number of images in a step.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything that is random.")] = 0,
    output: Annotated[
        Path, typer.Option(dir_okay=False, writable=True, help="The file for the loss curves.")
    ] = Path("fastact-demo.png"),
) -> None:
    """Train a network on handwritten digits, with fastact and with plain NumPy, and compare."""
    with one_line_if_missing("demo"):
        for package in ("matplotlib", "rich", "sklearn"):
            import_module(package)  # what is missing is to be said before the work, not after it
        from rich.console import Console

        import fastact
        from fastact import baseline
        from fastact.cli import demo as training

        if not output.parent.is_dir():
            raise typer.BadParameter(
                f"there is no directory {str(output.parent)!r}", param_hint="--output"
            )
        names = [name for name in fastact.names() if name in baseline.names()]
        if not every:
            try:
                names = [baseline.get(fastact.get(activation).name).name]
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint="--activation") from None
        settings = training.Settings(
            dtype=dtype, epochs=epochs, hidden=hidden, batch_size=batch_size, seed=seed
        )
        comparisons = list(training.compare_all(names, settings))
        training.draw(comparisons, output)
        console = Console()
        console.print(training.table(comparisons))
        console.print(f"The loss curves are in {output}.", soft_wrap=True)

    failed = [each.activation for each in comparisons if not each.agrees]
    if failed:
        bound = training.LARGEST_DIFFERENCE[dtype]
        typer.echo(
            f"The losses of the two runs differ by more than {bound:g} for {', '.join(failed)}.",
            err=True,
        )
        raise typer.Exit(1)
