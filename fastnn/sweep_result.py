"""What a sweep found: a trial for each candidate, and the best nets."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import metrics, plot, validation
from .candidates import Candidate
from .errors import described, must_be
from .schedules import Constant

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from .models import Sequential


class Trial:
    """One candidate, and how it did.

    Parameters
    ----------
    candidate : Candidate
        What was tried.
    folds : int
        How often it is trained.

    Attributes
    ----------
    values : dict
        Its values, by name.
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
    judged : bool
        Whether it was trained to the end of a round.
    rounds : int
        Rounds that it took part in.
    nets : list of Sequential
        One for each fold, for the best candidates; of the others, empty.
    """

    def __init__(self, candidate: Candidate, folds: int) -> None:
        self.candidate, self.values = candidate, dict(candidate.values)
        self.tasks: list[Any] = [None] * folds
        self.score, self.scores = math.nan, {}
        self.losses: list[NDArray[np.float64]] = []
        self.validation_losses: list[NDArray[np.float64]] = []
        self.best_epochs: list[int | None] = []
        self.epochs = self.rounds = 0
        self.diverged = self.judged = False
        self.nets: list[Sequential] = []
        self.outputs: list[Any] = []

    @property
    def done(self) -> bool:
        """Whether its nets have done what they were to do next."""
        return all(task is not None and task.done for task in self.tasks)

    @property
    def ended(self) -> bool:
        """Whether its nets have nothing more to do."""
        return all(task is not None and (task.ended or task.diverged) for task in self.tasks)

    def record(self, values: list[dict[str, float]], names: list[str], score: str) -> None:
        """Take down how its nets did at the end of a round; `values`: of each fold."""
        self.judged, self.rounds = True, self.rounds + 1
        self.epochs = max(task.epochs for task in self.tasks)
        self.diverged = any(task.diverged for task in self.tasks)
        self.losses = [task.losses[: task.epochs].copy() for task in self.tasks]
        self.validation_losses = [
            np.zeros(0) if task.validation is None else task.validation[: task.epochs].copy() for task in self.tasks
        ]
        self.best_epochs = [task.best_epoch for task in self.tasks]
        self.scores = {
            name: np.array([found.get(name, math.nan) for found in values]) for name in dict.fromkeys(["loss", *names])
        }
        self.score = float(np.mean(self.scores[score]))

    def release(self) -> None:
        """Let go of its nets."""
        self.tasks = [None] * len(self.tasks)

    @property
    def learning_rate(self) -> float:
        """The rate of its optimizer, NaN where that is a schedule."""
        schedule = self.candidate.optimizer.learning_rate
        return schedule.rate if type(schedule) is Constant else math.nan

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
    held : list of (array, array or None)
        Targets and weights of the held-out rows of each fold.

    Attributes
    ----------
    trials : list of Trial
        All candidates, in the order in which they were tried.
    score : str
        Name of the score.
    seconds : float
        Time of the whole sweep, without the refit.
    stopped : bool
        Whether a callback ended it.
    """

    def __init__(self, score: Any, greater: bool, kind: str, held: list[Any]) -> None:
        self._given_score, self._greater, self._kind, self._held = score, greater, kind, held
        self.score: str = score if isinstance(score, str) else metrics.resolve([score], kind)[0].name
        self.trials: list[Trial] = []
        self.seconds, self.stopped = 0.0, False
        self._net: Sequential | None = None

    def _order(self, trial):
        """Smaller is better: those of later rounds come before the others, and those without a score last."""
        known = math.isfinite(trial.score)
        return not known, -trial.rounds, -trial.score if self._greater else trial.score

    def best_of(self, trials: list[Trial], count: int) -> list[Trial]:
        """The best of some trials that have a score.

        Parameters
        ----------
        trials : list of Trial
            Of this sweep.
        count : int
            At most so many.

        Returns
        -------
        list of Trial
            The best first; of equal ones, the first that was tried.
        """
        known = [trial for trial in trials if math.isfinite(trial.score)]
        return sorted(known, key=self._order)[:count]

    @property
    def best(self) -> Trial:
        """The best candidate.

        Raises
        ------
        ValueError
            Where no candidate has a score: all diverged, or none was trained to its end.
        """
        found = self.best_of(self.trials, 1)
        if not found:
            given = described(f"{len(self.trials)} that diverged or were not trained to the end")
            raise must_be("trials", "at least one candidate with a score", given)
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

    @property
    def headline(self) -> str:
        """The best score so far."""
        found = self.best_of(self.trials, 1)
        return f"best {self.score} {found[0].score:.4g}" if found else ""

    def add(self, trials: list[Trial]) -> None:
        """More candidates."""
        self.trials += trials

    def finish(self, nets: Any) -> None:
        """Make nets of the tasks that are kept; `nets` gives those of a trial."""
        for trial in self.trials:
            if trial.done and trial.judged and not trial.diverged:
                trial.nets, trial.outputs = nets(trial), [task.out for task in trial.tasks]
            trial.release()

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
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe() needs pandas: pip install 'fastnn[dataframe]'") from None
        order = sorted(range(len(self.trials)), key=lambda i: (self._order(self.trials[i]), i))
        return pandas.DataFrame([self._row(self.trials[i]) for i in order], index=order)

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

    def ensemble(self, size: int = 8) -> Any:
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
        from .ensembles import Ensemble

        size = validation.size("size", size)
        kept = self.best_of([trial for trial in self.trials if trial.nets], len(self.trials))
        if not kept:
            raise must_be("keep", "at least 1 for an ensemble", described("a result without nets"))
        counts = self._chosen(kept, size)
        members = [(net, count) for trial, count in zip(kept, counts, strict=True) if count for net in trial.nets]
        nets, weights = zip(*members, strict=True)
        return Ensemble(list(nets), weights=list(weights))

    def _chosen(self, kept, size):
        """How often each candidate is chosen."""
        sums = [np.zeros(outputs.shape) for outputs in kept[0].outputs]
        counts = np.zeros(len(kept), np.int64)
        for step in range(1, size + 1):
            values = [
                self._score_of([(total + more) / step for total, more in zip(sums, trial.outputs, strict=True)])
                for trial in kept
            ]
            values = np.where(np.isfinite(values), values, -np.inf if self._greater else np.inf)
            best = int(np.argmax(values) if self._greater else np.argmin(values))
            counts[best] += 1
            for total, more in zip(sums, kept[best].outputs, strict=True):
                total += more
        return counts

    def _score_of(self, outputs):
        """The mean over the folds of the score of outputs."""
        if self._given_score == "loss":
            return self._loss_of(outputs)
        metric = metrics.resolve([self._given_score], self._kind)
        return np.mean(
            [
                metrics.computed(metric, one.astype(np.float32), *held)[metric[0].name]
                for one, held in zip(outputs, self._held, strict=True)
            ]
        )

    def __repr__(self) -> str:
        diverged = sum(trial.diverged for trial in self.trials)
        text = f"SweepResult({len(self.trials)} candidates, {diverged} diverged"
        return f"{text}, {self.headline}, seconds={self.seconds:.3g})"
