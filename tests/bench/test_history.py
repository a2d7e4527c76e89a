"""The history of fastact's speed: its pages in a browser, offline, and what makes them.

The results are invented: in the newest commits, sigmoid takes 1.5 times as long, in NumPy too.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastact.bench import history
from fastact.cli import app

pytest.importorskip("asv")

ROOT = Path(__file__).parents[2]
COMMITS, SLOWER_FROM = 18, 12
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
TIME = "pointwise.track_time"


def git(folder: Path, *arguments: str) -> str:
    name = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    command = ["git", *name, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clone with commits and results, without a line of fastact."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "asv.conf.json", folder)
    shutil.copytree(ROOT / history.SCRIPTS, folder / history.SCRIPTS)
    results = folder / "benchmarks" / "results"
    results.mkdir()
    shutil.copy(ROOT / "benchmarks" / "results" / "benchmarks.json", results)
    git(folder, "init", "--quiet")
    (folder / history.MEASURED).mkdir()
    machine = results / "invented"
    machine.mkdir()
    (machine / "machine.json").write_text('{"machine": "invented", "version": 1}')
    for number in range(COMMITS):
        (folder / history.MEASURED / "module.py").write_text(f"number = {number}\n")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--date", f"2026-01-{number + 1:02}T12:00", "-m", "next")
        commit = git(folder, "rev-parse", "HEAD")
        text = json.dumps(invented_results(commit, number))
        (machine / f"{commit[:8]}-python.json").write_text(text)
    return folder


def invented_results(commit: str, number: int) -> dict[str, Any]:
    """Return what asv would have kept of a commit."""
    suites = json.loads((ROOT / "benchmarks" / "results" / "benchmarks.json").read_text())
    results = {}
    for name, benchmark in suites.items():
        if name == "version":
            continue
        combinations = itertools.product(*benchmark["params"])
        values = [invented_number(name, each, number) for each in combinations]
        results[name] = [values, benchmark["params"], benchmark["version"], number, 1.0]
    return {
        "commit_hash": commit,
        "env_name": "python",
        "date": 1_767_000_000_000 + 86_400_000 * number,
        "params": {"machine": "invented", "python": "3.11"},
        "python": "3.11",
        "requirements": {},
        "env_vars": {},
        "result_columns": ["result", "params", "version", "started_at", "duration"],
        "results": results,
        "durations": {},
        "version": 2,
    }


def invented_number(name: str, combination: tuple[str, ...], number: int) -> float:
    seconds = 3e-6 * (10 if "'numpy'" in combination else 1) * (1 + 0.02 * (number % 3))
    is_slower = name == TIME and "'sigmoid'" in combination and number >= SLOWER_FROM
    return seconds * (1.5 if is_slower else 1)


@pytest.fixture(scope="module")
def pages(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    assert history.publish(clone, folder) == []
    return folder


def test_regressions_are_ours(pages: Path) -> None:
    """What became slower is found, and in the feed; that NumPy did too is no regression."""
    found = json.loads((pages / "regressions.json").read_text())["regressions"]
    assert len(found) == 3  # shapes
    for name, _, _, _, latest, best, _ in found:
        assert name.startswith(f"{TIME}('fastact', 'sigmoid', ")
        assert 1.4 < latest / best < 1.6
    feed = (pages / "regressions.xml").read_text()
    assert feed.count("<entry>") == 3
    assert "numpy" not in feed


def test_pages_load_nothing_from_elsewhere(pages: Path) -> None:
    index = (pages / "index.html").read_text()
    assert 'src="http' not in index
    assert 'rel="stylesheet" href="http' not in index
    assert index.count("<script") > 10
    assert all(
        (pages / name).is_file() for name in ("bootstrap.min.css", "jquery.flot.js", "md5.min.js")
    )


def test_what_has_no_copy_is_loaded_as_before(tmp_path: Path) -> None:
    line = '<script src="https://example.org/1.0/other.js" integrity="x"></script>'
    (tmp_path / "index.html").write_text(line)
    assert history.make_local(tmp_path, ROOT / history.SCRIPTS) == ["other.js"]
    assert (tmp_path / "index.html").read_text() == line


def test_spread_commits(clone: Path) -> None:
    """First the newest, last the oldest, and none twice."""
    listed = git(clone, "rev-list", "HEAD").split()
    assert history.spread_commits(clone, 1) == listed[:1]
    assert history.spread_commits(clone, 2) == [listed[0], listed[-1]]
    assert history.spread_commits(clone, 100) == listed
    some = history.spread_commits(clone, 7)
    assert len(set(some)) == 7
    assert sorted(some, key=listed.index) == some


def test_command(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone / "benchmarks")
    arguments = ["dashboard", "--no-serve", "--output", str(tmp_path / "pages")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "pages" / "index.html").is_file()
    assert "pages" in result.stdout


def test_command_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(history.fastact, "__file__", str(tmp_path / "lib" / "fastact" / "a.py"))
    result = CliRunner().invoke(app, ["dashboard", "--no-serve"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "git clone" in result.stderr


def test_command_with_broken_results(clone: Path, tmp_path: Path) -> None:
    """The message is asv's."""
    copy = tmp_path / "clone"
    shutil.copytree(clone, copy)
    (copy / "benchmarks" / "results" / "benchmarks.json").unlink()
    with pytest.raises(RuntimeError, match=r"asv publish failed:[\s\S]*benchmarks.json"):
        history.publish(copy, tmp_path / "pages")


@pytest.fixture(scope="module")
def browser(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start Chromium, without a network, on the pages as they are served."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not CHROMIUM or not DRIVER:
        pytest.skip("Chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "window-size=1400,1000",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{argument}")
    server = history.server(pages, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.address = f"http://127.0.0.1:{server.server_port}/"
    yield driver
    driver.quit()
    server.shutdown()
    server.server_close()


def open_page(browser: Any, fragment: str, condition: str) -> Any:
    """Open a page, wait until an expression is true, and check that no script failed; return its value."""
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    browser.get("about:blank")
    browser.get(browser.address + fragment)
    value = wait(browser, 30).until(lambda browser: browser.execute_script(f"return {condition}"))
    errors = [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    assert not errors
    return value


def test_grid(browser: Any) -> None:
    """Every benchmark has a picture with points."""
    count = len(json.loads((ROOT / "benchmarks" / "results" / "benchmarks.json").read_text())) - 1
    open_page(browser, "", f"$('.benchmark-container').length == {count}")
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    points = open_page(
        browser,
        "",
        "$('.benchmark-plot').first().data('plot') && "
        "$('.benchmark-plot').first().data('plot').getData()[0].data.length",
    )
    assert points == COMMITS


def test_graph(browser: Any) -> None:
    """The first graph has NumPy beside fastact, with a point for each commit."""
    series = open_page(
        browser,
        f"#{TIME}",
        "$('#main-graph').data('plot') && $('#main-graph').data('plot').getData()"
        ".map(each => [each.label, each.data.filter(point => point[1] > 0).length])",
    )
    labels = [label for label, _ in series]
    for implementation in ("fastact", "numpy"):
        assert any(implementation in label and "sigmoid" in label for label in labels), labels
    assert {count for _, count in series} == {COMMITS}


def test_list_of_benchmarks(browser: Any) -> None:
    rows = open_page(browser, "#/summarylist", "$('#summarylist-body tbody tr').length")
    assert rows > 50


def test_regressions(browser: Any) -> None:
    text = open_page(
        browser,
        "#/regressions",
        "$('#regressions-body tbody tr').length && $('#regressions-body').text()",
    )
    assert "sigmoid" in text
    assert "numpy" not in text
