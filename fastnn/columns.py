"""The columns of a table, as the first layer of a net; and what they are, as a look at a table tells."""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import dates, frames
from .column_kinds import (
    BINS,
    DIM,
    LEAST,
    LEAST_INFERRED,
    LEVELS,
    ONE_HOT_LEVELS,
    SCALING,
    Code,
    Column,
    Date,
    Number,
    described_column,
    made_column,
)
from .errors import IdColumnWarning, described, must_be, quoted, users_level
from .layers import Layer
from .validation import size

# Whole numbers are ids where most rows have one of their own, and they are far from zero for their spread, as numbers
# that were given out one after the other are: amounts and measures go down to a fraction of the largest one
_ID_LEAST, _ID_SHARE, _ID_SPREAD, _ID_VALUES = 20, 0.5, 1.0, 50
# Or where they are hashes of text: huge, spread widely, and yet some come again
_HASH_MEDIAN, _HASH_SPREAD, _HASH_ROWS = 1e8, 4.0, 1.2
_ID_WORDS = {"id", "ids", "uuid", "guid", "zip", "zipcode", "postcode", "postal", "code"}
_TIME_WORDS = {"time", "timestamp", "date", "datetime", "year", "epoch"}


class Columns(Layer):
    """The first layer of a net that takes tables: which columns it reads, and as what.

    A column that is not named is not read. Tables have the columns by name, in any order; those without names, such as
    plain arrays, by place.

    A step updates only the rows of parameters of those codes that its batch has, by the rule of any optimizer: the
    moments of other rows wait, as with torch's SparseAdam, and weight decay acts on a row when it is updated. With l2,
    which acts on all rows, each step updates all.

    Parameters
    ----------
    columns : dict
        From the name of each column to a `Number`, a `Code` or a `Date`.
    **named
        More of them, by name.

    Attributes
    ----------
    names : tuple of str
        Of the columns.
    kinds : tuple of Column
        What they are.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    names: tuple[str, ...]
    kinds: tuple[Column, ...]

    def __init__(self, columns: Mapping[str, Column] | Column | None = None, **named: Column) -> None:
        if isinstance(columns, Column):  # one of this name
            columns = {"columns": columns}
        if not isinstance(columns, Mapping | None):
            raise must_be("columns", "a dict from names to Number, Code or Date", columns, TypeError)
        found = {}
        for name, column in [*(columns or {}).items(), *named.items()]:
            if not isinstance(name, str):
                raise must_be("columns", "a dict with text as keys", name, TypeError)
            if name in found:
                raise must_be("columns", "different names", described(f"{name!r} twice"))
            column = made_column(f"column {name!r}", column) if isinstance(column, dict) else column
            if not isinstance(column, Column):
                raise must_be(f"column {name!r}", "a Number, a Code or a Date", column, TypeError)
            found[name] = column
        if not found:
            raise must_be("columns", "at least one column", described("none"))
        vars(self).update(names=tuple(found), kinds=tuple(found.values()), _reasons={})

    @classmethod
    def infer(
        cls,
        frame: Any,
        target: str | Iterable[str] | None = None,
        columns: Mapping[str, Column] | None = None,
        *,
        bins: int | None = BINS,
        least: int | None = LEAST_INFERRED,
        dim: int = DIM,
    ) -> "Columns":
        """Columns as a look at a table suggests them; `summary` says why.

        Numbers get bins and, where they have few values, are codes, too. Text, booleans, categoricals and ids become
        codes: one-hot up to 8 levels, above that with vectors. Times, and text that says times, become dates. Columns
        that are empty or always the same are left out, where columns have names.

        Parameters
        ----------
        frame : DataFrame, dict, array or sequence of rows
            A table as `fit` takes it. Columns without names get x0, x1 and so on.
        target : str or sequence of str, optional
            Columns that are left out.
        columns : dict, optional
            From some names to what these columns are.
        bins : int, optional
            Of each Number.
        least : int, optional
            Of each Code.
        dim : int
            Of a Code of many levels.

        Returns
        -------
        Columns
            In the order of the table.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted, a column of mixed values, and a table with nothing to learn from.

        Warns
        -----
        IdColumnWarning
            For each column of plain numbers that are taken for ids.
        """
        table = frames.table("frame", frame)
        known = table.names or tuple(f"x{place}" for place in range(table.width))
        targets = [target] if isinstance(target, str) else list(target or [])
        decided = dict(columns or {})
        for argument, names in (("target", targets), ("columns", decided)):
            for name in names:
                if name not in known:
                    raise must_be(argument, f"of the columns of frame ({', '.join(known)})", name)
        suggest = _Suggestion(Number(bins, SCALING, LEVELS), Code(least=least), size("dim", dim))
        found: dict[str, Column] = {}
        reasons: dict[str, str] = {}
        for place, name in enumerate(known):
            if name in decided:
                found[name], reasons[name] = decided[name], "as you said"
            elif name in targets:
                reasons[name] = "the target"
            else:
                column, reasons[name] = suggest(name, table.values(place))
                if column is not None:
                    found[name] = column
                elif table.names is None:  # the others are known by their places
                    found[name] = {"text": Code(), "times": Date()}.get(table.values(place).kind, Number())
        if not found:
            raise must_be("frame", "a table with a column that is not always the same", described("none"))
        made = cls(found)
        vars(made).update(_reasons=reasons)
        return made

    @property
    def columns(self) -> dict[str, Column]:
        """From the name of each column to what it is; a copy."""
        return dict(zip(self.names, self.kinds, strict=True))

    @classmethod
    def argument_names(cls) -> tuple[str, ...]:
        """Names of the arguments that files keep."""
        return ("columns",)

    def arguments(self) -> dict[str, Any]:
        """What its class makes it of again, by the name of the argument, as JSON can hold it."""
        return {"columns": {name: described_column(column) for name, column in self.columns.items()}}

    def summary(self) -> str:
        """Each column, what it is, and why where that was inferred; those that were left out, too.

        Returns
        -------
        str
            A table, a line for each.
        """
        names = [*self.names, *(name for name in self._reasons if name not in self.names)]
        lines = [(name, repr(self.columns.get(name, "-")).strip("'"), self._reasons.get(name, "")) for name in names]
        widths = [max(len(line[i]) for line in lines) for i in range(2)]
        return "\n".join(f"{one:<{widths[0]}}  {two:<{widths[1]}}  {three}".rstrip() for one, two, three in lines)

    def __eq__(self, other: object) -> bool:
        return self is other or isinstance(other, Columns) and self.arguments() == other.arguments()

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"Columns({', '.join(f'{name}={column!r}' for name, column in self.columns.items())})"


class _Suggestion:
    """From a column of a table to what it should be, None for none, and why, in words."""

    def __init__(self, number, code, dim):
        self.number, self.code, self.dim = number, code, dim

    def __call__(self, name, values):
        present = ~values.missing
        rows, kind = int(present.sum()), values.kind
        if kind == "nothing":
            return None, "nothing to learn from: all values are missing"
        distinct, counts = np.unique(values.array[present], return_counts=True)
        if len(distinct) == 1 and rows == len(present):
            always = quoted(values.shown(int(np.argmax(present))))
            return None, f"nothing to learn from: always {always}"
        if kind == "times":
            return Date(), "times"
        if kind == "text" and dates.times_of_text(values.levels)[1] is None:
            return Date(), "text that says times"
        of = f"{len(distinct):,} different values in {rows:,} rows"
        if kind == "text":
            return self._code(counts, f"text, {of}")
        if kind == "booleans":
            return self._code(counts, "booleans")
        if values.listed:
            return self._code(counts, f"a categorical, {of}")
        if not (np.floor(distinct) == distinct).all():
            return self.number, "numbers"
        if looks_like_ids(name, distinct, rows):
            hint = f"they are taken for codes (columns={{{name!r}: fastnn.Number()}} takes them for numbers)"
            warn_of_ids(name, distinct, rows, hint)
            return self._code(counts, f"whole numbers that look like ids, {of}")
        return self.number, f"whole numbers, {of}"

    def _code(self, counts, why):
        levels = int(np.count_nonzero(counts >= (self.code.least or LEAST)))
        code = Code(self.dim, self.code.least) if levels > ONE_HOT_LEVELS else self.code
        return code, why if levels else f"{why}: all are too rare to be told apart"


def looks_like_ids(name, distinct, rows):
    """Whether numbers are ids, by the name of their column, or by their values.

    Parameters
    ----------
    name : str
        Of the column.
    distinct : array (n,)
        Its different values, increasing.
    rows : int
        That have one.

    Returns
    -------
    bool
        False for numbers that are not whole.
    """
    if len(distinct) <= _ID_LEAST or not (np.floor(distinct) == distinct).all():
        return False
    words = set(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))
    words = {word.lower() for word in words}
    if words & _TIME_WORDS:
        return False
    if words & _ID_WORDS:
        return True
    low, median, high = (float(distinct[place]) for place in (0, len(distinct) // 2, -1))
    in_a_row = len(distinct) == rows and high - low < 2 * rows
    given_out = len(distinct) >= max(_ID_VALUES, _ID_SHARE * rows) and (in_a_row or high - low < _ID_SPREAD * low)
    hashed = median > _HASH_MEDIAN and _HASH_SPREAD * low < high and rows > _HASH_ROWS * len(distinct)
    return given_out or hashed


def warn_of_ids(name, distinct, rows, what):
    """Warn of numbers that look like ids; `what` is done with them."""
    count = f"{len(distinct):,} different ones in {rows:,} rows"
    text = f"the column {name!r} holds whole numbers that look like ids, {count}: {what}"
    warnings.warn(text, IdColumnWarning, stacklevel=users_level())
