"""What happens without a library that an adapter needs, or with another release of it."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from fresh_process import assert_clean, run_python
from packaging.requirements import Requirement

from fastact import backends
from fastact.backends._requirements import require

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]["optional-dependencies"]
ADAPTERS = [
    each.name for each in pkgutil.iter_modules(backends.__path__) if not each.name.startswith("_")
]
OF_LIBRARIES = [each for each in ADAPTERS if each.replace("_", "-") in EXTRAS]


def library_of(adapter: str) -> Requirement:
    library, *_, packaging = map(Requirement, EXTRAS[adapter.replace("_", "-")])
    assert packaging.name == "packaging"
    return library


def test_every_extra_has_its_adapter() -> None:
    others = {"cli", "plot", "demo", "test", "peers", "bench", "backends", "onnx"}
    assert {each.replace("_", "-") for each in OF_LIBRARIES} == EXTRAS.keys() - others


@pytest.mark.parametrize("adapter", OF_LIBRARIES)
def test_missing(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, version = library_of(adapter), metadata.version

    def without(name: str) -> str:
        if name == library.name:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    with pytest.raises(ImportError) as raised:
        require(f"fastact.backends.{adapter}")
    extra = adapter.replace("_", "-")
    assert f"pip install 'fastact[{extra}]'" in str(raised.value)
    assert f"needs {library.name}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("adapter", OF_LIBRARIES)
def test_other_release(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, version = library_of(adapter), metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "0.0.1" if name == library.name else version(name)
    )
    with pytest.raises(ImportError, match=re.escape("0.0.1 is installed")) as raised:
        require(f"fastact.backends.{adapter}")
    for each in library.specifier:
        assert str(each) in str(raised.value)


def test_import_says_so() -> None:
    """The error comes before that of the library's own import."""
    script = """
        import sys
        from importlib import metadata
        version = metadata.version
        def without(name):
            if name == "torch":
                raise metadata.PackageNotFoundError(name)
            return version(name)
        metadata.version = without
        try:
            import fastact.backends.torch
        except ImportError as error:
            assert "fastact[torch]" in str(error), error
            assert "torch" not in sys.modules
        else:
            raise AssertionError("imported")
    """
    assert_clean(run_python(script))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_short(adapter: str) -> None:
    file = Path(backends.__path__[0], f"{adapter}.py")
    assert len(file.read_text(encoding="utf-8").splitlines()) < 200
