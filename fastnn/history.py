"""What a fit recorded."""

import numpy as np


class History:
    """The record of one fit.

    Parameters
    ----------
    epochs : int
        Epochs asked for.

    Attributes
    ----------
    loss : array (epochs,), float64
        Mean training loss of each epoch, with the l2 term; for a full batch it is the loss before that epoch's update.
    validation_loss : array (epochs,), float64
        Loss on the validation data after each epoch; empty where there are none.
    epochs : int
        Epochs completed.
    steps : int
        Parameter updates made.
    seconds : float
        Time spent in training, without compilation.
    """

    def __init__(self, epochs):
        self._loss = np.full(epochs, np.nan)
        self._validation = []
        self.epochs, self.steps, self.seconds = 0, 0, 0.0

    @property
    def loss(self):
        """Mean training loss of each completed epoch."""
        return self._loss[: self.epochs]

    @property
    def validation_loss(self):
        """Loss on the validation data after each epoch."""
        return np.array(self._validation)

    @property
    def microseconds_per_step(self):
        """Mean time of a step, NaN where there was none."""
        return 1e6 * self.seconds / self.steps if self.steps else float("nan")

    def __repr__(self):
        last = f", loss={self.loss[-1]:.6g}" if self.epochs else ""
        return f"History(epochs={self.epochs}, steps={self.steps}, seconds={self.seconds:.3g}{last})"
