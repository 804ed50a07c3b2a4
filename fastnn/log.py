"""Numbers of a fit, epoch by epoch, for programs that record experiments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import validation
from .callbacks import Callback
from .errors import must_be

if TYPE_CHECKING:
    from .fit import Run


class Log(Callback):
    """Hand the numbers of an epoch, by name, to a function: one of MLflow, Weights & Biases, or your own.

    What the function raises ends the fit, and comes out of it: so a trial of Optuna is pruned. `docs/logging.md` has
    recipes.

    Parameters
    ----------
    function : callable
        Called with (numbers, epoch). numbers: a dict from "loss", "validation_loss" and the metrics, as far as they are
        recorded, "learning_rate" and "elapsed" (seconds of training) to floats. epoch: int, from 0. What it gives back
        is not looked at.
    every : int
        Epochs between two calls; the first and the last epoch always call.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def __init__(self, function: Callable[[dict[str, float], int], Any], every: int = 1) -> None:
        if not callable(function):
            raise must_be("function", "a function (numbers, epoch)", function, TypeError)
        self.function, self.every = function, validation.size("every", every)

    def begin(self, run: "Run") -> None:
        """Start afresh.

        Parameters
        ----------
        run : Run
            The fit.
        """
        self._logged = run.history.epochs

    def epoch(self, run: "Run") -> None:
        """Call the function, where it is time.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if (run.history.epochs - 1) % self.every == 0:
            self._call(run.history)

    def end(self, run: "Run") -> None:
        """Call the function for the last epoch, where that was not done.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if run.history.epochs != self._logged:
            self._call(run.history)

    def _call(self, history):
        self._logged = history.epochs
        self.function(history.latest(), history.epochs - 1)
