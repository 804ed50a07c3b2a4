"""Turns what users pass into what the kernels promise to get, or says what is wrong with it."""

import math
import numbers

import numpy as np

from .errors import described, must_be

_CHECKED_ROWS = 1 << 16  # elements checked at a time, so that a check of large data needs little memory


def size(name, value):
    """A positive int."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise must_be(name, "a positive int", value, TypeError)
    if value < 1:
        raise must_be(name, "a positive int", value)
    return int(value)


def count(name, value):
    """An int that is not negative."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise must_be(name, "a non-negative int", value, TypeError)
    if value < 0:
        raise must_be(name, "a non-negative int", value)
    return int(value)


def counter(name, value):
    """An int that is not negative, and may grow further within 64 bits."""
    if count(name, value) >= 1 << 53:
        raise must_be(name, "a non-negative int below 2**53", value)
    return int(value)


def flag(name, value):
    """A bool."""
    if not isinstance(value, bool | np.bool_):
        raise must_be(name, "a bool", value, TypeError)
    return bool(value)


def number(name, value, low=None, above=None, below=None, accepted=None):
    """A finite float within bounds: low <= value, above < value, value < below."""
    kind = TypeError
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        kind = ValueError
        try:
            result = float(value)
        except OverflowError:  # an int beyond all floats
            result = math.inf
        inside = (low is None or result >= low) and (above is None or result > above)
        if inside and (below is None or result < below) and math.isfinite(result):
            return result
    if accepted is None:
        bounds = [f">= {low:g}" if low is not None else "", f"> {above:g}" if above is not None else ""]
        bounds.append(f"< {below:g}" if below is not None else "")
        accepted = " ".join(["a finite float", " and ".join(b for b in bounds if b)]).strip()
    raise must_be(name, accepted, value, kind)


def _numeric(name, value, accepted):
    if hasattr(value, "to_numpy"):  # pandas: mixed columns become one dtype
        value = value.to_numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        raise must_be(name, accepted, described("rows of different lengths")) from None
    if array.ndim == 0:
        given = described(f"a {type(value).__name__}") if array.dtype == object and value is not None else value
        raise must_be(name, accepted, given, TypeError)
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise must_be(name, accepted, described("an array of objects"), TypeError) from None
    if array.dtype.kind not in "biuf":
        raise must_be(name, accepted, described(f"an array of dtype {array.dtype}"), TypeError)
    return array


def numbers_of(name, value):
    """An array of numbers, in the dtype in which it was given."""
    return _numeric(name, value, "an array of numbers")


def _finite(name, array, given):
    """Refuse NaN and infinity, naming the first row and column; and numbers that overflow the net's dtype."""
    rows = max(1, _CHECKED_ROWS // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        good = np.isfinite(array[start : start + rows])
        if good.all():
            continue
        place = np.argwhere(~good)[0]
        place[0] += start
        raise not_finite(name, given[tuple(place)], place, array.dtype)


def not_finite(name, value, place, dtype):
    """The error for a number at (row,) or (row, column) that is NaN, infinite, or so in the net's dtype."""
    where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
    accepted = f"within the range of {dtype}" if np.isfinite(value) else "finite"
    return must_be(name, accepted, described(f"{value} at {where}"))


def _converted(array, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype)


_MATRIX = "a 2-D array of numbers (samples x features)"


def check_shape(name, shape, n_features):
    """Refuse what is no matrix, is empty, or has another number of features than the net."""
    if len(shape) != 2:
        raise must_be(name, _MATRIX, described(f"an array of shape {shape}"))
    if 0 in shape:
        raise must_be(name, "an array of at least one sample and one feature", described(f"shape {shape}"))
    if n_features is not None and shape[1] != n_features:
        raise must_be(
            name, f"an array of {n_features} features, as the net was built", described(f"{shape[1]} features")
        )


def matrix(name, value, dtype, n_features=None, finite=True):
    """A (m, n) array of samples in the net's dtype, with consecutive columns; copied only where it must be."""
    if type(value) is np.ndarray and not finite and value.dtype == dtype and value.flags.c_contiguous:
        if value.ndim == 2 and value.shape[1] == n_features and len(value):
            return value  # one row at a time is worth a short way
    array = given = _numeric(name, value, _MATRIX)
    check_shape(name, given.shape, n_features)
    rows_apart = given.strides[0] % given.itemsize == 0 and given.strides[0] >= given.shape[1] * given.itemsize
    if given.dtype != dtype or given.strides[1] != given.itemsize or not rows_apart:
        array = _converted(given, dtype)
    if finite:
        _finite(name, array, given)
    return array


def _same_length(name, array, rows):
    if len(array) != rows:
        raise must_be(name, f"an array of {rows} rows, as X", described(f"{len(array)} rows"))


def targets(name, value, dtype, rows, kind, outputs):
    """Targets of a kind (`formulas.Loss`): (array of (m,) or (m, k) in the net's dtype, whether of class indices)."""
    accepted = {
        "probabilities": f"labels in [0, 1], of shape (m,) or (m, {outputs})",
        "classes": f"class indices 0 to {outputs - 1} of shape (m,), or one-hot rows of shape (m, {outputs})",
        "numbers": f"numbers of shape (m,) or (m, {outputs})",
    }[kind]
    given = _numeric(name, value, accepted)
    _same_length(name, given, rows)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    columns = given.shape[1] if given.ndim == 2 else 1
    labels = kind == "classes" and given.ndim == 1
    if given.ndim > 2 or not (columns == outputs or labels):
        raise must_be(name, accepted, described(f"an array of shape {given.shape}"))
    array = _converted(given, dtype)
    _finite(name, array, given)
    if labels:
        wrong = (array < 0) | (array >= outputs) | (array != np.floor(array))
    elif kind != "numbers":
        wrong = (array < 0) | (array > 1)
    else:
        return array, labels
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        raise must_be(name, accepted, described(f"{given[place]} at row {place[0]}"))
    if array.ndim == 2 and kind == "classes":
        sums = array.sum(axis=1, dtype=np.float64)
        bad = np.flatnonzero(abs(sums - 1) > 1e-3)
        if bad.size:
            raise must_be(name, accepted, described(f"a row that sums to {sums[bad[0]]:g} at row {bad[0]}"))
    return array, labels


def row_numbers(name, value, rows):
    """Numbers (r,) of some of `rows` rows, int64; None stays None."""
    if value is None:
        return None
    accepted = f"None or a 1-D array of at least one int from 0 to {rows - 1}"
    given = _numeric(name, value, accepted)
    if given.ndim != 1 or not len(given):
        raise must_be(name, accepted, described(f"an array of shape {given.shape}"))
    if given.dtype.kind not in "iu":
        raise must_be(name, accepted, described(f"an array of dtype {given.dtype}"), TypeError)
    outside = (given < 0) | (given >= rows)
    if outside.any():
        place = int(np.argmax(outside))
        raise must_be(name, accepted, described(f"{given[place]} at place {place}"))
    return np.ascontiguousarray(given, np.int64)


def sample_weights(name, value, dtype, count, rows=None):
    """Weights (count,), not negative, not all zero in `rows` (None: everywhere); None stays None."""
    if value is None:
        return None
    accepted = "None or non-negative finite numbers of shape (m,), not all zero"
    given = _numeric(name, value, accepted)
    if given.ndim != 1:
        raise must_be(name, accepted, described(f"an array of shape {given.shape}"))
    _same_length(name, given, count)
    array = _converted(given, dtype)
    _finite(name, array, given)
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise must_be(name, accepted, described(f"{given[row]} at row {row}"))
    if not (array if rows is None else array[rows]).any():
        raise must_be(name, accepted, described("zeros only"))
    return array


def class_weights(value, y, labels, outputs, rows=None):
    """Weight of each sample by its class, float64, or None; "balanced" counts the classes of `rows` (None: of all)."""
    if value is None:
        return None
    accepted = "None, 'balanced' or a dict from class to non-negative weight, with class labels as y"
    single = labels or (y.ndim == 1 and bool(np.isin(y, (0, 1)).all()))
    one_hot = (
        not labels and y.ndim == 2 and outputs > 1 and bool((y.sum(axis=1) == 1).all() and np.isin(y, (0, 1)).all())
    )
    if not (single or one_hot):
        raise must_be("class_weight", accepted, described(f"{value!r} for targets that are not classes"))
    classes = (y if single else y.argmax(axis=1)).astype(np.int64)
    count = max(outputs, 2)
    if isinstance(value, str):
        if value != "balanced":
            raise must_be("class_weight", accepted, value)
        counted = classes if rows is None else classes[rows]
        counts = np.bincount(counted, minlength=count)
        table = len(counted) / (np.count_nonzero(counts) * np.maximum(counts, 1.0))
    elif isinstance(value, dict):
        table = np.ones(count)
        for label, weight in value.items():
            if isinstance(label, bool) or not isinstance(label, numbers.Integral) or not 0 <= label < count:
                raise must_be("class_weight", f"a dict with classes 0 to {count - 1} as keys", label)
            table[label] = number(f"class_weight[{label}]", weight, low=0.0)
    else:
        raise must_be("class_weight", accepted, value, TypeError)
    return table[classes]


def numeric_array(name, value, shape, dtype):
    """A finite array of exactly this shape, in the net's dtype."""
    accepted = f"an array of shape {shape}"
    given = _numeric(name, value, accepted)
    if given.shape != shape:
        raise must_be(name, accepted, described(f"shape {given.shape}"))
    array = _converted(given, dtype)
    _finite(name, array, given)
    return array
