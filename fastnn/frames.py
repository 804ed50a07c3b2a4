"""Tables as people have them: frames of any library, dicts, structured and plain arrays, read column by column."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import backends
from .cells import Values, array_of, values
from .errors import described, must_be, quoted
from .validation import column_names, has

_ACCEPTED = "a DataFrame, a dict of arrays, a structured array, a 2-D array or a sequence of rows"


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
                given = described(f"one with {quoted(list(self.names))}")
                raise must_be(self.argument, f"a table with the column {name!r}", given)
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
        columns.append(array_of(where, column))
        if len(columns[-1]) != len(columns[0]):
            accepted = f"of {len(columns[0])} rows, as column {names[0]!r}"
            raise must_be(where, accepted, described(f"{len(columns[-1])} rows"))
    return _made(argument, names, len(names), len(columns[0]) if columns else 0, columns.__getitem__)


def _of_frame(argument, value):
    try:
        import narwhals.stable.v2 as narwhals
    except ImportError:
        needs = f"{argument}, a {_full_name(value)}, needs narwhals: {backends.pip_install('tables')}"
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
        # to_numpy would make floats of ids with gaps, forget gaps of pyarrow's categoricals, and takes three times as
        # long for text of polars
        gaps = series.dtype.is_integer() and series.null_count()
        as_list = gaps or listed[place] or series.dtype == narwhals.String
        return series.to_list() if as_list else series.to_numpy()

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
            if not isinstance(row, list | tuple | np.ndarray):
                raise must_be(argument, _ACCEPTED, described(f"{quoted(row)} as row {i}"), TypeError)
            if len(row) != len(value[0]):
                accepted = f"rows of one length ({len(value[0])}, as row 0)"
                raise must_be(argument, accepted, described(f"{len(row)} cells in row {i}"))
        columns = list(zip(*value, strict=True))
        return _made(argument, None, len(columns), len(value), columns.__getitem__)
    array = array_of(argument, value, 2)
    return _made(argument, None, array.shape[1], len(array), lambda place: array[:, place])
