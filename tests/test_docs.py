"""The documentation site: built without a warning, no dead link, and opened in Chromium."""

import functools
import html.parser
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "asv_bench"))
import browser  # noqa: E402

NEEDED = ("sphinx", "numpydoc", "myst_parser", "pydata_sphinx_theme", "sphinx_copybutton", "sphinx_design")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: pip install 'fastnn-numba[docs]'")

OWN = "https://github.com/fastnn-numba/fastnn/blob/main/"
LOADED = {"img": "src", "script": "src", "link": "href"}  # what a browser fetches without being asked


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the pages; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "trees", ROOT / "docs"]
    built = subprocess.run([*command, folder / "html"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_the_api_has_every_public_name():
    from fastnn import sklearn

    listed = re.findall(r"^   ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    public = [name for name in fastnn.__all__ if callable(getattr(fastnn, name))]
    public += [f"plot.{name}" for name in fastnn.plot.__all__] + sklearn.__all__
    public += [f"studies.{name}" for name in fastnn.studies.__all__ if name not in fastnn.__all__]
    assert len(listed) == len(set(listed)) and not set(public) - set(listed)


class Page(html.parser.HTMLParser):
    """The addresses that a page links to and loads, and what in it can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif found.get(LOADED.get(tag)) and found.get("rel") not in ("search", "canonical"):
            self.loads.append(found[LOADED[tag]])


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    page = functools.cache(Page)
    dead = []
    pages = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]  # templates of the theme
    for path in pages:
        for address in [*page(path).links, *page(path).loads]:
            target, anchor = urldefrag(address)
            if target.startswith(OWN):
                found = (ROOT / target.removeprefix(OWN)).is_file()
            elif re.match(r"https?:", target):
                found = address not in page(path).loads
            else:
                file = path if not target else (path.parent / unquote(target.partition("?")[0])).resolve()
                found = file.is_file() and (file.suffix != ".html" or unquote(anchor) in page(file).anchors)
            if not found:
                dead.append((path.relative_to(site).as_posix(), address))
    assert len(pages) > 60 and not dead


@pytest.mark.skipif(
    not browser.program() or importlib.util.find_spec("playwright") is None, reason="no Chromium, or no Playwright"
)
def test_the_pages_in_a_browser(site):
    shown = "[...document.images].every(image => image.complete && image.naturalWidth > 0) && document.images.length"
    with browser.served(site) as address, browser.opened(1280, 900) as (page, problems):
        for name, title, pictures in (
            ("index", "fastnn", 0),
            ("start", "Ten minutes", 1),
            ("examples", "Examples", 26),
            ("performance", "Performance", 2),
            ("generated/fastnn.Sequential", "Sequential", 0),
        ):
            page.goto(f"{address}/{name}.html")
            assert title in page.inner_text("h1")
            page.evaluate("for (const image of document.images) image.loading = 'eager'")
            page.wait_for_function(f"({shown}) >= {pictures}" if pictures else "document.images.length == 0")
            # at this width no page scrolls sideways
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.goto(f"{address}/search.html?q=early+stopping")
        page.wait_for_selector("#search-results li a")
        assert any("EarlyStopping" in text for text in page.locator("#search-results li a").all_inner_texts())
        assert not problems
