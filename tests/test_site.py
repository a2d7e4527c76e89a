"""What the site is made of beside Sphinx: the check of links, and the tables of measured times."""

import math
import re
from pathlib import Path

import pytest

pytest.importorskip("tools.pages", reason="the tools are in the repository only")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from fastact.bench.report import Result
from fastact.bench.timing import Times
from tools import floors, guide
from tools.pages import speeds
from tools.pages.links import check


def write(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>")
    return folder


def test_dead_links_are_found(tmp_path: Path) -> None:
    """To a page, an anchor and a picture, but not what is there, or elsewhere."""
    (tmp_path / "curve.svg").write_text("<svg/>")
    site = write(
        tmp_path,
        one="""<a href="two.html">there</a> <a href="two.html#here">anchor</a> <img src="curve.svg?v=1">
            <a href="#own">own</a> <p id="own"></p> <a href="https://numpy.org/doc">elsewhere</a>
            <a href="three.html">no</a> <a href="two.html#gone">no</a> <img src="gone.svg"> <a href="#gone">no</a>""",
        two='<p id="here"></p>',
    )
    dead, elsewhere = check(site)
    lost = ["three.html", "two.html#gone", "gone.svg", "#gone"]
    assert dead == [f"one.html: {each}" for each in lost]
    assert elsewhere == {"https://numpy.org/doc"}


def test_times_of_a_function() -> None:
    """As multiples of fastact's, bold where another is faster; nothing for a function that was not measured."""
    medians = {"fastact": 2e-6, "numpy": 24e-6, "torch": 1e-6}
    times = {key: Times(median, median, median) for key, median in medians.items()}
    result = Result("relu", "forward", 1000, times, limit=math.nan)
    *_, line = speeds.table(speeds.results_of([result], "relu"))
    assert line == "| value | 1,000 | 2.00 µs | 12 | **0.50** |"
    assert not speeds.results_of([result], "gelu")
    figure = Figure()
    speeds.draw([result], figure)
    (panel,) = figure.axes
    ratios = {line.get_label(): list(line.get_ydata()) for line in panel.get_lines()}
    assert (ratios["NumPy"], ratios["PyTorch"]) == ([12], [0.5])


@pytest.mark.parametrize(("time", "text"), [(4.567e-7, "0.457 µs"), (0.0123, "12,300 µs")])
def test_microseconds(time: float, text: str) -> None:
    assert speeds.microseconds(time) == text


def test_floors() -> None:
    """The picture is that of the contract which the linter checks."""
    assert floors.PICTURE.read_text(encoding="utf-8") == "\n".join(floors.picture(floors.floors()))


@pytest.mark.parametrize("script", guide.SCRIPTS, ids=lambda script: script.stem)
def test_figures_are_current(script: Path) -> None:
    """A figure of the guide is that of its script: ``python tools/guide.py`` renews it. Pages have what it prints."""
    assert guide.is_current(script)
    for page in guide.PAGES:
        text = page.read_text(encoding="utf-8")
        assert guide.figure_of(script).name in text
        (block,) = re.findall(rf"<!-- {script.stem} -->\n```text\n(.+?)```", text, flags=re.DOTALL)
        assert block.strip()
