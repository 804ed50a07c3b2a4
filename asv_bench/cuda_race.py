"""The race on a GPU: fastnn's kernels beside cuBLAS, its training beside JAX and torch; some eight minutes.

    python asv_bench/cuda_race.py                            everything; asv_bench/results/cuda/CARD.json
    python asv_bench/cuda_race.py --only 2x64 "tf32 1024"    rows whose names hold one of these texts
    python asv_bench/cuda_race.py --toy                      toy sizes in the simulator and on the CPU: does it run?
    python asv_bench/cuda_race.py --from CARD.json --readme  docs/performance.md anew
    python asv_bench/cuda_race.py --from NEW.json --fill OLD.json   what NEW had no time for, with its date

Each library runs in a process of its own that it keeps; rounds are interleaved, and the median counts. A step is timed
between two waits for the device, many steps at a time, after warming up. All start from the same weights, visit the
same batches in order, and must come to the same loss; products must be right by the norm of their error. Whoever fails
or hangs is named in his row, and the race goes on. When --seconds are over, what is missing is said.
"""

import argparse
import datetime
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import cuda_products
import cuda_report
import cuda_sweeps
import peers
import report
from cuda_racers import KINDS, LOOPS, OF_TABLES, PRECISIONS, RACED, TABLE_TOYS, TABLES, TOYS
from peers import say
from workers import Worker, WorkerError

RESULTS = Path(__file__).resolve().parent / "results" / "cuda"
PERFORMANCE = peers.ROOT / "docs" / "performance.md"
PACKAGES = ("numpy", "numba", "numba-cuda", "fastnn-numba")
PATIENCE = 180  # seconds for one answer: the first compiles
ROW_SECONDS = 10  # that must be left to begin with a row
LONG = 4e6  # microseconds of all rounds of a library in a row, after which it has no more
SLACK = {"float32": 1.0, "tf32": 10.0, "bf16": 50.0}  # of the losses that must agree
LOW_PRECISION = "4x1024"  # the net whose larger batches are raced in tf32 and bf16, too
LEAST_BATCH = 8192
# Nets whose batches up to LEAST_BATCH are raced by each loop: between them stand the thresholds
LOOPED = ("2x16", "2x64", "3x256")
SAID_BY_CARD = ("driver_version", "memory.total", "clocks.sm", "clocks.mem", "temperature.gpu", "power.draw")


def state_of_card():
    """What nvidia-smi tells; it is only asked."""
    command = ["nvidia-smi", f"--query-gpu={','.join(SAID_BY_CARD)}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(SAID_BY_CARD, map(str.strip, said.split(",")), strict=False))


def last_line(error):
    """The line of a failed worker's words that tells why."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def fill(result, earlier):
    """Take the parts for which a race had no time from an earlier one on such a card, each with its date."""
    if result["card"] != earlier["card"]:
        raise WorkerError(f"--fill must be a race on {result['card']}; got one on {earlier['card']}")
    parts = [part for part in ("tables", "loops", "sweeps", "products", "launches", "bandwidth") if not result[part]]
    parts = [part for part in parts if earlier[part]]
    dates = {part: earlier.get("earlier", {}).get(part, earlier["date"]) for part in parts}
    result |= {part: earlier[part] for part in parts} | {"earlier": result.get("earlier", {}) | dates}
    rows = [(part, row) for part in parts if isinstance(earlier[part], list) for row in earlier[part]]
    found = {f"{row['name']}, {part}" if "name" in row else f"{row['precision']} {row['n']}" for part, row in rows}
    result["missing"] = [name for name in result["missing"] if name not in {*parts, *found}]


class Race:
    """What was asked for, the processes, and the results so far."""

    def __init__(self, options, stack):
        self.options, self.stack, self.workers = options, stack, {}
        self.end = time.monotonic() + options.seconds
        self.cores = sorted(os.sched_getaffinity(0))
        self.result = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "toy": options.toy,
            "card": None,
            "state": state_of_card(),
            **peers.processor(),
            "cores": len(self.cores),
            "rounds": options.rounds,
            "versions": {"python": platform.python_version()} | {name: peers.installed(name) for name in PACKAGES},
            "training": [],
            "tables": [],
            "loops": [],
            "sweeps": [],
            "products": [],
            "launches": {},
            "bandwidth": None,
            "failed": [],
            "missing": [],
        }

    def run(self):
        """All rows, the most telling first; torch.compile, which takes long to start, last."""
        self.describe()
        works, sizes = (TOYS, cuda_products.TOY_SIZES) if self.options.toy else (RACED, cuda_products.SIZES)
        quick = [library for library in self.options.libraries if library != "torch.compile"]
        for name in works:
            self.train(name, "float32", quick)
        for precision in PRECISIONS:
            for n in sizes:
                self.multiply(n, precision)
        self.whole("launches")
        self.whole("bandwidth")
        largest = [
            name
            for name, work in works.items()
            if self.options.toy or work.label == LOW_PRECISION and work.batch >= LEAST_BATCH
        ]
        for precision in PRECISIONS[1:]:
            for name in largest:
                self.train(name, precision, [library for library in quick if library != "fastnn on the CPU"])
        for name in cuda_sweeps.TOYS if self.options.toy else cuda_sweeps.RACED:
            self.train(name, "float32", list(cuda_sweeps.KINDS), "sweeps")
        for name in TABLE_TOYS if self.options.toy else TABLES:
            self.train(name, "float32", [library for library in quick if library in OF_TABLES], "tables")
        for name, work in works.items():
            if self.options.toy or work.label in LOOPED and work.batch <= LEAST_BATCH:
                self.train(name, "float32", list(LOOPS), "loops")
        if "torch.compile" in self.options.libraries:
            for name in works:
                self.train(name, "float32", ["torch.compile"])
        self.result["state after"] = state_of_card()

    def left(self):
        """Seconds until the end."""
        return self.end - time.monotonic()

    def begins(self, name):
        """Whether a row was asked for, and there is time for it."""
        if not any(text in name for text in self.options.only):
            return False
        if self.left() < ROW_SECONDS:
            self.result["missing"].append(name)
            return False
        return True

    def worker(self, library):
        """The process of a library, "bench" for all that is no training; a new one after a failure."""
        if library not in self.workers:
            patience = max(1.0, min(PATIENCE, self.left()))
            if library == "bench":
                made = Worker("cuda_products", "Bench", self.cores, patience, toy=self.options.toy)
            else:
                arguments = {"library": library, "threads": len(self.cores), "toy": self.options.toy}
                module = "cuda_sweeps" if library in cuda_sweeps.KINDS else "cuda_racers"
                made = Worker(module, "Library", self.cores, patience, **arguments)
            self.workers[library] = self.stack.enter_context(made)
        return self.workers[library]

    def ask(self, library, method, *arguments):
        """What a library answers; WorkerError ends its process."""
        try:
            worker = self.worker(library)
            worker.patience = max(1.0, min(PATIENCE, self.left()))
            return worker.call(method, *arguments)
        except WorkerError:
            if library in self.workers:
                self.workers.pop(library).close()
            raise

    def describe(self):
        """The card; ends the race where there is none."""
        bench = self.worker("bench")
        if bench.left_out:
            raise WorkerError(f"no race: {bench.left_out}")
        facts = self.ask("bench", "facts")
        self.result["versions"] |= {name: facts.pop(name) for name in ("torch", "CUDA of torch") if name in facts}
        self.result |= facts
        say(f"{facts['card']}, {self.left():.0f} s")
        try:
            self.ask("bench", "warm_up")
        except WorkerError as error:
            self.result["failed"].append(f"warming up: {last_line(error)}")

    def train(self, name, precision, libraries, where="training"):
        """Time some libraries in one workload: a new row, or more of one that is there."""
        full = name if precision == "float32" else f"{name}, {precision}"
        full = full if where == "training" else f"{full}, {where}"
        if not libraries or not self.begins(full if len(libraries) > 1 else f"{full}, {libraries[0]}"):
            return
        rows = [row for row in self.result[where] if (row["name"], row["precision"]) == (name, precision)]
        row = rows[0] if rows else {"name": name, "precision": precision, "libraries": {}}
        entries = row["libraries"]
        if not rows:
            self.result[where].append(row)
        say(full)
        for library in libraries:
            entries[library] = self.entered(library, name, precision)
        self.judge(row)
        self.turns(
            {library: entries[library] for library in libraries if entries[library].keys() == {"losses", "steps"}}
        )
        for library in libraries:
            entry = entries[library]
            said = f"{entry['us']:>12,.2f} us a step" if "us" in entry else entry.get("left_out", entry.get("failed"))
            say(f"  {library:<20}{said}")
        self.keep()

    def turns(self, entries):
        """The rounds; the one who begins changes, and who takes long has fewer of them."""
        names, times = list(entries), {library: [] for library in entries}
        for i in range(self.options.rounds):
            first = i % max(1, len(names))
            for library in names[first:] + names[:first]:
                entry, taken = entries[library], times[library]
                enough = sum(taken) * entry["steps"] > LONG or (taken and self.left() < 0)
                if "failed" not in entry and not enough:
                    try:
                        taken.append(self.ask(library, "round"))
                    except WorkerError as error:
                        entry["failed"] = last_line(error)
        for library, entry in entries.items():
            if times[library] and "failed" not in entry:
                entry |= {"us": median(times[library]), "rounds": times[library]}

    def entered(self, library, name, precision):
        """The losses that a library comes to, or why there are none."""
        try:
            left_out = self.worker(library).left_out or self.ask(library, "enter", name, precision)
            if left_out:
                return {"left_out": left_out}
            return {"losses": self.ask(library, "check"), "steps": self.ask(library, "prepare")}
        except WorkerError as error:
            return {"failed": last_line(error)}

    def judge(self, row):
        """Mark who comes to another loss than the CPU, or than the first who is there."""
        entries = {library: entry for library, entry in row["libraries"].items() if "losses" in entry}
        for judge in ("fastnn on the CPU", "torch", *entries):
            if judge in entries:
                break
        else:
            return
        for entry in entries.values():
            if "failed" in entry:
                continue
            wrong = peers.disagreement(entry["losses"], entries[judge]["losses"], SLACK[row["precision"]])
            if wrong:
                entry["failed"] = f"{wrong} as {judge}"

    def multiply(self, n, precision):
        """A row of products."""
        name = f"{precision} {n}"
        if not self.begins(name):
            return
        row = {"n": n, "precision": precision}
        try:
            row["libraries"] = self.ask("bench", "product", n, precision, self.options.rounds)
        except WorkerError as error:
            row["libraries"] = {"fastnn": {"failed": last_line(error)}}
        self.result["products"].append(row)
        for way, entry in row["libraries"].items():
            said = f"{entry['tflops']:.3g} TFLOP/s" if "tflops" in entry else entry.get("left_out", entry.get("failed"))
            say(f"{name}, {way}: {said}")
        self.keep()

    def whole(self, what):
        """A measurement that needs no row."""
        if self.begins(what):
            try:
                rounds = [self.options.rounds] if what == "launches" else []
                self.result[what] = self.ask("bench", what, *rounds)
            except WorkerError as error:
                self.result["failed"].append(f"{what}: {last_line(error)}")
            self.keep()

    def keep(self):
        """Write what there is."""
        file = self.options.json
        if file is None and not self.options.toy:
            file = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', self.result['card'].lower())}.json"
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(self.result, indent=1))


def main():
    """Run the race; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose names hold a TEXT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=420.0, help="no row is begun when these are nearly over")
    parser.add_argument("--libraries", nargs="+", default=list(KINDS), choices=list(KINDS), help="for training")
    parser.add_argument("--toy", action="store_true", help="toy sizes, no GPU: whether it runs, not how fast")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="results of a race, instead of one")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"file for the results; default {RESULTS}/CARD.json")
    parser.add_argument("--fill", type=Path, metavar="FILE", help="an earlier race on such a card, for what is missing")
    parser.add_argument("--readme", action="store_true", help="renew docs/performance.md")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be positive; got {options.rounds}")
    if options.fill and not options.source:
        parser.error(f"--fill goes with --from; got --fill {options.fill} alone")
    if options.toy:
        if options.readme:
            parser.error("--readme is for figures of a GPU; got --toy, too")
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # the workers inherit it
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of the card's memory
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the with-blocks, which end the workers
    try:
        if options.readme:
            report.around(PERFORMANCE, "cuda")  # before the race, not after it
        if options.source:
            result = json.loads(options.source.read_text())
            if options.fill:
                fill(result, json.loads(options.fill.read_text()))
                options.source.write_text(json.dumps(result, indent=1))
        else:
            with ExitStack() as stack:
                race = Race(options, stack)
                race.run()
                race.keep()
            result = race.result
        if options.readme and result["toy"]:
            parser.error(f"--readme is for figures of a GPU; {options.source} holds toy sizes")
        text = cuda_report.markdown(result)
        print(text)
        if options.readme:
            report.between(PERFORMANCE, text, "cuda")
    except (WorkerError, report.NoMarkers, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
