"""The rows of a fit or an evaluation: checked once, here, then only read."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import arrays, backends, encoding, frames, labels, validation
from .errors import described, must_be, quoted

_MOST_BATCHES = 10**7  # a pass that claims more has no known length: the rates of a whole pass stand in memory


@dataclass(frozen=True)
class Data:
    """Rows that suit a net.

    Parameters
    ----------
    X : array (m, n), device rows or frames.Table
        Samples in the net's dtype; a Table until the Columns of the net have learned from one.
    y : array (m,) or (m, k)
        Targets in the net's dtype.
    labels : bool
        Whether y holds class indices.
    weights : array (m,) or None
        Weights in the net's dtype.
    rows : array (r,) of int64 or None
        Numbers of the rows that count, in their order; None for all.
    columns : tuple of str or None
        Names of the features, where X came as a table that has them.
    encoding : Encoding or None
        By which X was made of a Table.
    classes : array or None
        What the class indices stand for, where y came as text.
    part : slice, array of int64 or None
        Which rows of what the user passed X and y are; None for all.
    """

    X: Any
    y: Any
    labels: bool
    weights: Any = None
    rows: Any = None
    columns: Any = None
    encoding: Any = None
    classes: Any = None
    part: Any = None

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
            X = self.X.taken(part) if isinstance(self.X, frames.Table) else self.X[part]
            weights = None if self.weights is None else self.weights[part]
            return replace(self, X=X, y=self.y[part], weights=weights, part=part)
        return replace(self, rows=part if self.rows is None else self.rows[part])

    def copied(self):
        """The rows that count, side by side."""
        if self.rows is None:
            return self
        X, weights = self.X[self.rows], self.counted_weights
        return replace(self, X=X, y=self.targets, weights=weights, rows=None, part=self.rows)

    def of_given(self, array):
        """The rows of an array of the user's, such as y, that X and y are."""
        return array if self.part is None else array[self.part]

    def weighted_by_class(self, net, class_weight, total=None):
        """For training, with the weights of their classes, as `fit` takes them; `total` as `class_weights` takes it."""
        if class_weight is None:
            return self
        if self.classes is not None:
            class_weight = labels.by_index("class_weight", class_weight, self.classes)
        facts = self.y, self.labels, net.outputs, self.y.dtype, self.rows, self.weights
        return replace(self, weights=validation.class_weights(class_weight, *facts, total))


def check(
    net,
    X,
    y,
    sample_weight=None,
    rows=None,
    prefix="",
    features=None,
    columns=None,
    classes=None,
    may_be_zero=False,
    dtype=None,
):
    """The Data of what a user passes.

    Parameters
    ----------
    net : Sequential
        Which they must suit.
    X, y, sample_weight, rows
        As `fit` takes them.
    prefix : str
        Before the names of the arguments in errors.
    features : int, optional
        Columns of X, where the net is not built.
    columns : tuple of str, optional
        Their names, where the net has none yet.
    classes : array, optional
        What text in y may be, where the net has learned none yet; by default it is learned from y.
    may_be_zero : bool
        Whether all weights may be zero.
    dtype : dtype, optional
        Of the arrays; by default the net's.

    Returns
    -------
    Data
        X where it was, if it can be read there; the others on the host.
    """
    dtype, learned, names = net.dtype if dtype is None else dtype, None, None
    if net.columns is not None:
        learned = net.encoding
        if isinstance(X, encoding.EncodedRows):
            learned, X = X.encoding, X.matrix
        else:
            X = frames.table(f"{prefix}X", X)
            X = X if learned is None else learned.encode(X, dtype, finite=True)
    elif type(X) is np.ndarray:  # a step of a few rows is worth a short way
        X = validation.matrix(f"{prefix}X", X, dtype, features or net.n_features)
    else:
        names = validation.column_names(X)
        known = features or net.n_features, net.device, columns or net.feature_names
        X = arrays.matrix(f"{prefix}X", X, dtype, *known)
    of_y, count, loss = f"{prefix}y", len(X), backends.loss(net.loss)
    y, weights = y if type(y) is np.ndarray else arrays.host(of_y, y, net.device), sample_weight
    if rows is not None:
        rows = validation.row_numbers(f"{prefix}rows", rows, count)
    if loss.targets == "numbers" or not labels.are_text(y):
        classes = net.classes
    else:
        y, classes = _indices(net, of_y, y, classes, rows, count)
    y, are_labels = validation.targets(of_y, y, dtype, count, loss, net.targets)
    if weights is not None:
        of_weights = f"{prefix}sample_weight"
        weights = arrays.host(of_weights, weights, net.device)
        weights = _seen(validation.sample_weights(of_weights, weights, dtype, count, rows, may_be_zero))
    return Data(_seen(X), _seen(y), are_labels, weights, rows, names, learned, classes)


def _seen(array):
    """A view of our own: whoever shares an array may give it another shape."""
    return array.view() if type(array) is np.ndarray else array


def _indices(net, name, y, classes, rows, count):
    """(class indices in the place of text, the classes that they stand for).

    Only `rows` count, where y has the `count` rows that it must have.
    """
    rows = rows if validation.has(y, "__len__") and len(y) == count else None
    if net.classes is not None:
        classes = net.classes
    elif classes is None:
        classes = labels.learn(name, y, rows)
        check_classes(net, name, classes)
    return labels.encode(classes, name, y, rows), classes


def check_classes(net, name, classes):
    """Refuse classes, learned from labels of this name, that are not as many as the net tells apart."""
    wanted = max(net.outputs, 2)
    if len(classes) != wanted:
        raise must_be(name, f"labels of {wanted} classes, for {net.outputs} outputs", described(f"{len(classes)}"))


def samples(net, X, device=None):
    """Rows without targets, as `predict` takes them.

    Parameters
    ----------
    net : Sequential
        Built.
    X : array-like (m, n_features)
        What the user passed.
    device : str, optional
        Where they may stand; by default that of the net.

    Returns
    -------
    array (m, n_features) or device rows
        In the net's dtype.
    """
    n_features = net.program.n_features
    if net.columns is not None:
        return net.encoding.encode(frames.table("X", X), net.dtype, finite=False)
    device = net.device if device is None else device
    return arrays.matrix("X", X, net.dtype, n_features, device, net.feature_names, False)


def encoded(net, rows, *others):
    """Data, as matrices: where they are of a Table yet, by an encoding that is learned from `rows` alone.

    Parameters
    ----------
    net : Sequential
        Which begins with Columns, where there is a Table.
    rows : Data
        To train on.
    *others : Data or None
        To validate on.

    Returns
    -------
    list of Data or None
        Of `rows`, then of the others.
    """
    if not isinstance(rows.X, frames.Table):
        return [rows, *others]
    learned = encoding.learn(net.columns, rows.X, rows.rows, rows.weights, net.dtype)
    made: dict[int, Any] = {}
    for one in (rows, *others):
        if one is not None and id(one.X) not in made:
            made[id(one.X)] = learned.encode(one.X, net.dtype, finite=True)
    given = (rows, *others)
    return [None if one is None else replace(one, X=made[id(one.X)], encoding=learned) for one in given]


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
    check_weights(data.counted_weights, parts, f"a validation_split of {share}")
    return parts


def check_weights(weights, parts, source):
    """Refuse parts of the rows that have no weight; `source`: where the parts come from, for the error."""
    if weights is not None and not all(weights[part].any() for part in parts):
        raise must_be("sample_weight", "not all zero in either part", described(f"{source} so"))


def come_in_batches(X, y):
    """Whether X is to be passed over, batch by batch: without y, and if it neither is an array nor becomes one."""
    return y is None and not (validation.has(X, "shape") or validation.has(X, "__array__"))


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
        if not validation.has(source, "__iter__") or isinstance(source, str | bytes | dict):
            raise must_be("X", accepted, described(f"a {type(source).__name__}"), TypeError)
        self._net, self._source, self._known = net, source, {}
        self._first_pass = iter(source)
        self.once = self._first_pass is source
        first = next(self._first_pass, None)
        if first is None:
            raise must_be("X", "an iterable of at least one batch", described("one that is empty"))
        self.first = self._checked(first, 0)
        self.given = first[:2]
        self._known = {"classes": self.first.classes}
        if net.columns is None:
            self._known |= {"features": self.first.X.shape[1], "columns": self.first.columns}
        self.first = encoded(net, self.first)[0]

    def __len__(self):
        """Batches of a pass as the iterable says, or 0 where it does not."""
        try:
            length = len(self._source)
        except Exception:  # it has none, or fails at it
            return 0
        return length if length <= _MOST_BATCHES else 0

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
            shape = f" of shape {quoted(batch.shape)}" if validation.has(batch, "shape") else ""
            size = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
            kind = described(f"a {type(batch).__name__}{size}{shape}")
            raise must_be(name, "(X, y) or (X, y, sample_weight)", kind, TypeError)
        net = self._net
        learns = net.standardize and net.standardization is None  # from the first batch
        learns = learns or net.columns is not None and net.encoding is None
        return check(net, *batch, prefix=f"{name}: ", may_be_zero=not learns, **self._known)
