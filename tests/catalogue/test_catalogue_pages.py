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

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").exists(), reason="the pages are in the repository only"
)


def test_pages_are_up_to_date() -> None:
    """What the tool would write is what is there."""
    command = [sys.executable, str(ROOT / "tools" / "catalogue_pages.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("activations", fastact.names("activation")),
        ("rows", [*fastact.names("row"), "Arguments"]),
        ("layers", [*fastact.names(*LAYERS), "Arguments"]),
    ],
)
def test_pages_are_complete(page: str, names: list[str]) -> None:
    """There is a section for each, and a link to it."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == names
    for name in names:
        assert name == "Arguments" or f"[{name}](#{name})" in text


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


@pytest.mark.parametrize("name", fastact.names("activation"))
def test_pictures_are_there(name: str) -> None:
    """Each activation that has a curve has its picture, and they are small."""
    if "derivative" not in fastact.get(name).operations:
        pytest.skip("a function of several inputs")
    assert (ROOT / "docs" / "images" / f"{name}.svg").stat().st_size < 40_000
