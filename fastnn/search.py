"""How a sweep is carried out: its candidates are trained on each fold, wave by wave and round by round, and judged.

candidates  values, and the nets that they make     `candidates.Space`, `proposals`
folds       rows to train on, rows held out         `folds.make`, `data.split`
tasks       a net for each candidate and fold       `Field.task`
waves       of tasks, which threads take            `Search._train`, `kernels/cpu/sweep.py`
rounds      of a halving: who goes on               `Search._rounds`
result      scores, curves, the nets that are kept  `sweep_result.SweepResult`
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import backends, data, fit, folds, metrics, plans, proposals, standardization, validation
from .callbacks import EarlyStopping
from .errors import described, must_be
from .layers import starting_values
from .schedules import Constant
from .sweep_result import Held, SweepResult, Trial, headline, ranked

# Nets that are made at a time, and the bytes of their arrays after which a wave ends. On a CPU 128, 256 and 512 nets
# took the same time within the noise of two cores; for a GPU, which trains some hundred at once, it is an estimate.
_WAVE_NETS, _WAVE_BYTES = {"cpu": 256, "cuda": 4096}, 1 << 28
_MOST_DRAWN = 1 << 25  # bytes of starting values that are kept for nets that begin alike (an estimate)
_MOST_PLANS = 64  # that are kept from wave to wave (an estimate)
_ROUNDS = 3  # of a halving, at most: what comes before says little
_SHARE = 0.2  # of the rows that is held out where nothing says how to judge


@dataclass(frozen=True)
class Judging:
    """How candidates are judged, as the user says it; the arguments of `Sweep.fit`."""

    cv: Any
    score: Any
    metrics: Any
    early_stopping: Any
    callbacks: Any

    def __post_init__(self):
        stops = self.early_stopping
        if not (stops is None or isinstance(stops, EarlyStopping)):
            raise must_be("early_stopping", "None or fastnn.EarlyStopping", stops, TypeError)
        if stops is not None and stops.monitor not in (None, "loss", "validation_loss"):
            raise must_be("early_stopping", "one that monitors 'loss' or 'validation_loss'", stops.monitor)
        if not isinstance(self.metrics, list | tuple):
            raise must_be("metrics", "a sequence of names or functions f(y_true, outputs)", self.metrics, TypeError)
        if not isinstance(self.callbacks, list | tuple) or not all(map(callable, self.callbacks)):
            raise must_be("callbacks", "a sequence of functions (result)", self.callbacks, TypeError)

    @property
    def by_epoch(self):
        """Whether the validation loss is wanted after each epoch."""
        return self.early_stopping is not None and self.early_stopping.monitor != "loss"


@dataclass(frozen=True)
class Asking:
    """What is tried, as the user says it; the arguments of `Sweep.fit`."""

    sample: Any
    sampler: Any
    halving: Any
    keep: Any
    seed: Any

    def __post_init__(self):
        validation.count("keep", self.keep)
        validation.count("seed", self.seed)
        if self.halving is not None:
            accepted = "None, or an int of at least 2 without a sampler"
            if validation.size("halving", self.halving) < 2 or self.sampler is not None:
                raise must_be("halving", accepted, self.halving)


@dataclass
class Fold:
    """Rows to train on and rows held out; `learned`: their Standardization, once a net needed it.

    `matrices`: the Fold that each of the Columns made of it.
    """

    trained: Any
    held: Any
    unweighted: Any
    learned: Any = None
    side_by_side: Any = None
    matrices: Any = field(default_factory=dict)

    def read_by(self, net):
        """The Fold as a net takes it: of the matrices that its Columns make of tables."""
        if net.columns is None:
            return self
        if net.columns not in self.matrices:
            unweighted, held = data.encoded(net, self.unweighted, self.held)
            if net.device == "cuda":
                unweighted = replace(unweighted, X=backends.uploaded(unweighted.X))
            weighted = replace(unweighted, weights=self.trained.weights)
            self.matrices[net.columns] = Fold(weighted, held, unweighted)
        return self.matrices[net.columns]


class Field:
    """The rows of a sweep, and the plans of nets on them.

    Parameters
    ----------
    given : fit.Rows
        Data as the user passes them.
    steps : fit.Steps
        Of all nets; the optimizer and the like are those of each candidate.
    judging : Judging
        How rows are held out.
    make : callable
        Gives a net of layers and a seed.
    net : Sequential
        One of the nets, not built.
    seed : int
        Chooses held-out rows.
    """

    def __init__(self, given, steps, judging, make, net, seed):
        self._make, self.given, self._steps, self._by_epoch = make, given, steps, judging.by_epoch
        self._stops = judging.early_stopping
        rows = data.check(net, given.X, given.y, given.sample_weight)
        if net.device == "cuda" and type(rows.X) is np.ndarray:
            rows = replace(rows, X=backends.uploaded(rows.X))  # once, for all nets
        self.rows, self.columns = rows, rows.columns
        self.features = rows.X.shape[1] if net.columns is None else None
        self._all = Fold(rows, None, rows)
        self.kind = backends.loss(net.loss).targets
        self.folds = [self._fold(net, *parts) for parts in self._parts(net, judging.cv, seed)]
        self._plans, self._drawn, self._built, self._rates = {}, {}, {}, {}

    def _parts(self, net, cv, seed):
        """Pairs (Data to train on, Data held out)."""
        given, rows = self.given, self.rows
        ways = {"cv": cv, "validation_data": given.validation_data, "validation_split": given.validation_split}
        named = [name for name, value in ways.items() if value is not None]
        if len(named) > 1:
            raise must_be(named[1], f"None where {named[0]} is given", ways[named[1]])
        if cv is not None:
            pairs = folds.make(cv, rows, given.X, given.y, self.kind, self._steps.shuffle, seed)
        elif given.validation_data is not None:
            return [(rows, fit.data_apart(net, given.validation_data, rows))]
        else:
            share = _SHARE if given.validation_split is None else given.validation_split
            pairs = [data.split(rows, share, self._steps.shuffle, seed)]
        return [(rows.chosen(trained), rows.chosen(held)) for trained, held in pairs]

    def _fold(self, net, trained, held):
        return Fold(trained.weighted_by_class(net, self.given.class_weight), held, trained)

    def __len__(self):
        """Rows of the smallest part to train on."""
        return min(len(fold.trained) for fold in self.folds)

    def net(self, candidate, fold):
        """A net of a candidate, built, with the standardisation of a fold (None: of all rows)."""
        part = (self._all if fold is None else self.folds[fold]).read_by(candidate.net)
        learned = part.unweighted.encoding
        net = self._make(candidate.net.layers, candidate.seed).build(self.features if learned is None else learned)
        if self.columns is not None:
            net.feature_names = self.columns
        net.classes = self.rows.classes
        if net.standardize:
            if part.learned is None:
                given = self.given.X, self.given.y
                part.learned = standardization.learn(part.unweighted, net.outputs, net.scales_targets, given)
            net.standardization = part.learned
        return net

    def task(self, candidate, fold, epochs):
        """What a thread needs to train a candidate on a fold."""
        net, plan, loss_plan, output_plan = self._plans_of(candidate, fold)
        held, stops = len(self.folds[fold].held), self._stops
        task = backends.SweepTask(
            plan,
            backends.TrainingState(self._starting_values(candidate, net, fold), candidate.seed),
            np.zeros(epochs),
            loss_plan,
            output_plan,
            out=np.empty((held, net.outputs), net.dtype),
            validation=np.zeros(epochs) if self._by_epoch else None,
        )
        if stops is not None:
            task.patience, task.min_delta, task.restores_best = stops.patience, stops.min_delta, stops.restore_best
        candidate.steps.bind(task)
        return task

    def _plans_of(self, candidate, fold):
        """(net, plan to train, plan for the loss, plan for outputs), shared by candidates that differ in numbers."""
        key = id(candidate.net), fold, candidate.steps.batch_size
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            part, net = self.folds[fold].read_by(candidate.net), self._net_of(candidate, fold)
            rows, batch = part.trained, candidate.steps.batch(len(part.trained))
            if batch == len(rows) and rows.rows is not None:  # each step takes all: a copy costs less
                part.side_by_side = rows = part.side_by_side or rows.copied()
            plan = plans.make(net, backends.TRAIN, batch, 1)
            plans.bind(net, plan, rows, self._steps.shuffle and batch < len(rows))
            output_plan = plans.make(net, backends.PREDICT, len(part.held), 1)
            output_plan.bind_data(part.held.X, rows=part.held.rows)
            output_plan.bind_output(np.empty((1, net.outputs), net.dtype))
            self._plans[key] = net, plan, plans.loss_plan(net, part.held, 1), output_plan
        return self._plans[key]

    def _net_of(self, candidate, fold):
        """A net with the program of a candidate on a fold."""
        key = id(candidate.net), fold if candidate.net.standardize or candidate.net.columns else 0
        if key not in self._built:
            if len(self._built) >= _MOST_PLANS:
                self._built.clear()
            self._built[key] = self.net(candidate, fold)
        return self._built[key]

    def trained_net(self, candidate, fold, state):
        """The net of a candidate on a fold, with the state of its task."""
        return self._make(candidate.net.layers, candidate.seed).take(self._net_of(candidate, fold), state)

    def _starting_values(self, candidate, net, fold):
        """The parameters that a net of a candidate begins with on a fold, in an array of its own."""
        key = id(candidate.net), candidate.seed, fold if net.columns else 0
        if key not in self._drawn:
            if len(self._drawn) * net.state.parameters.nbytes > _MOST_DRAWN:
                self._drawn.clear()
            self._drawn[key] = starting_values(net.bound_layers, net.program, candidate.seed, net.dtype)
        return self._drawn[key].copy()

    def rates(self, candidate, first, epochs, rows):
        """The learning rates of some epochs from `first` on, each once a step; one where it is always the same."""
        optimizer = candidate.steps.optimizer
        if type(optimizer.learning_rate) is Constant:
            return np.array([optimizer.learning_rate.rate])
        each = -(-rows // candidate.steps.batch(rows))
        key = id(optimizer), each, first, epochs
        if key not in self._rates:
            if len(self._rates) >= _MOST_PLANS:
                self._rates.clear()
            self._rates[key] = optimizer, candidate.steps.rates((first * each + np.arange(epochs * each)) / each)
        return self._rates[key][1]


class Search:
    """One sweep, while it is carried out.

    Parameters
    ----------
    space : Space
        What may be tried.
    make : callable
        Gives a net of layers and a seed.
    given : fit.Rows
        Data as the user passes them.
    steps : fit.Steps
        Epochs and threads.
    judging : Judging
        How candidates are judged.
    asking : Asking
        Which are tried, and kept.
    """

    def __init__(self, space, make, given, steps, judging, asking):
        self._steps, self._judging, self._asking, self._begin = steps, judging, asking, time.perf_counter()
        self._candidates, self._tasks, self._works, self._done, self._headline = [], {}, 0, 0, ""
        self._net = space.first().net
        self._field = field = Field(given, steps, judging, make, self._net, asking.seed)
        name = ("r2" if field.kind == "numbers" else "accuracy") if judging.score is None else judging.score
        own = [] if name == "loss" else [name]
        self._scores = metrics.resolve([*own, *_others(judging.metrics, own)], field.kind)
        greater = bool(own) and self._scores[0].greater
        if greater is None:
            raise must_be("score", "a function that says greater_is_better = True or False", judging.score)
        for fold in field.folds:
            metrics.check(self._scores, fold.held.targets, field.kind, self._net.outputs, fold.held.counted_weights)
        self._proposals = proposals.make(space, asking.sample, asking.sampler, greater, self._check, asking.seed)
        held = [Held(fold.held.targets, fold.held.labels, fold.held.counted_weights) for fold in field.folds]
        self.result = SweepResult(name, greater, field.kind, held)

    def _check(self, candidate):
        """Refuse a candidate that cannot be trained on these rows and compared with the others."""
        net = candidate.net
        for name in ("loss", "outputs"):
            one, other = getattr(net, name), getattr(self._net, name)
            if one != other:
                raise must_be(f"candidate {candidate.shown()}: {name}", f"{other!r}, as of another candidate", one)
        if (net.columns is None) != (self._net.columns is None):
            given = described("some with and some without")
            raise must_be(f"candidate {candidate.shown()}: layers", "all with fastnn.Columns, or none", given)
        rows = len(self._field)
        if candidate.steps.batch(rows) > rows:
            name = f"candidate {candidate.shown()}: batch_size"
            raise must_be(name, f"at most the {rows} rows to train on, or None", candidate.steps.batch_size)
        candidate.steps.rates(np.zeros(1))

    def run(self, bar):
        """Train and judge all candidates; what is known so far stands in `result` however it ends."""
        result = self.result
        try:
            for candidates in self._proposals:
                trials = [Trial(number, candidate) for number, candidate in enumerate(candidates, len(result.trials))]
                result.trials += trials
                self._candidates += candidates
                try:
                    self._rounds(trials, bar)
                finally:
                    self._proposals.tell(trials)
                if result.stopped:
                    break
        finally:
            result.seconds = time.perf_counter() - self._begin
            for number, tasks in self._tasks.items():
                trial = result.trials[number]
                if trial.rounds and not trial.diverged and _done(tasks):
                    trial.nets, trial.outputs = self._nets(number, tasks), [task.out for task in tasks]
            self._tasks.clear()

    def _rounds(self, trials, bar):
        """All rounds of some candidates."""
        factor, alive, goals = self._asking.halving, trials, [self._steps.epochs]
        while factor and len(goals) < _ROUNDS and goals[0] >= factor and len(trials) >= factor ** len(goals):
            goals.insert(0, -(-goals[0] // factor))
        for number, goal in enumerate(goals, 1):
            keep = self._asking.keep if number == len(goals) else max(1, len(alive) // factor)
            self._train(alive, goal, (number, keep), bar)
            if self.result.stopped:
                break
            alive = ranked(alive, self.result.greater)[:keep]

    def _train(self, trials, goal, place, bar):
        """Train candidates up to an epoch, judge them, and keep the best; `place`: (number of the round, how many)."""
        running, ahead = None, self._steps.threads > 1
        self._works += len(trials) * len(self._field.folds)
        try:
            for wave in self._waves(trials, goal):  # made while the one before it is trained
                if running is not None:
                    self._finish(running, bar)
                finished, running = running, self._started(wave)
                if finished is not None:
                    self._judge(finished[0], *place)
                if not ahead:
                    self._finish(running, bar)
                    finished, running = running, None
                    self._judge(finished[0], *place)
                if self.result.stopped:
                    break
            if running is not None:
                self._finish(running, bar)
        except BaseException:
            if running is not None:
                running[1].stop()
                running[1].finish()
                self._score([trial for trial in running[0] if _done(self._tasks[trial.number])])
            raise
        if running is not None:
            self._judge(running[0], *place)
        bar.update(self._done, self._works, self._headline)

    def _waves(self, trials, goal):
        """Lists of candidates, with tasks for what they are to do next."""
        wave, nets, size, epochs, folds = [], 0, 0, self._steps.epochs, self._field.folds
        most = _WAVE_NETS[self._net.device]
        for trial in trials:
            candidate = self._candidates[trial.number]
            if trial.number not in self._tasks:
                made = [self._field.task(candidate, fold, epochs) for fold in range(len(folds))]
                self._tasks[trial.number] = made
            for fold, task in zip(folds, self._tasks[trial.number], strict=True):
                more = 0 if task.ended else goal - task.epochs
                rates = self._field.rates(candidate, task.epochs, more, len(fold.trained))
                task.bind_epochs(more, rates, task.ended or goal == epochs)
                size += task.nbytes
            wave.append(trial)
            nets += len(folds)
            if nets >= most or size >= _WAVE_BYTES:
                yield wave
                wave, nets, size = [], 0, 0
        if wave:
            yield wave

    def _started(self, wave):
        tasks = [task for trial in wave for task in self._tasks[trial.number]]
        # what is at work at the same time was not made one after another: it shares no cache line
        apart = -(-len(tasks) // self._steps.threads)
        tasks = [tasks[i] for first in range(apart) for i in range(first, len(tasks), apart)]
        sweep = backends.make_sweep(self._net.device, tasks, self._steps.threads)
        sweep.start()
        return wave, sweep

    def _finish(self, running, bar):
        """Wait until a wave is trained."""
        wave, sweep = running
        while not sweep.wait():
            bar.update(self._done + sweep.done, self._works, self._headline)
        sweep.finish()
        sweep.check()
        self._done += len(wave) * len(self._field.folds)

    def _judge(self, wave, number, keep):
        """Score the candidates of a wave, and let go of all nets but those of the best `keep` of the round so far."""
        self._score(wave)
        self._headline = headline(self.result)
        judged = [self.result.trials[i] for i in self._tasks if self.result.trials[i].rounds == number]
        best = {trial.number for trial in ranked(judged, self.result.greater)[:keep]}
        for trial in judged:
            if trial.number not in best:
                del self._tasks[trial.number]
        for callback in self._judging.callbacks:
            if callback(self.result):
                self.result.stopped = True

    def _score(self, wave):
        """Record how candidates did in a round."""
        for trial in wave:
            tasks, values = self._tasks[trial.number], []
            for fold, task in zip(self._field.folds, tasks, strict=True):
                found = {"loss": task.validation_loss}
                if not task.diverged:
                    held = fold.held
                    found |= metrics.computed(self._scores, task.out, held.targets, held.counted_weights)
                values.append(found)
            names = ["loss", *(score.name for score in self._scores)]
            trial.scores = {name: np.array([found.get(name, np.nan) for found in values]) for name in names}
            trial.score, trial.rounds = float(np.mean(trial.scores[self.result.score])), trial.rounds + 1
            trial.epochs = max(task.epochs for task in tasks)
            trial.diverged = any(task.diverged for task in tasks)
            trial.losses = [task.losses[: task.epochs].copy() for task in tasks]
            if self._judging.by_epoch:
                trial.validation_losses = [task.validation[: task.epochs].copy() for task in tasks]
            trial.best_epochs = [task.best_epoch for task in tasks]

    def _nets(self, number, tasks):
        """The nets of a candidate, one for each fold."""
        candidate, field = self._candidates[number], self._field
        return [field.trained_net(candidate, fold, task.state) for fold, task in enumerate(tasks)]

    def refit(self, trial):
        """The net of a candidate, trained on all rows."""
        candidate, given, stops = self._candidates[trial.number], self._field.given, self._judging.early_stopping
        epochs = self._steps.epochs
        if stops is not None:
            best = [epoch + 1 if epoch is not None else epochs for epoch in trial.best_epochs]
            epochs = max(1, round(sum(best) / len(best)))
        net = self._field.net(candidate, None)
        net.fit(
            given.X,
            given.y,
            optimizer=candidate.steps.optimizer,
            epochs=epochs,
            batch_size=candidate.steps.batch_size,
            shuffle=self._steps.shuffle,
            sample_weight=given.sample_weight,
            class_weight=given.class_weight,
            l2=candidate.steps.l2,
            threads=self._steps.threads,
        )
        return net


def _done(tasks):
    """Whether nets have done what they were to do next."""
    return all(task.done for task in tasks)


def _others(wanted, own):
    """The metrics beside the score."""
    return [one for one in wanted if one not in own]
