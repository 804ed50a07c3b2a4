"""The README's Python blocks run, in order, in one namespace."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_tour_runs(tmp_path, monkeypatch):
    text = README.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert blocks
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for block in blocks:
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block.group(1), README, "exec"), namespace)


def test_promises_name_tests_that_exist():
    text = README.read_text(encoding="utf-8")
    promises = text.partition("## What you can rely on")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", promises))
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}
    assert named and not named - defined
    assert all("`test_" in line for line in promises.splitlines() if line.startswith("- "))
