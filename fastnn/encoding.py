"""What a net learned of the columns of its training rows, and the matrix that it makes of a table."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import dates, files, validation
from .cells import Values
from .codings import KINDS_OF_CODES, NO_LEVELS, Codes, Numbers, check_finite, check_kind, numbers_of, whole_numbers_of
from .column_kinds import LEAST, PARTS, Code, Column, Date, Number
from .columns import Columns, looks_like_ids, warn_of_ids
from .errors import described, must_be, quoted
from .frames import Table

LEVEL = "level"  # the part of a Number that are codes of its values
_ARRAYS = "edges", "levels", "text", "ends"  # of a coding


class Encoding:
    """What was learned of the columns of a table.

    Parameters
    ----------
    columns : Columns
        What is read.
    codings : list of Numbers or Codes
        One for each column of the matrix.

    Attributes
    ----------
    n_features : int
        Columns of the matrix.
    names : tuple of str
        Columns of the table that are read.
    feature_names : tuple of str
        Columns of the matrix; a part of a date, or "level" for numbers as codes, follows its name after a dot.
    codings : tuple of Numbers or Codes
        How each column of the matrix is made.
    """

    def __init__(self, columns: Columns, codings: list[Numbers | Codes]) -> None:
        self.columns, self.names, self.codings = columns, columns.names, tuple(codings)
        self.n_features = len(codings)
        self.feature_names = tuple(one.column if one.part is None else f"{one.column}.{one.part}" for one in codings)

    def encode(self, table: Table, dtype: Any, finite: bool = False) -> NDArray[Any]:
        """A table as a matrix.

        Parameters
        ----------
        table : Table
            With the columns that are read; others are not looked at.
        dtype : dtype
            Of the matrix.
        finite : bool
            Whether infinity is refused.

        Returns
        -------
        array (m, n_features), C order
            Numbers, standardised, NaN where they are missing; and codes: 0 for what is unseen or rare, 1 for what is
            missing, then the levels.

        Raises
        ------
        TypeError, ValueError
            For a column that is missing, or of another kind than in training.
        """
        places, kinds = dict(zip(self.names, table.places(self.names), strict=True)), self.columns.columns
        out = np.empty((len(table), self.n_features), dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for j, one in enumerate(self.codings):
                where = _where(table, one.column)
                values = table.values(places[one.column])
                if isinstance(kinds[one.column], Date):
                    values = dates.part_of(dates.times(where, values), one.part)
                out[:, j] = one.encoded(where, values, finite)
        return out

    def features(self) -> tuple[Any, ...]:
        """What the net makes of the matrix.

        Returns
        -------
        tuple
            Features of `kernels.program.Embedding`.
        """
        return tuple(feature for j, one in enumerate(self.codings) for feature in one.features(j))

    def levels(self, name: str) -> list[Any]:
        """The levels of a column of codes that have codes of their own, from code 2 on.

        Parameters
        ----------
        name : str
            One of `feature_names`.

        Returns
        -------
        list of str, int or float
            Empty for a column with a hash.

        Raises
        ------
        TypeError, ValueError
            For another name.
        """
        known = {name: one for name, one in zip(self.feature_names, self.codings, strict=True) if one.kind == "codes"}
        levels = known[validation.choice("name", name, list(known))].levels
        return list(levels if isinstance(levels, list) else levels.tolist())

    def facts(self) -> dict[str, Any]:
        """All but the arrays, as JSON can hold it.

        Returns
        -------
        dict
            For `restored`.
        """
        return {"codings": [one.facts() for one in self.codings]}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Edges of bins and levels of codes, by a name and the place of their column in the matrix.

        Returns
        -------
        dict
            From str to contiguous arrays.
        """
        return {f"{name} {j}": array for j, one in enumerate(self.codings) for name, array in one.arrays().items()}

    @classmethod
    def restored(cls, columns: Columns, facts: Any, arrays: Any) -> "Encoding":
        """The Encoding of what `facts` and `arrays` gave, which somebody may have forged meanwhile.

        Parameters
        ----------
        columns : Columns
            Those of the Encoding.
        facts, arrays : dict
            Of the Encoding.

        Returns
        -------
        Encoding
            Equal to that one.

        Raises
        ------
        TypeError, ValueError
            For what no Encoding gives.
        """
        files.must_have("encoding", facts, {"codings": list})
        left, codings, kinds = dict(arrays), [], columns.columns
        for j, about in enumerate(facts["codings"]):
            files.must_have("coding", about, {"kind": str, "column": str, "part": (str, type(None))}, others=True)
            own = {key: value for key, value in about.items() if key not in ("kind", "column", "part")}
            named = {name: left.pop(f"{name} {j}") for name in _ARRAYS if f"{name} {j}" in left}
            column = validation.choice("column", about["column"], list(kinds))
            kind = _kind_of(kinds[column], about["part"])
            coding = Numbers if isinstance(kind, Number) else Codes
            if about["kind"] != coding.kind:
                raise must_be("kind", repr(coding.kind), about["kind"])
            codings.append(coding.restored(column, about["part"], kind, own, named))
            left |= {f"{name} {j}": array for name, array in named.items()}
        _check_parts(columns, codings)
        if left:
            raise must_be("arrays", "those of the encoding alone", described(f"others, too: {quoted(sorted(left))}"))
        return cls(columns, codings)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Encoding) or self.columns.arguments() != other.columns.arguments():
            return False
        one, two = self.arrays(), other.arrays()
        return (
            self.facts() == other.facts()
            and one.keys() == two.keys()
            and all(np.array_equal(one[name], two[name]) for name in one)
        )

    __hash__ = None  # type: ignore[assignment]


class EncodedRows(NamedTuple):
    """Rows of a table that were encoded already: what the nets of a preset share.

    Parameters
    ----------
    matrix : array (m, n_features)
        In the dtype of the nets.
    encoding : Encoding
        That made it.
    """

    matrix: NDArray[Any]
    encoding: Encoding


def _kind_of(column: Column, part: Any) -> Number | Code:
    """What a column, or a part of it, is."""
    if isinstance(column, Number) and column.levels and part == LEVEL:
        return Code()
    if isinstance(column, Number | Code):
        if part is not None:
            raise must_be("part", "None for a Number and a Code", part)
        return column
    return Number() if validation.choice("part", part, PARTS) == "elapsed" else Code()


def _check_parts(columns, codings):
    """Refuse codings that are not those of the columns in their order."""
    at = 0
    for name, column in columns.columns.items():
        first = at
        while at < len(codings) and codings[at].column == name:
            at += 1
        parts = [one.part for one in codings[first:at]]
        if isinstance(column, Date):
            chosen = [part for part in PARTS if part in parts]
            right = parts == (chosen if column.parts is None else column.parts) and bool(parts)
        else:
            right = parts == [None] or (isinstance(column, Number) and column.levels and parts == [None, LEVEL])
        if not right:
            raise must_be("codings", f"those of {column!r} for the column {name!r}", described(f"parts {parts}"))
    if at < len(codings):
        raise must_be("codings", "those of each column once, in their order", described(f"{len(codings)} of them"))


def _where(table, column):
    return f"column {column!r} of {table.argument}"


class _Rows:
    """The training rows of a table, and how often each counts."""

    def __init__(self, table, rows, weights):
        chosen = np.arange(len(table)) if rows is None else rows
        if weights is not None:
            weights = weights[chosen].astype(np.float64)
            chosen, weights = chosen[weights > 0], weights[weights > 0]
            weights /= min(1.0, weights.mean()) if len(weights) else 1.0
        self.numbers, self.weights = chosen, weights
        self.all = rows is None and len(chosen) == len(table)

    def of(self, values):
        """Their values."""
        return values if self.all else values.taken(self.numbers)

    def counted(self, array, present):
        """(different values, increasing, and how often each counts, float64) of those that are present."""
        if self.weights is None:
            distinct, counts = np.unique(array[present], return_counts=True)
            return distinct, counts.astype(np.float64)
        distinct, places = np.unique(array[present], return_inverse=True)
        return distinct, np.bincount(places, self.weights[present], len(distinct))


def learn(columns, table, rows=None, weights=None, dtype=np.float32):
    """The Encoding of training rows, in which a row counts as often as its weight says.

    Parameters
    ----------
    columns : Columns
        What is read.
    table : Table
        With these columns.
    rows : array (r,) of int, optional
        Numbers of the rows to learn from; others are not looked at. Default: all.
    weights : array (m,), optional
        Of all rows of the table; a row of weight 0 is not looked at. Those whose mean is below 1 are no counts, and are
        scaled to a mean of 1.
    dtype : dtype
        Of the matrix.

    Returns
    -------
    Encoding
        For any table with these columns.

    Raises
    ------
    TypeError, ValueError
        For columns that are missing, or hold what they do not accept.

    Warns
    -----
    IdColumnWarning
        For each Number that looks like ids.
    """
    chosen, codings = _Rows(table, rows, weights), []
    for name, column, place in zip(columns.names, columns.kinds, table.places(columns.names), strict=True):
        where = _where(table, name)
        values = table.values(place)
        if isinstance(column, Date):
            values = chosen.of(dates.times(where, values))
            parts: dict[Any, Values] = {
                part: dates.part_of(values, part) for part in column.parts or dates.useful_parts(values)
            }
        else:
            check_kind(where, values, column)
            parts = {None: chosen.of(values)}
            if isinstance(column, Number) and column.levels and _count(parts[None]) <= column.levels:
                parts[LEVEL] = parts[None]
        for part, own in parts.items():
            kind = _kind_of(column, part)
            learned = _learned_numbers if isinstance(kind, Number) else _learned_codes
            codings.append(learned((name, part, kind), where, own, chosen, np.dtype(dtype)))
    found = Encoding(columns, codings)
    if not found.features():
        raise must_be(table.argument, "a table with a column that is not always the same", described("none"))
    return found


def _count(values):
    """Different values of a column."""
    return len(np.unique(numbers_of(values)[~values.missing]))


def _learned_numbers(source, where, values, chosen, dtype):
    """Numbers of training rows."""
    name, part, about = source
    numbers = numbers_of(values)
    check_finite(where, numbers, chosen.numbers)
    present = ~values.missing
    distinct, counts = chosen.counted(numbers, present)
    gaps = bool(len(distinct)) and not present.all()
    if len(distinct) < 2:
        return Numbers(name, part, about, float(distinct[0]) if len(distinct) else 0.0, 1.0, None, gaps, False)
    rows = int(np.count_nonzero(present))
    if part is None and values.kind == "numbers" and looks_like_ids(name, distinct, rows):
        warn_of_ids(name, distinct, rows, "as a Number they teach little (fastnn.Code() takes ids)")
    shift, scale = (_robust if about.scaling == "robust" else _standard)(distinct, counts)
    limits = np.finfo(np.float64)
    if not (distinct[-1] / 2 - distinct[0] / 2 < limits.max / 2 and 0 < scale < limits.eps / limits.tiny):
        given = f"numbers from {distinct[0]:g} to {distinct[-1]:g}"
        raise must_be(where, "numbers whose differences float64 can hold", described(given))
    found = Numbers(name, part, about, shift, scale, None, gaps, True)
    if about.bins is None:
        return found
    edges = _edges(found, distinct, counts, dtype)
    return found if edges is None else Numbers(name, part, about, shift, scale, edges, gaps, True)


def _standard(distinct, counts):
    """(mean, 1 / standard deviation) of numbers that come so often."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        shares = counts / counts.sum()
        mean = distinct[0] + (shares * (distinct - distinct[0])).sum()  # sums of differences keep the digits
        return float(mean), float(1 / np.sqrt((shares * (distinct - mean) ** 2).sum()))


def _robust(distinct, counts):
    """(median, 1 / distance of the quartiles), or half of the range where the quartiles are one (RealMLP's scaling)."""
    low, median, high = _quantiles(distinct, counts, np.array([0.25, 0.5, 0.75]))
    with np.errstate(over="ignore", divide="ignore"):
        return float(median), float(1 / (high - low) if high > low else 2 / (distinct[-1] - distinct[0]))


def _quantiles(distinct, counts, shares):
    """The smallest values below which, or at which, the shares lie: without interpolation, weights count as rows."""
    sums = np.cumsum(counts)
    return distinct[np.minimum(np.searchsorted(sums, shares * sums[-1]), len(distinct) - 1)]


def _edges(found, distinct, counts, dtype):
    """Edges of bins with equal shares of the rows, and of the distinct values; None where these are too few."""
    shares = np.linspace(0.0, 1.0, min(found.about.bins, len(distinct)) + 1)
    edges = np.concatenate([_quantiles(distinct, one, shares) for one in (counts, np.ones_like(counts))])
    edges = np.unique(found.scaled(edges).astype(dtype).astype(np.float64))
    # what lies closer has no difference that the matrix could hold
    edges = edges[np.append(True, np.diff(edges) > np.finfo(dtype).eps)]
    return edges if len(edges) > 1 else None


def _learned_codes(source, where, values, chosen, dtype):
    """Codes of training rows."""
    name, part, about = source
    kind, least, levels = KINDS_OF_CODES[values.kind], about.least or LEAST, NO_LEVELS
    present = ~values.missing
    if kind == "text" and about.hash is None:
        weights = None if chosen.weights is None else chosen.weights[present]
        counts = np.bincount(values.array[present], weights, len(values.levels))
        levels = sorted(level for level, count in zip(values.levels, counts, strict=True) if count >= least)
    elif kind == "numbers" and about.hash is None:
        numbers = whole_numbers_of(where, values, chosen.numbers)
        check_finite(where, numbers, chosen.numbers)
        distinct, counts = chosen.counted(numbers, present)
        levels = distinct[counts >= least]
    found = Codes(name, part, about, kind, levels)
    most = 1 << (np.finfo(dtype).nmant + 1)
    if found.count > most:
        accepted = f"a column of at most {most:,} codes in {dtype} (Code(hash=...) makes fewer; float64 holds more)"
        raise must_be(where, accepted, described(f"{found.count:,}"))
    return found
