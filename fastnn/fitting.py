"""The outer side of the training loop: chunks of compiled steps, and what happens between them."""

import time

import numpy as np

from . import backends
from .errors import DivergedError

CHUNK_SECONDS = 0.1  # work between two looks at Python: Ctrl-C, progress, callbacks
LONG_STEP_SECONDS = 0.2  # steps longer than this are watched from outside, so that Ctrl-C need not wait for them
_GUESSED_FLOPS = 5e9  # a second, before anything was measured: low, so that the first chunk is short


def run_pass(plan):
    """Carry out one pass over the rows; a long one is watched from outside, so that Ctrl-C need not wait for it."""
    guess = plan["ROWS"] * plan.layout.flops_per_sample() / _GUESSED_FLOPS
    (backends.execute_interruptibly if guess > LONG_STEP_SECONDS else backends.execute)(plan)


class Loop:
    """One fit.

    Parameters
    ----------
    net : Sequential
        Its parameters and counters are updated.
    plan : plan.Plan
        Tables of the run, data named.
    optimizer : Optimizer
        Gives the learning rates.
    epochs : int
        Epochs to do.
    history : History
        Receives the record.
    """

    def __init__(self, net, plan, optimizer, epochs, history):
        self.net, self.plan, self.optimizer, self.epochs, self.history = net, plan, optimizer, epochs, history
        batch, rows = plan["BATCH"], plan["ROWS"]
        self.steps_per_epoch = -(-rows // batch)
        self.total = epochs * self.steps_per_epoch
        self.done, self.first_step = 0, plan["STEP"]
        self.step_seconds = batch * plan.layout.flops_per_sample() / _GUESSED_FLOPS
        self.snapshot, self.snapshot_epoch = net.parameters.copy(), net._epoch
        self.rates = np.zeros(1)
        plan.set(COMMAND=backends.TRAIN, LOSSES=history._loss, FINISHED=0, POSITION=0, STEPS=0)
        backends.execute(plan)  # compiles, or loads what was compiled, outside the measured time

    def run(self, bar, each_epoch=None):
        """Train to the end; `each_epoch()` is called after each epoch where it is given, and may ask to stop."""
        bar.start()
        try:
            while self.done < self.total:
                steps = max(1, int(CHUNK_SECONDS / self.step_seconds))
                if each_epoch is not None:
                    steps = min(steps, self.steps_per_epoch - self.done % self.steps_per_epoch)
                finished = self._chunk(min(steps, self.total - self.done))
                stopped = finished and each_epoch is not None and each_epoch()
                bar.update(self.done, self.history)
                if stopped:
                    return
        finally:
            self._settle()  # Ctrl-C may have come after the steps of a chunk and before they were counted

    def _chunk(self, steps):
        """Run `steps` steps; gives the number of epochs that they completed."""
        plan, net, history = self.plan, self.net, self.history
        np.copyto(self.snapshot, net.parameters)
        self.snapshot_epoch = net._epoch
        self._set_rates(steps)
        plan.set(STEPS=steps)
        execute = backends.execute_interruptibly if self.step_seconds > LONG_STEP_SECONDS else backends.execute
        steps, epochs = history.steps, history.epochs
        start = time.perf_counter()
        try:
            execute(plan)
        finally:
            seconds = time.perf_counter() - start
            self._settle()
            history.seconds += seconds
        made = history.steps - steps
        if made:
            self.step_seconds = max(seconds / made, 1e-9, self.step_seconds / 8)
        if plan["STATUS"] == backends.DIVERGED:
            finite = history.loss[np.isfinite(history.loss)]
            raise DivergedError(history.epochs, float(finite[-1]) if finite.size else None, history)
        return history.epochs - epochs

    def _settle(self):
        """Bring net and history to where the plan stands; to do it twice changes nothing."""
        plan, net, history = self.plan, self.net, self.history
        net._step, net._epoch = plan["STEP"], plan["EPOCH"]
        history.steps = self.done = plan["STEP"] - self.first_step
        history.epochs = plan["FINISHED"]
        if plan["STATUS"] == backends.DIVERGED:
            np.copyto(net.parameters, self.snapshot)
            net._forget_optimizer()
            net._epoch = self.snapshot_epoch

    def _set_rates(self, steps):
        epochs = (self.done + np.arange(steps)) // self.steps_per_epoch
        rates = np.asarray(self.optimizer.learning_rate.rates(epochs), np.float64)
        if rates.shape != epochs.shape or not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise ValueError(
                f"learning_rate must be a schedule of one finite non-negative rate an epoch; got {rates!r}"
            )
        self.rates = rates
        self.plan.set(RATES=rates, RATES_STRIDE=1)
