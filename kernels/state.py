"""What training changes: parameters, optimizer state, counters. A net owns it; runs borrow it and write to it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formulas import Rule
from .tables import State, Sums


class TrainingState:
    """Parameters, and where their training stands.

    Parameters
    ----------
    parameters : array (p,), float32 or float64
        Flat; not copied.
    seed : int
        Of shuffling and dropout.

    Attributes
    ----------
    table : array (State.SIZE,), int64
        Seed and counters.
    sums : array (Sums.SIZE,), float64
        Loss and weight of the steps of the epoch that has begun.
    rule : Rule or None
        Whose moments are kept.
    moments : tuple of array (p,)
        The states of the rule, in its order.
    """

    def __init__(self, parameters: NDArray[Any], seed: int) -> None:
        self.parameters = parameters
        self.table, self.sums = np.zeros(State.SIZE, np.int64), np.zeros(Sums.SIZE)
        self.table[State.SEED] = seed
        self.rule: Rule | None = None
        self.moments: tuple[NDArray[Any], ...] = ()
        self._is_own = False  # known to be

    @property
    def step(self) -> int:
        """Updates since the optimizer started."""
        return self.table.item(State.STEP)

    @step.setter
    def step(self, value: int) -> None:
        self.table[State.STEP] = value

    @property
    def epoch(self) -> int:
        """Epochs since the parameters were drawn: the shuffle goes on from fit to fit."""
        return self.table.item(State.EPOCH)

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.table[State.EPOCH] = value

    @property
    def position(self) -> int:
        """Steps of the epoch that has begun."""
        return self.table.item(State.POSITION)

    def begin_epoch(self) -> None:
        """Leave an epoch that was broken off: the next step is the first of an epoch."""
        if self.table.item(State.POSITION):  # else there are no sums; these first, for Ctrl-C may come in between
            self.sums[:] = 0.0
            self.table[State.POSITION] = 0

    @property
    def mean_loss(self) -> float:
        """Mean loss of the steps of the epoch that has begun, NaN before the first."""
        weight = self.sums.item(Sums.WEIGHT)
        return self.sums.item(Sums.LOSS) / weight if weight else float("nan")

    def count(self, loss: float, weight: float, ends: bool) -> float:
        """Count a step in the epoch that has begun; gives the mean loss of its steps, NaN where none has weight.

        Whoever makes the update counts it.

        Parameters
        ----------
        loss : float
            Of the step.
        weight : float
            Of its rows; its loss counts by it.
        ends : bool
            Whether the epoch ends with it.

        Returns
        -------
        float
            As `mean_loss`.
        """
        table, (total, mass) = self.table, self.sums.tolist()
        if weight > 0:
            total, mass = total + loss * weight, mass + weight
        if ends:
            self.end_epoch()
        else:
            table[State.POSITION] = table.item(State.POSITION) + 1  # by `item`: += on an element takes twice as long
            self.sums[Sums.LOSS], self.sums[Sums.WEIGHT] = total, mass
        return total / mass if mass else float("nan")

    def end_epoch(self) -> None:
        """Count an epoch whose end nobody but the caller knows: that of a stream of batches."""
        self.epoch += 1
        self.begin_epoch()

    def keep(self, rule: Rule) -> None:
        """Keep moments for `rule`; they start at zero where it was another, or none."""
        if self.rule is None or self.rule.name != rule.name:
            self.forget()
            self.rule, self.moments = rule, tuple(np.zeros_like(self.parameters) for _ in rule.states)

    def forget(self) -> None:
        """Let the optimizer start afresh."""
        self.rule, self.moments, self.step = None, (), 0

    def copy_from(self, other: "TrainingState") -> None:
        """Go on where another state of the same program stands."""
        self.parameters[...], self.table[...], self.sums[...] = other.parameters, other.table, other.sums
        self.rule, self.moments = other.rule, tuple(moment.copy() for moment in other.moments)

    @property
    def is_own(self) -> bool:
        """Whether it stands in memory of its own, in which nobody else writes; arrays that come later are made here."""
        if not self._is_own:
            arrays = self.parameters, *self.moments
            self._is_own = all(array.flags.owndata and array.flags.writeable for array in arrays)
        return self._is_own

    def own(self) -> bool:
        """Copy what stands in memory of others, as after unpickling from a shared buffer; gives whether anything did.

        A run needs it to have been called: it writes to these arrays.
        """
        if self.is_own:
            return False
        self.parameters, *moments = (array.copy() for array in (self.parameters, *self.moments))
        self.moments = tuple(moments)
        return True

    def __getstate__(self) -> dict[str, Any]:
        # a rule is known by its name
        return vars(self) | {"rule": None if self.rule is None else self.rule.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from .formulas import RULES, named

        vars(self).update(state, _is_own=False)
        # memory of others is only read until `own`, and read as what it is: no memory map, no odd address
        self.parameters, *moments = (
            np.require(array, requirements="CAE") for array in (self.parameters, *self.moments)
        )
        self.moments, self.table, self.sums = tuple(moments), self.table.copy(), self.sums.copy()
        if self.rule is not None:
            self.rule = named(RULES, self.rule)
