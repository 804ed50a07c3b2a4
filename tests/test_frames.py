"""Tables of every kind are read alike, and what is wrong with one is said by column and value."""

import datetime
import decimal
import sys
from unittest import mock

import numpy as np
import pytest
from sample_tables import FORMS, KINDS, missing_library, table

from fastnn import dates, frames


def column(cells):
    return frames.table("X", {"a": cells}).values(0)


def cells_of(values):
    """What Values hold, with None where a cell is missing."""
    return [None if gone else values.shown(row) for row, gone in enumerate(values.missing)]


@pytest.mark.parametrize("form", KINDS)
def test_every_form_of_a_table_gives_the_same_cells(form):
    columns = table()
    found = frames.table("X", FORMS[form](columns))
    assert len(found) == 200
    order = dict(zip(found.names or columns, range(5), strict=True))
    for name, cells in columns.items():
        values = found.values(order[name])
        assert cells_of(values) == cells, name
    rows = np.array([5, 199, 5, 0])
    some = found.taken(rows)
    assert len(some) == 4
    for name, cells in columns.items():
        assert cells_of(some.values(order[name])) == [cells[row] for row in rows]
    assert len(found.taken(slice(10, 20))) == 10
    assert cells_of(found.taken(slice(10, 20)).values(order["city"])) == columns["city"][10:20]


@missing_library("narwhals", "pandas")
def test_categoricals_say_that_they_are():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": pandas.Categorical([3, None, 7]), "b": [1, 2, 3]})
    found = frames.table("X", frame)
    assert [found.values(i).listed for i in (0, 1)] == [True, False]
    assert cells_of(found.values(0)) == [3, None, 7]


@pytest.mark.parametrize(
    "cells, kind, expected",
    [
        ([1, 2**60 + 1, float("nan")], "numbers", [1, 2**60 + 1, None]),
        ([1, 2.5, None], "numbers", [1.0, 2.5, None]),
        ([decimal.Decimal("0.5"), None], "numbers", [0.5, None]),
        ([1, "", np.float32(2)], "numbers", [1.0, None, 2.0]),
        ([True, None, np.False_], "booleans", [True, None, False]),
        (["a", "", float("nan"), np.str_("b")], "text", ["a", None, None, "b"]),
        ([None, float("nan"), "", np.datetime64("NaT")], "nothing", [None] * 4),
        ([float("inf"), 1], "numbers", [float("inf"), 1.0]),
        (np.array([1, 2], np.int8), "numbers", [1, 2]),
        (np.array([1.5, np.nan], np.float16), "numbers", [1.5, None]),
        (np.array(["", "x"]), "text", [None, "x"]),
        (np.array([3_600, "NaT"], "m8[s]"), "numbers", [3600.0, None]),
        (range(3), "numbers", [0, 1, 2]),
        (np.ma.array(["x", "y"], mask=[False, True], dtype=object), "text", ["x", None]),
        ([datetime.date(2024, 2, 3), None], "times", [datetime.datetime(2024, 2, 3), None]),
        (
            [datetime.datetime(2024, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=5)))],
            "times",
            [datetime.datetime(2024, 2, 3, 4)],
        ),
    ],
)
def test_cells(cells, kind, expected):
    found = column(cells)
    assert found.kind == kind and cells_of(found) == expected


WRONG = [
    ([1, "x", 2], TypeError, "column 'a' of X must be values of one kind .*; got 1 at row 0 and 'x' at row 1"),
    (["x", None, 3.5], TypeError, "got 'x' at row 0 and 3.5 at row 2"),
    ([True, 2], TypeError, "got True at row 0 and 2 at row 1"),
    ([datetime.date(2024, 1, 1), "x"], TypeError, "got datetime.date.2024, 1, 1. at row 0 and 'x' at row 1"),
    ([1, 2**63], ValueError, "column 'a' of X must be whole numbers below 2..63 .*; got 9223372036854775808 at row 1"),
    (np.array([1, 2**64 - 1], np.uint64), ValueError, "got 18446744073709551615 at row 1"),
    ([0.5, 10**400], ValueError, "got an int of 1,329 bits at row 1"),
    ([[1], [2]], TypeError, r"column 'a' of X must be numbers, text, .*; got \[1\] \(list\) at row 0"),
    (["x", [2]], TypeError, r"got \[2\] \(list\) at row 1"),
    ([1, 1j], TypeError, r"got 1j \(complex\) at row 1"),
    ([b"x"], TypeError, r"got b'x' \(bytes\) at row 0"),
    ([datetime.time(3)], TypeError, r"\(time\) at row 0"),
    (np.ones((3, 2)), ValueError, r"column 'a' of X must be a 1-D array or a list; got an array of shape \(3, 2\)"),
    (np.ones(3, complex), TypeError, "column 'a' of X must be numbers, text, .*; got an array of dtype complex128"),
    (3.0, ValueError, "column 'a' of X must be a 1-D array or a list; got 3.0"),
    ([0.5, decimal.Decimal("sNaN"), "x"], TypeError, "got 0.5 at row 0 and 'x' at row 2"),
    (np.zeros(2, "m8[Y]"), TypeError, r"got an array of dtype timedelta64\[Y\]"),
    (np.zeros(2, "M8"), TypeError, "got an array of dtype datetime64"),
    ([None, np.datetime64(2**60, "D")], ValueError, "got year [0-9]* at row 1"),
    (np.array(["20000-01-01"], "M8[D]"), ValueError, "must be dates of the years 1 to 9999; got year 20000 at row 0"),
]


@pytest.mark.parametrize("cells, error, message", WRONG, ids=[one[2][-30:] for one in WRONG])
def test_cells_that_are_refused_by_column_and_value(cells, error, message):
    with pytest.raises(error, match=message):
        column(cells)


class Strange:
    columns = ("a", "b")


TABLES = [
    ({}, ValueError, "X must be a table of at least one row and one column; got 0 rows and 0 columns"),
    ({"a": []}, ValueError, "X must be a table of at least one row and one column; got 0 rows and 1 columns"),
    (np.ones((0, 3)), ValueError, "got 0 rows and 3 columns"),
    ([], ValueError, "got 0 rows and 0 columns"),
    ({"a": [1, 2], "b": [1]}, ValueError, "column 'b' of X must be of 2 rows, as column 'a'; got 1 rows"),
    ({"a": [1], 3: [1]}, TypeError, "X must be a table whose columns have text as names; got 3"),
    ([[1, 2], [3]], ValueError, r"X must be rows of one length \(2, as row 0\); got 1 cells in row 1"),
    ([1, 2], TypeError, "X must be a DataFrame, a dict .*; got 1 as row 0"),
    (np.ones(3), ValueError, r"X must be a 2-D array; got an array of shape \(3,\)"),
    (np.zeros((2, 2), [("a", int)]), ValueError, r"X must be a structured array of one dimension; got shape \(2, 2\)"),
    (None, TypeError, "X must be a DataFrame, a dict .*; got a NoneType"),
    ("text", TypeError, "X must be a DataFrame, a dict .*; got a str"),
]


@pytest.mark.parametrize("value, error, message", TABLES)
def test_what_is_no_table_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        frames.table("X", value)


@missing_library("narwhals")
def test_an_unknown_frame_is_refused():
    with pytest.raises(TypeError, match="X must be a DataFrame, a dict .*; got a .*Strange"):
        frames.table("X", Strange())


def test_structured_arrays_may_have_no_cells_of_several_numbers():
    array = np.zeros(3, [("a", "f8", 2)])
    with pytest.raises(
        ValueError, match=r"column 'a' of X must be a 1-D array or a list; got an array of shape \(3, 2\)"
    ):
        frames.table("X", array).values(0)


@missing_library("narwhals", "pandas")
def test_pandas_frames_that_are_refused():
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame(np.ones((2, 3)), columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="X must be a table whose columns have different names; got 'a' twice"):
        frames.table("X", twice)
    with pytest.raises(TypeError, match="columns have text as names; got 3"):
        frames.table("X", pandas.DataFrame(np.ones((2, 2)), columns=["a", 3]))
    with pytest.raises(TypeError, match="column 'a' of X must be values of one kind .*'x' at row 1"):
        frames.table("X", pandas.DataFrame({"a": [1, "x"]})).values(0)
    numbered = frames.table("X", pandas.DataFrame(np.ones((2, 3))))
    assert numbered.names is None and numbered.width == 3


@missing_library("narwhals", "pandas")
def test_times_with_a_zone_are_what_the_clock_showed():
    pandas = pytest.importorskip("pandas")
    times = pandas.to_datetime(["2024-07-01 12:00", None]).tz_localize("Europe/Zurich")
    found = frames.table("X", pandas.DataFrame({"a": times})).values(0)
    assert cells_of(found) == [datetime.datetime(2024, 7, 1, 12), None]


@missing_library("narwhals", "polars")
def test_a_lazy_frame_is_refused():
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match="X must be a DataFrame, a dict .*; got a polars.LazyFrame .collect"):
        frames.table("X", polars.LazyFrame({"a": [1]}))


def test_without_narwhals_a_frame_says_what_to_install():
    pandas = pytest.importorskip("pandas")
    with (
        mock.patch.dict(sys.modules, {"narwhals": None}),
        pytest.raises(
            ImportError, match=r"X, a pandas.DataFrame, needs narwhals: pip install 'fastnn-numba\[tables\]'"
        ),
    ):
        frames.table("X", pandas.DataFrame({"a": [1]}))


def test_columns_are_found_by_name_or_by_place():
    found = frames.table("X", {"age": [1], "town": [2]})
    assert found.places(("town", "age")) == [1, 0]
    with pytest.raises(ValueError, match=r"X must be a table with the column 'Age'; got one with \['age', 'town'\]"):
        found.places(("town", "Age"))
    plain = frames.table("X", np.ones((2, 3)))
    assert plain.places(("a", "b", "c")) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"X must be of 2 columns where they have no names \(a, b\); got 3 columns"):
        plain.places(("a", "b"))
    assert frames.table("X", found) is found


def test_numbers_are_not_copied():
    array = np.ones((5, 2))
    assert np.shares_memory(frames.table("X", array).values(1).array, array)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31 17:30", "2024-01-31T17:30"),
        ("2024-01-31T17:30:05.25+02:00", "2024-01-31T17:30:05.25"),
        ("2024-01-31T17:30Z", "2024-01-31T17:30"),
        ("2024-13-31", None),
        ("2024-02-30", None),
        ("31.1.2024", None),
        ("now", None),
        ("2024", None),
        ("2024-01-31T17:30:05.1234567891", None),
        ("٢٠٢٤-01-31", None),
    ],
)
def test_text_that_says_times(text, expected):
    times, wrong = dates.times_of_text(["2000-01-01", "", text])
    assert times[0] == np.datetime64("2000-01-01") and np.isnat(times[1])
    assert wrong == (2 if expected is None else None)
    assert np.isnat(times[2]) if expected is None else times[2] == np.datetime64(expected)
