"""Learning rates that change with the epoch (counted from 0 in each fit)."""

import numpy as np

from .validation import number, size


class Schedule:
    """A learning rate for each epoch. A schedule of your own overrides `rates`."""

    def rates(self, epochs):
        """Learning rates.

        Parameters
        ----------
        epochs : array of int
            Epochs of this fit, from 0.

        Returns
        -------
        array of float64
            One rate for each.
        """
        return self._rates(np.asarray(epochs))

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v:g}' for k, v in vars(self).items())})"


class Constant(Schedule):
    """The same rate always.

    Parameters
    ----------
    rate : float
        The learning rate.
    """

    def __init__(self, rate):
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

    def __init__(self, rate, every, factor):
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

    def __init__(self, rate, epochs, floor=0.0):
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

    def __init__(self, rate, decay):
        self.rate, self.decay = number("rate", rate, low=0.0), number("decay", decay, low=0.0)

    def _rates(self, epochs):
        return self.rate / (1.0 + self.decay * epochs)


def as_schedule(learning_rate):
    """`learning_rate` if it is a schedule, else a Constant of that number."""
    if isinstance(learning_rate, Schedule):
        return learning_rate
    return Constant(number("learning_rate", learning_rate, low=0.0, accepted="a non-negative float or a Schedule"))
