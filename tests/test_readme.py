"""The Python blocks of the README and of the documentation run, in order, each page in one namespace."""

import re
import sys
from pathlib import Path

import gpu
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *(DOCS / f"{name}.md" for name in ("guide", "numba", "sklearn", "start", "table"))]
OWN = re.compile(r"https://(?:github\.com|raw\.githubusercontent\.com)/fastnn-numba/fastnn/(?:blob/)?main/([^)#\s]+)")


def blocks_of(kind, text):
    return list(re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run_blocks(kind, path, text):
    """Run the blocks that are marked so, in one namespace."""
    blocks = blocks_of(kind, text)
    assert blocks
    namespace = {"__name__": "readme"}
    for block in blocks:
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block.group(1), path, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks("python", page, page.read_text(encoding="utf-8"))
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def test_the_blocks_of_every_page_run():
    """Those of a page that is not among the above in a test that names its file."""
    pages = {page.name for page in DOCS.glob("*.md") if blocks_of("python( gpu)?", page.read_text(encoding="utf-8"))}
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert not [page for page in pages - {page.name for page in PAGES} if page not in tests]


@pytest.mark.cuda
def test_blocks_for_a_gpu_run():
    text = (DOCS / "gpu.md").read_text(encoding="utf-8")
    if gpu.SIMULATED:  # which has a thread of Python for each of the device
        for large, small in (("10_000", "9"), ("epochs=20", "epochs=1"), ("batch_size=128", "batch_size=4")):
            assert large in text
            text = text.replace(large, small)
        text = text.replace("[157, 64]", "[1, 32]").replace("64", "4")
    run_blocks("python gpu", DOCS / "gpu.md", text)


def test_promises_name_tests_that_exist():
    promises = (DOCS / "rely.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", promises))
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}
    assert named and not named - defined
    assert all("`test_" in line for line in promises.splitlines() if line.startswith("- "))


def test_the_readme_can_be_read_anywhere():
    """Also where no file of the repository stands beside it, as on the package index."""
    text = README.read_text(encoding="utf-8")
    addresses = re.findall(r"\]\(([^)\s]+)\)", text)
    assert addresses and all(re.match("https://|#", address) for address in addresses)
    files = OWN.findall(text)
    assert len(files) > 4 and not [file for file in files if not (ROOT / file).is_file()]
    pages = re.findall(r"\]\(https://fastnn-numba\.github\.io/fastnn/(\w+)\.html", text)
    assert len(pages) > 8 and not [page for page in pages if not (DOCS / f"{page}.md").is_file()]
