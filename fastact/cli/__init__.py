"""The command line: all commands, the headings that they stand under, and examples of each.

Command modules import expensive packages inside the command that needs them, so that ``fastact
--help`` answers at once.
"""

from fastact.cli import _errors  # noqa: F401 - before typer: it says what to install
from fastact.cli._base import app
from fastact.cli.bench import bench
from fastact.cli.cache import cache_app
from fastact.cli.catalogue import list_functions, plot, show
from fastact.cli.dashboard import dashboard
from fastact.cli.demo import demo
from fastact.cli.doctor import doctor
from fastact.cli.tune import info, tune
from fastact.cli.verify import verify

__all__ = ["app"]

LOOK_UP, MEASURE, MACHINE = "Look up", "Try and measure", "This machine"

app.command(
    "list",
    rich_help_panel=LOOK_UP,
    epilog="fastact list --kind loss\nfastact list --library jax --smooth",
)(list_functions)
app.command(
    rich_help_panel=LOOK_UP,
    epilog="fastact show gelu\nfastact show elu --set alpha=0.5\nfastact show leaky_relu --convention jax",
)(show)
app.command(
    rich_help_panel=LOOK_UP,
    epilog="fastact plot gelu --derivatives 2\nfastact plot relu silu mish -o curves.png\nfastact plot softmax --row 1,0,-2 -o jacobian.svg --dark\nfastact plot prelu --set weight=0.25 --from -2 --to 2",
)(plot)
app.command(
    rich_help_panel=MEASURE,
    epilog="fastact demo\nfastact demo --activation silu --epochs 10",
)(demo)
app.command(
    rich_help_panel=MEASURE,
    epilog="fastact bench --quick\nfastact bench --activation gelu --elements 100000 --json times.json\nfastact bench --from times.json --chart times.svg",
)(bench)
app.command(
    rich_help_panel=MEASURE,
    epilog="fastact dashboard\nfastact dashboard --measure\nfastact dashboard --measure --commits 15 --no-serve",
)(dashboard)
app.command(
    rich_help_panel=MACHINE,
    epilog="fastact doctor\nfastact doctor --quick --json",
)(doctor)
app.command(
    rich_help_panel=MACHINE,
    epilog="fastact verify gelu\nfastact verify --dtype float32 --points 10000\nfastact verify --chart errors.svg",
)(verify)
app.command(rich_help_panel=MACHINE, epilog="fastact info\nfastact info --json")(info)
app.command(rich_help_panel=MACHINE, epilog="fastact tune\nfastact tune --seconds 20 --dry-run")(
    tune
)
app.add_typer(
    cache_app,
    name="cache",
    rich_help_panel=MACHINE,
    epilog="fastact cache info\nfastact cache warm relu gelu",
)
