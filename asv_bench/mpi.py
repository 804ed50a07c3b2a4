"""Steps of a fit on several ranks, and the share of each phase: `mpiexec -n 2 python asv_bench/mpi.py`.

Each rank has one thread. The same fit is timed on all ranks and on rank 0 alone, turn by turn: medians over the steps
of the best of several fits. Waiting and exchange are barriers and messages, and the wait of one rank for another.
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
PHASES = "make_gradients", "sum_share", "update_share", "tell", "publish", "own_parts"


class Timed(RanksPlan):
    """A RanksPlan that keeps the seconds of each phase, a list of those of its steps."""

    seconds = {}

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seconds.clear()
        for thing, names in ((self, PHASES[:3]), (self.exchange, PHASES[3:])):
            for name in names:
                setattr(thing, name, self.timed(name, getattr(thing, name)))

    def timed(self, name, function):
        """The function, its times kept under this name."""

        def call(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds.setdefault(name, []).append(time.perf_counter() - start)
            return result

        return call


def net():
    """A net of the sizes above."""
    layers = [fastnn.Dense(n, "relu") for n in WIDTHS[1:-1]]
    return fastnn.Sequential([*layers, fastnn.Dense(WIDTHS[-1], "softmax")])


def fit(comm, X, y, batch):
    """Median seconds of each phase of the steps of an epoch by the ranks of a communicator."""
    mpi.fit(net(), X, y, epochs=1, batch_size=batch, threads=1, comm=comm)
    found = np.array([np.median(Timed.seconds[name][-STEPS:]) for name in PHASES])
    found[1] -= found[-1]  # what came by messages is there before it is summed
    return found


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
    alone, together, plain = [], [], []
    for _ in range(ROUNDS):
        if world.rank == 0:
            plain.append(net().fit(X, y, epochs=1, batch_size=batch, threads=1).microseconds_per_step)
            alone.append(fit(MPI.COMM_SELF, X, y, batch))
        world.Barrier()
        together.append(fit(world, X[part], y[part], batch))
    if world.rank == 0:
        print(f"batch {batch}: {min(plain):,.0f} us a step of Sequential.fit")
        report(world.size, min(alone, key=np.sum), min(together, key=np.sum))


def report(size, alone, together):
    """Print what was found."""
    one, all_ranks = 1e6 * alone.sum(), 1e6 * together.sum()
    print(f"  {one:,.0f} us on one rank, {all_ranks:,.0f} on {size}: {one / all_ranks:.2f} times as fast")
    shares = together / together.sum()
    for name, share in zip(("gradients", "sum of the shares", "update"), shares, strict=False):
        print(f"  {share:6.1%}  {name}")
    print(f"  {shares[3:].sum():6.1%}  waiting and exchange", flush=True)


if __name__ == "__main__":
    main()
