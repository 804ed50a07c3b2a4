"""How rows are cut into parts to train on and parts to judge by."""

import numbers

import numpy as np

from . import data, validation
from .errors import described, must_be

_ACCEPTED = (
    "an int of at least 2, a splitter of scikit-learn, or an iterable of pairs (rows to train on, rows held out)"
)


def make(cv, rows, X, y, kind, shuffle, seed):
    """The folds of a cross-validation.

    Parameters
    ----------
    cv : int, splitter or iterable
        As `Sweep.fit` takes it.
    rows : data.Data
        All rows.
    X, y : array-like
        As the user gave them, for a splitter.
    kind : str
        Of the targets, as `formulas.Loss` has it.
    shuffle : bool
        Whether folds by number are random.
    seed : int
        Chooses them.

    Returns
    -------
    list of (array, array) of int64
        Rows to train on and rows held out, of each fold.
    """
    labels = _labels(rows, kind)
    if isinstance(cv, numbers.Integral) and not isinstance(cv, bool):
        count = validation.size("cv", cv)
        if not 2 <= count <= len(rows):
            raise must_be("cv", f"from 2 to the {len(rows)} rows", cv)
        order = np.random.default_rng(seed).permutation(len(rows)) if shuffle else np.arange(len(rows))
        held = _by_number(count, order, labels)
        found = [(np.flatnonzero(held != fold), np.flatnonzero(held == fold)) for fold in range(count)]
    elif validation.has(cv, "split") and not isinstance(cv, str | bytes):
        found = list(cv.split(X, y))
    elif isinstance(cv, list | tuple) or validation.has(cv, "__next__"):
        found = list(cv)
    else:
        raise must_be("cv", _ACCEPTED, cv, TypeError)
    if not found:
        raise must_be("cv", _ACCEPTED, described("no fold"))
    return [_checked(i, pair, rows, labels) for i, pair in enumerate(found)]


def _labels(rows, kind):
    """The class of each row, or None where targets are no classes."""
    y = rows.targets
    if kind == "classes":
        return y.astype(np.int64) if y.ndim == 1 else y.argmax(axis=1)
    whole = kind == "probabilities" and y.ndim == 1 and np.isin(y, (0, 1)).all()
    return y.astype(np.int64) if whole else None


def _by_number(count, order, labels):
    """The fold that holds each row out: a class is spread over all of them."""
    held = np.empty(len(order), np.int64)
    if labels is None:
        held[order] = np.arange(len(order)) * count // len(order)
        return held
    start = 0
    for label in np.unique(labels):
        own = order[labels[order] == label]
        if len(own) < count:
            given = described(f"{count} with {len(own)} rows of class {label}")
            raise must_be("cv", "at most the number of rows of each class", given)
        held[own] = (start + np.arange(len(own))) % count
        start += len(own)
    return held


def _checked(number, pair, rows, labels):
    """A fold whose parts can be trained on and judged by."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise must_be(f"fold {number} of cv", "a pair (rows to train on, rows held out)", pair, TypeError)
    parts = [
        validation.row_numbers(f"fold {number} of cv, {what}", part, len(rows))
        for what, part in zip(("rows to train on", "rows held out"), pair, strict=True)
    ]
    if any(part is None for part in parts):
        raise must_be(f"fold {number} of cv", "a pair (rows to train on, rows held out)", pair, TypeError)
    if labels is not None:
        absent = np.setdiff1d(labels, labels[parts[0]])
        if absent.size:
            given = described(f"one without class {absent[0]} in fold {number}")
            raise must_be("cv", "folds with every class among the rows to train on", given)
    data.check_weights(rows.counted_weights, parts, f"fold {number} of cv")
    return parts
