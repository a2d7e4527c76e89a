"""``fastact cache``: info, clear and warm."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import typer

from fastact.cli import _completion
from fastact.cli._base import App, fail, require_extra
from fastact.cli._output import AsJson, progress, write_json

cache_app = App(help="Manage the compiled kernels on disk.")


@cache_app.command(epilog="fastact cache info\nfastact cache info --json")
def info(as_json: AsJson = False) -> None:
    """Print the folder, number and size of the compiled kernels."""
    from fastact.runtime import cache_folder, kernel_cache

    found, reason = kernel_cache.entries(), cache_folder.why_unusable()
    folder = cache_folder.directory()
    groups = {"of this installation": found.own, "of others": found.others}
    sizes = {name: sum(file.stat().st_size for file in some) for name, some in groups.items()}
    if as_json:
        kernels = {
            name.replace(" ", "_"): {"kernels": len(some), "bytes": sizes[name]}
            for name, some in groups.items()
        }
        write_json({"folder": folder and str(folder), "unusable": reason, **kernels})
        return
    print(f"folder: {folder or 'none'}{f' ({reason})' if reason else ''}")
    for name, some in groups.items():
        print(f"{name}: {len(some)} kernels, {sizes[name] / 2**20:.1f} MiB")


@cache_app.command(epilog="fastact cache clear --others\nfastact cache clear")
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
    print(f"deleted {len(files)} kernels")


@cache_app.command(
    epilog="fastact cache warm relu gelu\nfastact cache warm --dtype float32 --dtype float64"
)
def warm(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Functions; all of them by default.",
            metavar="[NAME...]",
            autocompletion=_completion.functions,
        ),
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype",
            help="A type; may be repeated. Default: float32.",
            metavar="TYPE",
            autocompletion=_completion.types,
        ),
    ] = None,
) -> None:
    """Compile kernels ahead of time, so that no later process has to.

    Those of all functions take several minutes; after Ctrl-C the next call continues.
    """
    from fastact.runtime import cache_folder

    reason = cache_folder.why_unusable()
    if reason:
        fail(f"there is no cache: {reason}", code=1)
    try:
        kernels = list(_missing_kernels(names, dtypes or ["float32"]))
    except (TypeError, ValueError) as error:
        fail(error)
    with require_extra("cli"), progress("compiling", len(kernels)) as shown:
        for compile_kernel in kernels:
            compile_kernel()
            shown.advance()
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
