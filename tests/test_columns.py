"""Columns as a layer: what they take, how they are kept, and what a look at a table makes of them."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
from sample_tables import missing_library, table

import fastnn
from fastnn import Code, Columns, Date, Number


def test_the_calls_of_a_columns_layer():
    cols = Columns(
        age=Number(bins=16), ad_id=Code(dim=8, least=5), postcode=Code(hash=4096), gender=Code(), born=Date()
    )
    assert cols.names == ("age", "ad_id", "postcode", "gender", "born")
    assert repr(cols) == (
        "Columns(age=Number(bins=16), ad_id=Code(dim=8, least=5), postcode=Code(hash=4096), gender=Code(), born=Date())"
    )
    assert cols.units is None and cols.activation is None
    assert Columns({"a": Number()}, b=Code()).columns == {"a": Number(), "b": Code()}
    assert Columns(columns=Number()).columns == {"columns": Number()}
    assert repr(Date(["hour", "year"])) == "Date(parts=['year', 'hour'])"
    assert Number() == Number(None, "standard") != Number(scaling="robust")
    assert len({Number(), Number(), Code(), Code(dim=3)}) == 3


def test_columns_are_made_of_their_arguments_again_through_json():
    cols = Columns({"ä b": Number(4, "robust"), "self": Code(3, 2)}, when=Date(["day"]), x=Code(hash=7))
    same = Columns(**json.loads(json.dumps(cols.arguments())))
    assert same.columns == cols.columns and same.names == cols.names and repr(same) == repr(cols)
    for other in (pickle.loads(pickle.dumps(cols)), copy.deepcopy(cols)):
        assert other.arguments() == cols.arguments()


def test_columns_cannot_be_changed():
    cols = Columns(a=Number())
    with pytest.raises(AttributeError, match="names of a layer cannot be changed: make a new Columns"):
        cols.names = ()
    with pytest.raises(AttributeError, match="bins of a column cannot be changed: make a new Number"):
        cols.kinds[0].bins = 3
    cols.columns["b"] = Code()
    assert cols.names == tuple(cols.columns) == ("a",)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Number(0), ValueError, "bins must be a positive int; got 0"),
        (lambda: Number(True), TypeError, "bins must be a positive int; got True"),
        (lambda: Number(10**9), ValueError, "bins must be None or a positive int of at most 4096; got 1000000000"),
        (lambda: Number(scaling="quantile"), ValueError, "scaling must be one of 'standard', 'robust'; got 'quantile'"),
        (lambda: Code(dim=0), ValueError, "dim must be a positive int; got 0"),
        (lambda: Code(least=1.5), TypeError, "least must be a positive int; got 1.5"),
        (lambda: Code(hash=-1), ValueError, "hash must be a positive int; got -1"),
        (lambda: Code(hash=8, least=2), ValueError, "least must be None where hash is given; got 2"),
        (lambda: Date("year"), TypeError, "parts must be None or a sequence of elapsed, year, .*; got 'year'"),
        (lambda: Date([]), TypeError, r"parts must be None or a sequence of .*; got \[\]"),
        (lambda: Date(["yaer"]), ValueError, r"parts must be one of .*; got 'yaer' \(did you mean 'year'\?\)"),
        (lambda: Columns(), ValueError, "columns must be at least one column; got none"),
        (lambda: Columns([Number()]), TypeError, "columns must be a dict from names to Number, Code or Date; got"),
        (lambda: Columns({3: Number()}), TypeError, "columns must be a dict with text as keys; got 3"),
        (lambda: Columns({"a": Number()}, a=Code()), ValueError, "columns must be different names; got 'a' twice"),
        (lambda: Columns(a=Number), TypeError, "column 'a' must be a Number, a Code or a Date; got <class"),
    ],
)
def test_arguments_that_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "about, message",
    [
        ({"kind": "Sequential"}, "kind of column 'a' must be one of 'Number', 'Code', 'Date'; got 'Sequential'"),
        ({"kind": "Number"}, "column 'a' must be a dict with kind, bins, scaling, levels alone"),
        ({"kind": "Number", "bins": 3, "scaling": "standard", "more": 1}, "column 'a' must be a dict with kind, bins"),
        ({"kind": "Number", "bins": {}, "scaling": "standard", "levels": None}, "bins must be"),
        (
            {"kind": "Number", "bins": 1 << 62, "scaling": "standard", "levels": None},
            "bins must be None or a positive int of at most",
        ),
        ({"kind": "Code", "dim": [], "least": None, "hash": None}, "dim must be a positive int"),
        ({"kind": "Date", "parts": [["year"]]}, "parts must be one of"),
        ({"kind": []}, "kind must be str"),
        (3, "column 'a' must be a Number, a Code or a Date; got 3"),
    ],
)
def test_forged_arguments_are_refused_by_name(about, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Columns(columns={"a": about})


def inferred_table():
    rng = np.random.default_rng(0)
    rows = 1000
    return table(rows) | {
        "age": rng.integers(18, 90, rows),
        "rooms": rng.integers(1, 6, rows).astype(float),
        "ad_id": rng.permutation(rows) + 700_000,
        "userId": rng.integers(0, 300, rows),
        "hashed": rng.choice(rng.integers(0, 2**32, 100), rows),
        "income": np.round(rng.lognormal(10, 1, rows)),
        "day": [f"2024-01-{1 + i % 28:02d}" for i in range(rows)],
        "street": [f"street {i}" for i in rng.integers(0, 400, rows)],
        "always": np.full(rows, 3),
        "empty": [None] * rows,
        "flag": [None if i % 2 else "yes" for i in range(rows)],
        "clicked": rng.random(rows) < 0.5,
    }


NUMBER = Number(bins=32, scaling="robust", levels=128)  # where nobody says more


def test_a_look_at_a_table():
    with pytest.warns(fastnn.IdColumnWarning) as caught:
        cols = Columns.infer(inferred_table(), target="clicked")
    assert [re.findall("'(.*?)'", str(one.message))[0] for one in caught] == ["ad_id", "userId", "hashed"]
    assert all(one.filename == __file__ for one in caught)
    assert cols.columns == {
        "price": NUMBER,
        "city": Code(least=5),
        "ad": NUMBER,
        "paid": Code(least=5),
        "when": Date(),
        "age": NUMBER,
        "rooms": NUMBER,
        "ad_id": Code(least=5),
        "userId": Code(dim=8, least=5),
        "hashed": Code(dim=8, least=5),
        "income": NUMBER,
        "day": Date(),
        "street": Code(dim=8, least=5),
        "flag": Code(least=5),
    }
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in cols.summary().splitlines())
    assert lines["city"].split("  ")[-1].strip() == "text, 4 different values in 879 rows"
    why = "whole numbers that look like ids, 1,000 different values in 1,000 rows: all are too rare to be told apart"
    assert lines["ad_id"].endswith(why)
    assert lines["always"].endswith("nothing to learn from: always 3")
    assert lines["empty"].endswith("nothing to learn from: all values are missing")
    assert lines["clicked"].endswith("the target") and lines["day"].endswith("text that says times")
    assert Columns(a=Code()).summary() == "a  Code()"


def test_what_is_decided_is_not_looked_at():
    columns = {"ad_id": Number(), "day": Code(), "userId": Code(hash=64), "hashed": Code()}
    cols = Columns.infer(inferred_table(), ["clicked", "price"], columns, bins=None, least=5, dim=3)
    assert {**cols.columns, **columns} == cols.columns
    assert cols.columns["age"] == Number(None, "robust", 128) and cols.columns["street"] == Code(dim=3, least=5)
    assert cols.columns["city"] == Code(least=5) and "price" not in cols.names
    assert "ad_id" in cols.summary() and "as you said" in cols.summary()
    finer = Columns.infer({"a": list("abcdefghij") * 2}, dim=3, least=None)
    assert finer.columns == {"a": Code(dim=3)}


def test_numbers_that_are_no_ids():
    rng = np.random.default_rng(0)
    amounts = {
        "price": np.round(rng.lognormal(12, 0.5, 2000)),
        "year": rng.integers(1800, 2020, 300),
        "timestamp": 1_700_000_000 + rng.permutation(2000),
        "people": rng.integers(0, 5000, 2000),
        "area": rng.normal(150, 30, 2000).round(1),
    }
    for name, cells in amounts.items():
        assert Columns.infer({name: cells}).columns == {name: NUMBER}


def test_columns_without_names_are_known_by_their_places():
    X = np.column_stack([np.arange(50) * 0.5, np.ones(50)])
    cols = Columns.infer(X)
    assert cols.columns == {"x0": NUMBER, "x1": Number()}
    with pytest.raises(ValueError, match=r"target must be of the columns of frame \(x0, x1\); got 'y'"):
        Columns.infer(X, target="y")


@missing_library("narwhals", "pandas")
def test_categoricals_of_whole_numbers_are_codes():
    pandas = pytest.importorskip("pandas")
    numbers = np.arange(60) % 30
    frame = pandas.DataFrame({"a": pandas.Categorical(numbers), "b": numbers})
    assert Columns.infer(frame).columns == {"a": Code(least=5), "b": NUMBER}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Columns.infer({"a": [1, 1]}), "frame must be a table with a column that is not always the same"),
        (lambda: Columns.infer({"a": [1, 2]}, target="b"), r"target must be of the columns of frame \(a\); got 'b'"),
        (lambda: Columns.infer({"a": [1, 2]}, columns={"b": Code()}), "columns must be of the columns of frame"),
        (lambda: Columns.infer({"a": [1, "x"]}), "column 'a' of frame must be values of one kind"),
        (lambda: Columns.infer({"a": [1, 2]}, bins=0), "bins must be a positive int"),
        (lambda: Columns.infer({}), "frame must be a table of at least one row"),
    ],
)
def test_tables_that_cannot_be_looked_at(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
