"""Nets and boosted trees on tables: scores and CPU seconds side by side, over five random splits.

    python asv_bench/tables.py --json docs/tables.json                           all that is not in that file yet
    python asv_bench/tables.py --json ... --only adult --methods fastnn --again  one table and method, anew
    python asv_bench/tables.py --json ... --report                               what is there, as Markdown

Each method runs in a process of its own, pinned to the same cores, with its defaults. A finished (table, method, split)
is written at once and not done again, so a run may be broken off; splits come before tables and methods, so that what
is there is comparable. Reads FASTNN_DATA; needs the extra `peers`; a library that is missing is left out, and said so.
Linux.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import report
import table_data
from peers import installed, processor, say
from table_methods import METHODS
from workers import Worker, WorkerError

DOCS = Path(__file__).resolve().parents[1] / "docs" / "tables.md"
PACKAGES = ("numpy", "numba", "fastnn", "lightgbm", "scikit-learn", "pytabkit", "torch")
HEADLINE = {"auc": True, "rmse": False}  # what a data set is judged by, and whether a greater one is better
OTHERS = {"accuracy": True, "log_loss": False, "r2": True}
DIGITS = 4  # significant ones
TITLES = {"auc": "AUC", "rmse": "RMSE", "accuracy": "accuracy", "log_loss": "log loss", "r2": "R2"}


def read(file):
    """What a file of results holds; {} where there is none."""
    return json.loads(file.read_text()) if file.exists() else {}


def key(*names):
    return "/".join(map(str, names))


def keep(file, name, result):
    """Add one result. The file is read again: another run may have written it meanwhile."""
    found = read(file) or {"results": {}}
    found |= processor() | {"python": platform.python_version(), "versions": {p: installed(p) for p in PACKAGES}}
    found["results"][name] = result
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(found, indent=1))
    draft.replace(file)


def run(options):
    """Do what is asked for and not in the file yet."""
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    with ExitStack() as stack:
        workers = {}
        for method in options.methods:
            worker = stack.enter_context(Worker("table_methods", "Runner", cores, method=method))
            if worker.left_out:
                say(f"{method} is left out: {worker.left_out}")
            else:
                workers[method] = worker
        for split in [table_data.GIVEN, *range(options.splits)]:
            for name in options.only:
                if split not in table_data.load(name).splits():
                    continue
                for method, worker in workers.items():
                    done = key(name, method, split)
                    if options.again or done not in read(options.json).get("results", {}):
                        result = worker.call("score", name, split)
                        keep(options.json, done, result | {"date": time.strftime("%Y-%m-%d"), "cores": len(cores)})
                        say(f"{done:<44}" + ", ".join(f"{what} {value:.5g}" for what, value in result.items()))


def splits_of(found, name):
    """The random splits that count: those on which the first method was run, if any."""
    first, splits = next(iter(METHODS)), range(table_data.SPLITS)
    return [split for split in splits if key(name, first, split) in found["results"]] or splits


def medians(found, name, method, measure, given):
    """(median, number of splits) of a measure, over the random splits or of the given one; (None, 0) without any."""
    splits = [table_data.GIVEN] if given else splits_of(found, name)
    entries = [found["results"].get(key(name, method, split), {}) for split in splits]
    values = [entry[measure] for entry in entries if measure in entry]
    return (median(values), len(values)) if values else (None, 0)


def rows_of(found, measure, greater=False, given=False):
    """Lines of a table: of each data set the medians of all methods, "(n)" where splits are left, the best one bold.

    Those of a method with other splits than most are neither bold nor stand in the way.
    """
    lines = []
    for name in table_data.NAMES:
        pairs = [medians(found, name, method, measure, given) for method in METHODS]
        most = max(count for _, count in pairs)
        if not most:
            continue
        best, cells = (max if greater else min)(value for value, count in pairs if count == most), []
        for value, count in pairs:
            text = report.number(value, DIGITS)
            text = f"**{text}**" if count == most and value == best else text
            cells.append(text if given or count in (0, table_data.SPLITS) else f"{text} ({count})")
        lines.append([f"{name}, {TITLES[measure]}" if measure in TITLES else name, *cells])
    return lines


def markdown(found):
    """The tables of what was found."""
    head = ["", *METHODS]

    def scores(measures, given=False):
        lines = [rows_of(found, what, greater, given) for what, greater in measures.items()]
        return report.table(head, sum(lines, []))

    parts = [
        f"Medians of {table_data.SPLITS} random splits, 80% of the rows to train on; (n): of the same n splits so far.",
        scores(HEADLINE),
        "The split that the table came with:",
        scores(HEADLINE, given=True),
        "Other measures, medians of the random splits:",
        scores(OTHERS),
        f"CPU seconds of `fit`, preparation of the columns included; {found['processor']}:",
        report.table(head, rows_of(found, "fit_seconds")),
        "The same for the split that the table came with:",
        report.table(head, rows_of(found, "fit_seconds", given=True)),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version) + ".",
    ]
    return "\n\n".join(parts)


def main():
    """Run what is asked for; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="results, read and written")
    parser.add_argument("--only", nargs="+", default=table_data.NAMES, choices=table_data.NAMES, metavar="TABLE")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--splits", type=int, default=table_data.SPLITS, help="random splits of each table")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--docs", action="store_true", help="renew docs/tables.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the with-blocks, which end the workers
    try:
        if options.docs:
            report.around(DOCS, "tables")  # before the runs, not after them
        if not options.report:
            run(options)
        found = read(options.json)
        if not found:
            parser.error(f"--report: there is nothing in {options.json}")
        text = markdown(found)
        print(text)
        if options.docs:
            report.between(DOCS, text, "tables")
    except (WorkerError, report.NoMarkers, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
