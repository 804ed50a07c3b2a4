"""Tables as people have them: frames of any library, dicts, structured and plain arrays, read column by column.

A column comes out as one of four kinds of values, whatever it stood in: numbers, booleans, text or times. None, NaN,
NA, NaT, masked entries and empty text are missing.
"""

import collections
import contextlib
import datetime
import decimal
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import described, misspelt, must_be, quoted
from .validation import column_names, has

_ACCEPTED = "a DataFrame, a dict of arrays, a structured array, a 2-D array or a sequence of rows"
_CELLS = "numbers, text, booleans, dates or missing values"
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


class Table:
    """Columns of one length, read when they are first asked for.

    Parameters
    ----------
    argument : str
        Name of the argument that gave it, for errors.
    names : tuple of str or None
        Of the columns; None where they are known by their places.
    width, rows : int
        Columns and rows.
    read : callable
        From the place of a column to its Values.
    """

    def __init__(
        self, argument: str, names: tuple[str, ...] | None, width: int, rows: int, read: Callable[[int], Values]
    ) -> None:
        self.argument, self.names, self.width, self._rows, self._read = argument, names, width, rows, read
        self._known: dict[int, Values] = {}

    def __len__(self) -> int:
        return self._rows

    def values(self, place: int) -> Values:
        """A column.

        Parameters
        ----------
        place : int
            Its place.

        Returns
        -------
        Values
            Its cells.
        """
        if place not in self._known:
            self._known[place] = self._read(place)
        return self._known[place]

    def places(self, names: tuple[str, ...]) -> list[int]:
        """Where columns stand.

        Parameters
        ----------
        names : tuple of str
            Their names; in a table without names the i-th is column i.

        Returns
        -------
        list of int
            For `values`.

        Raises
        ------
        ValueError
            For a column that is not there, and for another number of columns where they have no names.
        """
        if self.names is None:
            if self.width != len(names):
                accepted = f"of {len(names)} columns where they have no names ({', '.join(names)})"
                raise must_be(self.argument, accepted, described(f"{self.width} columns"))
            return list(range(self.width))
        places = {name: place for place, name in enumerate(self.names)}
        for name in names:
            if name not in places:
                near = misspelt(name, self.names).removeprefix(quoted(name))
                given = f"one of {len(self.names)} columns without it{near.replace('did you mean', 'but with')}"
                raise must_be(self.argument, f"a table with the column {name!r}", described(given.replace("?)", ")")))
        return [places[name] for name in names]

    def taken(self, rows: Any) -> "Table":
        """Some of its rows.

        Parameters
        ----------
        rows : slice or array of int
            Which.

        Returns
        -------
        Table
            Of their copies, made column by column when they are asked for.
        """
        count = len(range(*rows.indices(len(self)))) if isinstance(rows, slice) else len(rows)
        return Table(self.argument, self.names, self.width, count, lambda place: self.values(place).taken(rows))


def table(argument, value):
    """A Table of what a user passes.

    Parameters
    ----------
    argument : str
        Its name in errors.
    value : object
        A DataFrame of any library that narwhals knows, a dict from names to 1-D arrays or lists, a structured array, a
        2-D array, a sequence of rows, or a Table.

    Returns
    -------
    Table
        Nothing is copied yet.

    Raises
    ------
    ImportError
        For a DataFrame, where narwhals is not installed.
    TypeError, ValueError
        For what is no table, is empty, or has columns of one name or of different lengths.
    """
    if isinstance(value, Table):
        return value
    if isinstance(value, Mapping):
        return _of_mapping(argument, value)
    if not isinstance(value, np.ndarray) and _is_frame(value):
        return _of_frame(argument, value)
    if isinstance(value, np.ndarray) and value.dtype.names:
        if value.ndim != 1:
            raise must_be(argument, "a structured array of one dimension", described(f"shape {value.shape}"))
        names = value.dtype.names
        return _made(argument, names, len(names), len(value), lambda place: value[names[place]])
    return _of_rows(argument, value)


def _is_frame(value):
    """Whether it is a table with named columns; nothing is imported to find out."""
    marks = "columns", "__narwhals_dataframe__", "__narwhals_lazyframe__", "__dataframe__", "__arrow_c_stream__"
    return any(has(type(value), mark) for mark in marks) and not has(type(value), "dtype")


def _made(argument, names, width, rows, column, listed=lambda place: False):
    """A Table whose columns are arrays."""
    if not rows or not width:
        accepted = "a table of at least one row and one column"
        raise must_be(argument, accepted, described(f"{rows} rows and {width} columns"))
    if names is not None:
        _check_names(argument, names)

    def read(place):
        where = f"column {place if names is None else repr(names[place])} of {argument}"
        return values(where, column(place))._replace(listed=listed(place))

    return Table(argument, names, width, rows, read)


def _check_names(argument, names):
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise must_be(argument, "a table whose columns have text as names", wrong, TypeError)
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise must_be(argument, "a table whose columns have different names", described(f"{twice!r} twice"))


def _of_mapping(argument, value):
    names = tuple(value)
    columns = []
    for name, column in value.items():
        where = f"column {name!r} of {argument}"
        columns.append(_array(where, column))
        if len(columns[-1]) != len(columns[0]):
            accepted = f"of {len(columns[0])} rows, as column {names[0]!r}"
            raise must_be(where, accepted, described(f"{len(columns[-1])} rows"))
    return _made(argument, names, len(names), len(columns[0]) if columns else 0, columns.__getitem__)


def _of_frame(argument, value):
    try:
        import narwhals
    except ImportError:
        needs = f"{argument}, a {_full_name(value)}, needs narwhals: pip install 'fastnn[tables]'"
        raise ImportError(needs) from None
    _check_names(argument, column_names(value) or ())  # narwhals would not name the argument
    try:
        frame = narwhals.from_native(value, eager_only=True)
    except Exception as error:  # whatever a library raises
        lazy = has(type(value), "collect")
        why = "collect() gives a DataFrame" if lazy else quoted(error)
        raise must_be(argument, _ACCEPTED, described(f"a {_full_name(value)} ({why})"), TypeError) from None
    columns = tuple(frame.columns)
    names = columns if any(isinstance(name, str) for name in columns) else None  # pandas numbers what has no names
    listed = [isinstance(kind, narwhals.Categorical | narwhals.Enum) for kind in frame.schema.values()]

    def column(place):
        series = frame.get_column(columns[place])
        if series.dtype == narwhals.Datetime and series.dtype.time_zone is not None:
            series = series.dt.replace_time_zone(None)  # what the clock said there
        whole = series.dtype.is_integer() and series.null_count()  # ids, which would lose digits as floats
        if whole or series.dtype == narwhals.String:  # a third of the time of to_numpy of polars
            return series.to_list()
        return series.to_numpy()

    return _made(argument, names, len(columns), len(frame), column, listed.__getitem__)


def _full_name(value):
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def _of_rows(argument, value):
    """A Table of a 2-D array, or of a sequence of rows, whose cells need not be of one kind."""
    array = value if has(value, "dtype") or has(value, "__array__") else None
    if array is None:
        if not isinstance(value, list | tuple):
            raise must_be(argument, _ACCEPTED, described(f"a {type(value).__name__}"), TypeError)
        for i, row in enumerate(value):
            if not isinstance(row, list | tuple | np.ndarray) or np.ndim(row) != 1:
                raise must_be(argument, _ACCEPTED, described(f"{quoted(row)} as row {i}"), TypeError)
            if len(row) != len(value[0]):
                accepted = f"rows of one length ({len(value[0])}, as row 0)"
                raise must_be(argument, accepted, described(f"{len(row)} cells in row {i}"))
        columns = list(zip(*value, strict=True))
        return _made(argument, None, len(columns), len(value), columns.__getitem__)
    array = _array(argument, value, 2)
    return _made(argument, None, array.shape[1], len(array), lambda place: array[:, place])


def _array(where, value, dimensions=1):
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
    return _values(where, _array(where, value))


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
        raise must_be(where, _CELLS, described(f"an array of dtype {array.dtype}"), TypeError)
    if kind in "UT":
        found = _of_text(array.tolist())
    elif kind == "M":
        found = _of_times(where, array)
    else:
        found = _of_numbers(where, array)
    missing = found.missing if masked is None else found.missing | masked
    return found._replace(missing=missing, kind="nothing" if missing.all() else found.kind)


def _of_numbers(where, array):
    kind = array.dtype.kind
    if kind == "m":
        missing = np.isnat(array)
        return Values("numbers", array / np.timedelta64(1, "s"), missing, [])
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


def _of_times(where, array):
    """Times as datetime64[us]; a coarser unit can hold what that cannot."""
    missing = np.isnat(array)
    years = np.where(missing, 0, array.astype("datetime64[Y]").astype(np.int64)) + 1970
    wrong = ~missing & ((years < 1) | (years > 9999))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise must_be(where, "dates of the years 1 to 9999", described(f"year {years[row]} at row {row}"))
    return Values("times", array.astype("datetime64[us]"), missing, [])


def _of_text(cells):
    """Text as places in the list of its distinct values; None where other cells are not missing."""
    places: Any = collections.defaultdict()
    places.default_factory = places.__len__
    codes = np.fromiter(map(places.__getitem__, cells), np.int64, len(cells))
    if not all(isinstance(value, str) or type(value).__name__ in _NO_VALUES or value != value for value in places):
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
            raise must_be(where, _CELLS, described(f"{quoted(cells[row])} ({name}) at row {row}"), TypeError)
    present = set(types.values()) - {None}
    for name in sorted(present):  # NaN, a float, and empty text stand in columns of any kind
        if len(present) > 1 and all(map(_is_gap, (cell for cell in cells if types[type(cell)] == name))):
            present.remove(name)
    if len(present) > 1:
        raise _mixed(where, cells, types)
    kind = present.pop() if present else "text"
    if kind == "text":
        return _of_text(cells)
    gaps = np.fromiter((types[type(cell)] != kind or cell != cell for cell in cells), bool, len(cells))
    kept = np.flatnonzero(~gaps).tolist()
    whole = kind == "numbers" and all(isinstance(cells[i], numbers.Integral) for i in kept)
    array = _array_of(where, kind, whole, [cells[i] for i in kept], kept)
    filled = np.zeros(len(cells), array.dtype)
    filled[kept] = array
    return Values(kind if kept else "nothing", filled, gaps, [])


def _is_gap(cell):
    """Whether a cell that is not None or the like is missing all the same."""
    return cell != cell or cell == ""


def _mixed(where, cells, types):
    """The error for cells of more than one kind; it tells two of them."""
    kept = (i for i, cell in enumerate(cells) if types[type(cell)] is not None and not _is_gap(cell))
    first = next(kept)
    other = next(i for i in kept if types[type(cells[i])] != types[type(cells[first])])
    given = f"{quoted(cells[first])} at row {first} and {quoted(cells[other])} at row {other}"
    return must_be(where, "values of one kind (numbers, text, booleans or dates)", described(given), TypeError)


def _array_of(where, kind, whole, cells, rows):
    """Cells of one kind, none of them missing, as an array."""
    if kind == "booleans":
        return np.array(cells, bool)
    if kind == "times":
        naive = [cell.replace(tzinfo=None) if isinstance(cell, datetime.datetime) else cell for cell in cells]
        return np.array(naive, "datetime64[us]")
    try:
        return np.array(list(map(int, cells)), np.int64) if whole else np.array(list(map(float, cells)))
    except OverflowError:
        fits = (
            (lambda cell: -(1 << 63) <= cell < 1 << 63)
            if whole
            else (lambda cell: isinstance(cell, float) or abs(cell) < 1 << 1023)
        )
        row = next(i for i, cell in enumerate(cells) if not fits(cell))
        raise _too_large(where, cells[row], rows[row]) from None


def wrong_kind(where, values, accepted):
    """The error for a column of values of another kind; it tells the first."""
    row = int(np.argmin(values.missing))
    return must_be(where, accepted, described(f"{quoted(values.shown(row))} at row {row}"), TypeError)
