"""``fastact dashboard``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fastact.cli._base import complain, fail, require_extra


def dashboard(
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure first what has no results on this kind of machine: about 80 seconds a commit.",
        ),
    ] = False,
    commits: Annotated[
        int,
        typer.Option(min=1, help="With --measure: how many commits, spread over the history."),
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="The folder for the pages. Default: .asv/html."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the pages, or only write them.")
    ] = True,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open them in a browser.")
    ] = True,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; another one if it is taken.")
    ] = 8000,
) -> None:
    """Draw how fast each commit of a clone is, beside plain NumPy, and open the pages of asv.

    They work offline. Measurements may be interrupted: what is done is kept, in benchmarks/results.
    """
    from fastact.bench import history

    with require_extra("bench"):
        import asv  # noqa: F401
    try:
        clone = history.find_clone(Path.cwd())
    except FileNotFoundError as error:
        fail(f"{error}: git clone it, and call this there", 1)
    if measure and history.measure(clone, history.spread_commits(clone, commits)):
        complain("some benchmarks failed, see above")
    pages = output or clone / ".asv" / "html"
    complain("drawing the pages")
    try:
        missing = history.publish(clone, pages)
    except RuntimeError as error:
        fail(error, 1)
    if missing:
        complain(f"offline, the pages lack {', '.join(missing)}")
    if history.is_shallow(clone):
        complain("this clone is shallow: git fetch --unshallow brings all commits")
    print(f"The pages are in {os.path.relpath(pages)}.")
    if serve:
        _serve(pages, port, open_browser)


def _serve(pages: Path, port: int, open_browser: bool) -> None:
    """Serve until Ctrl-C."""
    import webbrowser

    from fastact.bench import history

    with history.server(pages, port) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"They are served at {address} until Ctrl-C.")
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
