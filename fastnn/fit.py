"""Training: what `fit` and `partial_fit` accept, and the run that they make of it.

check      arguments and data, before anything changes      `Steps`, `checked_rows`, `checkpoint.at`
program    the net is built, or learns the standardisation  `prepare`
plan       tables and working memory of a run               `plans.make`
bind       the rows, and the update rule                    `plans.bind`, `Steps.bind`
chunks     of compiled steps, about 0.1 s each              `Run.train`, `Run._chunk`
record     from the counters of the state to the history    `Run._record`
"""

import functools
import math
import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import (
    arrays,
    backends,
    callbacks,
    checkpoint,
    data,
    dead_units,
    metrics,
    optimizers,
    plans,
    progress,
    schedules,
    standardization,
    unscaled,
    validation,
)
from .errors import DivergedError, described, must_be
from .history import History

CHUNK_SECONDS = 0.1  # work between two looks at Python: Ctrl-C, progress, callbacks
SLOW_COPY, REMEMBERED = (
    0.01,
    10,
)  # a copy of the parameters that takes longer, as of large tables, takes 1/10 of a chunk
EPOCHS = 50  # where none are asked for
AUTO = "auto"  # a batch_size that follows the number of rows


@dataclass(frozen=True)
class Steps:
    """How steps are made; checked when it is made.

    Parameters
    ----------
    optimizer : Optimizer, str or None
        As `optimizers.made` takes it.
    epochs : int
        Passes over the rows.
    batch_size : int, "auto" or None
        Rows of a step; None for all.
    shuffle : bool
        A new order each epoch.
    l2 : float
        Strength of the l2 term.
    threads : int or None
        None for the default.
    """

    optimizer: Any = None
    epochs: Any = 1
    batch_size: Any = AUTO
    shuffle: Any = False
    l2: Any = 0.0
    threads: Any = None

    def __post_init__(self):
        vars(self).update(
            optimizer=optimizers.made(self.optimizer),
            epochs=validation.size("epochs", self.epochs),
            batch_size=_checked_batch_size(self.batch_size),
            shuffle=validation.flag("shuffle", self.shuffle),
            l2=validation.number("l2", self.l2, low=0.0),
            threads=backends.thread_count("threads", self.threads),
        )

    def batch(self, rows):
        """Rows of each step of a fit on so many rows."""
        if self.batch_size == AUTO:
            return _auto_batch(rows)
        return rows if self.batch_size is None else self.batch_size

    @property
    def rule(self):
        """The record of the optimizer's update rule."""
        return backends.RULES[self.optimizer.rule]

    def rates(self, places):
        """The learning rates at places of this fit, in epochs, in their order."""
        schedule = self.optimizer.learning_rate
        rate = schedule.rate if type(schedule) is schedules.Constant else None
        # a step is worth a short way; negative places are refused by the schedule, and the first one is the least
        if type(rate) is float and 0.0 <= rate < math.inf and len(places) and places[0] >= 0:
            return np.array([rate]) if len(places) == 1 else np.full(places.shape, rate)  # of one in half the time
        rates = validation.numeric_array("learning_rate", schedule.rates(places), places.shape, np.float64)
        if rates.size and rates.min() < 0:
            raise must_be("learning_rate", "a schedule of one finite non-negative rate for each place", rates)
        return rates

    def bind(self, plan):
        """Name the update rule of a plan."""
        plan.bind_rule(*self._update)

    @functools.cached_property
    def _update(self):
        """What `Plan.bind_rule` takes."""
        optimizer = self.optimizer
        limits = optimizer.clip_value, optimizer.clip_norm
        return self.rule, optimizer.settings(), optimizer.coupled_decay, self.l2, *limits


def _checked_batch_size(value):
    if value is None:
        return None
    if isinstance(value, str) and value == AUTO:
        return AUTO
    return validation.size("batch_size", value, "a positive int, 'auto' or None")


def _auto_batch(rows):
    # Within half a point of the best of 8 to 512 and all rows, on tables of 400 to 20,000 rows: docs/defaults.md
    return min(rows, max(8, 1 << math.isqrt(rows).bit_length() - 1))


@dataclass(frozen=True)
class Rows:
    """What `fit` is to train and to validate on, as the user passes it."""

    X: Any
    y: Any = None
    rows: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    validation_data: Any = None
    validation_split: Any = None


@dataclass(frozen=True)
class Watch:
    """What is to look at a fit, as the user passes it."""

    metrics: Any = ()
    callbacks: Any = ()
    progress: Any = False
    resume: Any = None


def fit(net, given, steps, watch):
    """Carry out `Sequential.fit`.

    Parameters
    ----------
    net : Sequential
        To be trained.
    given : Rows
        Its data.
    steps : Steps
        How steps are made.
    watch : Watch
        What looks at them.

    Returns
    -------
    History
        Of this fit.
    """
    hooks, kind = callbacks.prepare(watch.callbacks), backends.loss(net.loss).targets
    scores = metrics.resolve(watch.metrics, kind)
    batches, rows, held_out = checked_rows(net, given, steps)
    if batches is not None and scores and held_out is None:
        raise must_be("metrics", "() where X gives batches and there are no validation_data", watch.metrics)
    batch = steps.batch(len(rows)) if batches is None else len(rows)
    measures = Measures(net, scores, held_out, rows, steps.threads)
    trained = rows.weighted_by_class(net, given.class_weight)
    callbacks.check(hooks, measures.directions)
    saved = None
    if watch.resume is not None:
        identity = checkpoint.identity(steps.optimizer, hooks, measures, len(rows) if batches is None else None, batch)
        saved = checkpoint.at(watch.resume, net, rows, steps, hooks, identity)
    history = History(steps.epochs)
    with progress.make(watch.progress, steps.epochs) as bar:
        unscaled.warn(net, rows)
        prepare(net, rows, (given.X, given.y) if batches is None else batches.given)
        if saved is not None:
            saved.restore(net, steps.rule, history)
            batch = saved.facts["batch"]
        with (guard := threading.Lock()):
            net.claim(guard)
            plan = plans.make(net, backends.TRAIN, batch, steps.threads, arrays.on_gpu(rows.X))
            if batches is None:
                plans.bind(net, plan, trained, steps.shuffle and batch < len(rows), steps.epochs)
                run = Run(net, plan, steps, history, hooks, measures)
            else:
                run = Stream(net, plan, steps, history, hooks, measures, batches)
            if saved is not None:
                run.rate_scale, run.stopped = saved.facts["rate_scale"], saved.facts["stopped"]
            run.call("begin")
            if saved is not None:
                saved.restore_callbacks(hooks)
            run.train(bar)
    if batches is None and history.steps:  # the rows of a stream are gone
        dead_units.warn(net, rows, steps.threads, history.device)
    return history


def one_step(net, optimizer, l2, threads):
    """The Steps of a single one; a net keeps them, for those of the next call, which are mostly the same."""
    threads = backends.thread_count("threads", threads)
    given, l2_given, steps = net.kept.get("one step", (None, None, None))
    if steps is None or optimizer is not given or l2 is not l2_given or steps.threads != threads:
        steps = Steps(optimizer, l2=l2, threads=threads)
        net.kept["one step"] = optimizer, l2, steps
    return steps


def partial_fit(net, X, y, sample_weight, steps):
    """Carry out `Sequential.partial_fit`: one step on all rows of X."""
    rows = data.encoded(net, data.check(net, X, y, sample_weight))[0]
    prepare(net, rows, (X, y))
    loss = np.zeros(1)
    with (guard := threading.Lock()):
        net.claim(guard)
        with plans.kept(net, backends.TRAIN, len(rows), steps.threads, arrays.on_gpu(rows.X)) as plan:
            plans.bind(net, plan, rows)
            net.state.begin_epoch()
            _update_once(net, plan, steps, loss)
    return loss.item()


def apply_gradient(net, gradient, steps):
    """Carry out `Sequential.apply_gradient`: one update from a checked gradient."""
    with (guard := threading.Lock()):
        net.claim(guard)
        with plans.kept(net, backends.APPLY, 1, steps.threads) as plan:
            gradient = gradient.copy()  # which l2 and clipping change
            gradient[net.program.gaps] = 0.0  # else a norm would count what is no gradient
            plan.bind_gradient(gradient)
            _update_once(net, plan, steps)


def _update_once(net, plan, steps, loss=None):
    """Carry out a bound plan for one step; where it diverges, the net is as before it, without optimizer state."""
    state, (plan.mark, changed) = net.state, net.marks
    rates, epoch = steps.rates(np.zeros(1)), state.epoch
    steps.bind(plan)
    plan.bind_steps(rates, loss)
    plan.returns_state = True
    plan.remember()
    try:
        plans.run(plan)
    finally:
        diverged = plan.diverged
        if diverged:
            plan.restore()
            state.forget()
            state.epoch = epoch
        plan.to_host()
    if diverged:
        raise DivergedError(0, None, History(1))
    plan.hold(changed)


def checked_rows(net, given, steps):
    """(Batches or None, Data to train on or the first batch, held-out Data or None)."""
    batches, held_out = None, None
    if data.come_in_batches(given.X, given.y):
        _must_suit_batches(given, steps)
        batches = data.Batches(net, given.X)
        if batches.once and steps.epochs > 1:
            raise must_be("epochs", "1 for an iterator, which can be passed over once only", steps.epochs)
        rows = batches.first
    else:
        rows = data.check(net, given.X, given.y, given.sample_weight, given.rows)
    apart, share = given.validation_data, given.validation_split
    if apart is not None:
        if share is not None:
            raise must_be("validation_split", "None where validation_data are given", share)
        held_out = data_apart(net, apart, rows)
    elif share is not None:
        # the layers draw from (seed, number of the layer)
        parts = data.split(rows, share, steps.shuffle, (net.seed, len(net.layers)))
        rows, held_out = rows.chosen(parts[0]), rows.chosen(parts[1])
    rows, held_out = data.encoded(net, rows, held_out)
    if share is not None and steps.shuffle and steps.batch(len(rows)) == len(rows):
        rows = rows.copied()  # each step takes all rows: to gather them each time would cost more than one copy
    if steps.batch(len(rows)) > len(rows):
        raise must_be("batch_size", f"at most the {len(rows)} samples, or None for all", steps.batch_size)
    return batches, rows, held_out


def data_apart(net, given, rows, may_be_zero=False):
    """The Data of `validation_data`, beside `rows` to train on; `may_be_zero`: all of their weights."""
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        raise must_be("validation_data", "None, (X, y) or (X, y, sample_weight)", given, TypeError)
    known = {} if net.columns is not None else {"features": rows.X.shape[1], "columns": rows.columns}
    return data.check(net, *given, prefix="validation ", classes=rows.classes, may_be_zero=may_be_zero, **known)


def _must_suit_batches(given, steps):
    """Refuse what goes with arrays only."""
    for_arrays = {"batch_size": (steps.batch_size or AUTO, AUTO), "shuffle": (steps.shuffle, True)}
    for name in ("rows", "sample_weight", "class_weight", "validation_split"):
        for_arrays[name] = getattr(given, name), None
    for name, (value, default) in for_arrays.items():
        if value is not default:
            raise must_be(name, f"{default!r} where X gives batches", value)


def prepare(net, rows, given, total=None):
    """Build the net for these rows, where that was not done; it learns their standardisation, columns and classes.

    `given`: X and y as the user passed them; `total`: the `Dealt.total` of the rows, where these are not all.
    """
    learned = None
    if net.standardize and net.standardization is None:
        learned = standardization.learn(rows, net.targets, net.scales_targets, given, total)
    if net.n_features is None:
        net.build(rows.X.shape[1] if rows.encoding is None else rows.encoding)
    if rows.columns is not None and net.feature_names is None:
        net.feature_names = rows.columns
    if rows.classes is not None and net.classes is None:
        net.classes = rows.classes
    if learned is not None:
        net.standardization = learned


class Measures:
    """What is recorded after each epoch beside the training loss.

    Parameters
    ----------
    net : Sequential
        Whose outputs are judged.
    scores : list of metrics.Metric
        To be computed.
    held_out : Data or None
        Validation data; their loss is recorded, too.
    rows : Data
        What metrics are computed on where there are no validation data.
    threads : int
        Threads that may take part.
    """

    def __init__(self, net, scores, held_out, rows, threads):
        self.net, self.scores, self.held_out, self.threads = net, scores, held_out, threads
        self.rows, self.plan = rows if held_out is None else held_out, None
        if scores:
            kind = backends.loss(net.loss).targets
            metrics.check(scores, self.rows.targets, kind, net.outputs, self.rows.counted_weights)
        directions = {"loss": False} | ({} if held_out is None else {"validation_loss": False})
        self.directions = directions | {score.name: score.greater for score in scores}

    def __bool__(self):
        return bool(self.scores) or self.held_out is not None

    def record(self, history):
        """Add to a history what stands now."""
        rows, written, found = self.rows, history.buffers, {}
        if self.scores:
            outputs = plans.host_outputs(self.net, rows, self.threads)
            found = metrics.computed(self.scores, outputs, rows.targets, rows.counted_weights)
        if self.held_out is not None:
            self.plan = self.plan or plans.loss_plan(self.net, self.held_out, self.threads)
            written.validation.append(plans.loss_of(self.plan))
        for name, value in found.items():
            written.metrics.setdefault(name, []).append(value)


class Mark(NamedTuple):
    """Where a chunk begins: counters of the state, then of the history."""

    step: int
    epoch: int
    position: int
    steps: int
    epochs: int
    seconds: float


class Run:
    """One fit, as callbacks see it.

    Parameters
    ----------
    net : Sequential
        Its state is updated.
    plan : Plan
        A run of TRAIN over its state, rows bound.
    steps : Steps
        How steps are made.
    history : History
        Receives the record.
    hooks : list of Callback
        In the order in which they are called.
    measures : Measures or None
        What is recorded after each epoch.

    Attributes
    ----------
    stopped : bool
        Whether the fit is to end.
    """

    def __init__(self, net, plan, steps, history, hooks=(), measures=None):
        self._net, self.plan, self.steps, self._history = net, plan, steps, history
        self.hooks, self.measures, self.moments = hooks, measures, None
        self.state, self.rows, self.batch = net.state, plan["ROWS"], plan["BATCH"]
        self.rate_scale, self.stopped, self.diverged = 1.0, False, False
        self.by_epoch = bool(measures) or any(callbacks.overrides(hook, "epoch") for hook in hooks)
        self.rates, self.seconds = np.zeros(0), 0.0
        self.state.begin_epoch()
        self._bind_rule()
        self._mark()
        self._compile()

    @property
    def net(self):
        """The net."""
        return self._net

    @property
    def history(self):
        """The record."""
        return self._history

    @property
    def epochs(self):
        """Epochs asked for."""
        return self.steps.epochs

    @property
    def rate_scale(self):
        """Factor on the learning rate from now on."""
        return self._rate_scale

    @rate_scale.setter
    def rate_scale(self, factor):
        self._rate_scale = validation.number("rate_scale", factor, low=0.0)

    @property
    def steps_per_epoch(self):
        """Steps that take all rows once."""
        return -(-self.rows // self.batch)

    def stop(self):
        """End the fit after the hooks of this moment."""
        self.stopped = True

    def call(self, hook):
        """Call one hook of every callback."""
        for callback in self.hooks:
            getattr(callback, hook)(self)

    def train(self, bar):
        """Train to the end."""
        history = self.history
        bar.start(*self._progress())
        try:
            while not self.stopped and history.epochs < self.epochs:
                finished = self._chunk()
                if self.hooks or finished and self.by_epoch:
                    self.plan.to_host()
                self.call("chunk")
                if finished and self.by_epoch:
                    if self.measures:
                        self.measures.record(history)
                    self.call("epoch")
                bar.update(*self._progress(), history)
        finally:
            self._record()  # Ctrl-C may have come after the steps of a chunk and before they were counted
            self.plan.to_host()
        self.call("end")

    def _compile(self):
        """Compile, or load what was compiled, outside the measured time."""
        self.step_seconds = plans.guessed_seconds(self.plan, self.plan["BATCH"])
        self.history.device = self.plan.device
        self.plan.bind_steps(self.rates, self.history.buffers.loss, self.history.epochs)
        self.plan.execute()

    def _bind_rule(self):
        """Name the update rule, again where a callback has let the optimizer start afresh."""
        state = self.state
        if state.rule is not self.steps.rule or state.moments is not self.moments:
            self.steps.bind(self.plan)
            self.moments = state.moments

    def _chunk(self):
        """Run a chunk of steps; gives the number of epochs that they completed."""
        self._bind_rule()
        mark = self._mark()
        done = mark.epochs * self.steps_per_epoch + mark.position
        end = (mark.epochs + 1 if self.by_epoch else self.epochs) * self.steps_per_epoch
        steps = min(self._chunk_steps(), end - done)
        self.rates = self.rate_scale * self.steps.rates((done + np.arange(steps)) / self.steps_per_epoch)
        self.plan.bind_steps(self.rates, self.history.buffers.loss, mark.epochs)
        self._execute()
        return self.history.epochs - mark.epochs

    def _chunk_steps(self):
        """Steps between two looks at Python."""
        return max(1, int(self.chunk_seconds / self.step_seconds))

    def _progress(self):
        """Epochs done, with the share of the one that has begun, and samples seen."""
        epochs, position = self.history.epochs, self.state.position
        return epochs + position / self.steps_per_epoch, epochs * self.rows + position * self.batch

    def _mark(self):
        """Remember where a chunk begins."""
        state, history, start = self.state, self.history, time.perf_counter()
        self.plan.remember()
        copied = time.perf_counter() - start
        self.chunk_seconds = REMEMBERED * copied if copied > SLOW_COPY else CHUNK_SECONDS
        counters = state.step, state.epoch, state.position, history.steps, history.epochs, history.seconds
        self.mark, self.seconds = Mark(*counters), 0.0
        return self.mark

    def _execute(self):
        """Make the steps that are bound."""
        plan, history = self.plan, self.history
        execute = plan.execute_interruptibly if self.step_seconds > plans.LONG_STEP_SECONDS else plan.execute
        before, start = history.steps, time.perf_counter()
        try:
            execute()
        finally:
            seconds = time.perf_counter() - start
            self.seconds += seconds
            self._record()
        made = history.steps - before
        if made:
            self.step_seconds = max(seconds / made, 1e-9, self.step_seconds / 8)
        if self.diverged:
            finite = history.loss[np.isfinite(history.loss)]
            raise DivergedError(history.epochs, float(finite[-1]) if finite.size else None, history)

    def _record(self):
        """Bring the history to where the state stands; after divergence, the state to the mark. Twice is once."""
        state, history, mark = self.state, self.history, self.mark
        if not self.diverged:
            made, finished = state.step - mark.step, state.epoch - mark.epoch
            history.steps, history.seconds = mark.steps + made, mark.seconds + self.seconds
            if mark.epochs + finished != history.epochs:
                self._record_epochs(finished)
            history.epochs = mark.epochs + finished
            self.diverged = self.plan.diverged
        if self.diverged:
            self.plan.restore()
            state.forget()
            state.epoch = mark.epoch

    def _record_epochs(self, finished):
        """Rates and times of the epochs that ended in a chunk."""
        mark, written = self.mark, self.history.buffers
        made = finished * self.steps_per_epoch + self.state.position - mark.position  # those without weight, too
        ends = np.arange(1, finished + 1) * self.steps_per_epoch - mark.position
        these = slice(mark.epochs, mark.epochs + finished)
        written.rates[these] = self.rates[ends - 1]
        written.elapsed[these] = mark.seconds + self.seconds * ends / made


class Stream(Run):
    """A fit on batches that come one by one: each is bound and makes a step, and the end of a pass ends the epoch.

    Parameters
    ----------
    net, plan, steps, history, hooks, measures
        As for `Run`; a larger plan takes the place of this one when a larger batch comes.
    batches : data.Batches
        Gives passes.
    """

    def __init__(self, net, plan, steps, history, hooks, measures, batches):
        self.batches, self.unfinished, self.samples = batches, None, 0
        self.on_gpu = arrays.on_gpu(batches.first.X)  # later batches go to the device of the first
        plans.bind_batch(net, plan, batches.first, 0)  # what is compiled then has room for it
        super().__init__(net, plan, steps, history, hooks, measures)
        self.rows = None

    def _chunk(self):
        self._bind_rule()
        self._mark()
        end = time.perf_counter() + self.chunk_seconds
        if self.unfinished is None:
            length = len(self.batches) or 1
            self.scheduled = self.steps.rates((self.history.epochs * length + np.arange(length)) / length)
            self.unfinished, self.place, self.seen = iter(self.batches), 0, 0
        for rows in self.unfinished:
            self._step(rows)
            self.place += 1
            if time.perf_counter() > end:
                return 0
        self._end_epoch()
        return 1

    def _progress(self):
        length = len(self.batches)
        begun = min(self.place / length, 1.0) if self.unfinished is not None and length else 0.0
        return self.history.epochs + begun, self.samples

    def _step(self, rows):
        count = len(rows)
        if count > self.batch:
            self._grow(count)
        plans.bind_batch(self.net, self.plan, rows, self.seen)
        place = min(self.place, len(self.scheduled) - 1)
        self.rates = self.rate_scale * self.scheduled[place : place + 1]
        self.plan.bind_steps(self.rates)
        self._execute()
        self.seen, self.samples = self.seen + count, self.samples + count

    def _grow(self, count):
        """Go on with a plan for larger batches."""
        self.plan.to_host()
        self.plan = plans.make(self.net, backends.TRAIN, count, self.steps.threads, self.on_gpu)
        self.steps.bind(self.plan)
        self.plan.remember()
        self.batch, self.history.device = count, self.plan.device

    def _end_epoch(self):
        self.unfinished, loss = None, self.state.mean_loss
        if np.isnan(loss):  # a loss that is not finite has ended the fit before
            given = described(f"none in epoch {self.history.epochs}")
            raise must_be("X", "an iterable that gives batches, not all of weight 0, in every epoch", given)
        self.history.buffers.loss[self.history.epochs] = loss
        self.state.end_epoch()
        self._record()

    def _record_epochs(self, finished):
        at, written = self.mark.epochs, self.history.buffers
        written.rates[at], written.elapsed[at] = self.rates[0], self.history.seconds
