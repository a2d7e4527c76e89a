"""The API reference, from docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpydoc.docscrape_sphinx import get_doc_object

import fastact
from fastact import backends, functions, ufuncs
from fastact.functions import Function

#: Sections of a function's docstring that its page has elsewhere.
_ON_PAGE = ("Summary", "Extended Summary", "Notes", "References", "Examples")


def entry(name: str, found: Any, *, without: Iterable[str] = ()) -> str:
    """Return the description of a function in reStructuredText, without some sections of its docstring."""
    text = inspect.getdoc(found) or ""
    if isinstance(found, np.ufunc):  # NumPy puts the signature before the docstring
        call, _, text = text.partition("\n\n")
        signature = call.removeprefix(found.__name__)
    else:
        signature = str(inspect.signature(found))
    return (
        f".. py:function:: {name}{signature}\n\n{textwrap.indent(described(text, without), '   ')}"
    )


def described(text: str, without: Iterable[str] = ()) -> str:
    """Return a docstring in reStructuredText, without some of its sections."""
    doc = get_doc_object(None, "obj", text)
    for section in without:
        doc[section] = type(doc[section])()
    return str(doc)


def calls(function: Function) -> Iterator[str]:
    """Yield the descriptions of a function's call and of its methods."""
    name = f"fastact.{function.name}"
    yield entry(name, function, without=_ON_PAGE)
    for method, found in vars(type(function)).items():
        if inspect.isfunction(found) and not method.startswith("_"):
            yield entry(f"{name}.{method}", getattr(function, method))


def pages() -> dict[str, str]:
    """Return the text of each page of the reference by its name."""
    members = [f".. autofunction:: fastact.{each}" for each in fastact.__all__]
    methods = "caller, choose, ufunc_name"  # what the package itself calls
    objects = [f".. autoclass:: Function\n   :members:\n   :exclude-members: {methods}"]
    objects += [
        ".. currentmodule:: fastact.functions.vjp",
        ".. autoclass:: Vjp\n   :members: nbytes",
    ]
    maths = [
        entry(f"fastact.math.{each}", getattr(fastact.math, each)) for each in fastact.math.__all__
    ]
    return {
        "fastact": page(fastact, members),
        "functions": page(functions, objects),
        "math": page(fastact.math, maths),
        "ufuncs": page(ufuncs, ()),
        **{
            f"backends.{each.__name__.rpartition('.')[2]}": page(each, own(each))
            for each in public()
        },
    }


def public() -> Iterator[ModuleType]:
    """Yield the modules of backends."""
    for each in pkgutil.iter_modules(backends.__path__):
        if not each.name.startswith("_"):
            yield importlib.import_module(f"{backends.__name__}.{each.name}")


def own(module: ModuleType) -> Iterator[str]:
    """Yield directives for what a module defines beside the functions of the catalogue."""
    listed = getattr(module, "__all__", ())
    for name in listed or dir(module):
        found = getattr(module, name)
        is_own = name in listed or getattr(found, "__module__", "") == module.__name__
        if name.startswith("_") or name in fastact.names() or not is_own:
            continue
        if inspect.isclass(found):
            methods = [
                key
                for key, each in vars(found).items()
                if key[0] != "_" and getattr(each, "__module__", "").startswith("fastact")
            ]
            members = f"\n   :members: {', '.join(methods)}" if methods else ""
            yield f".. autoclass:: {name}{members}"
        elif inspect.isfunction(found):
            yield f".. autofunction:: {name}"


def page(module: ModuleType, entries: Iterable[str]) -> str:
    """Return the page of a module: its docstring, and directives for what it has."""
    name = module.__name__
    # The examples of a module's functions are written as from inside it.
    setup = (
        f".. testsetup::\n\n   from {name} import *" if name.startswith(backends.__name__) else ""
    )
    text = [setup, described(inspect.getdoc(module) or ""), f".. py:module:: {name}", *entries]
    return "# {}\n\n````{{eval-rst}}\n{}\n````\n".format(name, "\n\n".join(text))


def index(pages: Mapping[str, str]) -> str:
    """Return the page that leads to the others."""
    modules = [sys.modules[each.partition("# ")[2].partition("\n")[0]] for each in pages.values()]
    rows = "\n".join(
        f"* - [{module.__name__}]({name}.md)\n  - {first_sentence(module)}"
        for name, module in zip(pages, modules, strict=True)
    )
    listed = "\n".join(pages)
    return f"""\
# API reference

Every function of the catalogue, such as `fastact.gelu`, is described on [a page of its own](../functions/index.md) with
its methods and arguments. These are the modules:

```{{list-table}}
:class: facts

{rows}
```

```{{toctree}}
:hidden:

{listed}
```
"""


def first_sentence(module: ModuleType) -> str:
    """Return what a module is, in a line of Markdown."""
    text = " ".join((inspect.getdoc(module) or "").partition("\n\n")[0].split())
    return text.removeprefix("fastact: ").replace("``", "`")
