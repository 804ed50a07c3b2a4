"""What a fit recorded."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import backends, plot
from .errors import must_be
from .surface import Hinting

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


def data_frame(columns):
    """A table of columns by name; shorter ones end with gaps."""
    try:
        import pandas
    except ImportError:
        raise ImportError(f"to_dataframe() needs pandas: {backends.pip_install('dataframe')}") from None
    return pandas.DataFrame({name: pandas.Series(values) for name, values in columns.items()})


class Buffers:
    """What a fit writes: an array for all epochs asked for, or a list that grows by a number an epoch.

    Parameters
    ----------
    epochs : int
        Epochs asked for.
    """

    def __init__(self, epochs: int) -> None:
        # zeros take memory when they are written to: many epochs may be asked for and few done
        try:
            self.loss, self.elapsed, self.rates = (np.zeros(epochs) for _ in range(3))
        except (MemoryError, ValueError):  # which of them depends on the size
            raise must_be("epochs", "a number whose record memory holds", epochs, MemoryError) from None
        self.validation: list[float] = []
        self.metrics: dict[str, list[float]] = {}


class History(Hinting):
    """The record of one fit, or of one `minimize`, whose epochs are its iterations.

    Parameters
    ----------
    epochs : int
        Epochs asked for.

    Attributes
    ----------
    loss : array (epochs,), float64
        Mean training loss of each epoch, with the l2 term; for a full batch it is the loss before that epoch's update.
        Of `minimize`, the loss after each iteration.
    validation_loss : array (epochs,), float64
        Loss on the validation data after each epoch; empty where there are none.
    metrics : dict
        From the name of each metric to an array (epochs,), float64: its value after each epoch.
    learning_rate : array (epochs,), float64
        Rate of the last step of each epoch.
    elapsed : array (epochs,), float64
        Seconds of training until the end of each epoch. Several epochs may run without a look at the clock: these are
        spaced evenly.
    best_epoch : int or None
        Epoch, from 0, that EarlyStopping found best.
    epochs : int
        Epochs completed.
    steps : int
        Parameter updates made.
    converged : bool or None
        Whether `minimize` ended at a minimum; None for a fit.
    device : str or None
        Where the steps were made, "cpu" or "cuda": with device="auto" the net chose it. None before the first.
    seconds : float
        Time spent in training, without compilation.
    """

    def __init__(self, epochs: int) -> None:
        self.buffers = Buffers(epochs)
        self.best_epoch: int | None = None
        self.converged: bool | None = None
        self.device: str | None = None
        self.epochs, self.steps, self.seconds = 0, 0, 0.0

    @property
    def loss(self) -> NDArray[np.float64]:
        """Mean training loss of each completed epoch."""
        return self.buffers.loss[: self.epochs]

    @property
    def validation_loss(self) -> NDArray[np.float64]:
        """Loss on the validation data after each epoch."""
        return np.array(self.buffers.validation)

    @property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Values of each metric after each epoch."""
        return {name: np.array(values) for name, values in self.buffers.metrics.items()}

    @property
    def learning_rate(self) -> NDArray[np.float64]:
        """Rate of the last step of each epoch."""
        return self.buffers.rates[: self.epochs]

    @property
    def elapsed(self) -> NDArray[np.float64]:
        """Seconds of training until the end of each epoch."""
        return self.buffers.elapsed[: self.epochs]

    @property
    def microseconds_per_step(self) -> float:
        """Mean time of a step, NaN where there was none."""
        return 1e6 * self.seconds / self.steps if self.steps else float("nan")

    def last(self, name: str) -> float:
        """The last value of a number that was recorded.

        Parameters
        ----------
        name : str
            "loss", "validation_loss" or the name of a metric.

        Returns
        -------
        float
            Of the last completed epoch.
        """
        own = {"loss": self.loss, "validation_loss": self.buffers.validation}
        return float((own[name] if name in own else self.buffers.metrics[name])[-1])

    def latest(self) -> dict[str, float]:
        """All that was recorded of the last epoch, by name.

        Returns
        -------
        dict
            "loss", "validation_loss" and metrics as far as they were recorded, "learning_rate", "elapsed".
        """
        metrics = {name: values[-1] for name, values in self.buffers.metrics.items()}
        more = {"learning_rate": self.learning_rate[-1], "elapsed": self.elapsed[-1]}
        validation = {"validation_loss": self.buffers.validation[-1]} if self.buffers.validation else {}
        found = {"loss": self.loss[-1]} | validation | metrics | more
        return {name: float(value) for name, value in found.items()}

    def plot(self, ax: "Axes | None" = None, log: bool = True, label: str | None = None) -> "Axes":
        """Training and validation loss by epoch, the best epoch marked; the metrics below, if there are any.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Receives the losses alone; by default a new figure is made, with a second panel for metrics. Curves that
            are drawn there already keep their colours and names, and the new ones get others.
        log : bool
            Logarithmic losses, where all are positive.
        label : str, optional
            Name of the fit in the legend; by default fits in the same Axes are numbered.

        Returns
        -------
        matplotlib Axes
            That of the losses.
        """
        return plot.history(self, ax, log, label)

    def to_dataframe(self) -> "pandas.DataFrame":
        """The record as a table, a row for each epoch (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            Columns epoch (from 0) and loss; validation_loss, one for each metric, elapsed (seconds of training until
            the end of the epoch) and learning_rate, as far as they were recorded.

        Raises
        ------
        ImportError
            Without pandas.
        """
        more = {"validation_loss": self.validation_loss, **self.metrics}
        more |= {"elapsed": self.elapsed, "learning_rate": self.learning_rate}
        columns = {"epoch": np.arange(self.epochs), "loss": self.loss} | {k: v for k, v in more.items() if len(v)}
        return data_frame(columns)

    def __dir__(self) -> list[str]:
        return sorted(set(super().__dir__()) - {"buffers"})

    def __repr__(self) -> str:
        last = f", loss={self.loss[-1]:.6g}" if self.epochs else ""
        return f"History(epochs={self.epochs}, steps={self.steps}, seconds={self.seconds:.3g}{last})"
