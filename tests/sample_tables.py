"""A table with columns of every kind, in every form that people hand tables over in."""

import datetime
import importlib.util

import numpy as np
import pytest

CITIES = ["Bern", "Genf", "Zug", "Chur"]


def table(rows=200, seed=0):
    """A dict of lists: numbers with gaps, text with gaps, ids with gaps, booleans and times."""
    rng = np.random.default_rng(seed)
    gaps = rng.random((3, rows)) < 0.1
    start = datetime.datetime(2023, 1, 1, 5)
    return {
        "price": [None if gap else float(x) for gap, x in zip(gaps[0], rng.lognormal(size=rows), strict=True)],
        "city": [None if gap else CITIES[i] for gap, i in zip(gaps[1], rng.integers(0, 4, rows), strict=True)],
        "ad": [None if gap else 2**60 + int(i) for gap, i in zip(gaps[2], rng.integers(0, 9, rows), strict=True)],
        "paid": [bool(x) for x in rng.random(rows) < 0.5],
        "when": [start + datetime.timedelta(hours=int(h)) for h in rng.integers(0, 12_000, rows)],
    }


def structured(columns):
    """As a structured array; it has no missing whole numbers, so they become text there."""
    kinds = {"price": "f8", "city": "U8", "ad": object, "paid": "?", "when": "M8[s]"}
    array = np.zeros(len(columns["city"]), [(name, kinds[name]) for name in columns])
    for name, cells in columns.items():
        array[name] = ["" if name == "city" and cell is None else cell for cell in cells]
    return array


def missing_library(*names):
    """A mark that skips a test where a library is not installed."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"no {' and '.join(absent)}")


def _pandas(columns, ids="object"):
    import pandas

    # of a list of ids with gaps pandas would make floats, which would lose digits
    return pandas.DataFrame(columns | {"ad": pandas.Series(columns["ad"], dtype=ids)})


def _pandas_nullable(columns):
    kinds = {"paid": "boolean", "price": "Float64", "city": "category"}
    return _pandas(columns, "Int64").astype(kinds)


def _polars(columns):
    import polars

    return polars.DataFrame(columns)


def _polars_categorical(columns):
    import polars

    return polars.DataFrame(columns).with_columns(polars.col("city").cast(polars.Categorical))


def _pyarrow(columns):
    import pyarrow

    return pyarrow.table(columns | {"city": pyarrow.array(columns["city"]).dictionary_encode()})


FORMS = {
    "lists": dict,
    "arrays": lambda columns: {name: np.array(cells, object) for name, cells in columns.items()},
    "masked": lambda columns: (
        columns
        | {"price": np.ma.masked_invalid(np.array(columns["price"], np.float64))}
        | {"when": np.array(columns["when"], "M8[us]")}
    ),
    "structured": structured,
    "objects": lambda columns: np.array(list(zip(*columns.values(), strict=True)), object),
    "rows": lambda columns: [list(row) for row in zip(*columns.values(), strict=True)],
    "pandas": _pandas,
    "pandas nullable": _pandas_nullable,
    "polars": _polars,
    "polars categorical": _polars_categorical,
    "pyarrow": _pyarrow,
}
KINDS = [
    pytest.param(name, marks=missing_library("narwhals", name.split()[0])) if name.startswith("p") else name
    for name in FORMS
]
