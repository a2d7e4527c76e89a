"""The constraints hold what pyproject.toml asks for: after a change there, tools/renew_constraints.sh makes them anew."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = ("cli", "plot", "demo", "test", "bench")
BACKENDS = [
    "astropy",
    "autograd",
    "dask",
    "dezero",
    "keras",
    "mygrad",
    "numpy-ml",
    "onnx",
    "pandas",
    "sklearn",
    "thinc",
    "unyt",
    "xarray",
]


def pins(name: str) -> dict[str, list[Version]]:
    """Return the versions of each package: several where they depend on the Python."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==([0-9a-z.]+)( ; .*)?", line)
            assert match is not None, line
            found.setdefault(match[1], []).append(Version(match[2]))
    return found


def requirements(extras: Iterable[str], *groups: str) -> list[Requirement]:
    """Return what fastact, some of its extras and some groups ask for."""
    project = PROJECT["project"]
    asked = [
        *project["dependencies"],
        *(each for extra in extras for each in project["optional-dependencies"][extra]),
        *(each for group in groups for each in PROJECT["dependency-groups"][group]),
    ]
    wanted = [Requirement(each) for each in asked if isinstance(each, str)]
    return [each for each in wanted if each.name not in ("fastact", "jax")]


def test_every_extra_is_held() -> None:
    """A new extra is one of those above, or of the peers, which pyproject.toml pins itself."""
    assert set(PROJECT["project"]["optional-dependencies"]) == {
        *EXTRAS,
        *BACKENDS,
        "backends",
        "jax",
        "peers",
        "torch",
    }


@pytest.mark.parametrize(
    "asked",
    requirements([*EXTRAS, *BACKENDS], "lint", "dev", "docs", "foreign", "browser"),
    ids=str,
)
def test_locked(asked: Requirement) -> None:
    """What README's commands install is what pyproject.toml allows."""
    versions = pins("locked")[canonicalize_name(asked.name)]
    assert all(asked.specifier.contains(each) for each in versions)


@pytest.mark.parametrize("asked", requirements(EXTRAS), ids=str)
def test_oldest(asked: Requirement) -> None:
    """What the oldest run installs is the lower bound."""
    (bound,) = [Version(each.version) for each in asked.specifier if each.operator == ">="]
    for each in pins("oldest")[canonicalize_name(asked.name)]:
        assert each.release[: len(bound.release)] == bound.release


def test_peers_bring_their_own() -> None:
    """What is for GPUs, and what pyproject.toml pins, is in no constraint."""
    for name in "locked", "oldest":
        assert not [each for each in pins(name) if re.match("cuda|jax|nvidia|torch|triton", each)]
