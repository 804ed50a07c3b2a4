"""The cells of a column, whatever it stood in, as one of four kinds: numbers, booleans, text or times.

None, NaN, NA, NaT, masked entries and empty text are missing.
"""

import collections
import contextlib
import datetime
import decimal
import numbers
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import described, must_be, quoted
from .validation import has

_ACCEPTED = "numbers, text, booleans, dates or missing values"
_NO_VALUES = {"NoneType", "NAType", "NaTType"}  # of pandas, too, which need not be here to be known


class Values(NamedTuple):
    """A column of m cells.

    Parameters
    ----------
    kind : str
        "numbers", "booleans", "text", "times", or "nothing" where all cells are missing.
    array : array (m,)
        Floats or int64, bool, places (int64) in `levels`, or datetime64[us]; anything where a cell is missing.
    missing : array (m,), bool
        Which cells are.
    levels : list of str
        Distinct text.
    listed : bool
        Whether the table itself says that its values are those of a list, as categoricals of pandas and polars are.
    """

    kind: str
    array: NDArray[Any]
    missing: NDArray[np.bool_]
    levels: list[str]
    listed: bool = False

    def taken(self, rows: Any) -> "Values":
        """Those of some rows.

        Parameters
        ----------
        rows : slice or array of int
            Which.

        Returns
        -------
        Values
            Of the same kind, or "nothing" where all of theirs are missing.
        """
        missing = self.missing[rows]
        kind = "nothing" if missing.all() else self.kind
        return self._replace(kind=kind, array=self.array[rows], missing=missing)

    def shown(self, row: int) -> Any:
        """The value of a row, for an error.

        Parameters
        ----------
        row : int
            Its number.

        Returns
        -------
        object
            Of Python, where it has one.
        """
        value = self.array[row]
        return self.levels[value] if self.kind == "text" else value.item()


def array_of(where, value, dimensions=1):
    """An array of some dimensions; cells that NumPy would make alike stay objects."""
    try:
        if isinstance(value, np.ndarray):
            array = value
        elif isinstance(value, list | tuple | range):
            array = np.fromiter(value, object, len(value))
        else:
            array = np.asarray(value.to_numpy() if has(value, "to_numpy") else value)
    except MemoryError:
        raise
    except Exception as error:  # whatever a library raises
        given = described(f"a {type(value).__name__} that is none: {quoted(error)}")
        raise must_be(where, f"a {dimensions}-D array or a list", given, TypeError) from None
    if array.ndim != dimensions:
        given = described(f"an array of shape {array.shape}" if array.ndim else quoted(value))
        raise must_be(where, f"a {dimensions}-D array" + " or a list" * (dimensions == 1), given)
    return array


def values(where, value):
    """Values of an array or list, as those of a column.

    Parameters
    ----------
    where : str
        Its name in errors.
    value : array-like (m,)
        Numbers, text, booleans, dates, or missing.

    Returns
    -------
    Values
        Views where they can be.
    """
    return _values(where, array_of(where, value))


def _values(where, array):
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    array, kind = np.asarray(array), array.dtype.kind
    if array.ndim != 1:
        raise must_be(where, "of one value a cell", described(f"cells of shape {array.shape[1:]}"))
    if kind == "O":
        if masked is not None:
            array = np.where(masked, None, array)
        return _of_objects(where, array)
    if kind not in "biufUTmM":
        raise _no_cells(where, array)
    if kind in "UT":
        found = _of_text(array.tolist())
    elif kind == "M":
        found = _of_times(where, array)
    else:
        found = _of_numbers(where, array)
    missing = found.missing if masked is None else found.missing | masked
    return found._replace(missing=missing, kind="nothing" if missing.all() else found.kind)


def _no_cells(where, array):
    """The error for an array of another dtype."""
    return must_be(where, _ACCEPTED, described(f"an array of dtype {array.dtype}"), TypeError)


def _of_numbers(where, array):
    kind = array.dtype.kind
    if kind == "m":
        missing = np.isnat(array)
        if np.datetime_data(array.dtype)[0] in ("Y", "M", "generic"):  # which are no certain number of seconds
            raise _no_cells(where, array)
        return Values("numbers", array.astype("m8[us]") / np.timedelta64(1, "s"), missing, [])
    if kind == "f":
        array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
        return Values("numbers", array, np.isnan(array), [])
    if kind == "u" and array.dtype.itemsize == 8 and (array > np.iinfo(np.int64).max).any():
        row = int(np.argmax(array > np.iinfo(np.int64).max))
        raise _too_large(where, array[row].item(), row)
    missing, whole = np.zeros(len(array), bool), array if kind == "b" else array.astype(np.int64, copy=False)
    return Values("booleans" if kind == "b" else "numbers", whole, missing, [])


def _too_large(where, value, row):
    accepted = "whole numbers below 2**63 (larger ones can be given as text)"
    return must_be(where, accepted, described(f"{quoted(value)} at row {row}"))


def _of_times(where, array, first=0):
    """Times as datetime64[us], from row number `first` on; a coarser unit can hold what that cannot."""
    missing = np.isnat(array)
    if np.datetime_data(array.dtype)[0] == "generic" and not missing.all():
        raise _no_cells(where, array)
    years = np.where(missing, 0, array.astype("datetime64[Y]").astype(np.int64)) + 1970
    wrong = ~missing & ((years < 1) | (years > 9999))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise must_be(where, "dates of the years 1 to 9999", described(f"year {years[at]} at row {first + at}"))
    return Values("times", array.astype("datetime64[us]"), missing, [])


def _of_text(cells):
    """Text as places in the list of its distinct values; None where other cells are not missing."""
    places: Any = collections.defaultdict()
    places.default_factory = places.__len__
    codes = np.fromiter(map(places.__getitem__, cells), np.int64, len(cells))
    if not all(isinstance(cell, str) or type(cell).__name__ in _NO_VALUES or _is_nan(cell) for cell in places):
        return None
    levels = [str(value) if isinstance(value, str) else "" for value in places]
    missing = np.array([not level for level in levels], bool)[codes]
    return Values("nothing" if missing.all() else "text", codes, missing, levels)


def _kind_of(kind):
    """What cells of a type are: "numbers" and so on, None where they are missing or NaN may be, else its name."""
    if kind.__name__ in _NO_VALUES:
        return None
    for name, types in (
        ("text", str),
        ("booleans", bool | np.bool_),
        ("times", datetime.date | np.datetime64),
        ("numbers", numbers.Real | decimal.Decimal),
    ):
        if issubclass(kind, types) and not issubclass(kind, np.timedelta64):
            return name
    return kind.__name__


def _of_objects(where, objects):
    """Values of Python objects, all of one kind but those that are missing."""
    cells = objects.tolist()
    if isinstance(next((cell for cell in cells if cell is not None), None), str):
        with contextlib.suppress(TypeError):  # cells such as lists
            if (found := _of_text(cells)) is not None:  # one pass, as most columns are text
                return found
    types = {kind: _kind_of(kind) for kind in set(map(type, cells))}
    for kind, name in types.items():
        if name not in (None, "text", "booleans", "times", "numbers"):
            row = next(i for i, cell in enumerate(cells) if type(cell) is kind)
            raise must_be(where, _ACCEPTED, described(f"{quoted(cells[row])} ({name}) at row {row}"), TypeError)
    present = set(types.values()) - {None}
    for name in sorted(present):  # NaN, a float, and empty text stand in columns of any kind
        if len(present) > 1 and all(map(_is_gap, (cell for cell in cells if types[type(cell)] == name))):
            present.remove(name)
    if len(present) > 1:
        raise _mixed(where, cells, types)
    kind = present.pop() if present else "text"
    if kind == "text":
        return _of_text([cell if isinstance(cell, str) else None for cell in cells])
    gaps = np.fromiter((types[type(cell)] != kind or _is_gap(cell) for cell in cells), bool, len(cells))
    kept = np.flatnonzero(~gaps).tolist()
    array = _filled(where, kind, [cells[i] for i in kept], kept)
    filled = np.zeros(len(cells), array.dtype)
    filled[kept] = array
    return Values(kind if kept else "nothing", filled, gaps, [])


def _is_nan(cell):
    return isinstance(cell, float) and cell != cell


def _is_gap(cell):
    """Whether a cell that is not None or the like is missing all the same."""
    try:
        return bool(cell != cell or cell == "")
    except ArithmeticError:  # a signalling NaN
        return True


def _mixed(where, cells, types):
    """The error for cells of more than one kind; it tells two of them."""
    kept = (i for i, cell in enumerate(cells) if types[type(cell)] is not None and not _is_gap(cell))
    first = next(kept)
    other = next(i for i in kept if types[type(cells[i])] != types[type(cells[first])])
    given = f"{quoted(cells[first])} at row {first} and {quoted(cells[other])} at row {other}"
    return must_be(where, "values of one kind (numbers, text, booleans or dates)", described(given), TypeError)


def _filled(where, kind, cells, rows):
    """Cells of one kind, none of them missing, as an array."""
    if kind == "booleans":
        return np.array(cells, bool)
    if kind == "times":
        return np.array([_time(where, cell, row) for cell, row in zip(cells, rows, strict=True)], "datetime64[us]")
    whole = all(isinstance(cell, numbers.Integral) for cell in cells)
    with np.errstate(over="ignore"):  # a long double becomes infinite
        found = [_number(where, cell, row, whole) for cell, row in zip(cells, rows, strict=True)]
    return np.array(found, np.int64 if whole else np.float64)


def _number(where, cell, row, whole):
    """A number as one of Python that int64 or float64 holds."""
    try:
        number = int(cell) if whole else float(cell)
    except OverflowError:
        raise _too_large(where, cell, row) from None
    if whole and not -(1 << 63) <= number < 1 << 63:
        raise _too_large(where, cell, row)
    return number


def _time(where, cell, row):
    """A time without its zone, of a year that microseconds can hold."""
    if isinstance(cell, np.datetime64):
        return _of_times(where, np.array([cell]), row).array[0]
    return cell.replace(tzinfo=None) if isinstance(cell, datetime.datetime) else cell


def wrong_kind(where, values, accepted):
    """The error for a column of values of another kind; it tells the first."""
    row = int(np.argmin(values.missing))
    return must_be(where, accepted, described(f"{quoted(values.shown(row))} at row {row}"), TypeError)
