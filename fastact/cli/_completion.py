"""What a shell completes: names of functions, kinds, libraries and types."""

from __future__ import annotations

from collections.abc import Iterator


def functions(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the names and aliases of functions that begin so, with what they are."""
    from fastact.functions.registry import aliases, get, names

    for name in (*names(), *aliases()):
        if name.startswith(incomplete):
            yield name, get(name)._definition.summary.partition("\n")[0]


def kinds(incomplete: str) -> list[str]:
    """Return the kinds of functions that begin so."""
    from fastact.catalogue.definition import KINDS

    return [each for each in KINDS if each.startswith(incomplete)]


def libraries(incomplete: str) -> list[str]:
    """Return the libraries that begin so."""
    from fastact.show.facts import LIBRARIES

    return [each for each in LIBRARIES if each.startswith(incomplete)]


def conventions(incomplete: str) -> list[str]:
    """Return the libraries with conventions of their own that begin so."""
    from fastact.catalogue.definition import CONVENTIONS

    return [each for each in CONVENTIONS if each.startswith(incomplete)]


def types(incomplete: str) -> list[str]:
    """Return the types of arrays that begin so."""
    from fastact.runtime.dtypes import dtypes

    return [each for each in dtypes() if each.startswith(incomplete)]


def operations(incomplete: str) -> list[str]:
    """Return what the benchmarks measure that begins so."""
    from fastact.bench.contenders import OPERATIONS

    return [each for each in OPERATIONS if each.startswith(incomplete)]


def implementations(incomplete: str) -> list[str]:
    """Return the competitors of the benchmarks that begin so."""
    from fastact.bench.contenders import IMPLEMENTATIONS

    return [each for each in IMPLEMENTATIONS if each.startswith(incomplete)]
