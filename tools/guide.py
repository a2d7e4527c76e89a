"""Put what the scripts of the guide draw and print into its pages, where readers of the repository see it too.

``python tools/guide.py`` runs examples/guide/plot_*.py, writes a figure of each to docs/images/guide, and what it prints
behind the comment that names it in the pages. It takes a minute; on a busy machine times are wrong. A figure remembers
of which source it is: `is_current` compares. The site's gallery runs the scripts as well.
"""

import contextlib
import hashlib
import io
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "guide"
FIGURES = ROOT / "docs" / "images" / "guide"
PAGES = (ROOT / "docs" / "which-activation.md", ROOT / "docs" / "ko" / "which-activation.md")
SCRIPTS = sorted(EXAMPLES.glob("plot_*.py"))

_KEY = "Source"  # of the metadata that a PNG file may have


def digest(script: Path) -> str:
    """Return a digest of a script and of what all scripts share."""
    sources = script.read_bytes() + (EXAMPLES / "_net.py").read_bytes()
    return hashlib.sha256(sources).hexdigest()


def figure_of(script: Path) -> Path:
    """Return the file of a script's figure."""
    return FIGURES / f"{script.stem.removeprefix('plot_')}.png"


def is_current(script: Path) -> bool:
    """Whether the figure is that of the script as it is now."""
    from PIL import Image

    file = figure_of(script)
    if not file.exists():
        return False
    with Image.open(file) as image:
        return image.info.get(_KEY) == digest(script)


def run(script: Path) -> str:
    """Run a script, save its figure, and return what it prints."""
    from matplotlib import pyplot

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(script))
    FIGURES.mkdir(exist_ok=True)
    pyplot.savefig(figure_of(script), metadata={_KEY: digest(script)})
    pyplot.close("all")
    return printed.getvalue().rstrip()


def put(page: Path, name: str, text: str) -> None:
    """Replace the block behind the comment with this name."""
    block = f"<!-- {name} -->\n```text\n{text}\n```\n"
    pattern = rf"<!-- {name} -->\n```text\n.*?```\n"
    old = page.read_text(encoding="utf-8")
    new, count = re.subn(pattern, lambda _: block, old, flags=re.DOTALL)
    assert count == 1, f"{page.name} has no block of {name}"
    page.write_text(new, encoding="utf-8")


def main() -> None:
    """Run all scripts."""
    import matplotlib

    matplotlib.use("Agg")
    sys.path.insert(0, str(EXAMPLES))
    for script in SCRIPTS:
        text = run(script)
        for page in PAGES:
            put(page, script.stem, text)


if __name__ == "__main__":
    main()
