"""Training on one thread, whose own time counts: each workload of the race."""

import time

import numpy as np
from workloads import WORKLOADS

from . import Timed

NETS = {work.net_name: work for work in WORKLOADS.values()}
TRACKED_SECONDS = 0.1
TRACKED_TIMES = 3
# The mean loss of an epoch that is to be reached, and the epochs allowed for it, half as many again as it takes.
GOALS = {
    "planar 2-4-1": (0.003, 60_000),
    "digits 64-32-10": (1.0, 1000),
    "housing 8-64-64-1": (2e-4, 27),
    "small 4-32-16-4": (0.01, 540),
    "mnist 784-128-10": (1.9, 5),
    "mnist 784-512-512-10": (2.1, 3),
    "odd 500-200-50-7": (0.01, 21),
    "wide 1024-1024-1024-1024-10": (2.336, 3),
    "cat logistic 12288-1": (0.4, 520),
    "logistic 28-1": (0.25, 190),
    "logistic 9000-1": (0.65, 300),
    "cat 12288-20-7-5-1": (0.65, 36),
}


class Fit:
    """A net, its data and its optimizer; `train` runs so many epochs."""

    def __init__(self, name):
        self.work = NETS[name]
        self.net, self.rule = self.work.net(), self.work.rule()
        self.X, self.y = self.work.data()
        self.train(1)  # compiles, or loads from the cache

    def train(self, epochs, rows=None):
        return self.net.fit(
            self.X[:rows],
            self.y[:rows],
            optimizer=self.rule,
            epochs=epochs,
            batch_size=self.work.batch,
            shuffle=False,
            threads=1,
        )

    def seconds(self, epochs):
        """Time of a fit of so many epochs, and its steps."""
        start = time.process_time()
        steps = self.train(epochs).steps
        return time.process_time() - start, steps


class Training(Timed):
    params = [list(NETS)]
    param_names = ["net"]
    make = Fit

    def time_epoch(self, name):
        self.ready.train(1)

    def time_step(self, name):
        """One call of fit for one batch, as someone does who gets the data piece by piece."""
        self.ready.train(1, self.ready.work.batch)


class TrainingLoop:
    """Fits so long that the cost of their call does not matter; the least of some."""

    version = "1"
    params = [list(NETS)]
    param_names = ["net"]

    def setup(self, name):
        self.fit = Fit(name)

    def track_step(self, name):
        """Seconds, shown as microseconds."""
        epochs = max(1, round(TRACKED_SECONDS / self.fit.train(1).seconds))
        return min(seconds / steps for seconds, steps in (self.fit.seconds(epochs) for _ in range(TRACKED_TIMES)))

    track_step.unit = "seconds"

    def track_seconds_to_loss(self, name):
        """Until the mean loss of an epoch is at the goal, from the same weights."""
        goal, most = GOALS[name]
        reached = self.fresh(name).train(most).loss <= goal
        if not reached.any():
            raise RuntimeError(f"{name} does not reach a loss of {goal} in {most} epochs")
        epochs = int(np.argmax(reached)) + 1
        return min(self.fresh(name).seconds(epochs)[0] for _ in range(TRACKED_TIMES))

    track_seconds_to_loss.unit = "seconds"

    def fresh(self, name):
        """The fit with the weights of the start and no state of the optimizer."""
        self.fit.net, self.fit.rule = self.fit.work.net(), self.fit.work.rule()
        return self.fit
