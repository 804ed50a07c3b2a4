"""The documentation site: `sphinx-build -W docs docs/_build`, with the extra `docs`."""

import re
import tomllib
from pathlib import Path

import fastnn

ROOT = Path(__file__).resolve().parents[1]
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]

project, author = "fastnn", "The fastnn developers"
copyright = f"2026, {author}"
version = release = fastnn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "code"  # in docstrings `x` is code
autodoc_typehints = "none"  # numpydoc says the types in words
numpydoc_show_class_members = False  # each class has a page, with its methods

toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "fastnn"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_sidebars = dict.fromkeys(("install", "examples", "changelog"), [])  # they have no pages below them
html_theme_options = {
    "icon_links": [{"name": "Source", "url": SOURCE, "icon": "fa-brands fa-github"}],
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# A section of examples/README.md: title, name of the script, what the picture shows, name of the picture, text.
EXAMPLE = re.compile(
    r"^## (.+): \[(\w+)\.py\]\(\w+\.py\)\n\n!\[(.+)\]\((\w+\.png)\)\n\n((?:(?!## ).*\n?)+)", re.MULTILINE
)
CARD = """:::{{grid-item-card}} {title}
:link: {name}
:link-type: ref
:img-bottom: ../examples/{picture}
:::"""
SECTION = """({name})=
## {title}

![{shown}](../examples/{picture})

{text}

:::{{dropdown}} {name}.py
```{{literalinclude}} ../examples/{name}.py
:language: python
```
:::
"""


def with_gallery(app, docname, source):
    """Add to the page `examples` what examples/README.md says of each script, and the script."""
    if docname != "examples":
        return
    found = EXAMPLE.findall((ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    parts = [dict(zip(("title", "name", "shown", "picture", "text"), each, strict=True)) for each in found]
    cards = "\n\n".join(CARD.format(**part) for part in parts)
    sections = "\n".join(SECTION.format(**part) for part in parts)
    source[0] += f"\n::::{{grid}} 1 2 3 3\n:gutter: 3\n\n{cards}\n::::\n\n{sections}"


def setup(app):
    """Let Sphinx call what stands above."""
    app.connect("source-read", with_gallery)
