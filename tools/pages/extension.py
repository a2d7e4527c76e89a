"""The extension of Sphinx that writes the generated pages, and makes every example of a page a doctest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

import fastact

from . import functions, pictures, reference

# A link in Markdown to a file above the page.
_LINK = re.compile(r"\[(?P<text>[^\[\]]+)\]\((?P<path>\.\./[^)#]+)(?P<anchor>#[^)]*)?\)")

# A row of a table in Markdown, and code in it that may be the name of a function.
_ROW = re.compile(r"^\|.*$", flags=re.MULTILINE)
_CODE = re.compile(r"(?<!\[)`(\w+)`")

# What the repository has as sources and the site as pages.
_PAGES = {"examples/guide": "/guide/index.rst"}

_logger = logging.getLogger(__name__)


def write_pages(app: Sphinx) -> None:
    """Write the pages that are generated, before Sphinx looks for its sources."""
    docs = Path(app.srcdir)
    _write(docs / "functions", functions.pages())
    found = reference.pages()
    _write(docs / "api", found | {"index": reference.index(found)})
    if app.builder.format == "html":
        pictures.draw(docs / "functions")


def _write(folder: Path, pages: dict[str, str]) -> None:
    """Make the pages of a folder these, but leave those as they are that Sphinx need not read again."""
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.md"):
        if file.stem not in pages:
            file.unlink()
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def relink(app: Sphinx, docname: str, source: list[str]) -> None:
    """Point links to files outside the pages to the repository; where its address is unknown, leave their text."""
    docs = Path(app.srcdir)

    def link(match: re.Match[str]) -> str:
        file = (docs / docname).parent.joinpath(match["path"]).resolve()
        if file.is_relative_to(docs):
            return match[0]
        if not file.exists():
            _logger.warning("no such file: %s", match["path"], location=docname)
        path = file.relative_to(docs.parent).as_posix()
        if path in _PAGES:
            return f"[{match['text']}]({_PAGES[path]})"
        if not app.config.repository:
            return match["text"]
        return f"[{match['text']}]({app.config.repository}/blob/main/{path}{match['anchor'] or ''})"

    source[0] = _LINK.sub(link, source[0])
    # Not in the sources: on GitHub there are no pages of functions.
    source[0] = _ROW.sub(lambda row: _CODE.sub(link_function, row[0]), source[0])


def link_function(code: re.Match[str]) -> str:
    """Make the name of a function a link to its page."""
    name = code[1]
    return f"[{name}](/functions/{name}.md)" if name in fastact.names() else code[0]


def check_page(app: Sphinx, tree: nodes.document) -> None:
    """Make sessions in Markdown doctests, as those in docstrings are, and refuse what GitHub cannot show."""
    for node in tree.findall(nodes.literal_block):
        if node.get("language") == "pycon":
            node["testnodetype"] = "doctest"
            node["groups"] = ["default"]
    for formula in (*tree.findall(nodes.math), *tree.findall(nodes.math_block)):
        if r"\operatorname" in formula.astext():
            _logger.warning(r"GitHub refuses \operatorname: use \mathrm", location=formula)


def refuse_dead_name(app: Sphinx, env: Any, node: Any, content: Any) -> None:
    """Warn of a reference to a name of fastact that is documented nowhere."""
    target = node.get("reftarget", "")
    if target.startswith("fastact.") and "._" not in target:
        _logger.warning("no such name: %s", target, location=node, type="ref")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this module does."""
    app.connect("builder-inited", write_pages)
    app.add_config_value("repository", "", "env", types=[str])
    app.connect("source-read", relink)
    app.connect("doctree-read", check_page)
    app.connect("missing-reference", refuse_dead_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
