"""What races found, in a file for each machine: results/race/MACHINE.json, named by its processor and its cores.

A file holds what the machine is, the tables, and the runs that their rows come from:

    processor, CPU target, vector width, cores
    caches      {cores in use: {level: bytes} or None}
    runs        {date: {"rounds", "long_rounds", "versions": {package: version}}}
    TABLE       [{"name", "run": its date, "seconds" that it took, "libraries": {library: times or why there are none}}]
"""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "results" / "race"
TABLES = ("training", "two_threads", "sweeps", "search", "embedding", "bfloat16", "predict", "solvers", "matmul")
FACTS = ("processor", "CPU target", "vector width", "cores")


def title(results):
    """The machine, for people."""
    processor = re.sub(r"\((R|TM)\)| (Processor|CPU\b.*)", "", results["processor"])
    return f"{processor} ({results['CPU target']}), {results['cores']} core{'s' * (results['cores'] > 1)}"


def slug(results):
    """The machine, for names of files."""
    return re.sub(r"[^a-z0-9]+", "-", title(results).lower())


def empty(facts):
    """Results without a row."""
    return {name: facts[name] for name in FACTS} | {"caches": {}, "runs": {}} | {table: [] for table in TABLES}


def timed(row):
    """The libraries that a row has times of."""
    return {library for library, entry in row.get("libraries", {}).items() if "left_out" not in entry}


def merge(results, race, table, row, order):
    """Put a row of a race into the results of its machine, in the `order` of names.

    It takes the place of one of its name and cores if it has times of all libraries of that one. Gives whether it did
    so, or was new.
    """
    key = row["name"], row.get("cores")
    old = [each for each in results[table] if (each["name"], each.get("cores")) == key]
    if any(timed(each) - timed(row) for each in old):
        return False
    rows = [each for each in results[table] if each not in old] + [row]
    results[table] = sorted(rows, key=lambda each: order.index(each["name"]) if each["name"] in order else len(order))
    results["caches"] |= race["caches"]
    results["runs"] |= race["runs"]
    used = {each["run"] for name in TABLES for each in results[name]}
    results["runs"] = {date: results["runs"][date] for date in sorted(used)}
    return True


def file_of(facts, folder=FOLDER):
    """Where the results of a machine stand."""
    return folder / f"{slug(facts)}.json"


def _read(file):
    """The results in a file, which may be older than some tables."""
    results = json.loads(file.read_text(encoding="utf-8"))
    return empty(results) | results


def read(facts, folder=FOLDER):
    """The results of a machine, empty where there are none."""
    file = file_of(facts, folder)
    return _read(file) if file.exists() else empty(facts)


def write(results, folder=FOLDER):
    """Keep the results of a machine."""
    folder.mkdir(parents=True, exist_ok=True)
    file = file_of(results, folder)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(file)  # whole, whenever it is read


def everything(folder=FOLDER):
    """The results of all machines, in the order of their names."""
    return [_read(file) for file in sorted(folder.glob("*.json"))]
