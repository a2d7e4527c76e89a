"""``fastact cache``: info, clear and warm."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import typer

from fastact.cli._base import App, fail, require_extra

cache_app = App(help="Manage the compiled kernels on disk.")


@cache_app.command()
def info() -> None:
    """Print the folder, number and size of the compiled kernels."""
    from fastact.runtime import cache_folder, kernel_cache

    found, reason = kernel_cache.entries(), cache_folder.why_unusable()
    typer.echo(f"folder: {cache_folder.directory() or 'none'}{f' ({reason})' if reason else ''}")
    for title, files in (("of this installation", found.own), ("of others", found.others)):
        size = sum(file.stat().st_size for file in files) / 2**20
        typer.echo(f"{title}: {len(files)} kernels, {size:.1f} MiB")


@cache_app.command()
def clear(
    others: Annotated[
        bool, typer.Option("--others", help="Only those of other versions and machines.")
    ] = False,
) -> None:
    """Delete compiled kernels; they are compiled again when needed."""
    from fastact.runtime import kernel_cache

    found = kernel_cache.entries()
    files = found.others if others else found.own + found.others
    for file in files if others else files + found.metadata:
        file.unlink(missing_ok=True)
    typer.echo(f"deleted {len(files)} kernels")


@cache_app.command()
def warm(
    names: Annotated[
        list[str] | None, typer.Argument(help="Functions; all of them by default.")
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option("--dtype", help="A type; may be repeated. Default: float32."),
    ] = None,
) -> None:
    """Compile kernels ahead of time, so that no later process has to."""
    from fastact.runtime import cache_folder

    reason = cache_folder.why_unusable()
    if reason:
        fail(f"there is no cache: {reason}", code=1)
    try:
        kernels = list(_missing_kernels(names, dtypes or ["float32"]))
    except (TypeError, ValueError) as error:
        fail(error)
    with require_extra("cli"):
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        for compile_kernel in track(kernels, "compiling", console=console, transient=True):
            compile_kernel()
    info()


def _missing_kernels(
    names: Sequence[str] | None, types: Sequence[str]
) -> Iterator[Callable[[], object]]:
    """Yield functions that compile the kernels that are not cached yet.

    Parameters
    ----------
    names : sequence of str, optional
        Names or aliases of functions; all by default.
    types : sequence of str
        Names of dtypes.

    Raises
    ------
    ValueError
        If there is no such function or type.
    """
    from fastact.functions.registry import get
    from fastact.functions.registry import names as all_names
    from fastact.runtime import kernel_cache, loading
    from fastact.runtime.dtypes import dtypes
    from fastact.runtime.output_pool import with_output_pool
    from fastact.runtime.pool import inner_loop_function
    from fastact.runtime.ufunc import LOOPS

    for name in types:
        if name not in dtypes():
            raise ValueError(f"there is no type {name!r}; there are {', '.join(dtypes())}")
    yield partial(with_output_pool, int)  # the kernels of the output pool
    yield partial(inner_loop_function, "barrier")  # starts the threads
    for function in [get(name) for name in names or all_names()]:
        for ufunc in function.ufuncs.values():
            for loop in LOOPS[ufunc]:
                # The name of a kernel ends with its dtype.
                if loop.name is None or loop.name.rpartition(".")[2] not in types:
                    continue
                if kernel_cache.read(loop.name) is None:
                    yield partial(loading.load, loop.name, loop.build)
