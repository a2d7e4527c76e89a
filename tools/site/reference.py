"""The API reference, from docstrings."""

from __future__ import annotations

import inspect
import pkgutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from numpydoc.docscrape_sphinx import get_doc_object

import fastact
from fastact import backends
from fastact.functions import Function

#: Sections of a function's docstring that its page has elsewhere.
_ON_PAGE = ("Summary", "Extended Summary", "Notes", "References", "Examples")


def entry(name: str, found: Any, *, without: Iterable[str] = ()) -> str:
    """Return the description of a function in reStructuredText, without some sections of its docstring."""
    try:
        signature = str(inspect.signature(found))
    except ValueError:  # a ufunc
        signature = "(x, /, out=None, *, where=True, casting='same_kind', order='K', dtype=None)"
    doc = get_doc_object(found, "obj", inspect.getdoc(found) or "", config={"use_index": False})
    for section in without:
        doc[section] = type(doc[section])()
    return f".. py:function:: {name}{signature}\n\n{textwrap.indent(str(doc), '   ')}"


def calls(function: Function) -> Iterator[str]:
    """Yield the descriptions of a function's call and of its methods."""
    name = f"fastact.{function.name}"
    yield entry(name, function, without=_ON_PAGE)
    for method, found in vars(type(function)).items():
        if inspect.isfunction(found) and not method.startswith("_"):
            yield entry(f"{name}.{method}", getattr(function, method))


def pages() -> dict[str, str]:
    """Return the text of each page of the reference by its name."""
    modules = [each.name for each in pkgutil.iter_modules(backends.__path__)]
    public = [each for each in modules if not each.startswith("_")]
    return {
        "fastact": _page(
            "fastact",
            "Functions beside those of the catalogue, which [have a page each](../functions/index.md).",
            [f".. autofunction:: fastact.{each}" for each in fastact.__all__],
        ),
        "function": _page(
            "Function objects",
            "What every function has, beside the methods on its page.",
            [
                ".. currentmodule:: fastact.functions",
                ".. autoclass:: Function\n   :members:\n   :exclude-members: caller, choose, ufunc_name",
            ],
        ),
        "math": _page(
            "fastact.math",
            inspect.getdoc(fastact.math) or "",
            [entry(f"fastact.math.{each}", getattr(fastact.math, each)) for each in fastact.math.__all__],
        ),
        "ufuncs": _page("fastact.ufuncs", "", [".. automodule:: fastact.ufuncs"]),
        **{f"backends.{each}": backend_page(each) for each in public},
    }


def backend_page(module: str) -> str:
    """Return the page of a backend's module: all that it documents itself."""
    name = f"fastact.backends.{module}"
    return _page(name, "", [f".. automodule:: {name}\n   :members:"])


def index(names: Iterable[str]) -> str:
    """Return the page that leads to the others."""
    listed = "\n".join(f"api/{each}" for each in names)
    return f"""\
# API reference

Every function of the catalogue is described, with its methods and arguments, on
[its own page](functions/index.md). Here is everything else.

```{{toctree}}
:maxdepth: 2

{listed}
```
"""


def _page(title: str, text: str, entries: Iterable[str]) -> str:
    described = "\n\n".join(entries)
    intro = f"````{{eval-rst}}\n{text}\n````" if "``" in text or "`fast" in text else text
    return f"# {title}\n\n{intro}\n\n````{{eval-rst}}\n{described}\n````\n"
