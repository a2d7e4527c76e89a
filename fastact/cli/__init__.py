"""The command line: ``fastact list``, ``show``, ``info``, ``tune``, ``bench``, ``cache``, ``demo`` and ``dashboard``.

Command modules import expensive packages inside the command that needs them, so that ``fastact
--help`` answers at once.
"""

from fastact.cli._base import app
from fastact.cli.bench import bench
from fastact.cli.cache import cache_app
from fastact.cli.catalogue import list_functions, show
from fastact.cli.dashboard import dashboard
from fastact.cli.demo import demo
from fastact.cli.doctor import doctor
from fastact.cli.tune import info, tune
from fastact.cli.verify import verify

__all__ = ["app"]

app.command("list")(list_functions)
app.command()(show)
app.command()(info)
app.command()(tune)
app.command()(bench)
app.add_typer(cache_app, name="cache")
app.command()(demo)
app.command()(dashboard)
app.command()(doctor)
app.command()(verify)
