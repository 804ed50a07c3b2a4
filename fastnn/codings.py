"""How each column of the matrix that a net takes is made of a column of a table, kept, and restored."""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import backends, files, validation
from .cells import Values, wrong_kind
from .column_kinds import Code, Number
from .errors import described, must_be

UNSEEN, MISSING, FIRST = 0, 1, 2  # codes: of what is unseen or rare, of what is missing, of the first level
KINDS_OF_CODES = {"numbers": "numbers", "booleans": "numbers", "text": "text", "nothing": "nothing"}  # of their values
NO_LEVELS = np.zeros(0, np.int64)


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
        check_kind(where, values, self.about)
        numbers = numbers_of(values)
        if finite:
            check_finite(where, numbers)
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
            found.append(program.Plain(source))
            if self.edges is not None:
                found.append(program.Bins(source, self.edges))
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
            fits = about.bins is not None and 2 <= len(edges) <= 2 * (about.bins + 1) and np.isfinite(edges).all()
            if not (fits and (np.diff(edges) > np.finfo(np.float64).eps).all()):
                raise must_be("edges", f"increasing finite numbers, at least two, for the bins of {about!r}", edges)
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

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables for the search, which are made when they are needed."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @functools.cached_property
    def _codes_of_text(self):
        return {level: code for code, level in enumerate(self.levels, FIRST)}

    def encoded(self, where: str, values: Values, finite: bool) -> NDArray[Any]:
        """The codes of a column: (m,)."""
        check_kind(where, values, self.about)
        kind = KINDS_OF_CODES[values.kind]
        if "nothing" not in (kind, self.values) and kind != self.values:
            raise wrong_kind(where, values, f"{self.values}, as in training")
        if kind == "text":
            codes = self._of_text(values.levels)[values.array]
        elif kind == "numbers":
            numbers = whole_numbers_of(where, values)
            if finite:
                check_finite(where, numbers)
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
                found = (np.floor(numbers) == numbers) & np.isfinite(numbers)
                numbers = np.where(found, numbers, 0).astype(np.int64)
        else:
            numbers = numbers.astype(np.float64, copy=False)
        places = self._table_of_numbers[_slots(numbers, len(self._table_of_numbers))]
        others = np.flatnonzero(self.levels[places] != numbers)
        places[others] = np.minimum(np.searchsorted(self.levels, numbers[others]), len(self.levels) - 1)
        return np.where((self.levels[places] == numbers) & found, places + FIRST, UNSEEN)

    @functools.cached_property
    def _table_of_numbers(self):
        """Places of most levels by their slots: 31 ms in place of a search's 87 (a million cells, 10,000 levels)."""
        table = np.zeros(1 << (8 * len(self.levels)).bit_length(), np.int32)
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
        levels: Any = NO_LEVELS
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


def check_kind(where, values, about):
    """Refuse a column of values that no Number, or no Code, can be."""
    if values.kind == "times" or (values.kind == "text" and isinstance(about, Number)):
        accepted = "numbers" if isinstance(about, Number) else "text, numbers or booleans"
        hint = "Date() takes dates" if values.kind == "times" else "Code() takes text"
        raise wrong_kind(where, values, f"{accepted} (fastnn.{hint})")


def check_finite(where, numbers, rows=None):
    """Refuse infinity; `rows`: the number of the row of each in the table."""
    wrong = np.isinf(numbers)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise must_be(where, "finite or missing", described(f"{numbers[at]} at row {at if rows is None else rows[at]}"))


def numbers_of(values):
    """Numbers (m,) of a column, float64, NaN where they are missing; float64 without gaps is not copied."""
    if values.kind == "nothing":
        return np.full(len(values.array), np.nan)
    numbers = values.array.astype(np.float64, copy=False)
    gaps = values.missing & ~np.isnan(numbers)  # NaN stands in most of them already
    return np.where(gaps, np.nan, numbers) if gaps.any() else numbers


def whole_numbers_of(where, values, rows=None):
    """Numbers of a column of codes: int64 where all are whole, else float64; 0 where they are missing."""
    array = np.where(values.missing, 0, values.array)
    if array.dtype.kind != "f":
        return array.astype(np.int64, copy=False)
    digits = np.finfo(array.dtype).nmant + 1
    lost = np.isfinite(array) & (abs(array) >= 2.0**digits)
    if lost.any():  # two ids may have become one
        at = int(np.argmax(lost))
        accepted = f"whole numbers below 2**{digits} where it is of {array.dtype}, which loses digits of larger ones"
        raise must_be(where, accepted, described(f"{array[at]} at row {at if rows is None else rows[at]}"))
    array = array.astype(np.float64, copy=False)
    return array.astype(np.int64) if (np.floor(array) == array).all() and np.isfinite(array).all() else array


def _text_hash(text):
    """A hash of 64 bits, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _number_hashes(numbers):
    """Hashes (m,) of 64 bits, the same everywhere; whole numbers of either dtype have the same (Vigna's splitmix64)."""
    bits = numbers.view(np.uint64)
    if numbers.dtype == np.float64:
        whole = (np.floor(numbers) == numbers) & np.isfinite(numbers)
        bits = np.where(whole, np.where(whole, numbers, 0).astype(np.int64).view(np.uint64), bits)
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _slots(numbers, count):
    """Places in a table of `count`, a power of 2, that spread numbers (Knuth's multiplicative hash)."""
    shift = np.uint64(65 - count.bit_length())
    return ((numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> shift).astype(np.int64)
