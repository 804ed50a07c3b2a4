"""What may look at a fit while it goes on, and steer it."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files, habits, shown, validation
from .errors import described, must_be, unknown_name

if TYPE_CHECKING:
    from .fit import Run

HOOKS = ("begin", "chunk", "epoch", "end")
_LEAST_CHANGE = 1e-8  # torch's eps: a smaller drop of the rate is not made


class Callback:
    """Base of what is called in the course of a fit; a callback of your own overrides what it needs.

    Every hook gets the run: `run.net`, `run.history`, `run.epochs` (the number asked for), `run.rate_scale` (a factor
    on the learning rate from now on) and `run.stop()`, which ends the fit after the hooks of this moment. What a hook
    raises comes out of `fit`, with the net at a completed step.
    """

    last = False  # whether its hooks come after those of the others

    def begin(self, run: "Run") -> None:
        """Called before the first step.

        Parameters
        ----------
        run : Run
            The fit.
        """

    def chunk(self, run: "Run") -> None:
        """Called a few times a second, after a chunk of steps.

        Parameters
        ----------
        run : Run
            The fit.
        """

    def epoch(self, run: "Run") -> None:
        """Called after each epoch; to override it lets every chunk of steps end with its epoch.

        Parameters
        ----------
        run : Run
            The fit.
        """

    def end(self, run: "Run") -> None:
        """Called when the fit has reached its last epoch or was stopped, but not after an error or Ctrl-C.

        Parameters
        ----------
        run : Run
            The fit.
        """

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback.

        Returns
        -------
        dict
            From str to numbers, strings, None, or arrays.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; called after `begin`.

        Parameters
        ----------
        state : dict
            What `state` gave; in a file of somebody else, anything that such a dict can hold.
        """

    def __repr__(self) -> str:
        return shown.call(self)

    def _check(self, directions):
        """Refuse what this fit cannot do; `directions`: of each recorded number, whether greater is better."""


class _Function(Callback):
    """A function (net, history), called after each epoch; True ends the fit."""

    def __init__(self, function):
        self.function = function

    def epoch(self, run):
        if self.function(run.net, run.history):
            run.stop()


def prepare(callbacks):
    """The Callbacks that a user gives, in the order in which they are called."""
    accepted = "a sequence of fastnn.Callback objects or functions (net, history)"
    if not isinstance(callbacks, list | tuple):
        raise must_be("callbacks", accepted, callbacks, TypeError)
    for callback in callbacks:
        if isinstance(callback, type) or not (isinstance(callback, Callback) or callable(callback)):
            raise must_be("callbacks", accepted, callback, TypeError)
        _check_hooks(callback)
    made = [callback if isinstance(callback, Callback) else _Function(callback) for callback in callbacks]
    return sorted(made, key=lambda callback: callback.last)


def _check_hooks(callback):
    """Refuse a Callback with a hook that has the name of another library's: nobody would call it."""
    for name in dir(type(callback)) if isinstance(callback, Callback) else ():
        said = habits.hint(name, HOOKS) if name.startswith("on_") else ""
        if said:
            given = described(f"{type(callback).__name__} with {name}, which nobody calls ({said})")
            raise must_be("callbacks", f"Callbacks with hooks among {', '.join(HOOKS)}", given, TypeError)


def check(callbacks, directions):
    """Refuse callbacks that wait for what is not recorded; see `Callback._check`."""
    for callback in callbacks:
        callback._check(directions)


def check_states(callbacks, states, shape, dtype, epochs):
    """Refuse what no callback of ours keeps; those of the user's own judge for themselves.

    Parameters
    ----------
    callbacks : list of Callback
        Those that keep something.
    states : list of dict
        What a file says of each.
    shape, dtype : tuple, dtype
        Of the net's parameters.
    epochs : int
        That the file has done.
    """
    for callback, state in zip(callbacks, states, strict=True):
        if type(callback).state in (EarlyStopping.state, ReduceLROnPlateau.state):
            callback._check_state(state, shape, dtype, epochs)


def overrides(callback, name):
    """Whether a callback has a method of its own."""
    return getattr(type(callback), name) is not getattr(Callback, name)


class _Monitor(Callback):
    """A callback that waits for a number to improve."""

    def __init__(self, monitor):
        if not (monitor is None or isinstance(monitor, str)):
            raise must_be("monitor", "None, 'loss', 'validation_loss' or the name of a metric", monitor, TypeError)
        self.monitor = monitor

    def _check(self, directions):
        self._name = self.monitor or ("validation_loss" if "validation_loss" in directions else "loss")
        if self._name not in directions:
            raise unknown_name("monitor", self._name, list(directions))
        self._greater = directions[self._name]
        if self._greater is None:
            accepted = "a metric whose function says greater_is_better = True or False"
            raise must_be("monitor", accepted, self.monitor)

    def begin(self, run):
        """Start afresh."""
        self.best, self.wait = -math.inf if self._greater else math.inf, 0

    def _check_best(self, state):
        if math.isnan(state["best"]):
            raise must_be("best", "a number", state["best"])
        validation.count("wait", state["wait"])


class EarlyStopping(_Monitor):
    """End the fit when a number has not improved for some epochs, and put the best weights back.

    The weights are put back whenever the fit ends by itself, not after Ctrl-C or an error. Where this changes them, the
    optimizer then starts afresh. `history.best_epoch` says whose they are.

    Parameters
    ----------
    patience : int
        Epochs without improvement after which the fit ends.
    restore_best : bool
        Put the weights of the best epoch back; they are kept in memory once.
    min_delta : float
        A number has improved when it is better than the best by more than this.
    monitor : str, optional
        "loss", "validation_loss" or the name of a metric; of a metric of your own the function must say, by an
        attribute `greater_is_better`, whether it is. Default: the validation loss where there is one, else the training
        loss, which is taken before the updates that it leads to.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def __init__(
        self, patience: int = 10, restore_best: bool = True, min_delta: float = 0.0, monitor: str | None = None
    ) -> None:
        super().__init__(monitor)
        self.patience = validation.size("patience", patience)
        self.restore_best = validation.flag("restore_best", restore_best)
        self.min_delta = validation.number("min_delta", min_delta, low=0.0)

    def begin(self, run: "Run") -> None:
        """Start afresh.

        Parameters
        ----------
        run : Run
            The fit.
        """
        super().begin(run)
        self.best_epoch = self._weights = None

    def epoch(self, run: "Run") -> None:
        """Keep the best weights; end the fit where there have been none for too long.

        Parameters
        ----------
        run : Run
            The fit.
        """
        value = run.history.last(self._name)
        if value > self.best + self.min_delta if self._greater else value < self.best - self.min_delta:
            self.best, self.best_epoch, self.wait = value, run.history.epochs - 1, 0
            run.history.best_epoch = self.best_epoch
            if self.restore_best and self._weights is None:
                self._weights = run.net.state.parameters.copy()
            elif self.restore_best:
                np.copyto(self._weights, run.net.state.parameters)
        else:
            self.wait += 1
            if self.wait >= self.patience:
                run.stop()

    def end(self, run: "Run") -> None:
        """Put the best weights back.

        Parameters
        ----------
        run : Run
            The fit.
        """
        state = run.net.state
        if self._weights is not None and not np.array_equal(state.parameters, self._weights):
            state.forget()
            np.copyto(state.parameters, self._weights)
        self._weights = None

    def state(self) -> dict[str, Any]:
        """Best number, epoch and weights, and how long it has waited.

        Returns
        -------
        dict
            For a checkpoint.
        """
        kept = {} if self._weights is None else {"weights": self._weights}
        return {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch} | kept

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Parameters
        ----------
        state : dict
            What `state` gave.
        """
        self.best, self.wait, self.best_epoch = state["best"], state["wait"], state["best_epoch"]
        self._weights = state.get("weights") if self.restore_best else None

    def _check_state(self, state, shape, dtype, epochs):
        kinds = {"best": float, "wait": int, "best_epoch": (int, type(None))}
        if "weights" in state:
            kinds["weights"] = np.ndarray
        files.must_have("state of EarlyStopping", state, kinds)
        self._check_best(state)
        best_epoch = state["best_epoch"]
        if best_epoch is not None and not 0 <= best_epoch < epochs:
            raise must_be("best_epoch", "None or one of the epochs", best_epoch)
        if "weights" in state:
            files.must_be_array("weights", state["weights"], shape, dtype)
            validation.numeric_array("weights", state["weights"], shape, dtype)


class ReduceLROnPlateau(_Monitor):
    """Multiply the learning rate by a factor when a number has stopped to improve.

    The rules are those of torch.optim.lr_scheduler.ReduceLROnPlateau with a relative threshold, so the rate also falls
    on top of a schedule. It falls for the rest of this fit: the next one begins with the optimizer's rate again.

    Parameters
    ----------
    factor : float
        What the rate is multiplied by, above 0 and below 1.
    patience : int
        Epochs without improvement that are let pass: the rate falls after one more.
    threshold : float
        A number has improved when it is better than the best by more than this share of it, in [0, 1).
    cooldown : int
        Epochs after a fall in which nothing is counted.
    min_rate : float
        The rate does not fall below it.
    monitor : str, optional
        As for EarlyStopping.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_rate: float = 0.0,
        monitor: str | None = None,
    ) -> None:
        super().__init__(monitor)
        self.factor = validation.number("factor", factor, above=0.0, below=1.0)
        self.patience = validation.count("patience", patience)
        self.threshold = validation.number("threshold", threshold, low=0.0, below=1.0)
        self.cooldown = validation.count("cooldown", cooldown)
        self.min_rate = validation.number("min_rate", min_rate, low=0.0)

    def begin(self, run: "Run") -> None:
        """Start afresh.

        Parameters
        ----------
        run : Run
            The fit.
        """
        super().begin(run)
        self.resting = 0

    def epoch(self, run: "Run") -> None:
        """Count, and lower the rate where it is time.

        Parameters
        ----------
        run : Run
            The fit.
        """
        value = run.history.last(self._name)
        # torch compares with best * (1 +- threshold), which is on the wrong side of a number below zero
        share = math.copysign(self.threshold, self.best)
        if value > self.best * (1 + share) if self._greater else value < self.best * (1 - share):
            self.best, self.wait = value, 0
        else:
            self.wait += 1
        if self.resting > 0:
            self.resting, self.wait = self.resting - 1, 0
        if self.wait > self.patience:
            rate = run.history.learning_rate[-1]
            lower = max(rate * self.factor, self.min_rate)
            if rate - lower > _LEAST_CHANGE:
                run.rate_scale *= lower / rate
            self.resting, self.wait = self.cooldown, 0

    def state(self) -> dict[str, Any]:
        """Best number, and what is counted.

        Returns
        -------
        dict
            For a checkpoint.
        """
        return {"best": self.best, "wait": self.wait, "resting": self.resting}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Parameters
        ----------
        state : dict
            What `state` gave.
        """
        self.best, self.wait, self.resting = state["best"], state["wait"], state["resting"]

    def _check_state(self, state, shape, dtype, epochs):
        files.must_have("state of ReduceLROnPlateau", state, {"best": float, "wait": int, "resting": int})
        self._check_best(state)
        validation.count("resting", state["resting"])
