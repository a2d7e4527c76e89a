"""What the tests of adapters share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from array_cases import cases
from representatives import OF_EACH_FAMILY

import fastact as fa
from fastact import catalogue
from fastact.catalogue.definition import Definition
from fastact.functions import registry


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make `case` a call of every operation: of some functions, with ``--long`` of all."""
    if "case" in metafunc.fixturenames:
        names = fa.names() if metafunc.config.getoption("--long") else OF_EACH_FAMILY
        metafunc.parametrize("case", list(cases(names)), ids=str)


class _Uncached(Definition):
    """A definition outside fastact's sources, whose kernels the cache would not know apart from others."""

    def kernel_name(self, loop: str) -> str | None:
        return None


def _newcomer(x: Any) -> tuple[Any, Any]:
    """Half of the square.

    Examples
    --------
    >>> fa.newcomer(2.0)
    2.0
    """
    return 0.5 * x * x, x


@pytest.fixture
def newcomer() -> Iterator[str]:
    """Add half of the square to the registry for one test, and return its name.

    It is what every adapter must offer without a change.
    """
    name = "newcomer"
    definition = _Uncached(_newcomer, formula="x^2 / 2", derivative="x", aliases=("new_one",))

    def forget() -> None:
        catalogue.catalogue.cache_clear()
        registry.aliases.cache_clear()

    catalogue._all()[name] = definition
    forget()
    yield name
    del catalogue._all()[name]
    forget()
