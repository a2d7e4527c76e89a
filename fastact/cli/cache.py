"""``fastact cache``: info, clear and warm."""

from typing import Annotated

import typer

from fastact.cli import _completion
from fastact.cli._base import App, complain, fail, require_extra
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
    epilog="fastact cache warm\nfastact cache warm relu gelu --dtype float32 --dtype float64"
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
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Processes that compile. Default: as many as there are CPUs and memory for.",
            metavar="N",
        ),
    ] = None,
) -> None:
    """Compile kernels ahead of time, so that no later process has to.

    What is compiled before Ctrl-C is kept, and the same command continues.
    """
    import time

    from fastact.runtime import cache_folder

    reason = cache_folder.why_unusable()
    if reason:
        fail(f"there is no cache: {reason}", code=1)
    start = time.monotonic()
    with require_extra("cli"), progress("compiling") as shown:
        from fastact.bench import warming

        try:
            missing = warming.missing(names or [], dtypes or ["float32"])
        except (TypeError, ValueError) as error:
            fail(error)
        warming.compile_shared()
        jobs, shown.total = jobs or warming.default_jobs(), missing.total
        shown.tell()
        failed = []
        try:
            for result in warming.compile_in_processes(missing.kernels, jobs):
                shown.advance()
                if result.error:
                    failed.append(result)
        except KeyboardInterrupt:
            done = shown.done - len(failed)
            complain(f"{done} of {missing.total} kernels compiled; the same command continues")
            raise typer.Exit(130) from None
    for result in failed:
        complain(f"{result.kernel}: {result.error}")
    done, seconds = missing.total - len(failed), time.monotonic() - start
    processes = f"{jobs} processes" if jobs > 1 else "one process"
    print(
        f"{done} kernels compiled in {seconds:.0f} s by {processes}; {missing.found} were there"
        if missing.total
        else f"nothing to compile: all {missing.found} kernels are there"
    )
    if failed:
        raise typer.Exit(1)
