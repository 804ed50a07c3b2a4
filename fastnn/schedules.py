"""Learning rates that change in the course of a fit; positions are counted in epochs, from 0 in each fit."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import must_be
from .validation import number, numbers_of, size


class Schedule:
    """A learning rate for each step. A schedule of your own overrides `rates`."""

    def rates(self, epochs: ArrayLike) -> NDArray[np.float64]:
        """Learning rates; those of this module change from epoch to epoch, WarmUp at every step.

        Parameters
        ----------
        epochs : array of float
            Places in this fit, in epochs: 2.5 is half-way through the third.

        Returns
        -------
        array of float64
            One rate for each.
        """
        return self._rates(np.floor(_places(epochs)))

    def __repr__(self) -> str:
        settings = (f"{k}={v if isinstance(v, Schedule) else f'{v:g}'}" for k, v in vars(self).items())
        return f"{type(self).__name__}({', '.join(settings)})"


class Constant(Schedule):
    """The same rate always.

    Parameters
    ----------
    rate : float
        The learning rate.
    """

    def __init__(self, rate: float) -> None:
        self.rate = number("rate", rate, low=0.0)

    def _rates(self, epochs):
        return np.full(len(epochs), self.rate)


class StepDecay(Schedule):
    """rate * factor^floor(epoch / every).

    Parameters
    ----------
    rate : float
        Rate at the start.
    every : int
        Epochs between two drops.
    factor : float
        What each drop multiplies the rate by.
    """

    def __init__(self, rate: float, every: int, factor: float) -> None:
        self.rate, self.every = number("rate", rate, low=0.0), size("every", every)
        self.factor = number("factor", factor, low=0.0)

    def _rates(self, epochs):
        return self.rate * self.factor ** (epochs // self.every)


class CosineDecay(Schedule):
    """From `rate` to `floor` along half a cosine, then `floor` (Loshchilov and Hutter 2017, without restarts).

    Parameters
    ----------
    rate : float
        Rate at the start.
    epochs : int
        Epochs until the floor.
    floor : float
        Rate at the end.
    """

    def __init__(self, rate: float, epochs: int, floor: float = 0.0) -> None:
        self.rate, self.epochs = number("rate", rate, low=0.0), size("epochs", epochs)
        self.floor = number("floor", floor, low=0.0)

    def _rates(self, epochs):
        share = np.minimum(epochs / self.epochs, 1.0)
        return self.floor + (self.rate - self.floor) * 0.5 * (1.0 + np.cos(np.pi * share))


class InverseTimeDecay(Schedule):
    """rate / (1 + decay * epoch).

    Parameters
    ----------
    rate : float
        Rate at the start.
    decay : float
        How fast it falls.
    """

    def __init__(self, rate: float, decay: float) -> None:
        self.rate, self.decay = number("rate", rate, low=0.0), number("decay", decay, low=0.0)

    def _rates(self, epochs):
        return self.rate / (1.0 + self.decay * epochs)


class WarmUp(Schedule):
    """From `start` in a straight line, step by step, to the rate of a schedule, which then goes on.

    Parameters
    ----------
    rate : float or Schedule
        Rate after the warm-up. The schedule counts the epochs of the warm-up, too: the line ends at what it gives
        there.
    epochs : int
        Epochs that the warm-up takes.
    start : float
        Rate of the first step.
    """

    def __init__(self, rate: float | Schedule, epochs: int, start: float = 0.0) -> None:
        self.rate, self.epochs = as_schedule(rate, "rate"), size("epochs", epochs)
        self.start = number("start", start, low=0.0)

    def rates(self, epochs: ArrayLike) -> NDArray[np.float64]:
        """Learning rates, the line included.

        Parameters
        ----------
        epochs : array of float
            Places in this fit, in epochs.

        Returns
        -------
        array of float64
            One rate for each.
        """
        epochs = _places(epochs)
        end = np.asarray(self.rate.rates(np.full(1, float(self.epochs))))[0]
        line = self.start + (end - self.start) * (epochs / self.epochs)
        return np.where(epochs < self.epochs, line, self.rate.rates(epochs))


def _places(epochs):
    """Places in a fit, float64."""
    places = numbers_of("epochs", epochs).astype(np.float64, copy=False)
    if places.size and not places.min() >= 0:
        raise must_be("epochs", "an array of non-negative numbers", epochs)
    return places


def as_schedule(rate, name="learning_rate"):
    """`rate` if it is a schedule, else a Constant of that number."""
    if isinstance(rate, Schedule):
        return rate
    return Constant(number(name, rate, low=0.0, accepted="a non-negative float or a Schedule"))
