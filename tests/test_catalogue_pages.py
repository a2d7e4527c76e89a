"""The pages that are generated from the catalogue."""

import subprocess
import sys
from pathlib import Path

import pytest

import fastact

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").exists(), reason="the pages are in the repository only"
)


def test_pages_are_up_to_date() -> None:
    """What the tool would write is what is there."""
    command = [sys.executable, str(ROOT / "tools" / "catalogue_pages.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", fastact.names())
def test_pictures_are_there(name: str) -> None:
    """Each activation that has a curve has its picture, and they are small."""
    if name == "maxout":
        pytest.skip("a function of several inputs")
    assert (ROOT / "docs" / "images" / f"{name}.svg").stat().st_size < 40_000
