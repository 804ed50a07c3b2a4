"""What a column of a table can be to a net: a number, a code, or a date; and what they are where nobody says more.

The first two are the kinds of features of `kernels.program.Embedding`; a date becomes some of each.
"""

import inspect
from typing import Any

from . import files
from .errors import must_be
from .validation import choice, size

BINS, SCALING = 32, "robust"  # of numbers, where columns are inferred (docs/tables.md has the measurements)
LEVELS = 128  # different values up to which numbers are codes, too, where columns are inferred
LEAST_INFERRED = 5  # rows of such a level where columns are inferred (docs/tables.md has the measurements)
LEAST = 2  # rows of a level that gets a row of its own: those that come once teach what an unseen one means
ONE_HOT_LEVELS = 8  # a code of more levels gets a vector, where columns are inferred (Holzmueller et al. 2024)
DIM = 8  # of these vectors (Holzmueller et al. 2024)
MOST_BINS = 1 << 12
SCALINGS = ["standard", "robust"]
PARTS = ["elapsed", "year", "month", "day", "weekday", "hour"]  # of dates, in the order of their features


class Column:
    """Base of the kinds of columns. A column cannot be changed, as a layer cannot."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} of a column cannot be changed: make a new {type(self).__name__}")

    def arguments(self) -> dict[str, Any]:
        """What its class makes it of again, by the name of the argument, as JSON can hold it."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Column) and type(other) is type(self) and other.arguments() == self.arguments()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        defaults = {name: one.default for name, one in inspect.signature(type(self)).parameters.items()}
        given = [f"{name}={value!r}" for name, value in self.arguments().items() if value != defaults[name]]
        return f"{type(self).__name__}({', '.join(given)})"


class Number(Column):
    """A column of numbers or booleans. Where training rows have gaps, whether it is missing is a feature of its own.

    Parameters
    ----------
    bins : int, optional
        Beside the number itself, the share of each bin that lies below it (piecewise-linear encoding, Gorishniy et al.
        2022), which lets a net bend at every edge. So many bins hold equal shares of the rows, and so many equal shares
        of the distinct values; the edges of both are joined. None, the default, takes the number alone.
    scaling : str
        "standard": mean 0 and standard deviation 1, in float64. "robust": median 0 and quartiles 1 apart, then
        x / sqrt(1 + (x / 3)**2), which keeps outliers within 3 (Holzmueller et al. 2024).
    levels : int, optional
        Where training rows hold at most so many different values, these are one-hot codes, too, so that a single value
        can stand out, such as a capital gain of exactly 0. None, the default: never.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    bins: int | None
    scaling: str
    levels: int | None

    def __init__(self, bins: int | None = None, scaling: str = "standard", levels: int | None = None) -> None:
        if bins is not None and size("bins", bins) > MOST_BINS:
            raise must_be("bins", f"None or a positive int of at most {MOST_BINS}", bins)
        levels = None if levels is None else size("levels", levels)
        vars(self).update(bins=bins and int(bins), scaling=choice("scaling", scaling, SCALINGS), levels=levels)


class Code(Column):
    """A column of names: text, ids, booleans, categoricals.

    Levels that training rows lack, and those that too few of them have, share one row of parameters; what is missing
    has another.

    Parameters
    ----------
    dim : int, optional
        Each level gets a learned vector of so many numbers. None, the default: one-hot, a learned weight for each unit
        of the first Dense.
    least : int, optional
        Training rows, counted by their weights, of a level that gets parameters of its own. Default: 2.
    hash : int, optional
        The levels are not learned but share so many rows of parameters, by a hash of the value which is the same
        everywhere: for what is open-ended. Without `least`.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    dim: int | None
    least: int | None
    hash: int | None

    def __init__(self, dim: int | None = None, least: int | None = None, hash: int | None = None) -> None:
        if hash is not None and least is not None:
            raise must_be("least", "None where hash is given", least)
        sizes = {"dim": dim, "least": least, "hash": hash}
        vars(self).update({name: None if value is None else size(name, value) for name, value in sizes.items()})


class Date(Column):
    """A column of dates or times, as parts. Text is read as ISO 8601, 2024-01-31 or 2024-01-31 17:30:00.

    A time counts as the clock showed it: its zone is left out.

    Parameters
    ----------
    parts : sequence of str, optional
        Of "elapsed" (days, a number), "year", "month", "day" (of the month), "weekday" and "hour" (codes). Default:
        "elapsed", and each cycle that the training rows pass through: "month" if they span more than a year, "day" more
        than a month, "weekday" more than a week, "hour" more than a day.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    parts: list[str] | None

    def __init__(self, parts: list[str] | tuple[str, ...] | None = None) -> None:
        if parts is not None:
            if not isinstance(parts, list | tuple) or not parts:
                raise must_be("parts", f"None or a sequence of {', '.join(PARTS)}", parts, TypeError)
            parts = sorted({choice("parts", part, PARTS) for part in parts}, key=PARTS.index)
        vars(self).update(parts=parts)


KINDS: dict[str, type[Column]] = {kind.__name__: kind for kind in (Number, Code, Date)}


def described_column(column):
    """A column as JSON holds it, a dict for `made_column`."""
    return {"kind": type(column).__name__} | column.arguments()


def made_column(where, about):
    """The column that `described_column` gave, or that somebody forged."""
    files.must_have(where, about, {"kind": str}, others=True)
    kind = KINDS[choice(f"kind of {where}", about["kind"], list(KINDS))]
    arguments = inspect.signature(kind).parameters
    files.must_have(where, about, dict.fromkeys(("kind", *arguments), files.SETTING))
    return kind(**{name: about[name] for name in arguments})
