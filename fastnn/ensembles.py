"""Several nets as one: the average of their outputs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arrays, backends, custom, evaluation, exchange, frames, inference, plans, storage, validation
from . import metrics as scores
from .arrays import AnyArray
from .backends import Floats
from .data import Data
from .errors import described, must_be
from .files import PathLike
from .inference import Frozen
from .layers import Dense
from .models import Metrics, Sequential
from .standardization import Standardization
from .surface import Hinting

_SHARED = (
    "n_features",
    "outputs",
    "dtype",
    "loss",
    "huber_delta",
    "quantile",
    "columns",
)  # what the nets of an ensemble have in common
# What a loss takes in the place of averages A that are kept above `least`, by the activation that is fused with it
_LOGITS = {
    "sigmoid": lambda A, least: np.log(np.clip(A, least, 1 - least)) - np.log1p(-np.clip(A, least, 1 - least)),
    "softmax": lambda A, least: np.log(np.clip(A, least, 1 - least)),
    "exp": lambda A, least: np.log(np.maximum(A, least)),
}


class Ensemble(Hinting):
    """The average of the outputs of several nets: of probabilities, or of numbers in the units of the data.

    It is sum(w out) / sum(w), summed in float64 in the order of the nets and rounded once, wherever it is computed. The
    nets are not copied: who trains one of them changes the ensemble. Each predicts on its own device.

    Parameters
    ----------
    nets : sequence of Sequential
        At least one, all built, with the same number of inputs and of outputs, the same loss and dtype, and the same
        names of features where they have any. A net that stands there several times is kept once, with the sum of its
        weights.
    weights : array-like (len(nets),), optional
        Not negative and not all zero; by default all are 1. A net of weight 0 is kept and not asked.

    Attributes
    ----------
    nets : tuple of Sequential
        Each once, in the order in which they came.
    weights : array (len(nets),), float64
        One for each of `nets`, as they were given; they need not sum to 1.

    Raises
    ------
    NotBuiltError
        For a net without parameters.
    TypeError, ValueError
        For an argument that is not accepted, and for nets that do not go together.
    """

    def __init__(self, nets: Sequence[Sequential], weights: ArrayLike | None = None) -> None:
        nets = _checked_nets(nets)
        given = np.ones(len(nets)) if weights is None else weights
        given = validation.numeric_array("weights", given, (len(nets),), np.float64)
        if (given < 0).any() or not 0 < given.sum() < np.inf:
            raise must_be("weights", "numbers that are not negative, with a finite sum above 0", weights)
        distinct = {id(net): net for net in nets}
        places = [list(distinct).index(id(net)) for net in nets]
        self._nets, self._weights = tuple(distinct.values()), np.bincount(places, given)
        self._weights.flags.writeable = False

    def __reduce__(self):
        return type(self), (self._nets, self._weights)  # copies and pickles cannot be written to, either

    @property
    def nets(self) -> tuple[Sequential, ...]:
        """The nets, each once."""
        return self._nets

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weight of each net."""
        return self._weights

    @property
    def n_features(self) -> int | None:
        """Number of inputs."""
        return self._nets[0].n_features

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self._nets[0].outputs

    @property
    def targets(self) -> int:
        """Number of targets."""
        return self._nets[0].targets

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the nets, and of the averages."""
        return self._nets[0].dtype

    @property
    def loss(self) -> Any:
        """That of the nets."""
        return self._nets[0].loss

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns of the table that the nets were trained on; None where there were none."""
        return next((net.feature_names for net in self._nets if net.feature_names is not None), None)

    @property
    def columns(self) -> Any:
        """The Columns that the nets begin with; None where they take numbers alone."""
        return self._nets[0].columns

    @property
    def encoding(self) -> Any:
        """What the Columns of all nets learned; None where that differs, as between folds."""
        first = self._nets[0].encoding
        return first if all(net.encoding == first for net in self._nets) else None

    @property
    def classes(self) -> Any:
        """The labels that class indices stand for, where the nets were trained on text; else None."""
        return self._nets[0].classes

    @property
    def device(self) -> str:
        """That of the first net, or "cpu" where any net is on it: with another one X may be in the memory of a GPU."""
        devices = [net.device for net in self._nets]
        return "cpu" if "cpu" in devices else devices[0]

    def __len__(self) -> int:
        return len(self._nets)

    def pairs(self) -> Iterator[tuple[Sequential, float]]:
        """Each net with its weight.

        Yields
        ------
        tuple
            (net, weight).
        """
        return zip(self._nets, map(float, self._weights), strict=True)

    def predict(self, X: AnyArray, threads: int | None = None) -> Floats:
        """The average of what `predict` of each net gives.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples, as for `Sequential.predict`.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array (m, n_out)
            In the dtype of the nets, on the host.
        """
        if self.columns is None:
            X = arrays.matrix("X", X, self.dtype, self.n_features, self.device, self.feature_names, False)
        else:
            X = frames.table("X", X)
        return self._average(X, backends.thread_count("threads", threads))

    def _average(self, X, threads, rows=None):
        """Averages for checked samples or for a Table, or for some `rows` of them."""
        shape = (len(X) if rows is None else len(rows), self.outputs)
        out, sums, total = np.empty(shape, self.dtype), np.zeros(shape), 0.0
        encoding, table = None, X if isinstance(X, frames.Table) else None
        for net, weight in self.pairs():
            if weight > 0:
                if table is not None and (encoding is None or net.encoding != encoding):
                    encoding = net.encoding
                    X = encoding.encode(table, self.dtype, finite=False)
                backends.add_outputs(weight, plans.outputs(net, X, out, threads, rows), sums)
                total += weight
        backends.average_of_sums(total, sums, out)
        return out

    def predict_labels(self, X: AnyArray, threads: int | None = None) -> NDArray[Any]:
        """Classes: the likeliest one by the averaged probabilities, as `Sequential.predict_labels` gives them.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array of int64, or of text
            (m,) or (m, k), on the host.

        Raises
        ------
        ValueError
            For nets whose loss is not a cross-entropy, and for a row whose outputs are NaN.
        """
        kind = scores.kind_with_labels(self.loss)
        found = scores.checked_labels(self.predict(X, threads), kind)
        return found if self.classes is None else self.classes[found]

    def evaluate(
        self,
        X: AnyArray,
        y: AnyArray,
        sample_weight: AnyArray | None = None,
        threads: int | None = None,
        metrics: Metrics = (),
        rows: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Loss and scores of the averages.

        A cross-entropy takes probabilities to be at least eps, and at most 1 - eps, of the dtype. Where the targets
        were standardised, the loss is in the standard scores of the first net.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        y : array-like
            Targets, as for `Sequential.fit`.
        sample_weight : array-like (m,), optional
            Weights of the samples, in the loss and in the score.
        threads : int, optional
            Threads that may take part.
        metrics : sequence of str or callable
            More scores, as for `Sequential.fit`.
        rows : array-like (r,) of int, optional
            Numbers of the rows that count; X is not copied.

        Returns
        -------
        dict
            As `Sequential.evaluate` gives it.
        """
        asked = evaluation.Asked(X, y, sample_weight, threads, metrics, rows)
        return evaluation.evaluate(self, self.n_features, asked, _outputs_of, _loss_of)

    def freeze(self) -> Frozen:
        """The ensemble as it is now, for `fastnn.apply`: also in the user's own @njit functions.

        A function that was compiled for a frozen net takes a frozen ensemble, too.

        Returns
        -------
        Frozen
            A named tuple of arrays that cannot be written to; later fits do not change it.
        """
        self._must_share_encoding("freeze")
        voting = [(net, weight) for net, weight in self.pairs() if weight > 0]
        return inference.frozen_average(*zip(*voting, strict=True))

    def save(self, path: PathLike) -> None:
        """Write all nets and weights to one file, for `fastnn.load` (extra `checkpoint`).

        Parameters
        ----------
        path : path-like
            As for `Sequential.save`.

        Raises
        ------
        TypeError, ValueError
            For a path that cannot be written to, weights that are not finite, or functions of your own.
        OSError
            Where writing fails; what stood there is left as it was.
        ImportError
            Without safetensors.
        """
        storage.save_ensemble(self, path)

    def to_onnx(self, path: PathLike) -> None:
        """Write the ensemble as one graph in the ONNX format (extra `onnx`).

        Parameters
        ----------
        path : path-like
            As for `Sequential.to_onnx`. The graph takes the average in the dtype of the nets.

        Raises
        ------
        TypeError, ValueError
            For a path that cannot be written to, or activations of your own.
        OSError
            Where writing fails; what stood there is left as it was.
        ImportError
            Without onnx.
        """
        self._must_share_encoding("to_onnx")
        exchange.save_ensemble(self, path)

    def encode(self, X: AnyArray) -> Floats:
        """The rows of a table as numbers and codes, as `Sequential.encode` gives them.

        Parameters
        ----------
        X : table
            With the columns that the nets read.

        Returns
        -------
        array (m, n_features)
            In the dtype of the nets.

        Raises
        ------
        TypeError, ValueError
            For a table that does not suit, for nets without Columns, and where these learned different things.
        """
        self._must_share_encoding("encode")
        return self._nets[0].encode(X)

    def _must_share_encoding(self, what):
        if self.columns is not None and self.encoding is None:
            given = described("nets whose Columns learned different things, as those of folds do")
            raise must_be(what, "asked of nets that were trained on the same rows", given)

    def summary(self) -> str:
        """A table of the nets.

        Returns
        -------
        str
            One line a net: its share of the average, number of parameters, layers.
        """
        lines, count, total = [f"{'share':>7}{'parameters':>14}  layers"], 0, self._weights.sum()
        for net, weight in self.pairs():
            own = sum(array.size for array in net.array_views())
            lines.append(f"{weight / total:>7.1%}{own:>14,}  {', '.join(map(repr, net.layers))}")
            count += own
        about = f"{self.n_features} inputs, {self.outputs} outputs, loss {custom.named(self.loss)}, {self.dtype}"
        return "\n".join([*lines, f"{'':>7}{count:>14,}  {about}"])

    def __repr__(self) -> str:
        return f"Ensemble({list(self._nets)!r}, weights={self._weights.tolist()!r})"


def _checked_nets(nets):
    """The nets of an ensemble, in a list."""
    accepted = "a list of at least one fastnn.Sequential"
    if not isinstance(nets, list | tuple) or not all(isinstance(net, Sequential) for net in nets):
        raise must_be("nets", accepted, nets, TypeError)
    if not nets:
        raise must_be("nets", accepted, nets)
    first, names = nets[0], None
    for i, net in enumerate(nets):
        net.program  # noqa: B018  (it says what is missing)
        for what in _SHARED:
            own, common = getattr(net, what), getattr(first, what)
            if what == "n_features" and first.columns is not None:
                continue  # what columns learn in other rows may be more or less
            if own != common:
                raise must_be("nets", f"nets of the same {what}", described(f"{common!s} and, at place {i}, {own!s}"))
        if not np.array_equal(net.classes, first.classes):
            raise must_be("nets", "nets of the same classes", described(f"{net.classes} at place {i}"))
        names = names or net.feature_names
        if net.feature_names not in (None, names):
            given = described(f"{names} and, at place {i}, {net.feature_names}")
            raise must_be("nets", "nets of the same feature_names", given)
    return list(nets)


def _outputs_of(ensemble, these, threads):
    return ensemble._average(these.X, threads, these.rows)


def _loss_of(ensemble, these, outputs, threads):
    return loss_of_averages(ensemble.nets[0], these, outputs, threads)


def loss_of_averages(first, these, outputs, threads):
    """Mean loss of averages (m, n_out) of nets like `first`, by targets, labels and counted_weights of `these` rows."""
    # that of a net which hands them on
    fused = backends.loss(first.loss).activation
    learned = first.standardization if first.scales_targets else None
    layer = Dense(first.outputs, fused or "linear", kernel_initializer="zeros")
    settings = {name: getattr(first, name) for name in ("loss", "dtype", "huber_delta", "quantile")}
    net = Sequential([layer], standardize=learned is not None, **settings).build(first.outputs)
    net.set_weights([np.eye(first.outputs), np.zeros(first.outputs)])
    if learned is not None:
        of_outputs = learned.of_outputs(backends.loss(first.loss).outputs_per_target > 1)
        net.standardization = Standardization(*of_outputs, learned.target_mean, learned.target_std)
    if fused is not None:
        outputs = _LOGITS[fused](outputs.astype(np.float64), np.finfo(first.dtype).eps).astype(first.dtype)
    rows = Data(outputs, these.targets, these.labels, these.counted_weights)
    return plans.loss_of(plans.loss_plan(net, rows, threads))
