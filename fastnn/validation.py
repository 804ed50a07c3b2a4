"""Turns what users pass into what the kernels promise to get, or says what is wrong with it."""

import contextlib
import decimal
import functools
import math
import numbers

import numpy as np

from .errors import described, must_be, quoted, unknown_name

_CHECKED_ROWS = 1 << 16  # elements checked at a time, so that a check of large data needs little memory
_FEW = 1 << 13  # elements of which BLAS takes a dot product in this thread: it starts others from 10,000 on
# Of which Python finds the greatest sooner than NumPy: on a Zen 3 EPYC `partial_fit` took 71, 74 and 86 us with 32, 64
# and 128 rows, and by NumPy 78, 77 and 84
_FEW_LABELS = 64
_EXACT = 1 << 24  # up to which float32 has every integer

_LIMIT = 1 << 63  # numbers of things are int64 to the kernels


def size(name, value, accepted="a positive int"):
    """A positive int."""
    return _integer(name, value, 1, accepted)


def count(name, value):
    """An int that is not negative."""
    return _integer(name, value, 0, "a non-negative int")


def _integer(name, value, low, accepted):
    # NumPy counts a time span among the integers
    own = type(value) is int  # as which most come: to ask whether it is a number takes longer than all else
    if not own and (isinstance(value, bool | np.timedelta64) or not isinstance(value, numbers.Integral)):
        raise must_be(name, accepted, value, TypeError)
    if not low <= value < _LIMIT:
        raise must_be(name, accepted if value < low else f"{accepted} below 2**63", value)
    return int(value)


def counter(name, value):
    """An int that is not negative, and may grow further within 64 bits."""
    if count(name, value) >= 1 << 53:
        raise must_be(name, "a non-negative int below 2**53", value)
    return int(value)


def choice(name, value, known):
    """One of some names."""
    if not isinstance(value, str) or value not in known:
        raise unknown_name(name, value, known)
    return value


def flag(name, value):
    """A bool."""
    if not isinstance(value, bool | np.bool_):
        raise must_be(name, "a bool", value, TypeError)
    return bool(value)


def number(name, value, low=None, above=None, below=None, accepted=None):
    """A finite float within bounds: low <= value, above < value, value < below."""
    kind, own = TypeError, type(value) is float
    if own or isinstance(value, numbers.Real) and not isinstance(value, bool | np.timedelta64):
        kind = ValueError
        try:
            result = float(value)
        except Exception:  # an int that no float can hold, or a number of the user's own that fails
            result = math.nan
        inside = (low is None or result >= low) and (above is None or result > above)
        if inside and (below is None or result < below) and math.isfinite(result):
            return result
    if accepted is None:
        bounds = [f">= {low:g}" if low is not None else "", f"> {above:g}" if above is not None else ""]
        bounds.append(f"< {below:g}" if below is not None else "")
        accepted = " ".join(["a finite float", " and ".join(b for b in bounds if b)]).strip()
    raise must_be(name, accepted, value, kind)


def _numeric(name, value, accepted):
    """The array of real numbers that a value is: text, dates, complex numbers and what is missing are none."""
    array = value if type(value) is np.ndarray else _array(name, value, accepted)
    if array.ndim and array.dtype.kind in "biuf":
        return array
    if array.ndim == 0:
        given = _kind_of(value) if array.dtype == object and value is not None else value
        raise must_be(name, accepted, given, TypeError)
    if array.dtype == object and all(map(_is_number, set(map(type, array.flat)))):
        with contextlib.suppress(Exception):  # an int may be too large
            return array.astype(np.float64)
    raise _no_numbers(name, accepted, value, array)


def numbers_of(name, value):
    """An array of numbers, in the dtype in which it was given."""
    return _numeric(name, value, "an array of numbers")


def _no_numbers(name, accepted, value, array):
    """The error for an array with an element that is no number; it tells the first one, where that is known."""
    objects = array if array.dtype == object or has(value, "shape") else np.asarray(value, object)
    for i, element in enumerate(objects.flat if objects.dtype == object else ()):
        number = _is_number(type(element))
        if not (number and _fits(element)):
            where = _where(np.unravel_index(i, objects.shape), column_names(value))
            given = described(f"{quoted(element)} ({type(element).__name__}) at {where}")
            return must_be(name, accepted, given, ValueError if number else TypeError)
    return must_be(name, accepted, described(f"an array of dtype {array.dtype}"), TypeError)


def _array(name, value, accepted):
    """What NumPy makes of a value that is no array of its own."""
    try:
        place = _first_masked(value)
        array = None if place else np.asarray(value.to_numpy() if has(value, "to_numpy") else value)
    except MemoryError as error:
        raise _no_memory(name, error) from None
    except Exception as error:  # whatever a library or the user's own class raises
        uneven = "inhomogeneous" in quoted(error)
        given = "rows of different lengths" if uneven else f"{_kind_of(value)} that is none: {quoted(error)}"
        raise must_be(name, accepted, described(given), ValueError if uneven else TypeError) from None
    if place:
        raise must_be(name, accepted, described(f"a masked entry at {_where(place)}"))
    return array


def _kind_of(value):
    hint = " (toarray() gives an array)" if has(value, "toarray") else ""
    return described(f"a {type(value).__name__}{hint}")


def has(value, attribute):
    """hasattr, for objects that may raise anything."""
    try:
        return hasattr(value, attribute)
    except Exception:
        return False


def _is_number(kind):
    return issubclass(kind, numbers.Real | np.bool_ | decimal.Decimal) and not issubclass(kind, np.timedelta64)


def _fits(number):
    try:
        float(number)
    except Exception:
        return False
    return True


def _first_masked(value):
    """Place of the first masked entry of a masked array or of a list of them, else None."""
    if isinstance(value, np.ma.MaskedArray):
        return next(map(tuple, np.argwhere(np.ma.getmaskarray(value))), None)
    if isinstance(value, list | tuple):
        for i, part in enumerate(value):
            place = _first_masked(part) if isinstance(part, np.ma.MaskedArray) else None
            if place is not None:
                return i, *place
    return None


def column_names(value):
    """The names of a table's columns, a tuple of str; None where it has others, or none."""
    try:
        names = tuple(value.columns)
    except Exception:  # no table
        return None
    return names if names and all(isinstance(name, str) for name in names) else None


def check_columns(name, columns, known):
    """Refuse columns whose names are not the `known` ones, in their order; their number is another matter."""
    if columns is None or known is None or columns == known or len(columns) != len(known):
        return
    present = set(columns)
    absent = [column for column in known if column not in present]
    one, other = next(pair for pair in zip(columns, known, strict=True) if pair[0] != pair[1])
    given = f"one without {absent[0]!r}" if absent else f"{one!r} in the place of {other!r}"
    raise must_be(name, "a table with the columns that the net was fitted with, in their order", described(given))


def _where(place, columns=None):
    """A place in an array, in words."""
    row, *column = map(int, place)
    names = [repr(columns[i]) if columns and i < len(columns) else i for i in column[:1]] + column[1:]
    return f"row {row}" + "".join(f", column {one}" for one in names)


def _no_memory(name, error):
    return MemoryError(f"{name} does not fit into memory: {error}")


def _finite(name, array, given, value=None):
    """Refuse NaN and infinity, naming the first row and column; and numbers that overflow the net's dtype."""
    # A step of a few rows is worth a short way: NaN, infinities and what overflows show in the sum of squares
    if array.size <= _FEW and math.isfinite(np.vdot(array, array)):
        return
    rows = max(1, _CHECKED_ROWS // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        good = np.isfinite(array[start : start + rows])
        if good.all():
            continue
        place = np.argwhere(~good)[0]
        place[0] += start
        raise not_finite(name, given[tuple(place)], place, array.dtype, column_names(value))


def not_finite(name, value, place, dtype, columns=None):
    """The error for a number at (row,) or (row, column) that is NaN, infinite, or so in the net's dtype."""
    accepted = f"within the range of {dtype}" if np.isfinite(value) else "finite"
    return must_be(name, accepted, described(f"{value} at {_where(place, columns)}"))


def _converted(name, array, dtype, copy=False):
    flags = array.flags
    if not copy and type(array) is np.ndarray and array.dtype == dtype and flags.c_contiguous and flags.aligned:
        return array  # a step of a few rows is worth a short way
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            if copy:
                return np.array(array, dtype, order="C")
            return np.require(array, dtype, ("C", "ALIGNED", "ENSUREARRAY"))
        except MemoryError as error:
            raise _no_memory(name, error) from None


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
    if type(value) is np.ndarray and value.dtype == dtype and value.ndim == 2 and value.shape[1] == n_features:
        flags = value.flags
        if flags.c_contiguous and flags.aligned and len(value) > finite:  # a row may have any stride
            if finite:
                _finite(name, value, value)
            return value  # a few rows at a time are worth a short way
    array = given = _numeric(name, value, _MATRIX)
    check_shape(name, given.shape, n_features)
    rows_apart = given.strides[0] % given.itemsize == 0 and given.strides[0] >= given.shape[1] * given.itemsize
    if given.dtype != dtype or given.strides[1] != given.itemsize or not (rows_apart and given.flags.aligned):
        array = _converted(name, given, dtype)
    if finite:
        _finite(name, array, given, value)
    return array


def _same_length(name, array, rows):
    if len(array) != rows:
        raise must_be(name, f"an array of {rows} rows, as X", described(f"{len(array)} rows"))


def targets(name, value, dtype, rows, loss, outputs):
    """Targets as a loss takes them: (array of (m,) or (m, k) in the net's dtype, whether of class indices)."""
    kind, least = loss.targets, loss.least_target
    if kind == "classes" and type(value) is np.ndarray and value.dtype.kind in "iu" and outputs <= _EXACT:
        if value.ndim == 1 and len(value) == rows <= _CHECKED_ROWS:  # a step of a few rows is worth a short way
            array = np.array(value, dtype, order="C")  # places in memory to compiled code: nobody else may change them
            least_class, last_class = _range(array)
            if least_class >= 0 and last_class < outputs:
                return array, True
    accepted = _accepted_targets(kind, least, outputs)
    given = _numeric(name, value, accepted)
    _same_length(name, given, rows)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    columns = given.shape[1] if given.ndim == 2 else 1
    labels = kind == "classes" and given.ndim == 1
    if given.ndim > 2 or not (columns == outputs or labels):
        raise must_be(name, accepted, described(f"an array of shape {given.shape}"))
    array = _converted(name, given, dtype, copy=labels)
    _finite(name, array, given)
    if labels:
        wrong = (array < 0) | (array >= outputs) | (array != np.floor(array)) | (array != given)
    elif kind != "numbers":
        wrong = (array < 0) | (array > 1)
    elif least is not None:
        wrong = array < least
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


def _range(array):
    """The least and the greatest of (m,): of few by Python, since a reduction of NumPy takes 3 us at least."""
    if len(array) > _FEW_LABELS:
        return np.minimum.reduce(array), np.maximum.reduce(array)
    numbers = array.tolist()
    return min(numbers), max(numbers)


@functools.cache
def _accepted_targets(kind, least, outputs):
    """What a loss takes, in words."""
    return {
        "probabilities": f"labels in [0, 1], of shape (m,) or (m, {outputs})",
        "classes": f"class indices 0 to {outputs - 1} of shape (m,), or one-hot rows of shape (m, {outputs})",
        "numbers": f"numbers{'' if least is None else f' >= {least:g}'} of shape (m,) or (m, {outputs})",
    }[kind]


def row_numbers(name, value, rows):
    """Numbers (r,) of some of `rows` rows, int64; None stays None."""
    if value is None:
        return None
    accepted = f"None or a 1-D array of at least one int from 0 to {rows - 1}"
    given = _numeric(name, value, accepted)
    if given.ndim != 1 or not len(given):
        raise must_be(name, accepted, described(f"an array of shape {given.shape}"))
    if given.dtype.kind not in "iu":
        hint = "; np.flatnonzero gives the numbers" if given.dtype.kind == "b" else ""
        raise must_be(name, accepted, described(f"an array of dtype {given.dtype}{hint}"), TypeError)
    given = _converted(name, given, given.dtype, copy=True)  # places in memory to compiled code, too
    outside = (given < 0) | (given >= rows)
    if outside.any():
        place = int(np.argmax(outside))
        raise must_be(name, accepted, described(f"{given[place]} at place {place}"))
    return np.ascontiguousarray(given, np.int64)


def sample_weights(name, value, dtype, count, rows=None, may_be_zero=False):
    """Weights (count,), not negative, with a sum above zero in `rows` (None: everywhere); None stays None."""
    if value is None:
        return None
    accepted = f"None or non-negative finite numbers of shape (m,){_mass(dtype)}"
    given = _numeric(name, value, accepted)
    if given.ndim != 1:
        raise must_be(name, accepted, described(f"an array of shape {given.shape}"))
    _same_length(name, given, count)
    array = _converted(name, given, dtype)
    _finite(name, array, given)
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise must_be(name, accepted, described(f"{given[row]} at row {row}"))
    if not (may_be_zero and not array.any()):
        _check_mass(name, accepted, array, rows)
    return array


def check_total_weight(name, weights, total):
    """Refuse weights whose sum over all rows, `total` of them, is none to divide by."""
    _check_mass(name, f"numbers{_mass(weights.dtype)}", weights, None, total)


def _mass(dtype):
    return f", whose sum is positive and within the range of {dtype}"


def _check_mass(name, accepted, weights, rows, total=None):
    """Refuse weights by whose sum nothing can be divided."""
    with np.errstate(over="ignore"):
        mass = _total_of(total, rows)(lambda these: weights[these].sum(dtype=np.float64))
    limits = np.finfo(weights.dtype)
    if not limits.tiny <= mass <= limits.max:
        raise must_be(name, accepted, described(f"a sum of {mass:g}" if mass else "zeros only"))


def _total_of(total, rows):
    """What gives the sum of f(rows) over all rows that count: the `Dealt.total` where there is one."""
    return total or (lambda function: function(slice(None) if rows is None else rows))


@np.errstate(over="ignore", invalid="ignore")  # what overflows has no finite sum
def class_weights(value, y, labels, outputs, dtype, rows=None, weights=None, total=None):
    """Weights (m,) by class, times `weights`, in a dtype.

    "balanced" counts the classes of `rows` (None: of all) by `weights`: a row of weight 2 is two rows. `total`: the
    `Dealt.total` of the rows, where these are not all.
    """
    accepted = "None, 'balanced' or a dict from class to non-negative weight, with class labels as y"
    single = labels or (y.ndim == 1 and bool(np.isin(y, (0, 1)).all()))
    one_hot = (
        not labels and y.ndim == 2 and outputs > 1 and bool((y.sum(axis=1) == 1).all() and np.isin(y, (0, 1)).all())
    )
    if not (single or one_hot):
        raise must_be("class_weight", accepted, described(f"{quoted(value)} for targets that are not classes"))
    classes = (y if single else y.argmax(axis=1)).astype(np.int64)
    count = max(outputs, 2)
    weights = np.ones(len(y)) if weights is None else weights.astype(np.float64)
    if isinstance(value, str):
        if value != "balanced":
            raise must_be("class_weight", accepted, value)
        counts = _total_of(total, rows)(lambda these: np.bincount(classes[these], weights[these], count))
        table = counts.sum() / np.count_nonzero(counts) / np.where(counts > 0, counts, np.inf)
    elif isinstance(value, dict):
        table = np.ones(count)
        for label, weight in value.items():
            if isinstance(label, bool) or not isinstance(label, numbers.Integral) or not 0 <= label < count:
                raise must_be("class_weight", f"a dict with classes 0 to {count - 1} as keys", label)
            table[label] = number(f"class_weight[{label}]", weight, low=0.0)
    else:
        raise must_be("class_weight", accepted, value, TypeError)
    array = (table[classes] * weights).astype(dtype)
    _check_mass("class_weight", f"weights that, times sample_weight, are finite{_mass(dtype)}", array, rows, total)
    return array


def numeric_array(name, value, shape, dtype):
    """A finite array of exactly this shape, in the net's dtype."""
    accepted = f"an array of shape {shape}"
    given = _numeric(name, value, accepted)
    if given.shape != shape:
        raise must_be(name, accepted, described(f"shape {given.shape}"))
    array = _converted(name, given, dtype)
    _finite(name, array, given)
    return array


def names(name, value, count):
    """Names of `count` columns, a tuple of str; None stays None."""
    if value is None:
        return None
    accepted = f"None or a sequence of {count} str"
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise must_be(name, accepted, value, TypeError)
    if len(value) != count:
        raise must_be(name, accepted, described(f"{len(value)} names"))
    return tuple(value)
