"""The README's Python blocks run, in order, in one namespace."""

import re
from pathlib import Path

import gpu
import pytest

README = Path(__file__).parents[1] / "README.md"


def run_blocks(kind, text):
    """Run the blocks that are marked so, in one namespace."""
    blocks = list(re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert blocks
    namespace = {"__name__": "readme"}
    for block in blocks:
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block.group(1), README, "exec"), namespace)


def test_tour_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks("python", README.read_text(encoding="utf-8"))


@pytest.mark.cuda
def test_blocks_for_a_gpu_run():
    text = README.read_text(encoding="utf-8")
    if gpu.SIMULATED:  # which has a thread of Python for each of the device
        for large, small in (("10_000", "9"), ("epochs=20", "epochs=1"), ("batch_size=128", "batch_size=4")):
            assert large in text
            text = text.replace(large, small)
        text = text.replace("[157, 64]", "[1, 32]").replace("64", "4")
    run_blocks("python gpu", text)


def test_promises_name_tests_that_exist():
    text = README.read_text(encoding="utf-8")
    promises = text.partition("## What you can rely on")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", promises))
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}
    assert named and not named - defined
    assert all("`test_" in line for line in promises.splitlines() if line.startswith("- "))
