"""The documentation site: ``python -m sphinx -W --keep-going -b html docs build/docs``."""

from __future__ import annotations

import collections
import collections.abc
import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sphinxcontrib import katex

import fastact

project = "fastact"
copyright = "The fastact developers"
release = version = fastact.__version__
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Where links to files outside docs/ lead.
repository = PROJECT.get("urls", {}).get("Source", "")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.katex",
    "tools.pages.extension",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = ["math"]  # which GitHub shows as formulas
exclude_patterns = ["sg_execution_times.rst"]

# The gallery of the guide: its scripts run when the site is built.
if (ROOT / "examples" / "guide").is_dir():
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": str(ROOT / "examples" / "guide"),
        "gallery_dirs": "guide",
        "ignore_pattern": r"_net\.py",
        "within_subsection_order": "FileNameSortKey",
        "abort_on_example_error": True,
        "capture_repr": (),
        "show_memory": False,
        "write_computation_times": False,
    }

# Docstrings: a name in single backticks is a link where there is something of that name.
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

doctest_global_setup = "import numpy as np\nimport fastact as fa"

# What Keras and numpy-ml need before they can be imported, for the reference of their backends.
os.environ.setdefault("KERAS_BACKEND", "numpy")
vars(collections)["Hashable"] = collections.abc.Hashable
warnings.filterwarnings("ignore", module="numpy_ml")

# Formulas are typeset when the site is built: a wrong one is an error, and pages need neither JavaScript nor a network
# for them. The fonts come from KaTeX's package, of the release that sphinxcontrib-katex runs. Where that cannot be had,
# browsers typeset the formulas.
KATEX = ROOT / "build" / "katex"
FONTS = KATEX / "node_modules" / "katex" / "dist"
if not FONTS.exists() and (npm := shutil.which("npm")):
    package = f"katex@{katex.katex_version}"
    subprocess.run(
        [npm, "install", "--silent", "--fetch-timeout=30000", "--prefix", KATEX, package],
        check=False,
    )
if not FONTS.exists():
    print("WARNING: KaTeX could not be installed by npm: formulas are not checked", file=sys.stderr)
has_katex = katex_prerender = FONTS.exists()
katex.KATEX_DEFAULT_OPTIONS["throwOnError"] = True
if has_katex:
    katex_css_path = "katex.min.css"

html_theme = "pydata_sphinx_theme"
html_title = "fastact"
html_static_path = ["_static", *([str(FONTS / "katex.min.css")] if has_katex else [])]
html_css_files = ["site.css"]
html_extra_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars: dict[str, list[str]] = {
    page: [] for page in ("index", "quick-start", "which-activation")
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def copy_fonts(app: object, error: Exception | None) -> None:
    """Put KaTeX's fonts where its style sheet looks for them."""
    if error is None and has_katex and app.builder.format == "html":
        shutil.copytree(FONTS / "fonts", Path(app.outdir) / "_static" / "fonts", dirs_exist_ok=True)


def setup(app: object) -> None:
    """Register what this file does."""
    app.connect("build-finished", copy_fonts)
