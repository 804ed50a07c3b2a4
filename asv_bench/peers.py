"""The race: fastnn beside what a user would pick instead, on the same data, weights and cores.

    python asv_bench/peers.py                                    everything
    python asv_bench/peers.py --length minute                    a few telling rows: 85 s on two cores of a Xeon
    python asv_bench/peers.py --only "digits 64" "matmul NN 64"  rows whose names hold one of these texts
    python asv_bench/peers.py --readme                           no race: the tables and the chart, from all machines

The rows go into the file of this machine in asv_bench/results/race/, each in the place of the one of its name, unless
that one has times of more libraries. What is on other machines and in other rows stays.

Each library runs in a process of its own, pinned to the same cores; rounds are interleaved, and the median counts. In
training every library starts from the same weights, visits the same batches in order, and must reach the same loss
before it is timed, in sweeps with more than half of the nets; products and predictions must agree. The machine's own
peaks are measured between the rounds. Needs the extra `peers`; a library that is missing is left out, and said so.
Linux.
"""

import argparse
import datetime
import os
import platform
import signal
import sys
import time
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from statistics import median

import bfloat16
import by_machine
import embedding
import numpy as np
import products
import report
import roofline
import serving
import solvers
import sweeping
from racers import LONG, RACERS
from workers import Worker, WorkerError, calls
from workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "numba", "fastnn-numba", "torch", "jax", "optax", "scikit-learn", "onnxruntime")
SAME_START = 1e-4  # relative
SAME_LOSS = 1e-2  # relative, after the checked steps: float32 runs drift apart, by 0.5% in the larger mnist net
SAME_CHANGE = 5e-2  # of what these steps have changed
SAME_OUTPUT = dict(rtol=1e-4, atol=1e-5)
ROUNDS = 3
LONG_ROUNDS = 2  # at most, of sweeps and searches, whose rounds take many seconds
LIBRARIES = list(
    dict.fromkeys(
        library
        for group in (
            RACERS,
            sweeping.SWEEPERS,
            sweeping.SEARCHERS,
            embedding.EMBEDDERS,
            bfloat16.RACERS,
            serving.SERVERS,
            solvers.SOLVERS,
            products.PRODUCTS,
        )
        for library in group
    )
)
# What a race is unless it is told otherwise. Most of a row goes by while libraries start and compile, so that a minute
# has those alone that were ever the best of the others.
TELLING = ("digits 64-32-10, batch", "trained long", "784-128-10", "predict 8-64-64-1, one row", "matmul NN 512")
LENGTHS = {
    "minute": {"only": TELLING, "libraries": ["fastnn", "torch", "jax", "onnxruntime"]},
    "full": {"only": ("",), "libraries": LIBRARIES},
}
PAUSE_SECONDS = 0.3  # before each turn: some libraries let the threads of the last one spin on for 0.2 s


class Unequal(Exception):
    """Libraries that do not compute the same."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def processor():
    """What the race runs on, as fastnn reports it."""
    from fastnn import environment

    facts = dict(environment.facts())
    return {name: facts[name] for name in ("processor", "CPU target", "vector width")}


def installed(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def names():
    """The names of all rows, in the order of the tables."""
    of_products = [products.name(*pair) for group in products.groups() for pair in group]
    served = [serving.name(row) for row in (*serving.ROWS, serving.COMPILED)]
    return [
        *WORKLOADS,
        *sweeping.ROWS,
        sweeping.SEARCH,
        *embedding.ROWS,
        *bfloat16.ROWS,
        *served,
        *solvers.PROBLEMS,
        *of_products,
    ]


class Race:
    """What was asked for, and the results so far."""

    def __init__(self, options, stack):
        self.options, self.stack, self.peaks = options, stack, {}
        self.cores = sorted(os.sched_getaffinity(0))
        self.long_rounds = min(options.rounds, LONG_ROUNDS)
        self.result = by_machine.empty(processor() | {"cores": len(self.cores)})
        self.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        versions = {"python": platform.python_version()} | {name: installed(name) for name in PACKAGES}
        run = {"rounds": options.rounds, "long_rounds": self.long_rounds, "versions": versions}
        self.result["runs"][self.date] = run
        self.last, self.kept = time.monotonic(), 0

    def run(self):
        for name, work in WORKLOADS.items():
            if self.wanted(name):
                for threads in self.options.cores or [work.cores]:
                    self.keep("training", self.train(name, threads))
                if "fastnn" in self.options.libraries and WORKLOADS[name].cores > 1:
                    self.keep("two_threads", self.two_threads(name))
        for name, (label, nets) in sweeping.ROWS.items():
            if self.wanted(name):
                self.keep("sweeps", self.sweep(name, label, nets))
        if self.wanted(sweeping.SEARCH):
            self.keep("search", self.search())
        for name in embedding.ROWS:
            if self.wanted(name):
                self.keep("embedding", self.steps(name, embedding, embedding.EMBEDDERS, 1, row=name))
        for name, workload in bfloat16.ROWS.items():
            for threads in (self.options.cores or [1, 2]) if self.wanted(name) else []:
                row = self.steps(name, bfloat16, bfloat16.RACERS, threads, bfloat16.SLACK, workload=workload)
                self.keep("bfloat16", row)
        for row, rows in serving.ROWS.items():
            if self.wanted(serving.name(row)):
                kinds = {library: kind.__name__ for library, kind in serving.SERVERS.items()}
                self.keep("predict", self.predict(row, rows, kinds))
        if self.wanted(serving.name(serving.COMPILED)):
            self.keep("predict", self.predict(serving.COMPILED, 1, {"fastnn": serving.FastnnCompiled.__name__}))
        for name in solvers.PROBLEMS:
            if self.wanted(f"solver {name}"):
                self.keep("solvers", self.solve(name))
        self.multiply()

    def wanted(self, name):
        return any(text in name for text in self.options.only)

    def keep(self, table, row):
        """Add a row to the results of this race, and to those of the machine."""
        now = time.monotonic()
        if row is not None:
            row |= {"run": self.date, "seconds": round(now - self.last, 1)}
            self.result[table].append(row)
            self.kept += 1
            kept = by_machine.read(self.result, self.options.results)
            if by_machine.merge(kept, self.result, table, row, names()):
                by_machine.write(kept, self.options.results)
            else:
                say(f"  not kept: {by_machine.file_of(self.result).name} has times of more libraries")
        self.last = now

    def start(self, stack, module, kinds, cores, **arguments):
        """({library: worker}, {library: {"left_out": why}}) of the libraries that were asked for."""
        workers = {
            library: stack.enter_context(Worker(module, kind, cores, **arguments))
            for library, kind in kinds.items()
            if library in self.options.libraries
        }
        left_out = {library: {"left_out": worker.left_out} for library, worker in workers.items() if worker.left_out}
        for library, entry in left_out.items():
            del workers[library]
            say(f"  {library} is left out: {entry['left_out']}")
        return workers, left_out

    def turns(self, workers, *arguments, rounds=None):
        """{library: what each round gave}; the one who begins changes from round to round."""
        names, times = list(workers), {library: [] for library in workers}
        for i in range(rounds or self.options.rounds):
            first = i % max(1, len(names))
            for library in names[first:] + names[:first]:
                time.sleep(PAUSE_SECONDS)
                times[library].append(workers[library].call("round", *arguments))
        return times

    def peak(self, threads):
        """The worker that measures the peaks of so many cores, None where it cannot."""
        if threads not in self.peaks:
            worker = self.stack.enter_context(Worker("roofline", "Roofline", self.cores[:threads]))
            if worker.left_out:
                say(f"no roofline: {worker.left_out}")
            self.result["caches"][str(threads)] = None if worker.left_out else worker.call("cache_sizes")
            self.peaks[threads] = None if worker.left_out else worker
        return self.peaks[threads]

    def train(self, name, threads):
        """The row of one workload on so many cores."""
        say(f"{name}, {threads} core{'s' * (threads > 1)}")
        if threads > len(self.cores):
            say(f"  left out: this process may use {len(self.cores)} core(s)")
            return None
        peak, work = self.peak(threads), WORKLOADS[name]
        with ExitStack() as stack:
            kinds = {library: kind.__name__ for library, kind in RACERS.items()}
            workers, entries = self.start(stack, "racers", kinds, self.cores[:threads], workload=name, threads=threads)
            if name in LONG:
                if "fastnn" not in workers:
                    say("  left out: it starts from what fastnn has come to")
                    return None
                state = workers["fastnn"].call("train_long")
                for library in workers.keys() - {"fastnn"}:
                    workers[library].call("go_on", *state)
            losses = untimed(workers, "check")
            must_agree(name, {library: [pair] for library, pair in losses.items()})
            steps = {library: worker.call("prepare") for library, worker in workers.items()}
            times = self.turns(workers | ({"peak": peak} if peak else {}))
        measured = times.pop("peak", None)
        for library, rounds in times.items():
            entries[library] = {"us": median(rounds), "rounds": rounds, "steps": steps[library]}
            entries[library]["losses"] = losses[library]
            say(f"  {library:<14}{median(rounds):>12,.2f} us a step")
        row = {"name": name, "cores": threads, "judged": threads == work.cores, "libraries": entries}
        if measured:
            peaks = {key: median(each[key] for each in measured) for key in measured[0]}
            limit = roofline.limit(work, self.result["caches"][str(threads)], peaks)
            row["roofline"] = limit | {"peaks": peaks, "rounds": measured}
            say(f"  {'roofline':<14}{limit['us']:>12,.2f} us a step, by {limit['bound']}")
        return row

    def two_threads(self, name):
        """The row of a workload on one thread and on two."""
        if len(self.cores) < 2:
            return None
        with Worker("racers", "Fastnn", self.cores[:2], workload=name, threads=2) as worker:
            worker.call("check")  # compiles
            worker.call("prepare")
            return {"name": name} | self.pairs(worker, self.options.rounds)

    def pairs(self, worker, rounds):
        """The time of fastnn on one thread over its time on two, in pairs."""
        pairs = [worker.call("one_and_two") for _ in range(rounds)]
        ratio = median(one / two for one, two in pairs)
        say(f"  {'two threads':<14}{ratio:>12.2f} times as fast as one")
        return {"pairs": pairs, "ratio": ratio}

    def sweep(self, name, label, nets):
        """The row of a sweep, on one core; fastnn on two beside it."""
        say(name)
        given = {"label": label, "nets": nets}
        with ExitStack() as stack:
            kinds = {library: kind.__name__ for library, kind in sweeping.SWEEPERS.items()}
            workers, entries = self.start(stack, "sweeping", kinds, self.cores[:1], **given)
            losses = untimed(workers, "check")
            must_agree(name, losses)
            for library, rounds in self.turns(workers, rounds=self.long_rounds).items():
                entries[library] = {"us": median(rounds), "rounds": rounds}
                say(f"  {library:<14}{median(rounds):>12,.2f} us a step of a net")
        row = {"name": name, "cores": 1, "judged": name in sweeping.SHORT, "libraries": entries}
        if len(self.cores) < 2 or "fastnn" not in workers:
            return row
        with Worker("sweeping", "Fastnn", self.cores[:2], **given) as worker:
            worker.call("round")  # compiles
            return row | {"two_threads": self.pairs(worker, self.long_rounds)}

    def search(self):
        """The row of a search, on one core."""
        say(sweeping.SEARCH)
        with ExitStack() as stack:
            kinds = {library: kind.__name__ for library, kind in sweeping.SEARCHERS.items()}
            workers, entries = self.start(stack, "sweeping", kinds, self.cores[:1])
            for worker in workers.values():
                worker.call("prepare")
            for library, rounds in self.turns(workers, rounds=self.long_rounds).items():
                seconds = [each["seconds"] for each in rounds]
                entries[library] = rounds[0] | {"seconds": median(seconds), "rounds": seconds}
                shown = "{seconds:>12,.2f} s, best accuracy {score:.4f}, {share:.0%} of the epochs"
                say(f"  {library:<14}{shown.format(**entries[library])}")
        return {"name": sweeping.SEARCH, "cores": 1, "libraries": entries}

    def steps(self, name, module, kinds, threads, slack=1.0, **given):
        """A row of training steps, of the classes `kinds` of a module, on so many cores."""
        say(f"{name}, {threads} core{'s' * (threads > 1)}")
        if threads > len(self.cores):
            say(f"  left out: this process may use {len(self.cores)} core(s)")
            return None
        with ExitStack() as stack:
            kinds = {library: kind.__name__ for library, kind in kinds.items()}
            cores, given = self.cores[:threads], given | {"threads": threads}
            workers, entries = self.start(stack, module.__name__, kinds, cores, **given)
            losses = untimed(workers, "check")
            must_agree(name, {library: [pair] for library, pair in losses.items()}, slack)
            for worker in workers.values():
                worker.call("prepare")
            for library, rounds in self.turns(workers).items():
                entries[library] = {"us": median(rounds), "rounds": rounds}
                say(f"  {library:<14}{median(rounds):>12,.2f} us a step")
        return {"name": name, "cores": threads, "libraries": entries}

    def predict(self, row, rows, kinds):
        """A row of predictions, on one core."""
        name = serving.name(row)
        say(name)
        with ExitStack() as stack:
            workers, entries = self.start(stack, "serving", kinds, self.cores[:1], rows=rows, threads=1)
            outputs = untimed(workers, "outputs")
            for library in outputs:
                if not np.allclose(outputs[library], next(iter(outputs.values())), **SAME_OUTPUT):
                    raise Unequal(f"{name}: {library} and {next(iter(outputs))} predict otherwise")
            for worker in workers.values():
                worker.call("prepare")
            for library, rounds in self.turns(workers).items():
                entries[library] = {"us": median(rounds), "rounds": rounds}
                say(f"  {library:<14}{median(rounds):>12,.2f} us a call")
        return {"name": name, "cores": 1, "libraries": entries}

    def solve(self, name):
        """A row of fits to the optimum, on one core."""
        say(f"solver {name}")
        with ExitStack() as stack:
            kinds = {library: kind.__name__ for library, kind in solvers.SOLVERS.items()}
            workers, entries = self.start(stack, "solvers", kinds, self.cores[:1], problem=name, threads=1)
            found = untimed(workers, "optimum")
            best = min(found.values(), default=0.0)
            for library, loss in found.items():
                if loss > best * (1 + solvers.CLOSE / 2):
                    raise Unequal(f"{name}: {library} ends at loss {loss}, not at {best}")
            iterations = {library: worker.call("prepare", best) for library, worker in workers.items()}
            for library, rounds in self.turns(workers).items():
                entries[library] = {"ms": 1e3 * median(rounds), "rounds": rounds, "iterations": iterations[library]}
                say(f"  {library:<14}{1e3 * median(rounds):>12,.2f} ms, {iterations[library]} iterations")
        return {"name": name, "cores": 1, "optimum": best, "libraries": entries}

    def multiply(self):
        """The rows of products, on one core."""
        groups = [[pair for pair in group if self.wanted(products.name(*pair))] for group in products.groups()]
        if not any(groups):
            return
        peak = self.peak(1)
        with ExitStack() as stack:
            kinds = {library: kind.__name__ for library, kind in products.PRODUCTS.items()}
            workers, entries = self.start(stack, "products", kinds, self.cores[:1])
            for group in filter(None, groups):
                for pair in group:
                    for library, worker in workers.items():
                        if not worker.call("check", *pair):
                            raise Unequal(f"{products.name(*pair)}: {library} gives another product")
                ways, peaks = [{} for _ in group], []
                for _ in range(self.options.rounds):
                    peaks.append(peak.call("arithmetic") if peak else None)
                    for pair, found in zip(group, ways, strict=True):
                        for worker in workers.values():
                            for way, speed in worker.call("round", *pair).items():
                                found.setdefault(way, []).append(speed)
                highest = median(peaks) / 1e9 if peak else None
                for (n, order), found in zip(group, ways, strict=True):
                    libraries = {way: {"gflops": median(speeds), "rounds": speeds} for way, speeds in found.items()}
                    row = {"name": products.name(n, order), "n": n, "order": order}
                    self.keep("matmul", row | {"libraries": entries | libraries, "peak_gflops": highest})
                    shown = ", ".join(f"{way} {entry['gflops']:.1f}" for way, entry in libraries.items())
                    say(f"{row['name']}: {shown} GFLOP/s")


def untimed(workers, method):
    """{library: what that method of it gives}; all compile and run at once."""
    return dict(zip(workers, calls(workers.values(), method), strict=True))


def must_agree(name, losses, slack=1.0):
    """Refuse a race in which a library trains half of the nets, or more, otherwise.

    losses : {library: [(first, last) loss of each net]}; `slack` widens what is allowed
    """
    if not losses:
        return
    reference = "fastnn" if "fastnn" in losses else next(iter(losses))
    for library, pairs in losses.items():
        wrong = [disagreement(pair, right, slack) for pair, right in zip(pairs, losses[reference], strict=True)]
        wrong = [words for words in wrong if words]
        if 2 * len(wrong) >= len(pairs):
            raise Unequal(f"{name}: {library} {wrong[0]} as {reference}")


def disagreement(losses, right, slack=1.0):
    """How the (first, last) loss of a library differs from that of another, or None; `slack` widens what is allowed."""
    (first, last), (start, end) = losses, right
    allowed = slack * min(SAME_LOSS * abs(end), SAME_CHANGE * abs(start - end))
    if abs(first - start) <= slack * SAME_START * abs(start) and abs(last - end) <= allowed:
        return None
    return f"went from loss {first} to {last}, not from {start} to {end}"


def options_of(arguments=None):
    """What was asked for; what was not told follows from the length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", choices=LENGTHS, default="full", help="sets rows and libraries")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose names hold a TEXT")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of which the median counts; default: %(default)s")
    parser.add_argument("--cores", type=int, nargs="+", help="for training; default: those on which a workload counts")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES)
    parser.add_argument("--results", type=Path, default=by_machine.FOLDER, metavar="FOLDER", help="files of machines")
    parser.add_argument("--readme", action="store_true", help="no race: the tables and the chart of all machines anew")
    options = parser.parse_args(arguments)
    for name, value in LENGTHS[options.length].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.rounds < 1:
        parser.error(f"--rounds must be positive; got {options.rounds}")
    return options


def main():
    """Run the race, or write its tables; gives the exit status."""
    options = options_of()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the with-blocks, which end the workers
    try:
        if options.readme:
            report.publish(by_machine.everything(options.results), ROOT)
            return 0
        with ExitStack() as stack:
            race = Race(options, stack)
            race.run()
        if not race.kept:
            say(f"error: no row was raced: --only {' '.join(options.only)}")
            return 2
        print(report.markdown(race.result))
    except (WorkerError, Unequal, report.NoMarkers, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
