"""``fastact demo``."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

from fastact.cli._base import require_extra


def demo(
    activation: Annotated[
        str, typer.Option(help="The activation of the hidden layer.", metavar="NAME")
    ] = "relu",
    every: Annotated[
        bool, typer.Option("--all", help="Train with one activation after another.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The type of all arrays.")
    ] = "float32",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 60,
    hidden: Annotated[int, typer.Option(min=1, help="The number of hidden units.")] = 1024,
    batch_size: Annotated[int, typer.Option(min=1, help="The number of images in a step.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The seed of all random numbers.")] = 0,
    output: Annotated[
        Path, typer.Option(dir_okay=False, writable=True, help="The file for the loss curves.")
    ] = Path("fastact-demo.png"),
) -> None:
    """Train a network on handwritten digits, with fastact and with plain NumPy, and compare."""
    with require_extra("demo"):
        for package in ("matplotlib", "rich", "sklearn"):
            import_module(package)  # report a missing package before training, not after it
        from rich.console import Console

        import fastact
        from fastact import baseline
        from fastact.cli import training

        if not output.parent.is_dir():
            raise typer.BadParameter(
                f"there is no directory {str(output.parent)!r}", param_hint="--output"
            )
        names = [name for name in fastact.names("activation") if name in baseline.names()]
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
