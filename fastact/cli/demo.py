"""``fastact demo``."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fastact.cli._base import fail, require_extra


def demo(
    activation: Annotated[
        str,
        typer.Option(
            help="The hidden layers' activation: an activation, a row function or a gated unit of the catalogue.",
            metavar="NAME",
        ),
    ] = "gelu",
    torch: Annotated[
        bool, typer.Option("--torch", help="Train in PyTorch too: eager, on the CPU.")
    ] = False,
    layers: Annotated[int, typer.Option(min=1, help="The number of hidden layers.")] = 3,
    width: Annotated[
        int, typer.Option(min=2, help="The units in each; wide layers gain less.")
    ] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="The number of images in a step.")] = 256,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The type of all arrays.")
    ] = "float32",
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="The rate of gradient descent with momentum.")
    ] = 0.05,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The seed of all random numbers.")] = 0,
    output: Annotated[
        Path,
        typer.Option(dir_okay=False, writable=True, help="The file for the picture: .png or .svg."),
    ] = Path("fastact-demo.png"),
) -> None:
    """Train a net on handwritten digits with fastact and with plain NumPy, and compare.

    Its layers are narrow, so that activations cost about as much as matrix products. All variants start from the same
    weights, see the same images, and take turns.
    """
    with require_extra("demo"):
        for package in ("matplotlib", "rich", "sklearn", "threadpoolctl"):
            import_module(package)  # report a missing package before training, not after it
        from rich.console import Console
        from rich.progress import Progress

        from fastact.cli.training import comparison, net, picture, report

        if not output.parent.is_dir():
            fail(f"--output: there is no directory {str(output.parent)!r}")
        if output.suffix not in (".png", ".svg"):
            fail(f"--output must end in .png or .svg, not in {output.suffix!r}")
        settings = net.Settings(
            activation=_checked(activation, torch, width),
            width=width,
            layers=layers,
            dtype=dtype,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
        )
        console = Console(highlight=False)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"training with {settings.activation}", total=epochs)
            try:
                result = comparison.compare(settings, torch, lambda: progress.advance(task))
            except ValueError as error:
                fail(error)
        if result.diverged:
            fail("the loss is not finite: a smaller --learning-rate or fewer --layers may help", 1)
        picture.draw(result, output)
        console.print(report.describe(result), "", report.table(result), "", sep="\n")
        for line in (*report.remarks(result), f"The picture is in {output}."):
            console.print(line, soft_wrap=True)
    if not result.agrees:
        bound = comparison.TOLERANCE[dtype]
        fail(
            f"the losses differ by {result.difference:.0e} of the first one, more than {bound:.0e}",
            1,
        )


def _checked(name: str, torch: bool, width: int) -> str:
    """Return the activation's own name, or fail if it cannot be trained."""
    import fastact

    try:
        function: Any = fastact.get(name)
    except ValueError as error:
        fail(f"--activation: {error}")
    definition = function._definition
    if function.kind not in ("activation", "row", "packed") or function.name not in fastact.names():
        fail(f"--activation: {name} is not an activation of hidden layers")
    if definition.limits and definition.limits[0] == "nan":
        fail(f"--activation: {name} is NaN for negative numbers")
    if getattr(definition, "is_random", False):
        fail(f"--activation: {name} draws random numbers, so that no two runs agree")
    if function.name == "crelu" and width % 2:
        fail("--width must be even with crelu, which doubles the number of units")
    if torch:
        from fastact.cli.training.torch_net import check_torch

        try:
            check_torch(function.name)
        except ValueError as error:
            fail(error)
    return str(function.name)
