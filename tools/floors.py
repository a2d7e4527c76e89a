"""Draw the floors of the package as import-linter's contract has them.

``python tools/floors.py`` writes docs/images/floors.svg, which docs/architecture.md shows.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "floors.svg"

WIDTH, HEIGHT, GAP = 560, 38, 10


def floors() -> list[list[str]]:
    """Return the packages of each floor, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract, *_ = project["tool"]["importlinter"]["contracts"]
    return [layer.split(" | ") for layer in contract["layers"]]


def picture(floors: list[list[str]]) -> Iterator[str]:
    """Yield the lines of a picture: a row of boxes for each floor, and which way imports go."""
    pitch = HEIGHT + GAP
    bottom = len(floors) * pitch - GAP
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 60} {bottom}" width="{WIDTH + 60}" font-family="monospace" font-size="15">'
    for number, names in enumerate(floors):
        width = (WIDTH - GAP * (len(names) - 1)) / len(names)
        for place, name in enumerate(names):
            x, y = place * (width + GAP), number * pitch
            yield f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{HEIGHT}" rx="5" fill="#cfe3f2" stroke="#2a7fba"/>'
            yield f'<text x="{x + width / 2:g}" y="{y + 24}" text-anchor="middle" fill="#1f2328">{name}</text>'
    x = WIDTH + 25
    yield f'<path d="M{x} 4V{bottom - 12}M{x - 6} {bottom - 20}L{x} {bottom - 8}L{x + 6} {bottom - 20}" fill="none" stroke="#7f7f7f" stroke-width="2"/>'
    yield f'<text x="{x + 22}" y="{bottom / 2:g}" text-anchor="middle" fill="#7f7f7f" transform="rotate(90 {x + 14} {bottom / 2:g})">imports</text>'
    yield "</svg>\n"


if __name__ == "__main__":
    PICTURE.write_text("\n".join(picture(floors())), encoding="utf-8")
