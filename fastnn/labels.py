"""Labels of any kind, such as text, as class numbers, and which label each class is."""

import numpy as np

from . import cells
from .errors import described, must_be, quoted
from .validation import has

_ACCEPTED = "labels (text, numbers or booleans), none of them missing"


def learn(name, y, rows=None):
    """All classes of labels.

    Parameters
    ----------
    name : str
        Of the argument, for errors.
    y : array-like (m,)
        Labels: text, numbers or booleans.
    rows : array (r,) of int, optional
        Numbers of the rows that count; by default all.

    Returns
    -------
    array (c,)
        The different labels, sorted: text, int64, float64 or bool.

    Raises
    ------
    TypeError, ValueError
        For labels that are missing, of several kinds, or none.
    """
    values = _checked(name, y, rows)
    if values.kind == "text":
        return np.array(sorted(values.levels[place] for place in np.unique(values.array)))
    return np.unique(values.array)


def encode(classes, name, y, rows=None):
    """The class numbers of labels.

    Parameters
    ----------
    classes : array (c,)
        From `learn`.
    name : str
        Of the argument, for errors.
    y : array-like (m,)
        Labels.
    rows : array (r,) of int, optional
        Numbers of the rows that count; by default all. Others need not have a known label, and get class 0.

    Returns
    -------
    array (m,), int64
        Places in `classes`.

    Raises
    ------
    TypeError, ValueError
        For a label that is not one of the classes; it tells the first.
    """
    counted = _checked(name, y, rows)
    values = counted if rows is None else cells.values(name, y)
    text = classes.dtype.kind == "U"
    if (counted.kind == "text") != text:
        raise _unknown(classes, name, counted, 0, rows, TypeError)
    if text:
        numbers = {label: number for number, label in enumerate(classes.tolist())}
        found = np.array([numbers.get(level, -1) for level in values.levels], np.int64)[values.array]
    elif values.kind == "nothing" or values.kind == "text":
        found = np.full(len(values.array), -1)
    else:
        places = np.minimum(np.searchsorted(classes, values.array), len(classes) - 1)
        found = np.where(classes[places] == values.array, places, -1)
    of_rows = found if rows is None else found[rows]
    if (of_rows < 0).any():
        raise _unknown(classes, name, counted, int(np.argmax(of_rows < 0)), rows, ValueError)
    return np.maximum(found, 0)


def _checked(name, y, rows):
    """Values of the labels that count, none of them missing."""
    values = cells.values(name, y)
    if not len(values.array):
        raise must_be(name, _ACCEPTED, described("none"))
    if values.kind == "times":
        row = int(np.argmin(values.missing))
        raise must_be(name, _ACCEPTED, described(f"{quoted(values.shown(row))} at row {row}"), TypeError)
    missing = values.missing if rows is None else values.missing[rows]
    if missing.any():
        row = int(np.argmax(missing)) if rows is None else int(rows[np.argmax(missing)])
        raise must_be(name, _ACCEPTED, described(f"one that is missing at row {row}"))
    return values if rows is None else values.taken(rows)


def _unknown(classes, name, values, place, rows, kind):
    row = place if rows is None else int(rows[place])
    given = described(f"{quoted(values.shown(place))} at row {row}")
    return must_be(name, f"of the classes {quoted(classes.tolist())}", given, kind)


def are_text(y):
    """Whether labels are text: what no number stands for."""
    if isinstance(y, np.ndarray) and y.dtype.kind in "biuf":
        return False
    if isinstance(y, str | bytes) or not has(y, "__iter__"):
        return False
    try:
        return isinstance(next((label for label in y if label is not None), None), str)
    except Exception:  # whatever a class of the user's own raises; what it is becomes clear when it is read
        return False


def checked(name, value, count):
    """An array of `count` classes, different text in order, that cannot be written to."""
    accepted = f"a list of {count} different labels, sorted"
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(label, str) for label in listed):
        raise must_be(name, accepted, value, TypeError)
    if len(listed) != count or list(listed) != sorted(set(listed)):
        raise must_be(name, accepted, value)
    found = np.array(listed)
    found.flags.writeable = False
    return found


def by_index(name, weights, classes):
    """The weights of classes, given by label, by class number."""
    if not isinstance(weights, dict):
        return weights
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    for label in weights:
        if label not in numbers:
            raise must_be(name, f"a dict with keys among {quoted(list(numbers))}", label)
    return {numbers[label]: weight for label, weight in weights.items()}
