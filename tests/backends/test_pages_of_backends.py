"""The code of the pages about backends: all of it runs, each page in a process of its own."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from fresh_process import run_python

from fastact.backends._requirements import require

ROOT = Path(__file__).parents[2]
PAGES, BACKENDS = ROOT / "docs" / "backends", ROOT / "fastact" / "backends"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIBRARY = re.compile(r"^(?:from|import) (?!fastact|onnx_runner)(\w+)", re.MULTILINE)
MODULE = re.compile(r"fastact\.backends(?:\.| import )(\w+)")


def run_cleanly(script: str) -> None:
    """Run a script, whose libraries may warn."""
    done = run_python(script, path=ROOT / "examples")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(each.stem for each in PAGES.glob("*.md")))
def test_code_runs(page: str) -> None:
    code = "\n".join(BLOCK.findall((PAGES / f"{page}.md").read_text(encoding="utf-8")))
    assert code
    for module in LIBRARY.findall(code):
        if find_spec(module) is None:  # not imported here: Keras asks for a setting first
            pytest.skip(f"{module} is not installed")
    try:
        for module in MODULE.findall(code):
            require(f"fastact.backends.{module}")
    except ImportError as error:
        pytest.skip(str(error))
    run_cleanly(code)


def documented() -> list[str]:
    """Return the adapters whose docstrings have examples."""
    return [
        each.stem for each in BACKENDS.glob("*.py") if ">>> " in each.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("module", sorted(documented()))
def test_docstrings(module: str) -> None:
    pytest.importorskip(f"fastact.backends.{module}", exc_type=ImportError)
    script = f"""
        import doctest
        import numpy as np
        import fastact as fa
        import fastact.backends.{module} as module
        names = {{"np": np, "fa": fa, **vars(module)}}
        assert not doctest.testmod(module, extraglobs=names).failed
    """
    run_cleanly(script)
