"""Nets for tables with settings that measurements chose: one call from a table to an ensemble.

`asv_bench/tables.py` repeats the scores; docs/tables.md says what each setting gained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import encoding, frames, labels, validation
from .arrays import AnyArray
from .callbacks import EarlyStopping
from .columns import Columns
from .ensembles import Ensemble
from .errors import DivergedError, described, must_be, unknown_name
from .history import History
from .layers import Dense, Dropout, Layer
from .optimizers import AdamW
from .schedules import CosineDecay
from .sweep import Sweep


@dataclass(frozen=True)
class Preset:
    """How an ensemble is trained on a table.

    Each weight decay is tried on each fold: a net trains on the other rows, and is stopped by the loss of the fold. The
    ensemble is then chosen among them by the loss of its average on the rows that its nets did not train on.

    Parameters
    ----------
    hidden : sequence of int
        Units of the hidden layers.
    activation : str
        Of the hidden layers.
    dropout : float
        After each of them.
    learning_rate : float
        At the start; it falls along half a cosine.
    weight_decays : sequence of float
        Of AdamW, that are tried: noisy tables want much, others next to none.
    epochs : int
        At most.
    patience : int
        Epochs without a better loss after which a net is stopped.
    batch_size : int
        Rows of a step; all where there are fewer.
    folds : int
        Parts of the rows.
    size : int
        Steps in which the ensemble is chosen, as in `SweepResult.ensemble`.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    hidden: Sequence[int] = (128, 64)
    activation: str = "silu"
    dropout: float = 0.1
    learning_rate: float = 2e-3
    weight_decays: Sequence[float] = (0.02, 1.0, 5.0)
    epochs: int = 40
    patience: int = 20
    batch_size: int = 128
    folds: int = 4
    size: int = 8

    def __post_init__(self) -> None:
        for name, of in (("hidden", "positive ints"), ("weight_decays", "at least one number that is not negative")):
            if not isinstance(getattr(self, name), list | tuple) or (name != "hidden" and not getattr(self, name)):
                raise must_be(name, f"a sequence of {of}", getattr(self, name), TypeError)
        for name in ("epochs", "patience", "batch_size", "folds", "size"):
            validation.size(name, getattr(self, name))
        if self.folds < 2:
            raise must_be("folds", "an int of at least 2", self.folds)
        self._layers(1, "linear")
        self._optimizers()

    def fit(
        self,
        X: Any,
        y: AnyArray,
        columns: Columns | None = None,
        task: Literal["classification", "regression"] | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        seed: int = 0,
        threads: int | None = None,
        progress: bool = False,
    ) -> Ensemble:
        """Train.

        Parameters
        ----------
        X : table (m rows)
            As `Sequential.fit` takes it of a net that begins with Columns.
        y : array-like (m,) or (m, k)
            Text, booleans, or numbers.
        columns : Columns, optional
            What the columns are; by default `Columns.infer(X)`.
        task : str, optional
            "classification" takes numbers for class indices. Default: that for text, booleans, and numbers that are all
            0 or 1; regression for other numbers.
        sample_weight, class_weight
            As for `Sequential.fit`.
        seed : int
            Of folds, starting values and the order of rows.
        threads : int, optional
            Threads that train nets; they do not change the result by a bit.
        progress : bool
            Show a bar (extra `progress`).

        Returns
        -------
        Ensemble
            Its `predict` takes tables, and gives probabilities, or numbers in the units of y.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted.
        DivergedError
            If all nets diverged.
        KeyboardInterrupt
            On Ctrl-C.

        Warns
        -----
        IdColumnWarning
            For each column of plain numbers that are taken for ids.
        """
        seed = validation.count("seed", seed)
        units, output = _last_layer(y, task)
        table = frames.table("X", X)
        columns = Columns.infer(table) if columns is None else columns
        if not isinstance(columns, Columns):
            raise must_be("columns", "None or fastnn.Columns", columns, TypeError)
        learned = encoding.learn(columns, table, dtype=np.float32)
        rows = encoding.EncodedRows(learned.encode(table, np.float32, finite=True), learned)
        sweep = Sweep(
            [columns, *self._layers(units, output)],
            standardize=output == "linear",
            optimizer=self._optimizers(),
            batch_size=min(self.batch_size, max(1, len(table) - -(-len(table) // self.folds))),
            seed=seed,
        )
        result = sweep.fit(
            rows,
            y,
            self.epochs,
            sample_weight=sample_weight,
            class_weight=class_weight,
            cv=self.folds,
            score="loss",
            early_stopping=EarlyStopping(self.patience),
            progress=progress,
            threads=threads,
            keep=len(self.weight_decays),
            refit=False,
            seed=seed,
        )
        if not any(trial.nets for trial in result.trials):
            raise DivergedError(0, None, History(self.epochs))
        return result.ensemble(self.size)

    def _layers(self, units, output):
        layers: list[Layer] = []
        for size in self.hidden:
            layers += [Dense(size, self.activation), Dropout(self.dropout)]
        return [*layers, Dense(units, output)]

    def _optimizers(self):
        return [AdamW(CosineDecay(self.learning_rate, self.epochs), weight_decay=decay) for decay in self.weight_decays]


PRESETS = {"table": Preset()}


def preset(name: str = "table", **settings: Any) -> Preset:
    """Settings that are good by default.

    Parameters
    ----------
    name : str
        "table": for tables of up to some 100,000 rows. Numbers in bins, an average of nets that a sweep trains.
    **settings
        Those of `Preset` that are to differ.

    Returns
    -------
    Preset
        Its `fit` trains on a table.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """
    found = PRESETS[validation.choice("name", name, list(PRESETS))]
    for setting in settings:
        if setting not in vars(found):
            raise unknown_name("setting", setting, list(vars(found)))
    return replace(found, **settings)


def _last_layer(y, task):
    """(units, activation) of the last layer."""
    if task is not None:
        validation.choice("task", task, ["classification", "regression"])
    if labels.are_text(y):
        if task == "regression":
            raise must_be("y", "numbers for a regression", described("text"), TypeError)
        count = len(labels.learn("y", y))
        return (1, "sigmoid") if count <= 2 else (count, "softmax")
    numbers = validation.numbers_of("y", y)
    columns = 1 if numbers.ndim == 1 else numbers.shape[1]
    if task == "regression" or (task is None and not np.isin(numbers, (0, 1)).all()):
        return columns, "linear"
    if columns > 1 or numbers.size == 0 or np.isin(numbers, (0, 1)).all():
        return columns, "sigmoid"
    return int(numbers.max()) + 1 if np.isfinite(numbers).all() and numbers.max() < 1 << 20 else 2, "softmax"
