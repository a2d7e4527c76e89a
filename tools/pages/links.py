"""Check the links and pictures of a built site: ``python -m tools.pages.links build/docs``.

What leads to the site itself must be there, down to the anchor. Addresses elsewhere are listed, not fetched.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

#: Pages whose links Sphinx and the theme write: they lead to sources and anchors that are made when they are opened.
MADE_BY_SPHINX = {"genindex.html", "py-modindex.html", "search.html"}


class Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names and refers to."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "link":
                self.targets.append(value)


def check(site: Path) -> tuple[list[str], set[str]]:
    """Return what leads nowhere, and the addresses elsewhere."""
    files = (file for file in site.rglob("*.html") if "_static" not in file.parts)
    pages = {file.resolve(): Page(file) for file in files}
    dead: list[str] = []
    elsewhere: set[str] = set()
    for file, page in pages.items():
        if file.name in MADE_BY_SPHINX:
            continue
        for target in page.targets:
            address, anchor = urldefrag(target)
            if urlsplit(target).scheme:
                elsewhere.add(address)
                continue
            path = unquote(urlsplit(address).path)  # without ?v=1
            found = (file.parent / path).resolve() if path else file
            is_there = found.exists() and (
                not anchor or found not in pages or unquote(anchor) in pages[found].anchors
            )
            if not is_there:
                dead.append(f"{file.relative_to(site.resolve())}: {target}")
    return dead, elsewhere


def main() -> int:
    """Print what was found; fail if a link is dead."""
    dead, elsewhere = check(Path(sys.argv[1]))
    print("Addresses elsewhere, not fetched:", *sorted(elsewhere), sep="\n  ")
    print(*(f"dead link: {each}" for each in dead), sep="\n")
    return bool(dead)


if __name__ == "__main__":
    sys.exit(main())
