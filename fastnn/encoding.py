"""What a net learned of the columns of its training rows, and the matrix that it makes of a table."""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import backends, files, validation
from .column_kinds import LEAST, PARTS, Code, Column, Date, Number
from .columns import Columns, looks_like_ids, warn_of_ids
from .errors import described, must_be, quoted
from .frames import Table, Values, times_of_text

UNSEEN, MISSING, FIRST = 0, 1, 2  # codes: of what is unseen or rare, of what is missing, of the first level
_NO_LEVELS = np.zeros(0, np.int64)
_MICROSECONDS = {"day": 86_400_000_000, "hour": 3_600_000_000}
# Microseconds that rows must span for a part of their times to have come round
_CYCLES = {
    name: days * _MICROSECONDS["day"] for name, days in (("month", 366), ("day", 31), ("weekday", 7), ("hour", 1))
}
_KINDS = {"numbers": "numbers", "booleans": "numbers", "text": "text", "nothing": "nothing"}  # of the values of codes


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of the matrix that holds numbers.

    Parameters
    ----------
    column : str
        Of the table.
    part : str or None
        Of a date.
    about : Number
        What the column is.
    shift, scale : float
        A number x becomes (x - shift) * scale.
    edges : array (n,) or None
        Of bins, in numbers of the matrix, float64 and increasing.
    gaps, varies : bool
        Whether training rows had missing values, and different values.
    """

    column: str
    part: str | None
    about: Number
    shift: float
    scale: float
    edges: NDArray[np.float64] | None
    gaps: bool
    varies: bool
    kind: ClassVar[str] = "numbers"

    def encoded(self, where: str, values: Values, finite: bool) -> NDArray[Any]:
        """The numbers of a column, standardised: (m,) float64, NaN where they are missing."""
        _check_kind(where, values, self.about)
        numbers = _numbers(values)
        if finite:
            _check_finite(where, numbers)
        return self.scaled(numbers)

    def scaled(self, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Numbers as they stand in the matrix."""
        z = (numbers - self.shift) * self.scale
        if self.about.scaling == "robust":
            z = np.where(np.isinf(z), np.copysign(3.0, z), z / np.hypot(1.0, z / 3.0))
        return z

    def features(self, source: int) -> list[Any]:
        """What the net makes of it; nothing of a number that never changed."""
        program, found = backends.operations, []
        if self.varies:
            found.append(program.Plain(source) if self.edges is None else program.Bins(source, self.edges))
        if self.gaps:
            found.append(program.Missing(source))
        return found

    def facts(self) -> dict[str, Any]:
        """All but the arrays."""
        return {name: getattr(self, name) for name in ("kind", "column", "part", "shift", "scale", "gaps", "varies")}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The edges, where there are any."""
        return {} if self.edges is None else {"edges": self.edges}

    @staticmethod
    def restored(column, part, about, facts, arrays):
        """One of facts and arrays that somebody may have forged."""
        files.must_have("numbers", facts, {"shift": float, "scale": float, "gaps": bool, "varies": bool})
        validation.number("shift", facts["shift"])
        validation.number("scale", facts["scale"], above=0.0)
        edges = arrays.pop("edges", None)
        if edges is not None:
            files.must_be_array("edges", edges, (edges.size,), np.float64)
            accepted = "None, or increasing finite numbers, at least two, with bins that say so"
            if about.bins is None or not 2 <= len(edges) <= 2 * (about.bins + 1) or not np.isfinite(edges).all():
                raise must_be("edges", accepted, edges)
            if not (np.diff(edges) >= np.finfo(np.float32).eps / 2).all():
                raise must_be("edges", accepted, edges)
        return Numbers(column, part, about, edges=edges, **facts)


@dataclass(frozen=True, eq=False)
class Codes:
    """A column of the matrix that holds codes.

    Parameters
    ----------
    column : str
        Of the table.
    part : str or None
        Of a date.
    about : Code
        What the column is.
    values : str
        "text", "numbers", or "nothing" where all training rows lacked it.
    levels : array or list of str
        Those that have codes of their own, increasing; int64, or float64 where some are not whole; none with a hash.
    """

    column: str
    part: str | None
    about: Code
    values: str
    levels: Any
    kind: ClassVar[str] = "codes"

    @property
    def count(self) -> int:
        """Codes."""
        return FIRST + (self.about.hash or len(self.levels))

    @functools.cached_property
    def _codes_of_text(self):
        return {level: code for code, level in enumerate(self.levels, FIRST)}

    def encoded(self, where: str, values: Values, finite: bool) -> NDArray[Any]:
        """The codes of a column: (m,)."""
        _check_kind(where, values, self.about)
        kind = _KINDS[values.kind]
        if "nothing" not in (kind, self.values) and kind != self.values:
            raise _wrong_kind(where, values, f"{self.values}, as in training")
        if kind == "text":
            codes = self._of_text(values.levels)[values.array]
        elif kind == "numbers":
            numbers = _whole(values)
            if finite:
                _check_finite(where, numbers)
            codes = self._of_numbers(numbers)
        else:
            codes = np.zeros(len(values.array), np.int64)
        return np.where(values.missing, MISSING, codes)

    def _of_text(self, levels):
        if self.about.hash is not None:
            return FIRST + np.array([_text_hash(level) % self.about.hash for level in levels], np.int64)
        if self.values == "nothing":
            return np.zeros(len(levels), np.int64)
        codes = self._codes_of_text
        return np.array([codes.get(level, UNSEEN) for level in levels], np.int64)

    def _of_numbers(self, numbers):
        if self.about.hash is not None:
            return FIRST + (_number_hashes(numbers) % np.uint64(self.about.hash)).astype(np.int64)
        if not len(self.levels):
            return np.zeros(len(numbers), np.int64)
        found: Any = True
        if self.levels.dtype == np.int64:
            if numbers.dtype != np.int64:
                found = (np.floor(numbers) == numbers) & (abs(numbers) < 2.0**63)
                numbers = np.where(found, numbers, 0).astype(np.int64)
        else:
            numbers = numbers.astype(np.float64, copy=False)
        places = self._table_of_numbers[_slots(numbers, len(self._table_of_numbers))]
        others = np.flatnonzero(self.levels[places] != numbers)
        places[others] = np.minimum(np.searchsorted(self.levels, numbers[others]), len(self.levels) - 1)
        return np.where((self.levels[places] == numbers) & found, places + FIRST, UNSEEN)

    @functools.cached_property
    def _table_of_numbers(self):
        """Places of most levels by their slots: a search takes four times as long (a million cells, 10,000 levels)."""
        table = np.zeros(1 << (8 * len(self.levels)).bit_length(), np.int64)
        table[_slots(self.levels, len(table))] = np.arange(len(self.levels))
        return table

    def features(self, source: int) -> list[Any]:
        """What the net makes of it."""
        program, dim = backends.operations, self.about.dim
        return [program.OneHot(source, self.count) if dim is None else program.Vector(source, self.count, dim)]

    def facts(self) -> dict[str, Any]:
        """All but the levels."""
        return {name: getattr(self, name) for name in ("kind", "column", "part", "values")}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The levels, text as UTF-8 and where each ends in it."""
        if self.about.hash is not None or self.values == "nothing":
            return {}
        if self.values == "numbers":
            return {"levels": self.levels}
        encoded = [level.encode("utf-8", "surrogatepass") for level in self.levels]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        return {"text": np.frombuffer(b"".join(encoded), np.uint8).copy(), "ends": ends}

    @staticmethod
    def restored(column, part, about, facts, arrays):
        """One of facts and arrays that somebody may have forged."""
        files.must_have("codes", facts, {"values": str})
        values = validation.choice("values", facts["values"], ["text", "numbers", "nothing"])
        levels: Any = _NO_LEVELS
        if about.hash is None and values == "numbers":
            levels = arrays.pop("levels", None)
            dtype = np.float64 if getattr(levels, "dtype", None) == np.float64 else np.int64
            files.must_be_array("levels", levels, (np.size(levels),), dtype)
            if not (np.isfinite(levels).all() and (levels[1:] > levels[:-1]).all()):
                raise must_be("levels", "increasing finite numbers", levels)
        elif about.hash is None and values == "text":
            levels = _text_of(arrays.pop("text", None), arrays.pop("ends", None))
        return Codes(column, part, about, values, levels)


def _text_of(text, ends):
    """Levels of the arrays that `Codes.arrays` made of them."""
    files.must_be_array("ends", ends, (np.size(ends),), np.int64)
    files.must_be_array("text", text, (np.size(text),), np.uint8)
    bounds = [0, *ends.tolist()]
    if bounds[-1] != len(text) or not (np.diff(bounds) > 0).all():
        raise must_be("ends", f"increasing, from above 0 to {len(text)}", ends)
    whole = text.tobytes()
    levels = [whole[a:b].decode("utf-8", "surrogatepass") for a, b in zip(bounds, bounds[1:], strict=False)]
    if not all(a < b for a, b in zip(levels, levels[1:], strict=False)):
        raise must_be("levels", "different text, sorted", described("another order"))
    return levels


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
        Columns of the matrix; a part of a date follows its name after a dot.
    """

    def __init__(self, columns: Columns, codings: list[Numbers | Codes]) -> None:
        self.columns, self.names, self._codings = columns, columns.names, tuple(codings)
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
        places = dict(zip(self.names, table.places(self.names), strict=True))
        out = np.empty((len(table), self.n_features), dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for j, one in enumerate(self._codings):
                where = _where(table, one.column)
                values = table.values(places[one.column])
                if one.part is not None:
                    values = part_of(_times(where, values), one.part)
                out[:, j] = one.encoded(where, values, finite)
        return out

    def features(self) -> tuple[Any, ...]:
        """What the net makes of the matrix.

        Returns
        -------
        tuple
            Features of `kernels.program.Embedding`.
        """
        return tuple(feature for j, one in enumerate(self._codings) for feature in one.features(j))

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
        known = {name: one for name, one in zip(self.feature_names, self._codings, strict=True) if one.kind == "codes"}
        levels = known[validation.choice("name", name, list(known))].levels
        return list(levels if isinstance(levels, list) else levels.tolist())

    def facts(self) -> dict[str, Any]:
        """All but the arrays, as JSON can hold it.

        Returns
        -------
        dict
            For `restored`.
        """
        return {"codings": [one.facts() for one in self._codings]}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Edges of bins and levels of codes, by a name and the place of their column in the matrix.

        Returns
        -------
        dict
            From str to contiguous arrays.
        """
        return {f"{name} {j}": array for j, one in enumerate(self._codings) for name, array in one.arrays().items()}

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
        left, codings = dict(arrays), []
        for j, about in enumerate(facts["codings"]):
            files.must_have("coding", about, {"kind": str, "column": str, "part": (str, type(None))}, others=True)
            own = {key: value for key, value in about.items() if key not in ("kind", "column", "part")}
            named = {
                name: left.pop(f"{name} {j}") for name in ("edges", "levels", "text", "ends") if f"{name} {j}" in left
            }
            column = validation.choice("column", about["column"], list(columns.names))
            kind = _kind_of(columns.columns[column], about["part"])
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
        if not isinstance(other, Encoding) or self.columns.arguments() != other.columns.arguments():
            return False
        one, two = self.arrays(), other.arrays()
        return (
            self.facts() == other.facts()
            and one.keys() == two.keys()
            and all(np.array_equal(one[name], two[name]) for name in one)
        )

    __hash__ = None  # type: ignore[assignment]


def _kind_of(column: Column, part: Any) -> Number | Code:
    """What a column, or a part of a date, is."""
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
            right = parts == [None]
        if not right:
            raise must_be("codings", f"those of {column!r} for the column {name!r}", described(f"parts {parts}"))
    if at < len(codings):
        raise must_be("codings", "those of each column once, in their order", described(f"{len(codings)} of them"))


def _where(table, column):
    return f"column {column!r} of {table.argument}"


def _wrong_kind(where, values, accepted):
    """The error for a column of values of another kind; it tells the first."""
    row = int(np.argmin(values.missing))
    return must_be(where, accepted, described(f"{quoted(values.shown(row))} at row {row}"), TypeError)


def _check_kind(where, values, about):
    """Refuse a column of values that no Number, or no Code, can be."""
    if values.kind == "times" or (values.kind == "text" and isinstance(about, Number)):
        accepted = "numbers" if isinstance(about, Number) else "text, numbers or booleans"
        hint = "Date() takes dates" if values.kind == "times" else "Code() takes text"
        raise _wrong_kind(where, values, f"{accepted} (fastnn.{hint})")


def _check_finite(where, numbers, rows=None):
    """Refuse infinity; `rows`: the number of the row of each in the table."""
    wrong = np.isinf(numbers)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise must_be(where, "finite or missing", described(f"{numbers[at]} at row {at if rows is None else rows[at]}"))


def _numbers(values):
    """Numbers (m,) of a column, float64, NaN where they are missing; float64 without gaps is not copied."""
    if values.kind == "nothing":
        return np.full(len(values.array), np.nan)
    numbers = values.array.astype(np.float64, copy=False)
    gaps = values.missing & ~np.isnan(numbers)  # NaN stands in most of them already
    return np.where(gaps, np.nan, numbers) if gaps.any() else numbers


def _whole(values):
    """Numbers of a column of codes: int64 where all are whole, else float64; 0 where they are missing."""
    array = np.where(values.missing, 0, values.array)
    if array.dtype.kind != "f":
        return array.astype(np.int64, copy=False)
    array = array.astype(np.float64, copy=False)
    whole = (np.floor(array) == array).all() and (abs(array) < 2.0**63).all()
    return array.astype(np.int64) if whole else array


def _text_hash(text):
    """A hash of 64 bits, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _number_hashes(numbers):
    """Hashes (m,) of 64 bits, the same everywhere; whole numbers of either dtype have the same (Vigna's splitmix64)."""
    bits = numbers.view(np.uint64)
    if numbers.dtype == np.float64:
        whole = (np.floor(numbers) == numbers) & (abs(numbers) < 2.0**63)
        bits = np.where(whole, np.where(whole, numbers, 0).astype(np.int64).view(np.uint64), bits)
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _slots(numbers, count):
    """Places in a table of `count`, a power of 2, that spread numbers (Knuth's multiplicative hash)."""
    shift = np.uint64(65 - count.bit_length())
    return ((numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> shift).astype(np.int64)


def _times(where, values):
    """Times of a column."""
    if values.kind == "text":
        times, wrong = times_of_text(values.levels)
        if wrong is not None:
            row = int(np.argmax((values.array == wrong) & ~values.missing))
            accepted = "dates, or text such as 2024-01-31 or 2024-01-31 17:30:00"
            raise must_be(where, accepted, described(f"{values.levels[wrong]!r} at row {row}"))
        return values._replace(kind="times", array=times[values.array], levels=[])
    if values.kind not in ("times", "nothing"):
        raise _wrong_kind(where, values, "dates, or text that says dates")
    return values


def part_of(values, part):
    """A part of times, as a column of numbers.

    Parameters
    ----------
    values : Values
        Of times.
    part : str
        One of `PARTS`; a week begins with 0, Monday.

    Returns
    -------
    Values
        Days since 1970 as float64, or int64.
    """
    if values.kind == "nothing":
        return values
    times = np.where(values.missing, np.datetime64(0, "us"), values.array)
    since = times.astype(np.int64)
    days, months = times.astype("datetime64[D]"), times.astype("datetime64[M]")
    number = {
        "elapsed": lambda: since / _MICROSECONDS["day"],
        "year": lambda: months.astype(np.int64) // 12 + 1970,
        "month": lambda: months.astype(np.int64) % 12 + 1,
        "day": lambda: (days - months).astype(np.int64) + 1,
        "weekday": lambda: (days.astype(np.int64) + 3) % 7,
        "hour": lambda: since // _MICROSECONDS["hour"] % 24,
    }[part]()
    return values._replace(kind="numbers", array=number)


class _Rows:
    """The training rows of a table, and how often each counts."""

    def __init__(self, table, rows, weights):
        self.table = table
        chosen = np.arange(len(table)) if rows is None else rows
        if weights is not None:
            weights = weights[chosen].astype(np.float64)
            chosen, weights = chosen[weights > 0], weights[weights > 0]
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
        Of all rows of the table; a row of weight 0 is not looked at.
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
    for name, place in zip(columns.names, table.places(columns.names), strict=True):
        column, where = columns.columns[name], _where(table, name)
        values = table.values(place)
        if isinstance(column, Date):
            values = chosen.of(_times(where, values))
            parts: dict[Any, Values] = {part: part_of(values, part) for part in column.parts or _useful_parts(values)}
        else:
            _check_kind(where, values, column)
            parts = {None: chosen.of(values)}
        for part, own in parts.items():
            kind = _kind_of(column, part)
            learned = _learned_numbers if isinstance(kind, Number) else _learned_codes
            codings.append(learned((name, part, kind), where, own, chosen, np.dtype(dtype)))
    found = Encoding(columns, codings)
    if not found.features():
        raise must_be(table.argument, "a table with a column that is not always the same", described("none"))
    return found


def _useful_parts(values):
    """The parts of times that tell something, by what the times span."""
    times = values.array[~values.missing]
    span = int(np.ptp(times).astype(np.int64)) if values.kind == "times" else 0
    found = ["elapsed"]
    for part, cycle in _CYCLES.items():
        if span > cycle:
            different = part_of(values, part).array[~values.missing]
            found += [part] * bool((different != different[0]).any())  # a date has no hour
    return found


def _learned_numbers(source, where, values, chosen, dtype):
    """Numbers of training rows."""
    name, part, about = source
    numbers = _numbers(values)
    _check_finite(where, numbers, chosen.numbers)
    present = ~values.missing
    distinct, counts = chosen.counted(numbers, present)
    gaps = bool(len(distinct)) and not present.all()
    if len(distinct) < 2:
        return Numbers(name, part, about, float(distinct[0]) if len(distinct) else 0.0, 1.0, None, gaps, False)
    rows = int(np.count_nonzero(present))
    if part is None and values.kind == "numbers" and looks_like_ids(name, distinct, rows):
        warn_of_ids(name, distinct, rows, "as a Number they teach little (fastnn.Code() takes ids)", 3)
    shift, scale = (_robust if about.scaling == "robust" else _standard)(distinct, counts)
    limits = np.finfo(np.float64)
    if not (np.isfinite(distinct[-1] - distinct[0]) and 0 < scale < limits.eps / limits.tiny):
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
        mean = distinct[0] + shares @ (distinct - distinct[0])  # sums of differences keep the digits
        return float(mean), float(1 / np.sqrt(shares @ (distinct - mean) ** 2))


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
    kind, least, levels = _KINDS[values.kind], about.least or LEAST, _NO_LEVELS
    present = ~values.missing
    if kind == "text" and about.hash is None:
        weights = None if chosen.weights is None else chosen.weights[present]
        counts = np.bincount(values.array[present], weights, len(values.levels))
        levels = sorted(level for level, count in zip(values.levels, counts, strict=True) if count >= least)
    elif kind == "numbers" and about.hash is None:
        numbers = _whole(values)
        _check_finite(where, numbers, chosen.numbers)
        distinct, counts = chosen.counted(numbers, present)
        levels = distinct[counts >= least]
    found = Codes(name, part, about, kind, levels)
    most = 1 << (np.finfo(dtype).nmant + 1)
    if found.count > most:
        accepted = f"a column of at most {most:,} codes in {dtype} (Code(hash=...) makes fewer; float64 holds more)"
        raise must_be(where, accepted, described(f"{found.count:,}"))
    return found
