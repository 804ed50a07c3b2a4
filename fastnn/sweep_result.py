"""What a sweep found: a trial for each candidate, and the best nets."""

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import ensembles, metrics, plot, validation
from .candidates import Candidate
from .errors import described, must_be
from .history import data_frame
from .schedules import Constant

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from .models import Sequential


class Trial:
    """One candidate, and how it did.

    Parameters
    ----------
    number : int
        Place among the candidates, as they were tried.
    candidate : Candidate
        What was tried.

    Attributes
    ----------
    values : dict
        Its values, by name.
    learning_rate : float
        That of its optimizer; NaN where it is a schedule.
    score : float
        Mean over the folds; NaN where it diverged or was not judged.
    scores : dict
        From "loss", the loss of the held-out rows, and from the name of the score and of each metric to an array
        (folds,), float64.
    losses : list of array (epochs,), float64
        Mean training loss of each epoch, for each fold.
    validation_losses : list of array (epochs,), float64
        Loss of the held-out rows after each epoch, for each fold; empty without early stopping by it.
    best_epochs : list of int or None
        Of each fold, the epoch that early stopping found best.
    epochs : int
        Epochs that were done, the most of a fold.
    diverged : bool
        Whether the loss or a parameter was not finite in some fold.
    rounds : int
        Rounds of a halving that it was trained in to the end, 1 without halving; 0 where the sweep was ended before.
    nets : list of Sequential
        One for each fold, for the best candidates; of the others, empty.
    outputs : list of array (held out, n_out)
        Those of its nets for the held-out rows.
    """

    def __init__(self, number: int, candidate: Candidate) -> None:
        self.number, self.values = number, dict(candidate.values)
        self.learning_rate = _rate(candidate.steps.optimizer.learning_rate)
        self.score, self.scores = math.nan, {}
        self.losses: list[NDArray[np.float64]] = []
        self.validation_losses: list[NDArray[np.float64]] = []
        self.best_epochs: list[int | None] = []
        self.epochs = self.rounds = 0
        self.diverged = False
        self.nets: list[Sequential] = []
        self.outputs: list[Any] = []

    def value(self, name: str) -> Any:
        """One of its values, or its "learning_rate".

        Parameters
        ----------
        name : str
            As the sweep was given it.

        Returns
        -------
        object
            The value.
        """
        if name not in self.values and name == "learning_rate":
            return self.learning_rate
        validation.choice("by", name, [*self.values, "learning_rate"])
        return self.values[name]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"Trial({shown}; score={self.score:.6g}, epochs={self.epochs}{', diverged' if self.diverged else ''})"


class Held(NamedTuple):
    """What held-out rows are judged by.

    Parameters
    ----------
    targets : array
        As the loss takes them.
    labels : bool
        Whether they are class indices.
    counted_weights : array or None
        Of the rows.
    """

    targets: Any
    labels: bool
    counted_weights: Any


class SweepResult:
    """What a sweep found.

    Parameters
    ----------
    score : str or callable
        What candidates were judged by.
    greater : bool
        Whether a greater score is better.
    kind : str
        Of the targets.
    held : list of Held
        The held-out rows of each fold.

    Attributes
    ----------
    trials : list of Trial
        All candidates, in the order in which they were tried.
    score : str
        Name of the score.
    greater : bool
        Whether a greater one is better.
    seconds : float
        Time of the whole sweep, without the refit.
    stopped : bool
        Whether a callback ended it.
    """

    def __init__(self, score: Any, greater: bool, kind: str, held: list[Any]) -> None:
        self._given_score, self.greater, self._kind, self._held = score, greater, kind, held
        self.score: str = score if isinstance(score, str) else metrics.resolve([score], kind)[0].name
        self.trials: list[Trial] = []
        self.seconds, self.stopped = 0.0, False
        self._net: Sequential | None = None

    @property
    def best(self) -> Trial:
        """The best candidate.

        Raises
        ------
        ValueError
            Where no candidate has a score: all diverged, or none was trained to its end.
        """
        found = ranked(self.trials, self.greater)
        if not found:
            given = described(f"{len(self.trials)} that diverged, have a score of NaN or were not trained to the end")
            raise must_be("result", "one of a sweep in which a candidate has a score", given)
        return found[0]

    @property
    def net(self) -> "Sequential":
        """The net of the best candidate, trained on all rows where `refit` was asked for; the same object each time."""
        if self._net is None:
            if not self.best.nets:
                raise must_be("keep", "at least 1 for a result with a net", described("a result without one"))
            self._net = self.best.nets[0]
        return self._net

    @net.setter
    def net(self, net: "Sequential") -> None:
        self._net = net

    def to_dataframe(self) -> "pandas.DataFrame":
        """All candidates as a table, the best first (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            A row for each candidate: its values, learning_rate, the score and the metrics (mean and, with folds, std),
            validation_loss, loss (of the last epoch, mean over folds), epochs, rounds and diverged. The index counts
            the candidates as they were tried.

        Raises
        ------
        ImportError
            Without pandas.
        """
        known = ranked(self.trials, self.greater)
        judged = {trial.number for trial in known}
        order = known + [trial for trial in self.trials if trial.number not in judged]
        rows = [self._row(trial) for trial in order]
        table = data_frame({name: [row.get(name) for row in rows] for name in dict.fromkeys(chain(*rows))})
        table.index = [trial.number for trial in order]
        return table

    def _row(self, trial):
        row = {**trial.values}
        if "learning_rate" not in row and "optimizer" in row:
            row["learning_rate"] = trial.learning_rate
        names = dict.fromkeys([self.score, *(name for name in trial.scores)])
        for name in names:
            values = trial.scores.get(name, np.array([math.nan]))
            shown = "validation_loss" if name == "loss" else name
            row[shown] = float(values.mean())
            if len(self._held) > 1:
                row[f"{shown}_std"] = float(values.std())
        last = [losses[-1] for losses in trial.losses if len(losses)]
        row["loss"] = float(np.mean(last)) if last else math.nan
        return row | {"epochs": trial.epochs, "rounds": trial.rounds, "diverged": trial.diverged}

    def plot(self, by: str | None = None, ax: "Axes | None" = None, log: bool = True) -> "Axes":
        """The training loss of every net by epoch, in a colour for each value of one name (extra `plot`).

        Parameters
        ----------
        by : str, optional
            Name of a value, or "learning_rate". Default: the learning rate where it differs, else the first name whose
            values differ.
        ax : matplotlib Axes, optional
            Receives the curves; by default a new figure is made.
        log : bool
            Logarithmic losses, where all are positive.

        Returns
        -------
        matplotlib Axes
            With the curves; those of nets that diverged end in a cross.
        """
        if by is None:
            names = ["learning_rate", *dict.fromkeys(name for trial in self.trials for name in trial.values)]
            by = next((n for n in names if len({repr(t.value(n)) for t in self.trials}) > 1), "learning_rate")
        return plot.sweep(self, by, ax, log)

    def ensemble(self, size: int = 8) -> ensembles.Ensemble:
        """An average of good nets, chosen one by one by the score of the average on the held-out rows.

        Each step adds the candidate with which the average scores best, one that is in it already, too, whose weight
        then grows (Caruana, Niculescu-Mizil, Crew and Ksikes 2004). Choice is among the candidates whose nets are kept.

        Parameters
        ----------
        size : int
            Steps.

        Returns
        -------
        Ensemble
            With the nets of all folds of each candidate.

        Raises
        ------
        ValueError
            Where no nets are kept.
        """
        size = validation.size("size", size)
        kept = ranked([trial for trial in self.trials if trial.nets], self.greater)
        if not kept:
            raise must_be("keep", "at least 1 for an ensemble", described("a result without nets"))
        counts = self._chosen(kept, size)
        members = [(net, count) for trial, count in zip(kept, counts, strict=True) if count for net in trial.nets]
        nets, weights = zip(*members, strict=True)
        return ensembles.Ensemble(nets, weights)

    def _chosen(self, kept, size):
        """How often each candidate is chosen."""
        sums = [np.zeros(outputs.shape) for outputs in kept[0].outputs]
        counts, worst = np.zeros(len(kept), np.int64), -math.inf if self.greater else math.inf
        for step in range(1, size + 1):
            values = np.array([self._score_with(trial, sums, step) for trial in kept])
            values[np.isnan(values)] = worst
            best = int(values.argmax() if self.greater else values.argmin())
            counts[best] += 1
            for total, outputs in zip(sums, kept[best].outputs, strict=True):
                total += outputs
        return counts

    def _score_with(self, trial, sums, step):
        """The mean over the folds of the score of the average of `sums` of other candidates and of a further one."""
        values = []
        for i, (total, outputs) in enumerate(zip(sums, trial.outputs, strict=True)):
            average, held = ((total + outputs) / step).astype(outputs.dtype), self._held[i]
            if self._given_score == "loss":
                values.append(ensembles.loss_of_averages(trial.nets[i], held, average, 1))
            else:
                metric = metrics.resolve([self._given_score], self._kind)
                values += metrics.computed(metric, average, held.targets, held.counted_weights).values()
        return float(np.mean(values))

    def __repr__(self) -> str:
        diverged = sum(trial.diverged for trial in self.trials)
        text = f"SweepResult({len(self.trials)} candidates, {diverged} diverged"
        return f"{text}, {headline(self) or 'no score'}, seconds={self.seconds:.3g})"


def ranked(trials: list[Trial], greater: bool) -> list[Trial]:
    """Those of some trials that have a score, the best first: a later round comes before any score of an earlier one.

    Parameters
    ----------
    trials : list of Trial
        Of one sweep.
    greater : bool
        Whether a greater score is better.

    Returns
    -------
    list of Trial
        Of equal ones, first the one that was tried first.
    """
    known = [trial for trial in trials if math.isfinite(trial.score)]
    return sorted(known, key=lambda trial: (-trial.rounds, -trial.score if greater else trial.score))


def headline(result: SweepResult) -> str:
    """The best score so far, in words; empty where there is none.

    Parameters
    ----------
    result : SweepResult
        Whole or not.

    Returns
    -------
    str
        Name and value.
    """
    scores = [trial.score for trial in result.trials if math.isfinite(trial.score)]
    return f"best {result.score} {max(scores) if result.greater else min(scores):.4g}" if scores else ""


def _rate(schedule):
    return schedule.rate if type(schedule) is Constant else math.nan
