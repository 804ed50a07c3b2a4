"""The published pages, by `asv publish`, and a picture of how the time of a training step has changed.

python asv_bench/pages.py                             # asv_bench/html/, to be shown by any web server
python asv_bench/pages.py --picture docs/asv.png      # from asv_bench/results/bench-2core
"""

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURED = "training.TrainingLoop.track_step"
MACHINE = "bench-2core"
SHOWN = 0.8, 1.25  # of the median, and more where a time lies outside: a change of 20% is nearly half a panel high


def publish(config):
    """Run `asv publish` on an asv.conf.json; gives the folder, which is made anew."""
    subprocess.run([sys.executable, "-m", "asv", "--config", str(config), "publish"], check=True)
    html = config.parent / "html"
    for name in json.loads((html / "index.json").read_text(encoding="utf-8"))["benchmarks"]:
        graph = html / "graphs" / "summary" / f"{name}.json"
        if not graph.exists():  # never run yet: the grid would ask for it in vain
            graph.write_text("[]", encoding="utf-8")
    return html


def history(folder, benchmark):
    """{case: [seconds, ...]} of a benchmark with one parameter, the oldest commit first; NaN where it failed."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*-*.json")]
    found = {}
    for number, record in enumerate(sorted(records, key=lambda record: record["date"])):
        times, params = (record["results"].get(benchmark) or ([], []))[:2]
        for (case,), time in zip(product(*params), times or (), strict=False):
            line = found.setdefault(case.strip("'"), [float("nan")] * len(records))
            line[number] = float("nan") if time is None else time
    return found


def draw(found, columns=5):
    """A figure with a panel for each case: its time at each commit, as a share of the median of its times."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    lines = {case: np.array(times) * 1e6 for case, times in found.items() if np.isfinite(times).any()}
    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(2.5 * columns, 0.5 + 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axes, (case, times) in zip(grid.flat, lines.items(), strict=False):
        median = np.nanmedian(times)
        share = times / median
        axes.axhline(1, color="0.6", linewidth=0.8)
        axes.plot(np.arange(1, len(share) + 1), share, marker="o", markersize=3)
        axes.set_title(f"{case}\n{median:{',.0f' if median > 100 else '.3g'}} µs", fontsize=9)
        axes.set_ylim(min(SHOWN[0], np.nanmin(share) / 1.02), max(SHOWN[1], np.nanmax(share) * 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y", alpha=0.3)
    for axes in grid.flat[len(lines) :]:
        axes.set_visible(False)
    figure.supxlabel("commit, from the oldest to the newest", fontsize=9)
    figure.supylabel("time of a step, of its median", fontsize=9)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="the picture that docs/performance.md shows")
    options = parser.parse_args()
    if options.picture:
        draw(history(HERE / "results" / MACHINE, PICTURED)).savefig(options.picture, dpi=100)
        print(options.picture)
        return
    print(publish(HERE / "asv.conf.json") / "index.html")


if __name__ == "__main__":
    main()
