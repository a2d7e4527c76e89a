"""The pages that are generated from the catalogue."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastact
from fastact.catalogue.definition import LAYERS
from fastact.show.facts import arguments, signatures

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are in the repository only")


def test_page_is_up_to_date() -> None:
    """What the tool would write is what is there."""
    command = [sys.executable, str(ROOT / "tools" / "catalogue_pages.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_page_is_complete() -> None:
    """There is a row for each function."""
    found = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(found) == sorted(fastact.names())


@pytest.mark.parametrize("name", fastact.names())
def test_use_is_told(name: str) -> None:
    """When to use it and when not: as phrases, which pages and docstrings continue."""
    definition = fastact.get(name)._definition
    for text in definition.good_for, definition.not_for:
        assert re.fullmatch(r"[a-z0-9].*[^.]", text)


@pytest.mark.parametrize("name", [*fastact.names("row"), *fastact.names(*LAYERS)])
def test_whole_arrays_are_described(name: str) -> None:
    """How it is called is told, and what every argument is."""
    function = fastact.get(name)
    assert (inspect.getdoc(function) or "").partition("\n\n")[0]
    assert signatures(function)[0].startswith(f"{name}(")
    told = set(arguments(function))
    for name in {"__call__", "backward", "forward_backward"} & {*dir(function)}:
        parameters = inspect.signature(getattr(function, name)).parameters.values()
        assert {each.name for each in parameters if each.kind != each.VAR_POSITIONAL} <= told
