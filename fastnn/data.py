"""The rows of a fit or an evaluation: checked once, here, then only read."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arrays, backends, validation
from .errors import described, must_be


@dataclass(frozen=True)
class Data:
    """Rows that suit a net.

    Parameters
    ----------
    X : array (m, n) or device rows
        Samples in the net's dtype.
    y : array (m,) or (m, k)
        Targets in the net's dtype.
    labels : bool
        Whether y holds class indices.
    weights : array (m,) or None
        Weights in the net's dtype.
    rows : array (r,) of int64 or None
        Numbers of the rows that count, in their order; None for all.
    """

    X: Any
    y: Any
    labels: bool
    weights: Any = None
    rows: Any = None

    def __len__(self):
        return len(self.X if self.rows is None else self.rows)

    @property
    def targets(self):
        """Targets of the rows that count."""
        return self.y if self.rows is None else self.y[self.rows]

    @property
    def counted_weights(self):
        """Weights of the rows that count."""
        return self.weights if self.rows is None or self.weights is None else self.weights[self.rows]

    def chosen(self, part):
        """The rows at the places `part`, a slice or an array of int64, of those that count; X is shared."""
        if isinstance(part, slice) and self.rows is None:
            weights = None if self.weights is None else self.weights[part]
            return Data(self.X[part], self.y[part], self.labels, weights)
        return Data(self.X, self.y, self.labels, self.weights, part if self.rows is None else self.rows[part])

    def copied(self):
        """The rows that count, side by side."""
        return self if self.rows is None else Data(self.X[self.rows], self.targets, self.labels, self.counted_weights)


def check(net, X, y, sample_weight=None, class_weight=None, rows=None, prefix="", features=None):
    """The Data of what a user passes.

    Parameters
    ----------
    net : Sequential
        Which they must suit.
    X, y, sample_weight, class_weight, rows
        As `fit` takes them.
    prefix : str
        Before the names of the arguments in errors.
    features : int, optional
        Columns of X, where the net is not built.

    Returns
    -------
    Data
        X where it was, if it can be read there; the others on the host.
    """
    X = arrays.matrix(f"{prefix}X", X, net.dtype, features or net.n_features, net.device)
    names = f"{prefix}y", f"{prefix}sample_weight"
    y, weights = (arrays.host(*each, net.device) for each in zip(names, (y, sample_weight), strict=True))
    y, labels = validation.targets(names[0], y, net.dtype, len(X), backends.loss(net.loss).targets, net.outputs)
    rows = validation.row_numbers(f"{prefix}rows", rows, len(X))
    weights = validation.sample_weights(names[1], weights, net.dtype, len(X), rows)
    by_class = validation.class_weights(class_weight, y, labels, net.outputs, rows)
    if by_class is not None:
        weights = (by_class if weights is None else weights * by_class).astype(net.dtype)
    return Data(X, y, labels, weights, rows)


def split(data, share, shuffle, seed):
    """(places of the rows to train on, places of those held out): the last ones, or random ones in their old order.

    Parameters
    ----------
    data : Data
        All rows.
    share : float
        Of them, to be held out.
    shuffle : bool
        Whether they are random.
    seed : tuple of int
        Chooses them.

    Returns
    -------
    tuple of slice or of array of int64
        For `Data.chosen`.
    """
    rows = len(data)
    share = validation.number("validation_split", share, above=0.0, below=1.0)
    held = max(1, round(rows * share))
    if held >= rows:
        raise must_be("validation_split", "a share that leaves rows to train on", described(f"{share} of {rows} rows"))
    parts: Any = slice(0, rows - held), slice(rows - held, rows)
    if shuffle:
        chosen = np.zeros(rows, bool)
        chosen[np.random.default_rng(seed).permutation(rows)[:held]] = True
        parts = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    weights = data.counted_weights
    if weights is not None and not all(weights[part].any() for part in parts):
        raise must_be("sample_weight", "not all zero in either part", described(f"a validation_split of {share} so"))
    return parts


def come_in_batches(X, y):
    """Whether X is to be passed over, batch by batch: without y, and if it neither is an array nor becomes one."""
    return y is None and not (hasattr(X, "shape") or hasattr(X, "__array__"))


class Batches:
    """Passes over an iterable, the first batch of the first one known beforehand.

    Parameters
    ----------
    net : Sequential
        Which the batches must suit.
    source : iterable
        Of (X, y) or (X, y, sample_weight).

    Attributes
    ----------
    first : Data
        The first batch.
    given : tuple
        X and y of the first batch as the source gave them; let go of with it.
    once : bool
        Whether there is one pass only.
    """

    def __init__(self, net, source):
        accepted = "an array, with y, or an iterable of batches (X, y) or (X, y, sample_weight)"
        if not hasattr(source, "__iter__") or isinstance(source, str | bytes | dict):
            raise must_be("X", accepted, described(f"a {type(source).__name__}"), TypeError)
        self._net, self._source, self._features = net, source, None
        self._first_pass = iter(source)
        self.once = self._first_pass is source
        first = next(self._first_pass, None)
        if first is None:
            raise must_be("X", "an iterable of at least one batch", described("one that is empty"))
        self.first = self._checked(first, 0)
        self.given = first[:2]
        self._features = self.first.X.shape[1]

    def __len__(self):
        """Batches of a pass as the iterable says, or 0 where it does not."""
        try:
            return len(self._source)
        except TypeError:
            return 0

    def __iter__(self):
        """A pass: the Data of each batch."""
        batches, first, self._first_pass, self.first = self._first_pass, self.first, None, None
        self.given = None
        if batches is None:
            batches, known = iter(self._source), 0
        else:
            yield first
            known = 1
        for number, batch in enumerate(batches, known):
            yield self._checked(batch, number)

    def _checked(self, batch, number):
        name = f"batch {number}"
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            shape = f" of shape {tuple(batch.shape)}" if hasattr(batch, "shape") else ""
            size = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
            kind = described(f"a {type(batch).__name__}{size}{shape}")
            raise must_be(name, "(X, y) or (X, y, sample_weight)", kind, TypeError)
        return check(self._net, *batch, prefix=f"{name}: ", features=self._features)
