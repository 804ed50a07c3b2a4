"""The pages of asv, opened in Chromium: from made-up results of every benchmark, and (slow) from real runs."""

import ast
import contextlib
import importlib.util
import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "asv_bench"
sys.path.append(str(BENCH))
if sys.platform != "linux":
    pytest.skip("pages are opened on Linux alone", allow_module_level=True)
import browser  # noqa: E402
import pages  # noqa: E402

MODULES = BENCH / "node_modules"
# The last part of an address that asv's page loads from, and the file that stands for it here, where no network is.
FILES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
    "glyphicons-halflings-regular.woff": "bootstrap/dist/fonts/glyphicons-halflings-regular.woff",
}
MISSING = [
    what
    for there, what in (
        (browser.program(), f"no browser on the path: {', '.join(browser.PROGRAMS)}"),
        (importlib.util.find_spec("asv"), "no asv: pip install 'fastnn-numba[bench]'"),
        (importlib.util.find_spec("playwright"), "no Playwright: pip install 'fastnn-numba[bench]'"),
        (MODULES.is_dir(), "no scripts for the pages: npm ci --ignore-scripts in asv_bench"),
    )
    if not there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))

COMMITS, PLANTED, DAY = 12, 7, 86_400
LINES_AT_FIRST = 8  # in a graph of asv
SLOWER = 8  # times, of a kernel that is slowed down: more than a busy machine is
NEVER_RUN = "memory.Predict.peakmem_many_rows"
PLANTED_BENCHMARK, PLANTED_CASE = "kernels.Matmul.time_matmul", 3
MACHINE = dict(machine="made-up", os="any", arch="any", cpu="any", num_cpu="2", ram="any")


def run(*command, cwd, status=0, **environment):
    """Output of a command that ends with this status."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == status, f"{command}:\n{done.stdout}"
    return done.stdout


def commit(folder, message, day):
    """Commit all that is there; gives the hash."""
    date = f"{1_700_000_000 + day * DAY} +0000"
    who = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    run("git", "add", "-A", cwd=folder)
    command = ("git", "-c", "commit.gpgsign=false", "commit", "-q", "--allow-empty", "-m", message)
    run(*command, cwd=folder, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date, **who)
    return run("git", "rev-parse", "HEAD", cwd=folder).strip()


def configure(folder, repository):
    """The project's asv.conf.json, for a repository and an interpreter of the test's; gives its path."""
    text = re.sub(r"^\s*//.*$", "", (BENCH / "asv.conf.json").read_text(encoding="utf-8"), flags=re.MULTILINE)
    settings = json.loads(text) | {
        "repo": str(repository),
        "benchmark_dir": str(BENCH / "benchmarks"),
        "pythons": [f"{sys.version_info.major}.{sys.version_info.minor}"],
    }
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def asv(config, *arguments, status=0):
    """Output of an asv command; it describes the machine in the home folder."""
    command = (sys.executable, "-m", "asv", "--config", config, *arguments)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where it looks for the interpreter
    return run(*command, cwd=config.parent, status=status, HOME=config.parent, PATH=path)


def describe_machine(config):
    asv(config, "machine", *(part for name, value in MACHINE.items() for part in (f"--{name}", value)))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """(pages, benchmarks, commits): results near 1 ms at every commit, one of them twice that from PLANTED on."""
    folder = tmp_path_factory.mktemp("made_up")
    repository = folder / "repository"
    run("git", "init", "-q", "-b", "main", repository, cwd=folder)
    commits = [commit(repository, f"Commit {day}", day) for day in range(COMMITS)]
    config = configure(folder, repository)
    describe_machine(config)
    asv(config, "run", "--python=same", "--bench", "just-discover")
    results = folder / "results" / MACHINE["machine"]
    benchmarks = json.loads((results.parent / "benchmarks.json").read_text(encoding="utf-8"))
    del benchmarks["version"]
    number = random.Random(0)
    for day, revision in enumerate(commits):
        rows = {}
        for name, benchmark in benchmarks.items():
            cases = math.prod(len(values) for values in benchmark["params"])
            times = [1e-3 * number.uniform(0.99, 1.01) for _ in range(cases)]
            if name.startswith("cuda."):
                times = None  # as where there is no GPU
            if name == PLANTED_BENCHMARK and day >= PLANTED:
                times[PLANTED_CASE] *= 2
            if name == NEVER_RUN:
                continue
            rows[name] = [times, benchmark["params"], benchmark["version"]]
        record = {
            "version": 2,
            "commit_hash": revision,
            "date": 1000 * (1_700_000_000 + day * DAY),
            "params": MACHINE | {"python": "3.11"},
            "requirements": {},
            "env_vars": {},
            "env_name": "made-up",
            "python": "3.11",
            "durations": {},
            "result_columns": ["result", "params", "version"],
            "results": rows,
        }
        (results / f"{revision[:8]}-made-up.json").write_text(json.dumps(record), encoding="utf-8")
    return pages.publish(config), benchmarks, commits


GRID = "document.querySelectorAll('#summarygrid-display a.benchmark-container').length"
DRAWN = "document.querySelectorAll('#summarygrid-display canvas.flot-base').length"
LINES = "$('#main-graph').data('plot').getData().map(s => s.data.filter(p => p[1] !== null).length).filter(n => n)"
REGRESSIONS = "$('#regressions-body tbody tr').length"
# Pixels of a canvas that are not transparent and have a colour: lines, not the grey of axes and text.
COLOURED = """
(() => {
  const canvas = document.querySelector('#main-graph canvas.flot-base');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 128 && Math.max(data[i], data[i+1], data[i+2]) - Math.min(data[i], data[i+1], data[i+2]) > 64)
      count++;
  return count;
})()
"""


@contextlib.contextmanager
def shown(html, width, height):
    """(page, address, problems): the published pages, with FILES for what they load from elsewhere."""

    def local(route):
        file = FILES.get(route.request.url.partition("?")[0].rpartition("/")[2])
        if file:
            route.fulfill(path=MODULES / file, headers={"Access-Control-Allow-Origin": "*"})
        else:
            route.abort()

    def unsigned(route):  # our scripts are not minified, and so have other checksums
        text = route.fetch().text()
        route.fulfill(body=re.sub(r' integrity="[^"]*"', "", text), content_type="text/html")

    with browser.served(html) as address, browser.opened(width, height) as (page, problems):
        page.route(lambda url: not url.startswith(address), local)
        page.route(re.compile(r"/(index\.html)?([?#].*)?$"), unsigned)
        yield page, address, problems


def go(page, address, ready):
    """Open an address in a fresh page, and wait until the expression holds; gives its value."""
    page.goto("about:blank")
    page.goto(address)
    return page.wait_for_function(f"() => {{ try {{ return {ready} }} catch {{ return false }} }}").json_value()


def listed_regressions(page):
    """[(benchmark, commits, factor), ...] as the page shows them."""
    rows = page.evaluate(
        "$('#regressions-body tbody tr').toArray().map(row => $('td', row).toArray().map(cell => cell.innerText))"
    )
    return [(row[0], row[2], float(row[3].rstrip("x"))) for row in rows]


def test_the_pages_show_every_benchmark_its_graph_and_a_planted_slowdown(made_up):
    html, benchmarks, commits = made_up
    # so high that the whole grid is in view, and drawn
    with shown(html, 1280, 3000) as (page, address, problems):
        go(page, f"{address}/index.html", GRID)
        names = page.evaluate("$('#summarygrid-display a.benchmark-container').toArray().map(a => a.hash)")
        assert sorted(names) == sorted(f"#{name}" for name in benchmarks)
        page.wait_for_function(f"{DRAWN} == {len(names)}")

        for name in (PLANTED_BENCHMARK, "training.TrainingLoop.track_step", "memory.Fit.peakmem_many_rows"):
            go(page, f"{address}/index.html#{name}", f"{LINES}.length")
            cases = math.prod(len(values) for values in benchmarks[name]["params"])
            assert page.evaluate(LINES) == [COMMITS] * min(cases, LINES_AT_FIRST)
            assert page.evaluate(COLOURED) > 500

        go(page, f"{address}/index.html#regressions", REGRESSIONS)
        ((name, revision, factor),) = listed_regressions(page)
        assert name.startswith(PLANTED_BENCHMARK)
        assert revision.strip() == commits[PLANTED][:8]
        assert factor == pytest.approx(2, rel=0.05)

        go(page, f"{address}/index.html#summarylist", "$('#summarylist-body tbody tr').length")
        go(page, f"{address}/index.html", GRID)
        assert not problems


def test_the_picture_shows_a_change_of_a_fifth(made_up):
    html, benchmarks, _ = made_up
    found = pages.history(html.parent / "results" / MACHINE["machine"], pages.PICTURED)
    (cases,) = benchmarks[pages.PICTURED]["params"]
    assert [repr(case) for case in found] == cases
    assert all(len(times) == COMMITS for times in found.values())
    slower = next(iter(found))
    found[slower] = [1e-3] * (COMMITS - 3) + [1.2e-3] * 3
    panels = [panel for panel in pages.draw(found).axes if panel.get_visible()]
    assert len(panels) == len(cases)
    for panel, case in zip(panels, found, strict=True):
        assert panel.get_title().startswith(f"{case}\n") and "µs" in panel.get_title()
        low, high = panel.get_ylim()
        line = panel.lines[-1].get_ydata()
        assert (max(line) - min(line)) / (high - low) > 0.4 if case == slower else max(line) - min(line) < 0.03


def test_the_browser_sees_errors_and_failed_requests(tmp_path):
    """The test above rests on it."""
    text = "<body><img src='absent.png'><script src='http://elsewhere.example/a.js'></script><script>nothing()</script>"
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    with browser.served(tmp_path) as address, browser.opened(300, 200) as (page, problems):
        page.goto(f"{address}/index.html")
    for part in ("404", "ERR_NAME_NOT_RESOLVED", "nothing is not defined"):
        assert part in "\n".join(problems)


def slowed(source, function):
    """The source with the last statement of a function done SLOWER times."""
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == function)
    lines, last = source.splitlines(keepends=True), found.body[-1]
    return "".join(
        lines[: last.lineno - 1] + SLOWER * lines[last.lineno - 1 : last.end_lineno] + lines[last.end_lineno :]
    )


@pytest.mark.slow
def test_a_kernel_made_slower_is_found_at_its_commit(tmp_path):
    """In a throw-away repository, each commit built from its own wheel."""
    repository = tmp_path / "repository"
    run("git", "init", "-q", "-b", "main", repository, cwd=tmp_path)
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            (repository / name).write_bytes((ROOT / name).read_bytes())
    kernel = repository / "kernels" / "cpu" / "updates.py"
    commits = []
    for day in range(5):
        if day == 3:
            kernel.write_text(slowed(kernel.read_text(encoding="utf-8"), "sgd_update"), encoding="utf-8")
        commits.append(commit(repository, f"Commit {day}", day))
    config = configure(tmp_path, repository)
    describe_machine(config)
    update = r"Update.time_update\('sgd'\)"
    asv(config, "run", "--interleave-rounds", "--bench", update, "ALL")
    compared = asv(config, "compare", "--factor", "3", "--only-changed", commits[2], commits[3])
    assert re.search(r"\+.*kernels\.Update\.time_update\('sgd'\)", compared)
    assert "time_update" not in asv(config, "compare", "--factor", "3", "--only-changed", commits[0], commits[2])
    with shown(pages.publish(config), 1280, 900) as (page, address, problems):
        go(page, f"{address}/index.html#regressions", REGRESSIONS)
        # a busy machine may add smaller ones
        name, revision, factor = max(listed_regressions(page), key=lambda listed: listed[2])
        assert (name.partition("(")[0], revision.strip()) == ("kernels.Update.time_update", commits[3][:8])
        assert SLOWER / 2 < factor < 2 * SLOWER
        assert not problems
    asv(config, "continuous", "--factor", "3", "--bench", update, commits[2], commits[3], status=1)
    asv(config, "continuous", "--factor", "3", "--bench", update, commits[3], commits[2])
