"""``fastact demo``."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fastact.cli import _completion
from fastact.cli._base import fail, require_extra
from fastact.cli._output import (
    JsonFile,
    check_file,
    is_stdout,
    print_rich,
    progress,
    write_json,
)


def demo(
    activation: Annotated[
        str,
        typer.Option(
            help="The hidden layers' activation: an activation, a row function or a gated unit of the catalogue.",
            metavar="NAME",
            autocompletion=_completion.functions,
        ),
    ] = "gelu",
    torch: Annotated[
        bool, typer.Option("--torch", help="Train in PyTorch too: eager, on the CPU.")
    ] = False,
    layers: Annotated[
        int, typer.Option(min=1, help="The number of hidden layers.", metavar="N")
    ] = 3,
    width: Annotated[
        int, typer.Option(min=2, help="The units in each; wide layers gain less.", metavar="N")
    ] = 256,
    batch_size: Annotated[
        int, typer.Option(min=1, help="The number of images in a step.", metavar="N")
    ] = 256,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The type of all arrays.")
    ] = "float32",
    learning_rate: Annotated[
        float,
        typer.Option(min=0.0, help="The rate of gradient descent with momentum.", metavar="N"),
    ] = 0.05,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.", metavar="N")] = 40,
    seed: Annotated[
        int, typer.Option(min=0, help="The seed of all random numbers.", metavar="N")
    ] = 0,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            help="The file for the picture: .png or .svg.",
            metavar="FILE",
        ),
    ] = Path("fastact-demo.png"),
    json_file: JsonFile = None,
) -> None:
    """Train a net on handwritten digits with fastact and with plain NumPy, and compare.

    Its layers are narrow, so that activations cost about as much as matrix products. All variants start from the same
    weights, see the same images, and take turns.
    """
    with require_extra("demo"):
        for package in ("matplotlib", "rich", "sklearn", "threadpoolctl"):
            import_module(package)  # report a missing package before training, not after it

        from fastact.cli.training import comparison, net, picture, report

        check_file("--output", output)
        check_file("--json", json_file)
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
        with progress(f"training with {settings.activation}", epochs) as shown:
            try:
                result = comparison.compare(settings, torch, shown.advance)
            except ValueError as error:
                fail(error)
        if result.diverged:
            fail("the loss is not finite: a smaller --learning-rate or fewer --layers may help", 1)
        picture.draw(result, output)
        if json_file:
            write_json(report.as_json(result), json_file)
        if not is_stdout(json_file):
            print_rich(report.describe(result), "", report.table(result), "")
            for line in (*report.remarks(result), f"The picture is in {output}."):
                print(line)
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
