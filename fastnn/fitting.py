"""The outer side of the training loop: chunks of compiled steps, and what happens between them."""

import time

import numpy as np

from . import backends, callbacks, metrics
from .errors import DivergedError, described, must_be

CHUNK_SECONDS = 0.1  # work between two looks at Python: Ctrl-C, progress, callbacks
LONG_STEP_SECONDS = 0.2  # steps longer than this are watched from outside, so that Ctrl-C need not wait for them
_GPU_STEP_SECONDS = 1e-5  # that the smallest step may take on a GPU
_GUESSED_FLOPS = 5e9  # a second, before anything was measured: low, so that the first chunk is short


def run_pass(plan):
    """Carry out one pass over the rows; a long one is watched from outside, so that Ctrl-C need not wait for it."""
    guess = plan["ROWS"] * plan.layout.flops_per_sample() / _GUESSED_FLOPS
    (backends.execute_interruptibly if guess > LONG_STEP_SECONDS else backends.execute)(plan)


def loss_of(plan):
    """Mean loss of the rows of a plan."""
    run_pass(plan)
    return float(plan.reals[backends.real("LAST_LOSS")])


class Measures:
    """What is recorded after each epoch beside the training loss.

    Parameters
    ----------
    net : Sequential
        Asked for outputs.
    scores : list of metrics.Metric
        To be computed.
    held_out : tuple or None
        Validation data (X, y, labels, weights); their loss is recorded, too.
    data : tuple or None
        What metrics are computed on where there are no validation data.
    threads : int
        Threads that may take part.
    """

    def __init__(self, net, scores, held_out, data, threads):
        self.net, self.scores, self.held_out, self.threads = net, scores, held_out, threads
        self.data, self.plan = data if held_out is None else held_out, None
        if scores:
            _, y, _, weights = self.data
            metrics.check(scores, y, net.loss, net.outputs, weights)
        directions = {"loss": False} | ({} if held_out is None else {"validation_loss": False})
        self.directions = directions | {score.name: score.greater for score in scores}

    def __bool__(self):
        return bool(self.scores) or self.held_out is not None

    def record(self, history):
        """Add to a history what stands now."""
        net, found = self.net, {}
        if self.scores:
            X, y, _, weights = self.data
            outputs = net._host_outputs(X, self.threads)
            found = {score.name: score.compute(outputs, y, weights) for score in self.scores}
        if self.held_out is not None:
            self.plan = self.plan or net._loss_plan(*self.held_out, self.threads)
            history._validation.append(loss_of(self.plan))
        for name, value in found.items():
            history._metrics.setdefault(name, []).append(value)


class Run:
    """One fit, as callbacks see it.

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
    hooks : list of Callback
        In the order in which they are called.
    measures : Measures or None
        What is recorded after each epoch.

    Attributes
    ----------
    rate_scale : float
        Factor on the learning rate from now on.
    stopped : bool
        Whether the fit is to end.
    """

    def __init__(self, net, plan, optimizer, epochs, history, hooks=(), measures=None):
        self.net, self.plan, self.optimizer, self.epochs, self.history = net, plan, optimizer, epochs, history
        self.hooks, self.measures = hooks, measures
        self.state, self.rows, self.batch = net._state, plan["ROWS"], plan["BATCH"]
        self.rate_scale, self.stopped = 1.0, False
        self.by_epoch = bool(measures) or any(callbacks.overrides(hook, "epoch") for hook in hooks)
        self.step_seconds = plan["BATCH"] * plan.layout.flops_per_sample() / _GUESSED_FLOPS
        if backends.device_of(plan) == "cuda":
            self.step_seconds = max(self.step_seconds, _GPU_STEP_SECONDS)
        self.rates = np.zeros(1)
        history.device = backends.device_of(plan)
        self._start(plan["STEP"], plan["EPOCH"])
        backends.execute(plan)  # compiles, or loads what was compiled, outside the measured time

    def stop(self):
        """End the fit after the hooks of this moment."""
        self.stopped = True

    def go_on(self, step, epoch):
        """Go on where another run stood, with its net and its history, after this step and epoch of the net."""
        self.net._step, self.net._epoch = step, epoch
        self.plan.set(STEP=step, EPOCH=epoch)
        self._start(step, epoch)

    def train(self, bar):
        """Train to the end."""
        history = self.history
        bar.start(*self._progress())
        try:
            while not self.stopped and history.epochs < self.epochs:
                finished = self._chunk()
                if self.hooks or finished and self.by_epoch:
                    self.plan.bring()
                self.call("chunk")
                if finished and self.by_epoch:
                    if self.measures:
                        self.measures.record(history)
                    self.call("epoch")
                bar.update(*self._progress(), history)
        finally:
            self._settle()  # Ctrl-C may have come after the steps of a chunk and before they were counted
            self.plan.bring()
        self.call("end")

    def call(self, hook):
        """Call one hook of every callback."""
        for callback in self.hooks:
            getattr(callback, hook)(self)

    def _start(self, step, epoch):
        """Prepare the plan for its first chunk, from a step and an epoch of the net on."""
        history = self.history
        self.first_step, self.first_epoch = step - history.steps, epoch - history.epochs
        self.steps_per_epoch = -(-self.plan["ROWS"] // self.plan["BATCH"])
        self.plan.set(COMMAND=backends.TRAIN, LOSSES=history._loss, FINISHED=history.epochs, POSITION=0, STEPS=0)
        self._mark()

    def _chunk(self):
        """Run a chunk of steps; gives the number of epochs that they completed."""
        self._mark()
        self.done = self.marked_epochs * self.steps_per_epoch + self.plan["POSITION"]
        end = (self.marked_epochs + 1 if self.by_epoch else self.epochs) * self.steps_per_epoch
        steps = min(max(1, int(CHUNK_SECONDS / self.step_seconds)), end - self.done)
        self.rates = self.rate_scale * self._schedule((self.done + np.arange(steps)) / self.steps_per_epoch)
        self.plan.set(RATES=self.rates, RATES_STRIDE=1)
        self._execute(steps)
        return self.history.epochs - self.marked_epochs

    def _progress(self):
        """Epochs done, with the share of the one that has begun, and samples seen."""
        epochs, position = self.history.epochs, self.plan["POSITION"]
        samples = epochs * self.plan["ROWS"] + position * self.plan["BATCH"]
        return epochs + position / self.steps_per_epoch, samples

    def _mark(self):
        """Remember where a chunk begins."""
        self.plan.remember()
        self.remembered_epoch = self.net._epoch
        self.marked_epochs, self.marked_steps = self.history.epochs, self.history.steps
        self.marked_seconds, self.seconds = self.history.seconds, 0.0

    def _execute(self, steps):
        """Make steps with the plan as it stands."""
        plan, history = self.plan, self.history
        plan.set(STEPS=steps)
        execute = backends.execute_interruptibly if self.step_seconds > LONG_STEP_SECONDS else backends.execute
        before = history.steps
        start = time.perf_counter()
        try:
            execute(plan)
        finally:
            seconds = time.perf_counter() - start
            self.seconds += seconds
            self._settle()
        made = history.steps - before
        if made:
            self.step_seconds = max(seconds / made, 1e-9, self.step_seconds / 8)
        if plan["STATUS"] == backends.DIVERGED:
            finite = history.loss[np.isfinite(history.loss)]
            raise DivergedError(history.epochs, float(finite[-1]) if finite.size else None, history)

    def _settle(self):
        """Bring net and history to where the plan stands; to do it twice changes nothing."""
        plan, net, history = self.plan, self.net, self.history
        net._step, net._epoch = plan["STEP"], plan["EPOCH"]
        history.steps, history.seconds = plan["STEP"] - self.first_step, self.marked_seconds + self.seconds
        self._count_epochs()
        if plan["STATUS"] == backends.DIVERGED:
            plan.restore()
            net._forget_optimizer()
            net._epoch = self.remembered_epoch

    def _count_epochs(self):
        """Record the epochs that the plan has finished."""
        history, finished = self.history, self.plan["EPOCH"] - self.first_epoch
        if finished > self.marked_epochs:
            # the chunk's steps until the end of each epoch
            ends = np.arange(self.marked_epochs + 1, finished + 1) * self.steps_per_epoch - self.done
            made = history.steps - self.marked_steps
            history._rates[self.marked_epochs : finished] = self.rates[ends - 1]
            history._elapsed[self.marked_epochs : finished] = self.marked_seconds + self.seconds * ends / made
        history.epochs = finished

    def _schedule(self, places):
        """Rates that the schedule gives for places of this fit, in epochs."""
        rates = np.asarray(self.optimizer.learning_rate.rates(places), np.float64)
        if rates.shape != places.shape or not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise ValueError(
                f"learning_rate must be a schedule of one finite non-negative rate for each place; got {rates!r}"
            )
        return rates


class Stream(Run):
    """A fit on batches that come one by one; to the compiled loop each is a part of one endless epoch.

    Parameters
    ----------
    net : Sequential
        Its parameters and counters are updated.
    batches : Batches
        Gives passes.
    make_plan : callable
        A plan, without data, from the number of rows that it is to hold.
    batch : int
        Rows of the first plan; another takes its place when a larger batch comes.
    *settings
        The others of Run, from the optimizer on.
    """

    def __init__(self, net, batches, make_plan, batch, *settings):
        self.batches, self.make_plan, self.samples = batches, make_plan, 0
        super().__init__(net, make_plan(batch), *settings)
        self.rows = None

    def _start(self, step, epoch):
        history = self.history
        self.first_step, self.first_epoch = step - history.steps, epoch - history.epochs
        self.pass_ = None
        self.plan.set(COMMAND=backends.TRAIN, STEPS=0, RATES=self.rates)
        self._mark()

    def _chunk(self):
        self._mark()
        end = time.perf_counter() + CHUNK_SECONDS
        if self.pass_ is None:
            length = len(self.batches) or 1
            self.scheduled = self._schedule((self.history.epochs * length + np.arange(length)) / length)
            self.pass_, self.place, self.seen = iter(self.batches), 0, 0
        for data in self.pass_:
            self._step(*data)
            self.place += 1
            if time.perf_counter() > end:
                return 0
        self._finish_epoch()
        return 1

    def _progress(self):
        length = len(self.batches)
        begun = min(self.place / length, 1.0) if self.pass_ is not None and length else 0.0
        return self.history.epochs + begun, self.samples

    def _step(self, X, y, labels, weights):
        rows = len(X)
        if rows > self.batch:
            self._grow(rows)
        plan = self.plan
        self.net._give(plan, X, y, labels, weights)
        plan.set(BATCH=rows, ROWS=2 * rows, POSITION=0, SEEN=self.seen)  # the epoch does not end with this batch
        self.rates[0] = self.rate_scale * self.scheduled[min(self.place, len(self.scheduled) - 1)]
        self._execute(1)
        self.seen, self.samples = self.seen + rows, self.samples + rows

    def _grow(self, rows):
        """A plan for larger batches, which goes on where the other one stands."""
        self._settle()  # whatever a callback may have done to the net's optimizer
        self.net._state, self.net._rule = self.state, self.optimizer.kernel
        self.plan.bring()
        plan = self.make_plan(rows)
        plan.remember()
        for name in ("EPOCH_LOSS", "EPOCH_WEIGHT"):
            plan.reals[backends.real(name)] = self.plan.reals[backends.real(name)]
        plan.set(COMMAND=backends.TRAIN, RATES=self.rates)
        self.plan, self.batch = plan, rows
        self.history.device = backends.device_of(plan)

    def _finish_epoch(self):
        plan, history, at = self.plan, self.history, self.history.epochs
        self.pass_ = None
        if not self.place:
            given = described(f"none in epoch {at}")
            raise must_be("X", "an iterable that gives batches in every epoch", given)
        loss, weight = backends.real("EPOCH_LOSS"), backends.real("EPOCH_WEIGHT")
        history._loss[at], history._rates[at] = plan.reals[loss] / plan.reals[weight], self.rates[0]
        history._elapsed[at] = history.seconds
        plan.reals[loss] = plan.reals[weight] = 0.0
        plan.set(EPOCH=plan["EPOCH"] + 1)
        self._settle()

    def _count_epochs(self):
        self.history.epochs = self.plan["EPOCH"] - self.first_epoch
