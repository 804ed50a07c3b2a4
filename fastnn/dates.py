"""Dates and times of a table as numbers: which parts of them, and how text says them."""

import re

import numpy as np

from .cells import wrong_kind
from .errors import described, must_be

# as ISO 8601 writes a date, or a date and a time, whose zone may follow
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_MICROSECONDS = {"day": 86_400_000_000, "hour": 3_600_000_000}
# Microseconds that rows must span for a part of their times to have come round
_CYCLES = {
    name: days * _MICROSECONDS["day"] for name, days in (("month", 366), ("day", 31), ("weekday", 7), ("hour", 1))
}


def times_of_text(levels):
    """Times that text says in the way of ISO 8601, 2024-01-31 or 2024-01-31T17:30:00, with a zone or without.

    Parameters
    ----------
    levels : list of str
        Distinct; empty text is missing.

    Returns
    -------
    times : array (n,), datetime64[us]
        What the clock said there, up to what is no such time; NaT where there is no text.
    wrong : int or None
        Place of the first that is not empty and no such time.
    """
    found = np.full(len(levels), np.datetime64("NaT"), "datetime64[us]")
    for i, text in enumerate(levels):
        parts = _ISO.fullmatch(text)
        try:
            if text:
                found[i] = np.datetime64("T".join(filter(None, parts.groups())), "us")
        except (AttributeError, ValueError):  # no such text, or one such as a month 13
            return found, i
    return found, None


def times(where, values):
    """A column as Values of times, which text may say."""
    if values.kind == "text":
        found, wrong = times_of_text(values.levels)
        if wrong is not None:
            row = int(np.argmax((values.array == wrong) & ~values.missing))
            accepted = "dates, or text such as 2024-01-31 or 2024-01-31 17:30:00"
            raise must_be(where, accepted, described(f"{values.levels[wrong]!r} at row {row}"))
        return values._replace(kind="times", array=found[values.array], levels=[])
    if values.kind not in ("times", "nothing"):
        raise wrong_kind(where, values, "dates, or text that says dates")
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


def useful_parts(values):
    """The parts of times that tell something, by what the times span."""
    times = values.array[~values.missing]
    span = int(np.ptp(times).astype(np.int64)) if values.kind == "times" else 0
    found = ["elapsed"]
    for part, cycle in _CYCLES.items():
        if span > cycle:
            different = part_of(values, part).array[~values.missing]
            found += [part] * bool((different != different[0]).any())  # a date has no hour
    return found
