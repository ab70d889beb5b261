"""Sphinx's settings for the documentation; scripts/docs_site.py calls it.

The source folder is the repository's root, so that a link works on the site as it does in the
checkout. Only the documents below are pages; a link to any other file offers that file.
"""

import pathlib
import sys
import tomllib

from pygments.lexers.special import TextLexer

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs" / "site"))

project = "aioxide"
author = "The aioxide authors"
copyright = author  # noqa: A001, Sphinx's name for it
release = version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"][
    "version"
]

extensions = ["myst_parser", "api_reference"]
include_patterns = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "RELEASING.md",
    "SECURITY.md",
    "benches/README.md",
    "examples/README.md",
    "tests/conformance/README.md",
    "docs/**.md",
]
exclude_patterns = [".*", "crates", "dist", "fuzz", "python", "scripts", "target", "docs/site"]
root_doc = "docs/index"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"aioxide {release}"
html_static_path = ["site/static"]
html_css_files = ["aioxide.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"


def list_pages(app, name, source):
    """Add the entries that the site needs to a folder's list of pages, which is also read in the
    checkout."""
    folder, _, last = name.rpartition("/")
    if (folder, last) in (("docs/decisions", "README"), ("docs/extending", "index")):
        pages = "0*" if last == "README" else "a-*"
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{pages}\n```\n"


def setup(app):
    app.connect("source-read", list_pages)
    # ARCHITECTURE's walks: files and functions, which no language colours.
    app.add_lexer("walk", TextLexer)
