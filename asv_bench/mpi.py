"""Steps of a fit on several ranks, and the share of each phase: `mpiexec -n 2 python asv_bench/mpi.py`.

Each rank has one thread. The same fit is timed on all ranks and on rank 0 alone, turn by turn, best of several. Waiting
and exchange are all that one process would not do: barriers and messages, with the time that one rank waits for another.
"""

import argparse
import time

import numpy as np
from mpi4py import MPI

import fastnn
from fastnn import mpi, ranks
from fastnn.rank_steps import RanksPlan

WIDTHS = 784, 512, 512, 10
ROUNDS, STEPS = 4, 24


class Timed(RanksPlan):
    """A RanksPlan that keeps the seconds of each phase of its steps."""

    seconds = {}

    def __init__(self, *arguments):
        super().__init__(*arguments)
        for name in ("tell", "publish", "own_parts"):
            setattr(self.exchange, name, self.timed(name, getattr(self.exchange, name)))
        for name in ("make_gradients", "sum_share", "update_share"):
            setattr(self, name, self.timed(name, getattr(self, name)))

    def timed(self, name, function):
        """The function, its time counted under this name."""

        def call(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return call

    def execute(self):
        """Count the whole, and only what belongs to steps."""
        self.seconds.clear()
        super().execute()


def net():
    """A net of the sizes above."""
    layers = [fastnn.Dense(n, "relu") for n in WIDTHS[1:-1]]
    return fastnn.Sequential([*layers, fastnn.Dense(WIDTHS[-1], "softmax")])


def fit(comm, X, y, batch):
    """(microseconds of a step, those of each phase) of an epoch by the ranks of a communicator."""
    history = mpi.fit(net(), X, y, epochs=1, batch_size=batch, threads=1, comm=comm)
    return history.microseconds_per_step


def main():
    """Print a table on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--messages", action="store_true", help="as on several machines, without shared memory")
    options = parser.parse_args()
    if options.messages:
        ranks.SharedMemory = ranks.Messages
    mpi.RanksPlan, world = Timed, MPI.COMM_WORLD
    for batch in options.batches:
        compare(world, batch)


def compare(world, batch):
    """Time steps of a batch on all ranks and on one."""
    rng = np.random.default_rng(0)
    rows = batch * STEPS
    X, y = rng.normal(size=(rows, WIDTHS[0])).astype(np.float32), rng.integers(0, WIDTHS[-1], rows)
    part = slice(world.rank * rows // world.size, (world.rank + 1) * rows // world.size)
    alone, together, phases = np.inf, np.inf, {}
    for _ in range(ROUNDS):
        if world.rank == 0:
            alone = min(alone, fit(MPI.COMM_SELF, X, y, batch))
        world.Barrier()
        found = fit(world, X[part], y[part], batch)
        if found < together:
            together, phases = found, dict(Timed.seconds)
    if world.rank == 0:
        report(batch, world.size, alone, together, phases)


def report(batch, size, alone, together, phases):
    """Print what was found."""
    waiting = phases["tell"] + phases["publish"]
    sums = phases["sum_share"]
    named = {"gradients": phases["make_gradients"], "sum of the shares": sums, "update": phases["update_share"]}
    named["waiting and exchange"] = waiting
    whole = sum(named.values())
    print(f"batch {batch}: {together:,.0f} us a step on {size} ranks, {alone:,.0f} on one: {alone / together:.2f} times")
    for name, seconds in named.items():
        print(f"  {seconds / whole:6.1%}  {name}", flush=True)


if __name__ == "__main__":
    main()
