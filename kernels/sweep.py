"""What a sweep does with one net: the same on a CPU, where threads take nets, and on a GPU, where blocks do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .annotations import Floats
from .formulas import Rule
from .plan import Plan, write_settings
from .state import TrainingState


@dataclass(eq=False)
class Task:
    """One net of a sweep: what it is to do next, and what became of it.

    Parameters
    ----------
    plan : Plan
        A run of TRAIN with its rows bound, for one thread; shared with other nets of the same program.
    state : TrainingState
        Of the net alone.
    losses : array (epochs,), float64
        Receives the mean loss of each epoch.
    loss_plan, output_plan : Plan or None
        Runs of EVALUATE and of PREDICT with the held-out rows bound.
    out : array (held out, n_out) or None
        Receives the outputs for the held-out rows.
    validation : array (epochs,), float64, or None
        Receives the loss of the held-out rows after each epoch.
    patience : int
        Epochs without improvement after which it ends; 0 for all epochs.
    min_delta : float
        What an improvement is more than.
    restores_best : bool
        Whether the weights of its best epoch are put back at its end.

    Attributes
    ----------
    epochs : int
        Epochs that are done.
    done : bool
        Whether it has done what it was to do next.
    ended : bool
        Whether it has done its last epoch, or has stopped early.
    diverged : bool
        Whether its loss or a parameter is not finite.
    best_epoch : int or None
        The best one so far, where it has a patience.
    best, wait : float, int
        The best loss so far, and epochs since then.
    best_parameters : array (p,) or None
        Those of the best epoch.
    validation_loss : float
        Of the held-out rows, NaN where there are none, and after divergence.
    """

    plan: Plan
    state: TrainingState
    losses: Floats
    loss_plan: Plan | None = None
    output_plan: Plan | None = None
    out: Any = None
    validation: Any = None
    patience: int = 0
    min_delta: float = 0.0
    restores_best: bool = False
    epochs: int = 0
    done: bool = False
    ended: bool = False
    diverged: bool = False
    best_epoch: int | None = None
    validation_loss: float = float("nan")
    best: float = float("inf")
    wait: int = 0
    best_parameters: Any = None
    restored: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its own arrays."""
        arrays = 1 + len(self.state.moments) + self.restores_best
        return arrays * self.state.parameters.nbytes + (0 if self.out is None else self.out.nbytes)

    def bind_rule(self, rule: Rule, settings: Mapping[str, float], *more: Any) -> None:
        """Name the update rule and its numbers, as `Plan.bind_rule` takes them."""
        self.state.keep(rule)
        self.rule, self.settings, self.reals = rule, (settings, *more), self.plan.reals.copy()
        self.clips = write_settings(self.reals, rule, *self.settings)

    def bind_epochs(self, epochs: int, rates: Floats, last: bool) -> None:
        """Name what it is to do next.

        Parameters
        ----------
        epochs : int
            More epochs.
        rates : array, float64
            The learning rate of each step, or one for all.
        last : bool
            Whether it ends with them.
        """
        self.epochs_left, self.rates, self.last = epochs, rates, last
        if self.restores_best and self.best_parameters is None:
            self.best_parameters = np.empty_like(self.state.parameters)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that take all rows once."""
        return -(-self.plan["ROWS"] // self.plan["BATCH"])

    def improves(self, value: float, epoch: int) -> bool:
        """Whether the loss of an epoch is better than the best so far; it is then the best."""
        if value < self.best - self.min_delta:
            self.best, self.best_epoch, self.wait = value, epoch, 0
            return True
        self.wait += 1
        return False
