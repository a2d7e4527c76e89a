"""Docstrings: examples that run, and the sections that numpydoc prescribes.

The values in examples are literals. Plain doctest does not find the docstrings of generated classes, so all public
objects are listed here.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from representatives import OF_EACH_FAMILY, with_long

import fastact as fa
import fastact.ufuncs
from fastact.functions import Function
from fastact.functions.registry import aliases

FUNCTIONS = fa.names()
# Methods that the package itself calls.
INTERNAL = {"caller", "choose", "ufunc_name"}


def methods(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the methods that a function's own class defines, but its call, which the function documents."""
    for name, method in vars(type(function)).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            yield f"fa.{function.name}.{name}", method


def others() -> Iterator[tuple[str, Any]]:
    """Yield what is public beside the functions of the catalogue: settings, `fastact.math`, inherited methods."""
    for name in sorted({*dir(fa)} - {*FUNCTIONS, *aliases()}):
        if callable(found := getattr(fa, name)):
            yield f"fa.{name}", found
    for name in fa.math.__all__:
        yield f"fa.math.{name}", getattr(fa.math, name)
    for name, found in vars(Function).items():
        if inspect.isfunction(found) and not name.startswith("_") and name not in INTERNAL:
            yield f"Function.{name}", found


OTHERS = dict(others())
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_other = pytest.mark.parametrize("name", OTHERS)


def documented(name: str) -> dict[str, Any]:
    """Return a function of the catalogue and its methods by their names."""
    function = fa.get(name)
    return {f"fa.{name}": function, **dict(methods(function))}


def run_examples(name: str, doc: str) -> None:
    """Run the examples of a docstring; fail if there are none, or one prints something else."""
    test = doctest.DocTestParser().get_doctest(doc, {"np": np, "fa": fa}, name, None, None)
    assert test.examples, f"{name} has no example"
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def check_sections(name: str, found: Any) -> dict[str, str]:
    """Check that a docstring has sections in their order, and describes each argument and the results."""
    doc = inspect.cleandoc(found.__doc__)
    _, *parts = re.split(r"^(\w[\w ]*)\n-{3,}$", doc, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    order = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]
    assert list(sections) == [each for each in order if each in sections], name
    signature = inspect.signature(found)
    words = re.findall(r"\w+", sections.get("Parameters", ""))
    for each in signature.parameters.values():
        if each.name != "self" and each.kind is not each.VAR_KEYWORD:
            assert each.name in words, f"{name} does not describe {each.name}"
    assert "Returns" in sections or signature.return_annotation == "None", name
    return sections


@every_function
def test_examples_of_functions(name: str) -> None:
    run_examples(f"fa.{name}", fa.get(name).__doc__)


@pytest.mark.parametrize("name", with_long(FUNCTIONS, OF_EACH_FAMILY))
def test_examples_of_methods(name: str) -> None:
    for each, method in methods(fa.get(name)):
        run_examples(each, method.__doc__)


@every_function
def test_sections_of_functions(name: str) -> None:
    """Each fits a terminal of 80 columns, of which `help` leaves 72 to methods."""
    for each, found in documented(name).items():
        assert {"Raises", "Examples"} <= check_sections(each, found).keys(), each
        width = 76 if isinstance(found, Function) else 72
        assert [line for line in found.__doc__.splitlines() if len(line) > width] == []
    assert {"Notes", "References"} <= check_sections(name, fa.get(name)).keys()


@every_other
def test_sections_of_others(name: str) -> None:
    found = OTHERS[name]
    sections = check_sections(name, found)
    raises = isinstance(found, np.ufunc) or "    raise " in inspect.getsource(found)
    assert "Raises" in sections or not raises, name


@every_other
def test_examples_of_others(name: str) -> None:
    run_examples(name, inspect.cleandoc(OTHERS[name].__doc__))


@pytest.mark.parametrize("module", ["fastact", "fastact.ufuncs"])
def test_examples_of_modules(module: str) -> None:
    run_examples(module, importlib.import_module(module).__doc__ or "")
